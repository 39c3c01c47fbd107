"""Softmax and log-softmax along any dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from etexport.op import Call, Case, Const, Draw, GeometryField, InferredSpec, Node, Op, Read, T, Target, Write
from etexport.program.model import Array, DType
from etexport.quantized import Fused, IntegerNode, Quantized, Rule, multiplier_shift, real_scale
from etexport.strided import lines


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
            Case((T(()), 0, False), "a scalar"),
        ),
        draw=_draw,
    )


# ---- int8 ------------------------------------------------------------------------------------------------------------------------------

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
    """exp(-d * scale) for d = 0 .. 255, in as many bits as leave the sum of n of them in 32; two bytes each do for short lines, unless
    the program wants ExecuTorch's results, which are those of a softmax in float."""
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
    return Call("quantized_softmax", "softmax/quantized.h", geometry, (Write(node.out.id), Read(node["self"].id), powers))


def _np_softmax8(x: Any, dim: int, zero_in: int, zero_out: int, multiplier: int, shift: int, diff_min: int) -> Any:
    wide = np.atleast_1d(x.astype(np.int64))
    powers = _powers(multiplier, shift, wide.shape[dim], Target()).astype(np.int64)[wide.max(axis=dim, keepdims=True) - wide]
    total = powers.sum(axis=dim, keepdims=True)
    stored = np.minimum((powers * 256 + total // 2) // total + _ZERO_POINT, 127)
    return stored.reshape(x.shape).astype(np.int8)


def _fixed_scale(scale: float) -> tuple[int, int, int]:
    """Multiplier, shift and least difference as `cortex_m::softmax` carries them."""
    multiplier, shift = multiplier_shift(min(scale * 2**26, 2**31 - 1))
    return multiplier, shift, -math.floor(31 * 2.0 ** (26 - shift))


def _rule(node: IntegerNode) -> Fused | str:
    x = node.quantized["self"]
    if not isinstance(x, Quantized) or x.axis is not None or x.value.spec.dtype is not DType.INT8:
        return "its operand is not quantised per tensor to int8"
    if (node.out.scale, node.out.zero_point, node.out.low, node.out.high) != (_SCALE, _ZERO_POINT, -128, 127):
        return "its result is not quantised in steps of 1/256 from -128 on"
    args = (x.ref, node.node["dim"], x.zero_point, _ZERO_POINT, *_fixed_scale(x.scale))
    return Fused("cortex_m::softmax.out", args)


def _case8(shape: tuple[int, ...], dim: int, scale: float, note: str = "", order: tuple[int, ...] | None = None) -> Case:
    return Case((T(shape, DType.INT8, -128, 128, dim_order=order), dim, 0, _ZERO_POINT, *_fixed_scale(scale)), note)


def _draw8(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(1, 4)))
    return _case8(shape, draw.integer(-len(shape), len(shape) - 1), draw.number(0.001, 0.5))


_SOFTMAX8 = Op(
    "cortex_m::softmax.out(Tensor self, int dim, int input_zero_point, int output_zero_point, int input_multiplier, int input_shift, "
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

RULES = [Rule("aten::_softmax.out", _rule)]

OPS = [_op("_softmax", "softmax", _np_softmax), _op("_log_softmax", "log_softmax", _np_log_softmax), _SOFTMAX8]
