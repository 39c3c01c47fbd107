"""Softmax and log-softmax along any dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Mask, Scales
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.quantized import Fused, IntegerNode, Masked, Quantized, Rule, multiplier_shift, real_scale
from etexport.kernel.strided import broadcast_shape, lines, repeated
from etexport.program.model import Array, DType, Ref


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    node.dimension(node["dim"], len(spec.shape))
    if spec.dtype.numpy.kind != "f":
        raise node.error(f"softmax of {spec.dtype.numpy}")
    if node["half_to_float"]:
        raise node.error("half_to_float is for float16 on GPUs")
    return ((spec.dtype, spec.shape),)


def _lines(node: Node) -> Mapping[str, GeometryField]:
    return lines(node["dim"], out=node.out.spec, self=node["self"].spec)


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        return Call(function, "softmax/softmax.h", _lines(node), (Write(node.out.id), Read(node["self"].id)))

    return lower


def _np_softmax(x: Any, dim: int, half_to_float: bool) -> Any:
    with np.errstate(invalid="ignore"):
        powers = np.exp(x - np.max(x, axis=dim, keepdims=True)) if x.ndim else np.exp(x - x)
        return powers / np.sum(powers, axis=dim, keepdims=True) if x.ndim else powers


def _np_log_softmax(x: Any, dim: int, half_to_float: bool) -> Any:
    with np.errstate(invalid="ignore"):
        shifted = x - np.max(x, axis=dim, keepdims=True) if x.ndim else x - x
        return shifted - np.log(np.sum(np.exp(shifted), axis=dim, keepdims=True)) if x.ndim else shifted


def _draw(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
    rank = max(len(shape), 1)
    return Case((T(shape, low=-10.0, high=10.0), draw.integer(-rank, rank - 1), False))


def _op(name: str, function: str, reference: Callable[..., Any]) -> Op:
    return Op(
        f"aten::{name}.out(Tensor self, int dim, bool half_to_float, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower(function),
        reference=reference,
        inplace=("self",),
        cases=(
            Case((T((2, 10)), -1, False), "classes"),
            Case((T((2, 3, 4, 5)), 1, False), "over channels"),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 1, False), "over channels of channels-last data"),
            Case((T((1, 12), low=-1000.0, high=1000.0), 1, False), "too large for exp without subtracting the maximum"),
            Case(
                (T((3, 12, 2), low=-1000.0, high=1000.0), 1, False), "the same along a dimension with another behind it"
            ),
            Case((T(()), 0, False), "a scalar"),
        ),
        draw=_draw,
    )


# ---- int8 ------------------------------------------------------------------------------------------------------------

_MASKED = "etexport::quantized_masked_softmax.out"
_SCALE, _ZERO_POINT = 1 / 256, -128
"""What every int8 softmax gives: probabilities in steps of 1/256."""


def _infer8(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    dim = node.dimension(node["dim"], len(spec.shape))
    if node["output_zero_point"] != _ZERO_POINT:
        raise node.error(f"the zero point of a softmax's result is {_ZERO_POINT}, not {node['output_zero_point']}")
    if not (0 < node["input_multiplier"] < 2**31 and -31 <= node["input_shift"] <= 31):
        raise node.error(f"the scale's multiplier is {node['input_multiplier']}, its shift {node['input_shift']}")
    if (spec.shape[dim] if spec.shape else 1) >= 2**16:
        raise node.error(f"softmax over {spec.shape[dim]} elements")
    return ((DType.INT8, spec.shape),)


def _powers(multiplier: int, shift: int, n: int, target: Target) -> Array:
    """exp(-d * scale) for d = 0 .. 255, in as many bits as leave the sum of n of them in 32; two bytes each do for
    short lines, unless the program wants ExecuTorch's results, which are those of a softmax in float."""
    short = n <= 64 and target.rounding == "nearest"
    bits = 14 if short else min(22, 31 - n.bit_length())
    scale = real_scale(multiplier, shift) / 2**26
    powers: Array = np.rint(np.exp(-scale * np.arange(256)) * 2**bits).astype(np.int16 if short else np.int32)
    return powers


def _lower8(node: Node, target: Target) -> Call:
    geometry = _lines(node)
    n = geometry["length"]
    assert isinstance(n, int)
    powers = Const("powers", _powers(node["input_multiplier"], node["input_shift"], n, target))
    return Call(
        "quantized_softmax", "softmax/quantized.h", geometry, (Write(node.out.id), Read(node["self"].id), powers)
    )


def _np_softmax8(x: Any, dim: int, zero_in: int, zero_out: int, multiplier: int, shift: int, diff_min: int) -> Any:
    wide = np.atleast_1d(x.astype(np.int64))
    powers = _powers(multiplier, shift, wide.shape[dim], Target()).astype(np.int64)[
        wide.max(axis=dim, keepdims=True) - wide
    ]
    total = powers.sum(axis=dim, keepdims=True)
    stored = np.minimum((powers * 256 + total // 2) // total + _ZERO_POINT, 127)
    return stored.reshape(x.shape).astype(np.int8)


# ---- int8 with a mask ------------------------------------------------------------------------------------------------


def _infer_masked(node: Node) -> tuple[InferredSpec, ...]:
    (inferred,) = _infer8(node)
    mask = node["mask"].spec
    if mask.dtype is not DType.BOOL or broadcast_shape(mask.shape, inferred[1]) != inferred[1]:
        raise node.error(f"a mask of {mask} does not go with {node['self'].spec}")
    if not -128 <= node["whole"] <= 127:
        raise node.error(f"int8 holds no {node['whole']}")
    return (inferred,)


def _lower_masked(node: Node, target: Target) -> Call:
    shape = node["self"].spec.shape
    geometry = lines(node["dim"], out=node.out.spec, mask=repeated(node["mask"].spec, shape), self=node["self"].spec)
    n = geometry["length"]
    assert isinstance(n, int)
    powers = Const("powers", _powers(node["input_multiplier"], node["input_shift"], n, target))
    operands = (Write(node.out.id), Read(node["self"].id), Read(node["mask"].id), powers)
    function = f"quantized_masked_softmax<{'true' if node['keeps'] else 'false'}>"
    return Call(function, "softmax/masked.h", {**geometry, "whole": node["whole"]}, operands)


def _np_masked(x: Any, mask: Any, dim: int, keeps: bool, whole: int, zero_out: int, multiplier: int, shift: int) -> Any:
    wide = np.atleast_1d(x.astype(np.int64))
    kept = np.broadcast_to(mask == keeps, x.shape).reshape(wide.shape)
    top = np.where(kept, wide, -128).max(axis=dim, keepdims=True)
    powers = (
        _powers(multiplier, shift, wide.shape[dim], Target()).astype(np.int64)[np.where(kept, top - wide, 0)] * kept
    )
    total = powers.sum(axis=dim, keepdims=True)
    stored = np.minimum((powers * 256 + total // 2) // np.maximum(total, 1) + _ZERO_POINT, 127)
    return np.where(total == 0, whole, stored).reshape(x.shape).astype(np.int8)


def equal_shares(length: int) -> int:
    """What a softmax of so many equal scores is stored as."""
    return min((512 + length) // (2 * length), 255) + _ZERO_POINT


def _fixed_scale(scale: float) -> tuple[int, int, int]:
    """Multiplier, shift and least difference as `cortex_m::softmax` carries them."""
    multiplier, shift = multiplier_shift(min(scale * 2**26, 2**31 - 1))
    return multiplier, shift, -math.floor(31 * 2.0 ** (26 - shift))


def _rule(node: IntegerNode) -> Fused | str:
    x = node.quantized["self"]
    mask = x if isinstance(x, Masked) else None
    x = mask.scores if mask is not None else x
    if not isinstance(x, Quantized) or x.axis is not None or x.value.spec.dtype is not DType.INT8:
        return "its operand is not quantised per tensor to int8"
    if (node.out.scale, node.out.zero_point, node.out.low, node.out.high) != (_SCALE, _ZERO_POINT, -128, 127):
        return "its result is not quantised in steps of 1/256 from -128 on"
    dim, scale = node.node["dim"], _fixed_scale(x.scale)
    if mask is None:
        return Fused("cortex_m::softmax.out", (x.ref, dim, x.zero_point, _ZERO_POINT, *scale))
    shape = x.value.spec.shape
    whole = equal_shares(shape[dim] if shape else 1)
    return Fused(_MASKED, (x.ref, Ref(mask.mask.id), dim, mask.keeps, whole, _ZERO_POINT, *scale[:2]))


def _case8(
    shape: tuple[int, ...], dim: int, scale: float, note: str = "", order: tuple[int, ...] | None = None
) -> Case:
    return Case((T(shape, DType.INT8, -128, 128, dim_order=order), dim, 0, _ZERO_POINT, *_fixed_scale(scale)), note)


def _draw8(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(1, 4)))
    return _case8(shape, draw.integer(-len(shape), len(shape) - 1), draw.number(0.001, 0.5))


_SOFTMAX8 = Op(
    "cortex_m::softmax.out(Tensor self, int dim, int input_zero_point, int output_zero_point, int input_multiplier, "
    "int input_shift, "
    "int diff_min, *, Tensor(a!) out) -> Tensor(a!)",
    infer=_infer8,
    lower=_lower8,
    dtypes=(DType.INT8,),
    reference=_np_softmax8,
    inplace=("self",),
    exact=True,
    cases=(
        _case8((1, 12), -1, 0.1),
        _case8((2, 3, 4, 5), 1, 0.05, "over channels of channels-last data", (0, 2, 3, 1)),
        _case8((1, 200), -1, 0.02, "many classes"),
    ),
    draw=_draw8,
)


def _masked_case(
    shape: tuple[int, ...], mask: T, dim: int, keeps: bool, scale: float, note: str = "",
    order: tuple[int, ...] | None = None
) -> Case:  # fmt: skip
    x = T(shape, DType.INT8, -128, 128, dim_order=order)
    return Case((x, mask, dim, keeps, equal_shares(shape[dim]), _ZERO_POINT, *_fixed_scale(scale)[:2]), note)


def _draw_masked(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(1, 4)))
    mask = tuple(draw.choice((1, size)) for size in shape[draw.integer(0, len(shape) - 1) :])
    dim = draw.integer(-len(shape), len(shape) - 1)
    return _masked_case(shape, T(mask, DType.BOOL, constant=draw.flag()), dim, draw.flag(), draw.number(0.001, 0.5))


_MASKED_SOFTMAX8 = Op(
    f"{_MASKED}(Tensor self, Tensor mask, int dim, bool keeps, int whole, int output_zero_point, "
    "int input_multiplier, int input_shift, *, Tensor(a!) out) -> Tensor(a!)",
    infer=_infer_masked,
    lower=_lower_masked,
    dtypes=(DType.INT8,),
    reference=_np_masked,
    inplace=("self",),
    exact=True,
    cases=(
        _masked_case((2, 3, 5, 5), T((5, 5), DType.BOOL, constant=True), -1, True, 0.1, "one mask for all heads"),
        _masked_case((2, 3, 4, 80), T((2, 1, 1, 80), DType.BOOL), -1, False, 0.05, "keys that are padding"),
        _masked_case(
            (2, 3, 4, 5), T((3, 4, 1), DType.BOOL), 1, True, 0.05, "over channels of channels-last data", (0, 2, 3, 1)
        ),
        _masked_case((4, 6), T((4, 1), DType.BOOL), 1, True, 0.05, "whole lines"),
    ),
    draw=_draw_masked,
)

RULES = [Rule("aten::_softmax.out", _rule, masked=("self",))]

OPS = [
    _op("_softmax", "softmax", _np_softmax), _op("_log_softmax", "log_softmax", _np_log_softmax), _SOFTMAX8,
    _MASKED_SOFTMAX8,
]  # fmt: skip

_LOGARITHMS = "log_softmax: logarithms of small probabilities have no lower end, and no integer form"

INT8 = [
    Int8(
        ("aten::softmax.int", "aten::_softmax"),
        Scales.OWN,
        fixed=(_SCALE, _ZERO_POINT),
        mask=Mask.SOFTMAX,
        squashes=True,
    ),
    Int8(("aten::_safe_softmax",), mask=Mask.SAFE_SOFTMAX),
    Int8(("aten::log_softmax.int",), squashes=True, reason=_LOGARITHMS),
    Int8(("aten::_log_softmax",), reason=_LOGARITHMS),
]
