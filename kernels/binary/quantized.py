"""Sums, differences and products of int8 tensors, with broadcasting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.quantized import (
    Fused,
    IntegerNode,
    Quantized,
    Rule,
    multiplier_shift,
    real_scale,
    requantize,
    word_multiplier,
)
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import DType

_ADD_BITS = 20
"""ExecuTorch's addition scales both operands up by 2^20 before it adds; the multipliers in the instruction are made for
that."""


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    shape = broadcast_shape(node["self"].spec.shape, node["other"].spec.shape)
    if shape is None or node["other"].spec.dtype is not DType.INT8:
        raise node.error(f"{node['self'].spec} and {node['other'].spec} do not go together")
    for name in node.schema.parameters:
        if name.name.endswith("shift") and not -31 <= node[name.name] <= 30:
            raise node.error(f"{name.name} is {node[name.name]}; it lies in -31 to 30")
        if name.name.endswith("multiplier") and not -(2**31) < node[name.name] < 2**31:
            raise node.error(f"{name.name} is {node[name.name]}, more than 32 bits")
        if name.name.endswith("zero_point") and not -1024 <= node[name.name] <= 1024:
            raise node.error(f"{name.name} is {node[name.name]}")
        if name.name == "activation_max" and not -128 <= node["activation_min"] <= node[name.name] <= 127:
            raise node.error(
                f"results clamped to {node['activation_min']} .. {node['activation_max']}, not within int8"
            )
    return ((DType.INT8, shape),)


def _call(function: str, node: Node, geometry: dict[str, Any], variant: str = "portable") -> Call:
    shape = node.out.spec.shape
    operands = (node["self"], node["other"])
    loops = nest(shape, node.out.spec.strides, *(broadcast_strides(operand.spec, shape) for operand in operands))
    strides = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "other_strides": loops.strides[2],
    }
    reads = tuple(Read(operand.id) for operand in operands)
    header = f"binary/quantized{'' if variant == 'portable' else '_' + variant}.h"
    return Call(function, header, {**strides, **geometry}, (Write(node.out.id), *reads), variant=variant)


# ---- addition --------------------------------------------------------------------------------------------------------


_WORD = 2**15
"""Multipliers below fit 16 bits, of which the DSP instructions multiply two at once."""

_FINE = 12
"""From this shift on 15-bit multipliers are within 1/16 of a step together: 2 * 255 * 2^-1 / 2^12."""


def _sum_words(args: dict[str, int]) -> dict[str, int]:
    """The integer form of an addition: multipliers, shift, and one constant for zero points and rounding. Multipliers
    of 15 bits, or where an operand's scale is so many times the result's that these are too coarse, as long ones as
    32-bit sums hold."""
    out_scale = real_scale(args["output_multiplier"], args["output_shift"]) * 2**_ADD_BITS
    first, second = (
        real_scale(args[f"{one}_multiplier"], args[f"{one}_shift"]) * out_scale for one in ("self", "other")
    )

    def words(shift: int) -> dict[str, int]:
        ma, mb = round(first * 2**shift), round(second * 2**shift)
        constant = (
            (args["output_zero_point"] << shift)
            - ma * args["self_zero_point"]
            - mb * args["other_zero_point"]
            + (1 << (shift - 1))
        )
        return {"self_multiplier": ma, "other_multiplier": mb, "constant": constant, "shift": shift}

    largest = max(abs(first), abs(second))
    # the largest shift for which both multipliers fit 15 bits and the zero point's share of the constant fits 31
    shift = max(1, min(14 - math.frexp(largest)[1] + 1, 20)) if largest else 1
    while shift > 1 and max(round(abs(first) * 2**shift), round(abs(second) * 2**shift)) >= _WORD:
        shift -= 1
    if shift >= _FINE:
        return words(shift)
    return next((wide for wide in map(words, range(20, shift, -1)) if _reach(wide) < 2**31), words(shift))


def _reach(words: dict[str, int]) -> int:
    """What the sum comes to at most."""
    return 128 * (abs(words["self_multiplier"]) + abs(words["other_multiplier"])) + abs(words["constant"])


def _lower_add(node: Node, target: Target) -> Call:
    if target.rounding == "tflm":
        return _lower_add_twice(node)
    words = _sum_words({name.name: node[name.name] for name in node.schema.parameters if name.kind == "int"})
    if _reach(words) >= 2**31:
        raise node.error(
            "an operand's scale is too large beside the result's", "calibrate with data that reaches the whole range"
        )
    bounds = {"low": node["activation_min"], "high": node["activation_max"]}
    if "dsp" in target.features and max(abs(words["self_multiplier"]), abs(words["other_multiplier"])) < _WORD:
        own = "false" if tuple(bounds.values()) == (-128, 127) else "true"
        return _call(f"quantized_add_dsp<{words.pop('shift')}, {own}>", node, {**words, **bounds}, "dsp")
    return _call("quantized_add", node, {**words, **bounds})


def _lower_add_twice(node: Node) -> Call:
    total = 0.0
    for one in ("self", "other"):
        largest = (128 + abs(node[f"{one}_zero_point"])) << _ADD_BITS
        total += largest * abs(real_scale(node[f"{one}_multiplier"], node[f"{one}_shift"])) + 1
        if largest << max(node[f"{one}_shift"], 0) >= 2**31:
            raise node.error(f"the scale of {one} is too large beside the other's")
    if total * 2.0 ** max(node["output_shift"], 0) >= 2**31:
        raise node.error(
            "an operand's scale is too large beside the result's", "calibrate with data that reaches the whole range"
        )
    kept = ("self_zero_point", "self_multiplier", "self_shift", "other_zero_point", "other_multiplier", "other_shift")
    result = {"zero_point": "output_zero_point", "multiplier": "output_multiplier", "shift": "output_shift"}
    bounds = {"low": "activation_min", "high": "activation_max"}
    return _call(
        "quantized_add_twice",
        node,
        {field: node[name] for field, name in {**{n: n for n in kept}, **result, **bounds}.items()},
    )


def _np_add(
    x: Any, zx: int, mx: int, ex: int, y: Any, zy: int, my: int, ey: int, zo: int, mo: int, eo: int, low: int, high: int
) -> Any:
    words = _sum_words({
        "self_zero_point": zx, "self_multiplier": mx, "self_shift": ex, "other_zero_point": zy, "other_multiplier": my,
        "other_shift": ey, "output_zero_point": zo, "output_multiplier": mo, "output_shift": eo,
    })  # fmt: skip
    total = (
        x.astype(np.int64) * words["self_multiplier"]
        + y.astype(np.int64) * words["other_multiplier"]
        + words["constant"]
    )
    return np.clip(total >> words["shift"], low, high).astype(np.int8)


def _sum(node: IntegerNode, sign: int) -> Fused | str:
    factor = sign * float(node.node["alpha"])
    x, y = (_operand(node, name) for name in ("self", "other"))
    if x is None or y is None:
        return "an operand is not quantised per tensor to int8"
    second = y.scale * abs(factor)
    if second == 0 or max(x.scale, second) / node.out.scale >= 2**14:
        return "an operand's scale is too far from the result's"
    twice = 2 * max(x.scale, second)
    mx, ex = multiplier_shift(x.scale / twice)
    my, ey = multiplier_shift(math.copysign(second / twice, factor))
    mo, eo = multiplier_shift(twice / (node.out.scale * 2**_ADD_BITS))
    args = (
        x.ref,
        x.zero_point,
        mx,
        ex,
        y.ref,
        y.zero_point,
        my,
        ey,
        node.out.zero_point,
        mo,
        eo,
        node.out.low,
        node.out.high,
    )
    return Fused("cortex_m::quantized_add.out", args)


# ---- multiplication --------------------------------------------------------------------------------------------------


def _lower_mul(node: Node, target: Target) -> Call:
    word, left = word_multiplier(node["output_multiplier"], node["output_shift"])
    twice = target.rounding == "tflm"
    left = max(node["output_shift"], 0) if twice else left
    reach = (128 + abs(node["self_zero_point"])) * (128 + abs(node["other_zero_point"]))
    if reach << left >= 2**31:
        raise node.error("the product's scale is too large beside the result's")
    zeros = {"self_zero_point": node["self_zero_point"], "other_zero_point": node["other_zero_point"]}
    zeros["zero_point"] = node["output_zero_point"]
    if twice:
        return _call(
            "quantized_mul_twice",
            node,
            {**zeros, "multiplier": node["output_multiplier"], "shift": node["output_shift"]},
        )
    if "dsp" in target.features and left == 0:
        return _call("quantized_mul_dsp", node, {**zeros, "multiplier": word}, "dsp")
    return _call("quantized_mul", node, {**zeros, "multiplier": word, "left_shift": left})


def _np_mul(x: Any, zx: int, y: Any, zy: int, zo: int, multiplier: int, shift: int) -> Any:
    product = (x.astype(np.int64) - zx) * (y.astype(np.int64) - zy)
    return np.clip(requantize(product, *word_multiplier(multiplier, shift)) + zo, -128, 127).astype(np.int8)


def _product(node: IntegerNode) -> Fused | str:
    x, y = (_operand(node, name) for name in ("self", "other"))
    if x is None or y is None:
        return "an operand is not quantised per tensor to int8"
    if (node.out.low, node.out.high) != (-128, 127):
        return "a product has no activation of its own"
    scale = multiplier_shift(x.scale * y.scale / node.out.scale)
    if scale[1] > 8:
        return "the product's scale is too large beside the result's"
    return Fused("cortex_m::quantized_mul.out", (x.ref, x.zero_point, y.ref, y.zero_point, node.out.zero_point, *scale))


def _operand(node: IntegerNode, name: str) -> Quantized | None:
    found = node.quantized[name]
    return (
        found if isinstance(found, Quantized) and found.axis is None and found.value.spec.dtype is DType.INT8 else None
    )


# ---- cases -----------------------------------------------------------------------------------------------------------


def _int8(*shape: int, dim_order: tuple[int, ...] | None = None) -> T:
    return T(shape, DType.INT8, -128, 128, dim_order=dim_order)


def _sum_case(
    x: T, y: T, scales: tuple[float, float, float], zeros: tuple[int, int, int], sign: int = 1, note: str = "",
    bounds: tuple[int, int] = (-128, 127),
) -> Case:  # fmt: skip
    twice = 2 * max(scales[:2])
    first, second = multiplier_shift(scales[0] / twice), multiplier_shift(sign * scales[1] / twice)
    out = multiplier_shift(twice / (scales[2] * 2**_ADD_BITS))
    return Case((x, zeros[0], *first, y, zeros[1], *second, zeros[2], *out, *bounds), note)


def _product_case(x: T, y: T, scale: float, zeros: tuple[int, int, int], note: str = "") -> Case:
    return Case((x, zeros[0], y, zeros[1], zeros[2], *multiplier_shift(scale)), note)


def _shapes(draw: Draw) -> tuple[T, T]:
    shape = (*(draw.integer(1, 4) for _ in range(draw.integer(0, 3))), draw.integer(1, 21))
    other = tuple(1 if draw.integer(0, 3) == 0 else size for size in shape)
    return (_int8(*shape), _int8(*other)) if draw.flag() else (_int8(*other), _int8(*shape))


def _draw_add(draw: Draw) -> Case:
    scales = (draw.number(0.01, 0.5), draw.number(0.01, 0.5), draw.number(0.01, 0.5))
    low, high = sorted((draw.integer(-128, 127), draw.integer(-128, 127))) if draw.flag() else (-128, 127)
    return _sum_case(*_shapes(draw), scales, _zeros(draw), draw.choice((1, -1)), bounds=(low, high))


def _draw_mul(draw: Draw) -> Case:
    return _product_case(*_shapes(draw), draw.number(0.0005, 0.9), _zeros(draw))


def _zeros(draw: Draw) -> tuple[int, int, int]:
    return draw.integer(-128, 127), draw.integer(-128, 127), draw.integer(-128, 127)


OPS = [
    Op(
        "cortex_m::quantized_add.out(Tensor self, int self_zero_point, int self_multiplier, int self_shift, Tensor "
        "other, "
        "int other_zero_point, int other_multiplier, int other_shift, int output_zero_point, int output_multiplier, "
        "int output_shift, "
        "int activation_min, int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower_add,
        dtypes=(DType.INT8,),
        reference=_np_add,
        inplace=("self", "other"),
        exact=True,
        cases=(
            _sum_case(_int8(2, 3, 4), _int8(2, 3, 4), (0.1, 0.2, 0.25), (3, -5, 7)),
            _sum_case(_int8(1, 3, 4, 4), _int8(1, 3, 1, 1), (0.1, 0.01, 0.1), (0, 0, -128), note="broadcasting"),
            _sum_case(_int8(2, 3, 4), _int8(2, 3, 4), (0.1, 0.2, 0.3), (3, -5, 7), -1, "a difference"),
            _sum_case(_int8(3, 37), _int8(3, 37), (0.1, 0.2, 0.1), (3, -5, -20), 1, "a relu", (-20, 127)),
            _sum_case(_int8(1, 1, 9), _int8(2, 11, 1), (0.3, 0.2, 0.4), (3, -5, -20), -1, "both repeat"),
            _sum_case(_int8(3, 8), _int8(3, 8), (0.4, 0.39, 0.016), (100, 98, 4), -1, "a difference of large numbers"),
        ),
        draw=_draw_add,
    ),
    Op(
        "cortex_m::quantized_mul.out(Tensor self, int self_zero_point, Tensor other, int other_zero_point, int "
        "output_zero_point, "
        "int output_multiplier, int output_shift, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower_mul,
        dtypes=(DType.INT8,),
        reference=_np_mul,
        inplace=("self", "other"),
        exact=True,
        cases=(
            _product_case(_int8(2, 3, 4), _int8(2, 3, 4), 0.003, (3, -5, 7)),
            _product_case(
                _int8(1, 3, 4, 4), _int8(1, 3, 1, 1), 0.01, (0, -154, 0), "broadcasting; a zero point outside int8"
            ),
            _product_case(_int8(2, 1, 21), _int8(1, 5, 21), 0.6, (9, 4, 0), "a scale above one half"),
        ),
        draw=_draw_mul,
    ),
]

RULES = [
    Rule("aten::add.out", lambda node: _sum(node, 1)),
    Rule("aten::sub.out", lambda node: _sum(node, -1)),
    Rule("aten::mul.out", _product),
]
