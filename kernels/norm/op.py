"""Layer, group and instance normalisation, by the statistics of the input itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Scales
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.strided import nest
from etexport.program.model import TensorSpec
from etexport_kernels.norm import quantized

_LIMIT = 2**31 - 1
_Strides = tuple[int, ...]


def _call(node: Node, shape: tuple[int, ...], strides: tuple[_Strides, ...], kept: int) -> Call:
    """The sets are the indices of the first `kept` dimensions of `shape`; `strides` are those of output, input,
    statistics and parameters for all its dimensions."""
    sets = nest(shape[:kept], *(one[:kept] for one in strides), rank=2)
    out, self, _, parameter = (one[kept:] for one in strides)
    inner = nest(shape[kept:], out, self, parameter, rank=3)
    count = math.prod(shape[kept:])
    geometry: dict[str, GeometryField] = {
        "sizes": sets.sizes,
        "out_strides": sets.strides[0],
        "self_strides": sets.strides[1],
        "statistic_strides": sets.strides[2],
        "parameter_strides": sets.strides[3],
        "set_sizes": inner.sizes,
        "set_out_strides": inner.strides[0],
        "set_self_strides": inner.strides[1],
        "set_parameter_strides": inner.strides[2],
        "scale": 1.0 / count if count else math.inf,
        "eps": float(node["eps"]),
    }
    statistics = tuple(Const("unused", None) if at in node.unused_outs else Write(node.outs[at].id) for at in (1, 2))
    parameters = tuple(Const(name, None) if node[name] is None else Read(node[name].id) for name in ("weight", "bias"))
    operands: tuple[Operand, ...] = (Write(node.out.id), *statistics, Read(node["input"].id), *parameters)
    return Call("normalize", "norm/norm.h", geometry, operands)


def _checked(node: Node, shape: tuple[int, ...]) -> None:
    for name in ("weight", "bias"):
        if node[name] is not None and (
            node[name].spec.shape != shape or node[name].spec.dtype is not node["input"].spec.dtype
        ):
            raise node.error(f"{name} is {node[name].spec} for {node['input'].spec}; {list(shape)} belongs")
    if node["input"].spec.dtype.numpy.kind != "f":
        raise node.error(f"the norm of {node['input'].spec.dtype.numpy}")
    if not node["eps"] >= 0:  # PyTorch takes it, and gives NaN
        raise node.error(f"eps is {node['eps']}")


# ---- layer norm ------------------------------------------------------------------------------------------------------


def _infer_layer(node: Node) -> tuple[InferredSpec, ...]:
    x, last = node["input"].spec, node["normalized_shape"]
    kept = len(x.shape) - len(last)
    if not last or kept < 0 or x.shape[kept:] != tuple(last):
        raise node.error(f"normalized_shape is {list(last)} for an input {list(x.shape)}")
    _checked(node, tuple(last))
    statistics = (x.dtype, (*x.shape[:kept], *(1 for _ in last)))
    return ((x.dtype, x.shape), statistics, statistics)


def _lower_layer(node: Node, target: Target) -> Call:
    x = node["input"].spec
    kept = len(x.shape) - len(node["normalized_shape"])
    statistics = TensorSpec(x.dtype, x.shape[:kept]).strides
    parameters = TensorSpec(x.dtype, x.shape[kept:]).strides
    strides = (
        node.out.spec.strides,
        x.strides,
        (*statistics, *(0 for _ in parameters)),
        (*(0 for _ in statistics), *parameters),
    )
    return _call(node, x.shape, strides, kept)


def _layer_length(node: Node) -> int:
    return math.prod(node["normalized_shape"])


def _np_layer(x: Any, last: tuple[int, ...], weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    axes = tuple(range(x.ndim - len(last), x.ndim))
    out, mean, rstd = _normalized(x, axes, eps)
    out = out if weight is None else out * weight
    out = out if bias is None else out + bias
    return out.astype(x.dtype), mean.astype(x.dtype), rstd.astype(x.dtype)


def _normalized(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """In float64."""
    wide = x.astype(np.float64)
    mean = wide.mean(axes, keepdims=True)
    rstd = 1.0 / np.sqrt(wide.var(axes, keepdims=True) + eps)
    return (wide - mean) * rstd, mean, rstd


# ---- group norm ------------------------------------------------------------------------------------------------------


def _infer_group(node: Node) -> tuple[InferredSpec, ...]:
    x, groups = node["input"].spec, node["group"]
    if len(x.shape) < 2 or (node["N"], node["C"], node["HxW"]) != (*x.shape[:2], math.prod(x.shape[2:])):
        raise node.error(f"N, C and HxW are {node['N']}, {node['C']} and {node['HxW']} for an input {list(x.shape)}")
    if not 1 <= groups <= _LIMIT or x.shape[1] % groups:
        raise node.error(f"{x.shape[1]} channels cannot be split into {groups} groups")
    _checked(node, x.shape[1:2])
    statistics = (x.dtype, (x.shape[0], groups))
    return ((x.dtype, x.shape), statistics, statistics)


def _lower_group(node: Node, target: Target) -> Call:
    x, groups = node["input"].spec, node["group"]
    each = x.shape[1] // groups
    inside = len(x.shape) - 2

    def split(strides: _Strides) -> _Strides:
        """For the dimensions batch, group, channel of the group, and the rest."""
        return strides[0], strides[1] * each, *strides[1:]

    strides = (
        split(node.out.spec.strides),
        split(x.strides),
        (groups, 1, 0, *(0,) * inside),
        (0, each, 1, *(0,) * inside),
    )
    return _call(node, (x.shape[0], groups, each, *x.shape[2:]), strides, 2)


def _group_length(node: Node) -> int:
    count: int = math.prod(node["input"].spec.shape[1:]) // node["group"]
    return count


def _np_group(
    x: Any, weight: Any, bias: Any, n: int, c: int, inside: int, groups: int, eps: float
) -> tuple[Any, Any, Any]:
    out, mean, rstd = _normalized(x.reshape(n, groups, -1), (2,), eps)
    by_channel = (1, -1, *(1,) * (x.ndim - 2))
    out = out.reshape(x.shape)
    out = out if weight is None else out * weight.reshape(by_channel)
    out = out if bias is None else out + bias.reshape(by_channel)
    return out.astype(x.dtype), mean[..., 0].astype(x.dtype), rstd[..., 0].astype(x.dtype)


# ---- batch norm without stored statistics, which is what an instance norm becomes ------------------------------------


def _infer_batch(node: Node) -> tuple[InferredSpec, ...]:
    x = node["input"].spec
    if len(x.shape) < 2:
        raise node.error(f"batch norm of {list(x.shape)}: no dimension of channels")
    if x.numel == 0:
        raise node.error("batch norm of no elements")
    if not node["training"]:
        raise node.error("batch norm neither of the input's statistics nor of stored ones")
    _checked(node, x.shape[1:2])
    return ((x.dtype, x.shape), (x.dtype, x.shape[1:2]), (x.dtype, x.shape[1:2]))


def _lower_batch(node: Node, target: Target) -> Call:
    def split(strides: _Strides) -> _Strides:
        """Channels first."""
        return strides[1], strides[0], *strides[2:]

    x = node["input"].spec
    by_channel = (1, *(0 for _ in x.shape[1:]))
    return _call(node, split(x.shape), (split(node.out.spec.strides), split(x.strides), by_channel, by_channel), 1)


def _batch_length(node: Node) -> int:
    shape: tuple[int, ...] = node["input"].spec.shape
    return math.prod(shape) // max(shape[1], 1)


def _np_batch(x: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float) -> tuple[Any, Any, Any]:
    out, mean, rstd = _normalized(x, (0, *range(2, x.ndim)), eps)
    by_channel = (1, -1, *(1,) * (x.ndim - 2))
    out = out if weight is None else out * weight.reshape(by_channel)
    out = out if bias is None else out + bias.reshape(by_channel)
    return out.astype(x.dtype), mean.reshape(-1).astype(x.dtype), rstd.reshape(-1).astype(x.dtype)


# ---- cases -----------------------------------------------------------------------------------------------------------


def _layer(
    shape: tuple[int, ...], last: int, note: str = "", *, weight: bool = True, bias: bool = True, low: float = -2.0
) -> Case:
    normalized = shape[len(shape) - last :]
    scale = T(normalized, low=0.5, constant=True) if weight else None
    return Case((T(shape, low=low), normalized, scale, T(normalized, constant=True) if bias else None, 1e-5), note)


def _group(
    shape: tuple[int, ...], groups: int, note: str = "", *, weight: bool = True, order: tuple[int, ...] | None = None
) -> Case:
    scale, shift = (T(shape[1:2], low=0.5, constant=True), T(shape[1:2], constant=True)) if weight else (None, None)
    return Case((T(shape, dim_order=order), scale, shift, *shape[:2], math.prod(shape[2:]), groups, 1e-5), note)


def _draw_layer(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(1, 4)))
    # of a single element the deviation is 0, and so is the result
    shape = (*shape[:-1], draw.integer(2, 20))
    return _layer(shape, draw.integer(1, len(shape)), weight=draw.flag(), bias=draw.flag())


def _draw_group(draw: Draw) -> Case:
    groups = draw.integer(1, 4)
    shape = (draw.integer(1, 3), groups * draw.integer(1, 4), *(draw.integer(2, 6) for _ in range(draw.integer(0, 2))))
    return _group(shape, groups, weight=draw.flag())


def _batch(shape: tuple[int, ...], note: str = "", *, weight: bool = True) -> Case:
    scale, shift = (T(shape[1:2], low=0.5, constant=True), T(shape[1:2], constant=True)) if weight else (None, None)
    return Case((T(shape), scale, shift, True, 0.1, 1e-5), note)


def _draw_batch(draw: Draw) -> Case:
    # two elements a channel and more: PyTorch refuses to train on one
    shape = (draw.integer(2, 3), draw.integer(1, 12), *(draw.integer(2, 6) for _ in range(draw.integer(0, 2))))
    return _batch(shape, weight=draw.flag())


OPS = [
    Op(
        "aten::native_layer_norm.out(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps, "
        "*, "
        "Tensor(a!) out0, Tensor(b!) out1, Tensor(c!) out2) -> (Tensor(a!), Tensor(b!), Tensor(c!))",
        infer=_infer_layer,
        lower=_lower_layer,
        reference=_np_layer,
        layout=Layout.CONTIGUOUS,
        inplace=("input",),
        sum_length=_layer_length,
        cases=(
            _layer((2, 5, 16), 1, "tokens"),
            _layer((2, 3, 4, 5), 3, "images as a whole", bias=False),
            _layer((3, 7), 1, "neither weight nor bias", weight=False, bias=False),
            _layer((4, 300), 1, "far from 0", low=1.9),
            _layer((2, 1), 1, "a single element: the bias"),
        ),
        draw=_draw_layer,
    ),
    Op(
        "aten::native_group_norm.out(Tensor input, Tensor? weight, Tensor? bias, SymInt N, SymInt C, SymInt HxW, int "
        "group, float eps, *, "
        "Tensor(a!) out0, Tensor(b!) out1, Tensor(c!) out2) -> (Tensor(a!), Tensor(b!), Tensor(c!))",
        infer=_infer_group,
        lower=_lower_group,
        reference=_np_group,
        layout=Layout.CHANNELS_LAST,
        inplace=("input",),
        sum_length=_group_length,
        cases=(
            _group((2, 6, 4, 5), 3, "images"),
            _group((1, 8, 9), 8, "each channel of a sequence", weight=False),
            _group((2, 8, 3, 3), 1, "one group", order=(0, 2, 3, 1)),
            _group((3, 12), 4, "features"),
        ),
        draw=_draw_group,
    ),
    Op(
        "aten::_native_batch_norm_legit.no_stats_out(Tensor input, Tensor? weight, Tensor? bias, bool training, float "
        "momentum, float eps, "
        "*, Tensor(a!) out, Tensor(b!) save_mean, Tensor(c!) save_invstd) -> (Tensor(a!), Tensor(b!), Tensor(c!))",
        infer=_infer_batch,
        lower=_lower_batch,
        reference=_np_batch,
        layout=Layout.CHANNELS_LAST,
        inplace=("input",),
        sum_length=_batch_length,
        cases=(
            _batch((1, 6, 4, 5), "instance norm: batch and channels are one dimension"),
            _batch((1, 8, 9), "of sequences", weight=False),
            _batch((2, 3, 3, 3), "over a batch"),
        ),
        draw=_draw_batch,
    ),
    *quantized.OPS,
]

RULES = [*quantized.RULES]

INT8 = [
    Int8(("aten::layer_norm", "aten::native_layer_norm", "aten::group_norm", "aten::instance_norm"), Scales.FIRST),
    Int8(("aten::rms_norm",), reason="RMS norm: the mean of squares that it divides by has no integer form"),
]
