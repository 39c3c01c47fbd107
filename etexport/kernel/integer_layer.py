"""Integer layers: sums of int8 products, stored as int8. What convolutions and linear layers share: proofs and
rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etexport.kernel.call import Target
from etexport.kernel.quantized import (
    Fused,
    IntegerNode,
    Quantized,
    multiplier_shift,
    requantize,
    requantize_tflm,
    word_multiplier,
)
from etexport.kernel.stored import INT8
from etexport.program.model import Array, DType, Role, Value

BMM = "etexport::quantized_bmm.out"


@dataclass(frozen=True, eq=False)
class Layer:
    """`weights` int8 (outputs, k); `bias` int64 (outputs) with the input's zero point in; the scale of output o is
    multipliers[o] * 2^(shifts[o] - 31)."""

    weights: Array
    bias: Array
    multipliers: Array
    shifts: Array

    def rows(self, part: slice) -> Layer:
        """Some of the outputs."""
        return Layer(self.weights[part], self.bias[part], self.multipliers[part], self.shifts[part])

    @property
    def words(self) -> tuple[Array, Array]:
        """(m, p) of the house rule, for each output."""
        pairs = [word_multiplier(int(m), int(e)) for m, e in zip(self.multipliers, self.shifts, strict=True)]
        words, left = np.array(pairs, np.int64).reshape(-1, 2).T
        return words, left


def layer_of(weights: Array, bias: Array | None, input_zero: int, multipliers: Any, shifts: Any) -> Layer:
    """Fold the input's zero point into the biases; one multiplier counts for all outputs."""
    wide = weights.astype(np.int64)
    added = np.zeros(len(wide), np.int64) if bias is None else np.asarray(bias, np.int64)
    folded = added - input_zero * wide.sum(axis=1)
    scales = (np.broadcast_to(np.asarray(part, np.int64).reshape(-1), (len(wide),)) for part in (multipliers, shifts))
    return Layer(weights, folded, *scales)


def reach(layer: Layer) -> Array:
    """An upper bound of every partial sum's magnitude, for each output."""
    bound: Array = np.abs(layer.bias) + INT8.magnitude * np.abs(layer.weights.astype(np.int64)).sum(axis=1)
    return bound


def extremes(weights: Array) -> tuple[Array, Array]:
    """The least and the largest sum of int8 inputs times each row of int8 weights (outputs, k)."""
    wide = weights.astype(np.int64)
    above, below = np.maximum(wide, 0).sum(axis=1), np.maximum(-wide, 0).sum(axis=1)
    return INT8.low * above - INT8.high * below, INT8.high * above - INT8.low * below


def _scale_problem(layer: Layer) -> str:
    if np.any(layer.multipliers < 0) or np.any(layer.multipliers >= 2**31):
        return "a multiplier is no positive 32-bit integer"
    if np.any(layer.shifts < -31) or np.any(layer.shifts > 30):
        return "a shift lies outside -31 to 30"
    return ""


def problem(layer: Layer) -> str:
    """Why this layer cannot be computed in 32 bits, "" where it can."""
    reason = _scale_problem(layer)
    if reason:
        return reason
    left = _to_the_left(layer)
    # a kernel may sum (x - zero point) * w as well
    far = reach(layer) + INT8.count * np.abs(layer.weights.astype(np.int64)).sum(axis=1)
    if any(int(bound) << int(p) >= 2**31 for bound, p in zip(far, left, strict=True)):
        return "its sums need more than 32 bits"
    return ""


def _to_the_left(layer: Layer) -> Array:
    """By how many bits each output's sums may go to the left, in either rounding rule."""
    left: Array = np.maximum(np.maximum(layer.shifts, layer.words[1]), 0)
    return left


def settled(layer: Layer, target: Target, zero_point: int, low: int, high: int) -> Layer:
    """The same results, with zeros for weights, and numbers that every kernel takes, where a row gives one result for
    all inputs: a channel that training has switched off, whose scale is then anything, or one whose bias is beyond what
    its weights can reach."""
    if _scale_problem(layer):
        return layer
    # what lies beyond 32 bits saturates, unless the scale is too small for that
    limit = (2**31 - 1) >> _to_the_left(layer)
    ends = [layer.bias + end for end in extremes(layer.weights)]
    clear = (np.maximum(-ends[0], ends[1]) <= limit) | (
        limit * np.ldexp(layer.multipliers.astype(np.float64), layer.shifts - 31) > 1024
    )
    least, most = (
        stored(layer, np.clip(end, -limit, limit), target, zero_point, low, high).astype(np.int64) for end in ends
    )
    same = clear & (least == most)
    if not np.any(same):
        return layer
    weights, bias = (
        np.where(same[:, None], np.int8(0), layer.weights),
        np.where(same, 8 * (least - zero_point), layer.bias),
    )
    # one eighth
    return Layer(weights, bias, np.where(same, 2**30, layer.multipliers), np.where(same, -2, layer.shifts))


def stored(layer: Layer, acc: Array, target: Target, zero_point: int, low: int, high: int) -> Array:
    """int8 results from int64 sums, outputs along the last axis: the rounding rule's definition."""
    scaled = (
        requantize_tflm(acc, layer.multipliers, layer.shifts)
        if target.rounding == "tflm"
        else requantize(acc, *layer.words)
    )
    results: Array = np.clip(scaled + zero_point, low, high).astype(np.int8)
    return results


PAIRED_BITS = 24
"""What the upper sum of two rows in one of halfwords has room for."""


def paired(layers: Sequence[Layer], target: Target) -> str:
    """The name in C++ (`et::Paired8`) of the core with DSP instructions that computes all these layers, "" where none
    does.

    Two rows are one of halfwords, 256 * upper + lower. The lower sum comes of the low bytes; (both - lower) >> 8 is the
    upper one, of which 24 bits come out: where it needs more with its bias, or scales are one half and more, layers are
    made in parts.
    """
    if "dsp" not in target.features or any(_too_low(layer) for layer in layers):
        return ""
    at_once = all(scales_at_once(layer, target) for layer in layers)
    twice = target.rounding == "tflm"
    if twice and not at_once:
        return ""
    whole = at_once and all(_fits_paired(layer) for layer in layers)
    return f"et::Paired8::k{'Twice' if twice else 'Nearest'}{'' if whole else 'Parts'}"


def _too_low(layer: Layer) -> bool:
    """Whether an upper weight that is the least one and a lower one below 0 would make a halfword below int16."""
    upper = layer.weights[1::2]
    return bool(np.any((upper == INT8.low) & (layer.weights[::2][: len(upper)] < 0)))


def _fits_paired(layer: Layer) -> bool:
    upper = slice(1, None, 2)
    least, most = (end[upper] + layer.bias[upper] for end in extremes(layer.weights))
    return bool(np.all(least >= -(2 ** (PAIRED_BITS - 1))) and np.all(most < 2 ** (PAIRED_BITS - 1)))


def scales_at_once(layer: Layer, target: Target) -> bool:
    """Whether sums are scaled without a shift to the left: by one high multiply (TFLite's rounding: by two)."""
    if target.rounding == "tflm":
        return bool(np.all(layer.shifts <= -2) and np.all(reach(layer) < 2**30))
    return not np.any(layer.words[1])


# ---- rules -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fixed:
    """The constants of an integer instruction: `weights` int8, outputs first; `bias` int32 or None, `multipliers` and
    `shifts` int32, one for each output."""

    weights: Array
    bias: Array | None
    multipliers: Array
    shifts: Array


def activation(node: IntegerNode, name: str) -> Quantized | str:
    """An operand that is an int8 activation, or why it cannot be one."""
    found = node.quantized[name]
    if not isinstance(found, Quantized) or found.axis is not None or found.value.spec.dtype is not DType.INT8:
        return f"its {name} is not quantised per tensor to int8"
    return found


def weight(node: IntegerNode, name: str, axis: int) -> Quantized | str:
    """A constant int8 operand, symmetric, one scale or one along `axis`; or why it cannot be one."""
    found = node.quantized[name]
    if (
        not isinstance(found, Quantized)
        or found.value.spec.dtype is not DType.INT8
        or found.value.role is not Role.CONSTANT
    ):
        return f"its {name} is not a constant quantised to int8"
    if found.axis not in (None, axis):
        return f"its {name} has a scale for each index of dimension {found.axis}, which is not that of the outputs"
    if np.any(found.zero_points):
        return f"its {name} has a zero point other than 0"
    return found


_STEPS = 1024.0
"""More steps of the result than int8 has, whatever the zero point: results beyond are saturated."""

_BIAS_BITS = 30


def fixed(
    node: IntegerNode, x: Quantized, weights: Quantized, bias: Value | None, known: Any, rows: Array
) -> Fixed | str:
    """Biases at the scale of the sums, and the scales from sums to stored values; `known` is the bias as far as it is
    quantised, `rows` are the weights int8, outputs first.

    A channel whose weights are nothing beside its bias, or beside the result's step, has scales that 32 bits do not
    hold: its weights are rounded once more, at a larger scale. Where they cannot be seen in the result, all are 0.
    """
    outputs = len(rows)
    step = node.out.scale
    real = np.zeros(outputs)
    if bias is not None:
        given = _real_bias(bias, known)
        if given is None:
            return "its bias is not a constant"
        real = np.broadcast_to(given.reshape(-1), (outputs,))
    products = np.broadcast_to(x.scale * np.asarray(weights.scales, np.float64).reshape(-1), (outputs,))
    if not np.all(np.isfinite(products)) or not np.all(products > 0) or not np.all(np.isfinite(real)):
        return "the scale of its sums, or a bias, is no finite number above 0"
    seen = INT8.span * np.abs(rows.reshape(outputs, -1).astype(np.float64)).sum(axis=1) * products
    # twice as far as saturation: what is left of a channel beyond it is its sign
    same = (seen == 0) | (np.abs(real) - seen > 2 * _STEPS * step)
    real = np.where(same, np.clip(real, -_STEPS * step, _STEPS * step), real)
    products = np.where(same, step * 2.0**-16, products)
    if np.any(products / step >= 2.0**8):
        return "the scale of its sums is too large beside the result's"
    with np.errstate(divide="ignore"):
        too_long = np.log2(np.abs(real) / products) - _BIAS_BITS
    down = np.ceil(np.maximum(np.maximum(too_long, -30 - np.log2(products / step)), 0.0)).astype(np.int64)
    products = np.ldexp(products, down)
    shape = (outputs, *(1,) * (rows.ndim - 1))
    rounded = np.rint(np.ldexp(rows.astype(np.float64), -down.reshape(shape)))
    rows = np.where(same.reshape(shape), 0, rounded).astype(np.int8)
    pairs = [multiplier_shift(float(scale)) for scale in products / step]
    multipliers, shifts = (np.array(part, np.int32) for part in zip(*pairs, strict=True))
    return Fixed(rows, None if bias is None else np.rint(real / products).astype(np.int32), multipliers, shifts)


def _real_bias(bias: Value, known: Any) -> Array | None:
    """None where it is not a constant."""
    if isinstance(known, Quantized) and known.value.data is not None:
        real: Array = (known.value.data.astype(np.float64) - known.zero_points) * known.scales
        return real
    return bias.data.astype(np.float64) if bias.data is not None and bias.spec.dtype is DType.FLOAT32 else None


def product_of_activations(node: IntegerNode) -> Fused | str:
    """The rule for `aten::bmm` and `aten::mm` of two activations."""
    a, b = activation(node, "self"), activation(node, "mat2")
    if isinstance(a, str) or isinstance(b, str):
        return a if isinstance(a, str) else str(b)
    scale = a.scale * b.scale / node.out.scale
    if scale <= 0 or scale >= 2.0**8:
        return "the scale of its sums is too large beside the result's"
    multiplier, shift = multiplier_shift(scale)
    if (
        shift < -31
        or a.value.spec.shape[-1] * INT8.span**2 << max(word_multiplier(multiplier, shift)[1], shift, 0) >= 2**31
    ):
        return "its sums need more than 32 bits"
    zeros = (a.zero_point, b.zero_point, node.out.zero_point)
    return Fused(BMM, (a.ref, b.ref, *zeros, multiplier, shift, node.out.low, node.out.high))
