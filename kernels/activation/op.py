"""Activations: relu, hardtanh (also relu6), clamp, leaky_relu, elu, sigmoid, tanh, gelu."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import DType


def _call(node: Node, function: str, **fields: GeometryField) -> Call:
    loops = nest(node.out.spec.shape, node.out.spec.strides, node["self"].spec.strides)
    geometry = {"sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1], **fields}
    return Call(function, "activation/activation.h", geometry, (Write(node.out.id), Read(node["self"].id)))


def _same(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, node["self"].spec.shape),)


def _float(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    return ((spec.dtype if spec.dtype.numpy.kind == "f" else DType.FLOAT32, spec.shape),)


def _plain(function: str) -> Callable[[Node, Target], Call]:
    return lambda node, target: _call(node, function)


# ---- clamps ----------------------------------------------------------------------------------------------------------


def _bounds(low: float | None, high: float | None) -> tuple[float, float]:
    """The bounds as kernel and fusion take them: where low > high PyTorch gives high everywhere."""
    top = math.inf if high is None else float(high)
    return min(-math.inf if low is None else float(low), top), top


def _hardtanh_bounds(node: Node) -> tuple[float, float]:
    return _bounds(node["min_val"], node["max_val"])


def _clamp_bounds(node: Node) -> tuple[float, float]:
    return _bounds(node["min"], node["max"])


def _lower_bounds(bounds: Callable[[Node], tuple[float, float]]) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        low, high = bounds(node)
        return _call(node, "clamp", low=low, high=high)

    return lower


def _check_bounds(node: Node, *names: str) -> None:
    if any(node[name] is not None and math.isnan(node[name]) for name in names):
        raise node.error("a bound is NaN")


def _hardtanh(node: Node) -> tuple[InferredSpec, ...]:
    _check_bounds(node, "min_val", "max_val")
    spec = node["self"].spec
    if spec.dtype in (DType.BOOL, DType.UINT8):
        raise node.error(f"hardtanh of {spec.dtype.numpy}")
    return _same(node)


def _clamp(node: Node) -> tuple[InferredSpec, ...]:
    if node["min"] is None and node["max"] is None:
        raise node.error("a clamp without a bound", hint="give min, max or both")
    _check_bounds(node, "min", "max")
    spec = node["self"].spec
    if spec.dtype.numpy.kind != "f" and any(isinstance(node[name], float) for name in ("min", "max")):
        return ((DType.FLOAT32, spec.shape),)
    return _same(node)


def _np_clamp(x: Any, low: float | None, high: float | None) -> Any:
    result = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return result if high is None else np.minimum(result, np.asarray(high, x.dtype))


# ---- the rest --------------------------------------------------------------------------------------------------------


def _lower_leaky_relu(node: Node, target: Target) -> Call:
    return _call(node, "leaky_relu", negative_slope=float(node["negative_slope"]))


def _lower_elu(node: Node, target: Target) -> Call:
    positive = float(node["scale"])
    negative = float(np.float32(node["alpha"]) * np.float32(positive))
    return _call(node, "elu", positive=positive, negative=negative, input_scale=float(node["input_scale"]))


def _gelu(node: Node) -> tuple[InferredSpec, ...]:
    if node["approximate"] not in ("none", "tanh"):
        raise node.error(f"approximate is {node['approximate']!r}", hint='it is "none" or "tanh"')
    return _float(node)


def _lower_gelu(node: Node, target: Target) -> Call:
    return _call(node, "gelu" if node["approximate"] == "none" else "gelu_tanh")


def _np_gelu(x: Any, approximate: str) -> Any:
    wide = x.astype(np.float64)
    if approximate == "tanh":
        result = 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    else:
        result = 0.5 * wide * (1 + np.vectorize(math.erf, otypes=[float])(wide / math.sqrt(2)))
    return result.astype(x.dtype)


def _np_elu(x: Any, alpha: float, scale: float, input_scale: float) -> Any:
    return np.where(x > 0, x * scale, np.expm1(np.minimum(x, 0) * input_scale) * (alpha * scale)).astype(x.dtype)


def _np_sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(x.dtype)


def _operand(draw: Draw, low: float = -6.0, high: float = 6.0) -> T:
    return T(tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4))), low=low, high=high)


def _draw_plain(draw: Draw) -> Case:
    return Case((_operand(draw),))


def _draw_hardtanh(draw: Draw) -> Case:
    low = draw.number(-4.0, 4.0)
    return Case((_operand(draw), low, draw.choice((6, low + 1.5, low))))


def _draw_clamp(draw: Draw) -> Case:
    low, high = draw.choice((None, draw.number(-4.0, 4.0), -1)), draw.choice((None, draw.number(-4.0, 4.0), 1))
    return Case((_operand(draw), 0 if low is None and high is None else low, high))


_IMAGE = T((2, 3, 4, 5))
_LAST = T((2, 3, 4, 5), dim_order=(0, 2, 3, 1))
_WIDE = T((3, 50), low=-90.0, high=90.0)
_SMALL = T((64,), low=-1e-3, high=1e-3)

OPS = [
    Op(
        "aten::relu.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_same,
        lower=_plain("relu"),
        reference=lambda x: np.where(x < 0, np.zeros((), x.dtype), x),
        clamp=lambda node: (0.0, math.inf),
        inplace=("self",),
        elementwise=True,
        exact=True,
        cases=(Case((_IMAGE,)), Case((_LAST,), "channels last"), Case((T(()),), "a scalar")),
        draw=_draw_plain,
    ),
    Op(
        "aten::hardtanh.out(Tensor self, Scalar min_val=-1, Scalar max_val=1, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_hardtanh,
        lower=_lower_bounds(_hardtanh_bounds),
        reference=_np_clamp,
        clamp=_hardtanh_bounds,
        inplace=("self",),
        elementwise=True,
        exact=True,
        cases=(Case((T((2, 3, 4, 5), low=-8, high=8), 0.0, 6.0), "relu6"), Case((_LAST, -1, 1), "channels last")),
        draw=_draw_hardtanh,
    ),
    Op(
        "aten::clamp.out(Tensor self, Scalar? min=None, Scalar? max=None, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_clamp,
        lower=_lower_bounds(_clamp_bounds),
        reference=_np_clamp,
        clamp=_clamp_bounds,
        inplace=("self",),
        elementwise=True,
        exact=True,
        cases=(
            Case((_IMAGE, -0.5, None), "from below"),
            Case((_IMAGE, None, 0.5), "from above"),
            Case((_LAST, -1, 1)),
            Case((_IMAGE, 1.0, -1.0), "a minimum above the maximum: the maximum"),
        ),
        draw=_draw_clamp,
    ),
    Op(
        "aten::leaky_relu.out(Tensor self, Scalar negative_slope=0.01, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_same,
        lower=_lower_leaky_relu,
        reference=lambda x, slope: np.where(x > 0, x, x * np.asarray(slope, x.dtype)),
        inplace=("self",),
        elementwise=True,
        cases=(Case((_IMAGE, 0.01)), Case((_LAST, 0.2))),
        draw=lambda draw: Case((_operand(draw), draw.number(0.0, 0.5))),
    ),
    Op(
        "aten::elu.out(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1, *, Tensor(a!) out) -> "
        "Tensor(a!)",
        infer=_float,
        lower=_lower_elu,
        reference=_np_elu,
        inplace=("self",),
        elementwise=True,
        cases=(
            Case((_IMAGE, 1.0, 1, 1)),
            Case((_SMALL, 1.0, 1, 1), "near 0"),
            Case((_IMAGE, 1.6732632, 1.0507009, 1), "selu"),
        ),
        draw=lambda draw: Case((_operand(draw), draw.number(0.5, 2.0), draw.number(0.5, 2.0), draw.number(0.5, 2.0))),
    ),
    Op(
        "aten::sigmoid.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_float,
        lower=_plain("sigmoid"),
        reference=_np_sigmoid,
        inplace=("self",),
        elementwise=True,
        cases=(Case((_IMAGE,)), Case((_LAST,)), Case((_WIDE,), "as far as float32 goes")),
        draw=_draw_plain,
    ),
    Op(
        "aten::tanh.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_float,
        lower=_plain("tanh"),
        reference=lambda x: np.tanh(x),
        inplace=("self",),
        elementwise=True,
        cases=(Case((_IMAGE,)), Case((_LAST,)), Case((_SMALL,), "near 0"), Case((_WIDE,), "saturated")),
        draw=_draw_plain,
    ),
    Op(
        'aten::gelu.out(Tensor self, *, str approximate="none", Tensor(a!) out) -> Tensor(a!)',
        infer=_gelu,
        lower=_lower_gelu,
        reference=_np_gelu,
        inplace=("self",),
        elementwise=True,
        cases=(Case((_IMAGE, "none")), Case((_LAST, "tanh"))),
        draw=lambda draw: Case((_operand(draw), draw.choice(("none", "tanh")))),
    ),
]

INT8 = [
    Int8(("aten::relu", "aten::relu_"), Scales.CLAMP, channels=Channels.ALIKE),
    Int8(("aten::relu6", "aten::relu6_", "aten::hardtanh", "aten::hardtanh_", "aten::clamp_"), Scales.CLAMP),
    Int8(("aten::clamp", "aten::clamp_min"), Scales.CLAMP, mask=Mask.BOUNDED, state=State.ELEMENTS),
    Int8(("aten::leaky_relu", "aten::leaky_relu_"), channels=Channels.ALIKE),
    Int8(("aten::prelu",), Scales.TABLE, channels=Channels.ALIKE),
    Int8(("aten::hardswish", "aten::hardswish_", "aten::threshold_", "aten::log_sigmoid"), Scales.TABLE),
    Int8(("aten::sigmoid",), Scales.OWN, fixed=(1 / 256, -128), squashes=True),
    Int8(("aten::hardsigmoid",), Scales.OWN, fixed=(1 / 256, -128)),
    Int8(("aten::tanh",), Scales.OWN, fixed=(1 / 128, 0)),
]
