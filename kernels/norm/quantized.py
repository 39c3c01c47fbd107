"""Layer, group and instance normalisation of int8 tensors, in integers: docs/quantization.md has the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.integer_layer import activation
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.quantized import Fused, IntegerNode, Quantized, Rule, requantize
from etexport.kernel.strided import nest
from etexport.program.model import Array, DType, TensorSpec

_LAYER = "etexport::quantized_layer_norm.out"
_GROUP = "etexport::quantized_group_norm.out"

_LONGEST = 2**14
"""Elements of a set: beyond, a square of a sum with 16 more bits would not leave room for eps in 64."""
_EPS_BITS = 16
_LARGEST_EPS = 2**61
_LEAST_SHIFT, _LARGEST_SHIFT = 8, 16
"""Bits behind the point of what is added to a product before it is stored."""

_Strides = tuple[int, ...]


def _root_bits(count: int) -> int:
    """Bits behind the point of a deviation in units of the standard deviation: it is below sqrt(count), and 28 bits are
    there."""
    return 28 - math.ceil(math.log2(count) / 2)


# ---- what is normalised ----------------------------------------------------------------------------------------------


def _check(node: Node, count: int, parameters: tuple[int, ...]) -> None:
    if not 1 <= count <= _LONGEST:
        raise node.error(f"the norm of {count} int8 elements; 1 to {_LONGEST} have a kernel")
    for name in ("weight", "bias"):
        spec = node[name].spec
        if spec.dtype is not DType.INT32 or spec.shape not in ((1,), parameters):
            raise node.error(f"{name} is {spec}; int32 {list(parameters)} or [1] belongs")
    if not 0 <= node["eps"] < _LARGEST_EPS:
        raise node.error(f"eps is {node['eps']}, for a sum of squares of 64 bits")
    if not _LEAST_SHIFT <= node["shift"] <= _LARGEST_SHIFT:
        raise node.error(f"shift is {node['shift']}; it lies in {_LEAST_SHIFT} to {_LARGEST_SHIFT}")
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"an activation from {node['activation_min']} to {node['activation_max']}")


def _infer_layer(node: Node) -> tuple[InferredSpec, ...]:
    shape, last = node["input"].spec.shape, node["normalized_shape"]
    kept = len(shape) - len(last)
    if not last or kept < 0 or shape[kept:] != tuple(last):
        raise node.error(f"normalized_shape is {list(last)} for an input {list(shape)}")
    _check(node, math.prod(last), tuple(last))
    return ((DType.INT8, shape),)


def _infer_group(node: Node) -> tuple[InferredSpec, ...]:
    shape, groups = node["input"].spec.shape, node["group"]
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise node.error(f"{groups} groups of the channels of {list(shape)}")
    _check(node, math.prod(shape[1:]) // groups, shape[1:2])
    return ((DType.INT8, shape),)


def _call(
    node: Node, target: Target, shape: tuple[int, ...], strides: tuple[_Strides, _Strides, _Strides], kept: int
) -> Call:
    """The sets are the indices of the first `kept` dimensions of `shape`; `strides` are those of output, input and
    parameters."""
    sets = nest(shape[:kept], *(one[:kept] for one in strides), rank=2)
    inner = nest(shape[kept:], *(one[kept:] for one in strides), rank=3)
    count = math.prod(shape[kept:])
    eps = node["eps"]
    geometry = {
        "sizes": sets.sizes,
        "out_strides": sets.strides[0],
        "self_strides": sets.strides[1],
        "parameter_strides": sets.strides[2],
        "set_sizes": inner.sizes,
        "set_out_strides": inner.strides[0],
        "set_self_strides": inner.strides[1],
        "set_parameter_strides": inner.strides[2],
        "count": count,
        "base": _root_bits(count) - 22,
        "eps_high": eps >> 32,
        "eps_low": (eps & 0xFFFFFFFF) - (eps << 1 & 1 << 32),
        "shift": node["shift"],
        "low": node["activation_min"],
        "high": node["activation_max"],
    }
    reads = (Read(node[name].id) for name in ("input", "weight", "bias"))
    variant = "dsp" if "dsp" in target.features else "portable"
    header = f"norm/quantized{'' if variant == 'portable' else '_dsp'}.h"
    return Call(
        f"quantized_normalize<et::{variant.capitalize()}Norm>",
        header,
        geometry,
        (Write(node.out.id), *reads),
        variant=variant,
    )


def _lower_layer(node: Node, target: Target) -> Call:
    x = node["input"].spec
    kept = len(x.shape) - len(node["normalized_shape"])
    parameters = _parameter_strides(node, x.shape[kept:])
    return _call(node, target, x.shape, (node.out.spec.strides, x.strides, (*(0,) * kept, *parameters)), kept)


def _lower_group(node: Node, target: Target) -> Call:
    x = node["input"].spec
    each = x.shape[1] // node["group"]
    inside = (0,) * (len(x.shape) - 2)

    def split(strides: _Strides) -> _Strides:
        """For the dimensions batch, group, channel of the group, and the rest."""
        return strides[0], strides[1] * each, *strides[1:]

    (step,) = _parameter_strides(node, x.shape[1:2])
    shape = (x.shape[0], node["group"], each, *x.shape[2:])
    return _call(
        node, target, shape, (split(node.out.spec.strides), split(x.strides), (0, each * step, step, *inside)), 2
    )


def _parameter_strides(node: Node, shape: tuple[int, ...]) -> _Strides:
    """Of weight and bias, which must lie alike: one for all elements, or one each."""
    first, second = (node[name].spec for name in ("weight", "bias"))
    if first.shape != second.shape:
        raise node.error(f"weight is {first}, bias {second}: one of them is for all elements, the other is not")
    return (0,) * len(shape) if first.shape != shape else TensorSpec(DType.INT32, shape).strides


# ---- the numpy meaning -----------------------------------------------------------------------------------------------


def _np_layer(x: Array, last: tuple[int, ...], *rest: Any) -> Array:
    rows = x.reshape(-1, math.prod(last))
    weight, bias = (np.broadcast_to(one.reshape(-1), rows.shape[1]) for one in rest[:2])
    return _normalized(rows, weight, bias, *rest[2:]).reshape(x.shape)


def _np_group(x: Array, groups: int, *rest: Any) -> Array:
    by_channel = (1, -1, *(1,) * (x.ndim - 2))
    weight, bias = (np.broadcast_to(one.reshape(by_channel if one.size > 1 else -1), x.shape) for one in rest[:2])
    rows, weights, biases = (one.reshape(x.shape[0] * groups, -1) for one in (x, weight, bias))
    return _normalized(rows, weights, biases, *rest[2:]).reshape(x.shape)


def _normalized(rows: Array, weight: Array, bias: Array, eps: int, shift: int, low: int, high: int) -> Array:
    """Each row by its own statistics."""
    q, count = rows.astype(np.int64), rows.shape[1]
    total = q.sum(axis=1)
    variance = count * (q * q).sum(axis=1) - total * total
    wide = (variance.astype(np.uint64) << np.uint64(_EPS_BITS)) + np.uint64(eps)
    left = np.full(len(q), _root_bits(count) - 22, np.int64)
    for _ in range(31):
        small = (wide < 2**62) & (wide > 0)
        wide, left = np.where(small, wide << np.uint64(2), wide), left + small
    varies = variance != 0
    factor = np.where(varies, _reciprocal_root(wide >> np.uint64(32)), 0)
    deviation = requantize(count * q - total[:, None], factor[:, None], np.where(varies, left, 0)[:, None])
    stored = (requantize(deviation, weight) + bias) >> shift
    return np.asarray(np.clip(stored, low, high).astype(np.int8))


def _reciprocal_root(x: Array) -> Array:
    """2^30 / sqrt(x / 2^32) as the kernel has it, x at least 2^30 and uint64."""
    y = np.uint64(2324675986) - (x >> np.uint64(2)) - (x >> np.uint64(4))
    with np.errstate(over="ignore"):  # what a constant row gives is not looked at
        for _ in range(4):
            product = (x * (y * y >> np.uint64(31))) >> np.uint64(32)
            y = (y * (np.uint64(3 << 29) - product)) >> np.uint64(30)
    return np.minimum(y, np.uint64(2**31 - 1)).astype(np.int64)


# ---- from float ------------------------------------------------------------------------------------------------------


def _fixed(weight: Array, bias: Array, count: int, zero_point: int) -> tuple[Array, Array, int] | str:
    """`weight` and `bias` in steps of the result, as integers: multipliers of a deviation, what is added to the
    products, and how many bits of both lie behind the point."""
    largest, furthest = (float(np.max(np.abs(one), initial=0.0)) for one in (weight, bias))
    bits = _root_bits(count)
    if not (math.isfinite(largest) and math.isfinite(furthest)):
        return "its weight or its bias is not finite"
    shift = min(_LARGEST_SHIFT, bits - 2 - math.frexp(largest)[1], 29 - math.frexp(furthest + 129)[1])
    if shift < _LEAST_SHIFT:
        return "its weight or its bias is too large beside the result's scale"
    words = np.rint(weight * 2.0 ** (32 - bits + shift))
    added = np.rint((bias + zero_point) * 2.0**shift) + 2 ** (shift - 1)  # the half that rounds
    return words.astype(np.int32), added.astype(np.int32), shift


def _eps_word(eps: float, count: int, scale: float) -> int:
    real = eps * (count / scale) ** 2 * 2**_EPS_BITS
    return round(real) if math.isfinite(real) else -1


def _fused(node: IntegerNode, op: str, first: Any, count: int, parameters: tuple[int, ...]) -> Fused | str:
    x = activation(node, "input")
    if isinstance(x, str):
        return x
    if not 1 <= count <= _LONGEST:
        return f"it normalises {count} elements at once; integers do for 1 to {_LONGEST}"
    reals: list[Array] = []
    for name, default in (("weight", 1.0), ("bias", 0.0)):
        known, found = node.quantized[name], node.node[name]
        if found is None:
            reals.append(np.full(1, default))
        elif isinstance(known, Quantized) and known.value.data is not None and known.axis is None:
            reals.append((known.value.data.astype(np.float64) - known.zero_point) * known.scale)
        elif found.data is not None:
            reals.append(found.data.astype(np.float64))
        else:
            return f"its {name} is not a constant"
    if any(one.size > 1 for one in reals):
        reals = [np.broadcast_to(one, parameters) for one in reals]
    eps = _eps_word(float(node.node["eps"]), count, x.scale)
    if not 0 <= eps < _LARGEST_EPS:
        return "its eps is too large beside the scale of its input"
    fixed = _fixed(reals[0] / node.out.scale, reals[1] / node.out.scale, count, node.out.zero_point)
    return (
        fixed
        if isinstance(fixed, str)
        else Fused(op, (x.ref, first, *fixed[:2], eps, fixed[2], node.out.low, node.out.high))
    )


def _layer_rule(node: IntegerNode) -> Fused | str:
    last = tuple(node.node["normalized_shape"])
    return _fused(node, _LAYER, last, math.prod(last), last)


def _group_rule(node: IntegerNode) -> Fused | str:
    shape, groups = node.node["input"].spec.shape, node.node["group"]
    return _fused(node, _GROUP, groups, math.prod(shape[1:]) // groups, shape[1:2])


def _instance_rule(node: IntegerNode) -> Fused | str:
    """An instance norm is a batch norm of one image that has batch and channels as its channels."""
    shape = node.node["input"].spec.shape
    if shape[0] != 1:
        return "it normalises over a batch"
    return _fused(node, _GROUP, shape[1], math.prod(shape[2:]), shape[1:2])


# ---- cases -----------------------------------------------------------------------------------------------------------


def _parameters(count: int, shape: tuple[int, ...], scale: float, zero_point: int) -> tuple[T, T, int]:
    """Weights from -scale to scale and biases as far, in steps of the result."""
    weight, bias, shift = _words_for(count, scale, zero_point)
    return (
        T(shape, DType.INT32, -weight, weight + 1, constant=True),
        T(shape, DType.INT32, zero_point * 2.0**shift - bias, zero_point * 2.0**shift + bias, constant=True),
        shift,
    )


def _words_for(count: int, scale: float, zero_point: int) -> tuple[int, int, int]:
    fixed = _fixed(np.array([scale]), np.array([scale]), count, 0)
    assert not isinstance(fixed, str), fixed
    weight, bias, shift = fixed
    return int(weight[0]), int(bias[0]), shift


def _layer(
    shape: tuple[int, ...], last: int, note: str = "", *, scale: float = 30.0, zero: int = 0, eps: float = 1e-5,
    one: bool = False, step: float = 0.05, low: int = -128, order: tuple[int, ...] | None = None,
) -> Case:  # fmt: skip
    normalized = shape[len(shape) - last :]
    count = math.prod(normalized)
    weight, bias, shift = _parameters(count, (1,) if one else normalized, scale, zero)
    x = T(shape, DType.INT8, low, 128, dim_order=order)
    return Case((x, normalized, weight, bias, _eps_word(eps, count, step), shift, -128, 127), note)


def _group(
    shape: tuple[int, ...], groups: int, note: str = "", *, one: bool = False, order: tuple[int, ...] | None = None
) -> Case:
    count = math.prod(shape[1:]) // groups
    weight, bias, shift = _parameters(count, (1,) if one else shape[1:2], 40.0, -5)
    return Case(
        (
            T(shape, DType.INT8, -128, 128, dim_order=order),
            groups,
            weight,
            bias,
            _eps_word(1e-5, count, 0.1),
            shift,
            -128,
            127,
        ),
        note,
    )


def _draw_layer(draw: Draw) -> Case:
    shape = (*(draw.integer(1, 5) for _ in range(draw.integer(0, 3))), draw.choice((1, 2, 3, 7, 20, 64, 129)))
    low = draw.choice((-128, 120, 127))  # next to no variance, and none
    scale, zero, eps = draw.number(0.1, 2000.0), draw.integer(-128, 127), draw.choice((0.0, 1e-12, 1e-5, 0.1))
    last = draw.integer(1, min(2, len(shape)))
    return _layer(shape, last, scale=scale, zero=zero, eps=eps, one=draw.flag(), step=draw.number(0.0005, 1.0), low=low)


def _draw_group(draw: Draw) -> Case:
    groups = draw.integer(1, 4)
    shape = (draw.integer(1, 3), groups * draw.integer(1, 4), *(draw.integer(1, 6) for _ in range(draw.integer(0, 2))))
    return _group(shape, groups, one=draw.flag())


_PARAMETERS = (
    "Tensor weight, Tensor bias, int eps, int shift, int activation_min, int activation_max, *, Tensor(a!) "
    "out) -> Tensor(a!)"
)

OPS = [
    Op(
        f"{_LAYER}(Tensor input, int[] normalized_shape, {_PARAMETERS}",
        infer=_infer_layer,
        lower=_lower_layer,
        dtypes=(DType.INT8,),
        reference=_np_layer,
        inplace=("input",),
        exact=True,
        cases=(
            _layer((2, 5, 16), 1, "tokens"),
            _layer((2, 3, 4, 5), 3, "images as a whole", one=True),
            _layer((1, 6, 3, 4), 1, "rows of channels-last data", order=(0, 2, 3, 1)),
            _layer((3, 300), 1, "far from 0, close together", low=124),
            _layer((2, 1024), 1, "long", zero=-128),
            _layer((4, 1), 1, "a single element: the bias"),
            _layer((2, 8), 1, "an eps beside which the variance is nothing", eps=1e6),
        ),
        draw=_draw_layer,
    ),
    Op(
        f"{_GROUP}(Tensor input, int group, {_PARAMETERS}",
        infer=_infer_group,
        lower=_lower_group,
        dtypes=(DType.INT8,),
        reference=_np_group,
        inplace=("input",),
        exact=True,
        cases=(
            _group((2, 6, 4, 5), 3, "images"),
            _group((1, 8, 9), 8, "each channel of a sequence", one=True),
            _group((2, 8, 3, 3), 1, "one group, channels last", order=(0, 2, 3, 1)),
            _group((3, 12), 4, "features"),
        ),
        draw=_draw_group,
    ),
]

RULES = [
    Rule("aten::native_layer_norm.out", _layer_rule),
    Rule("aten::native_group_norm.out", _group_rule),
    Rule("aten::_native_batch_norm_legit.no_stats_out", _instance_rule),
]
