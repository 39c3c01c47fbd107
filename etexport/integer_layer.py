"""Integer layers: sums of int8 products, stored as int8. What convolutions and linear layers share: proofs and rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etexport.op import Target
from etexport.program.model import Array, DType, Role, Value
from etexport.quantized import Fused, IntegerNode, Quantized, multiplier_shift, requantize, requantize_tflm, word_multiplier

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
    bound: Array = np.abs(layer.bias) + 128 * np.abs(layer.weights.astype(np.int64)).sum(axis=1)
    return bound


def problem(layer: Layer) -> str:
    """Why this layer cannot be computed in 32 bits, "" where it can."""
    if np.any(layer.multipliers < 0) or np.any(layer.multipliers >= 2**31):
        return "a multiplier is no positive 32-bit integer"
    if np.any(layer.shifts < -31) or np.any(layer.shifts > 30):
        return "a shift lies outside -31 to 30"
    left = np.maximum(np.maximum(layer.shifts, layer.words[1]), 0)
    far = reach(layer) + 256 * np.abs(layer.weights.astype(np.int64)).sum(axis=1)  # a kernel may sum (x - zero point) * w as well
    if any(int(bound) << int(p) >= 2**31 for bound, p in zip(far, left, strict=True)):
        return "its sums need more than 32 bits"
    return ""


def stored(layer: Layer, acc: Array, target: Target, zero_point: int, low: int, high: int) -> Array:
    """int8 results from int64 sums, outputs along the last axis: the rounding rule's definition."""
    scaled = requantize_tflm(acc, layer.multipliers, layer.shifts) if target.rounding == "tflm" else requantize(acc, *layer.words)
    results: Array = np.clip(scaled + zero_point, low, high).astype(np.int8)
    return results


def can_pair(layer: Layer, target: Target) -> bool:
    """Whether two rows fit into one row of halfwords, 256 * upper + lower, and the upper one's sum into 24 bits.

    The lower sum comes of the low bytes; (both - lower) >> 8 is the upper one.
    """
    upper = slice(1, None, 2)
    lower = layer.weights[::2][: len(layer.weights[upper])]
    too_low = (layer.weights[upper] == -128) & (lower < 0)
    return bool(scales_at_once(layer, target) and np.all(reach(layer)[upper] < 2**23) and not np.any(too_low))


def scales_at_once(layer: Layer, target: Target) -> bool:
    """Whether sums are scaled without a shift to the left: by one high multiply (TFLite's rounding: by two)."""
    if target.rounding == "tflm":
        return bool(np.all(layer.shifts <= -2) and np.all(reach(layer) < 2**30))
    return not np.any(layer.words[1])


# ---- rules --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fixed:
    """The constants of an integer instruction: `bias` int32 or None, `multipliers` and `shifts` int32, one an output channel."""

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
    if not isinstance(found, Quantized) or found.value.spec.dtype is not DType.INT8 or found.value.role is not Role.CONSTANT:
        return f"its {name} is not a constant quantised to int8"
    if found.axis not in (None, axis):
        return f"its {name} has a scale for each index of dimension {found.axis}, which is not that of the outputs"
    if np.any(found.zero_points):
        return f"its {name} has a zero point other than 0"
    return found


def fixed(node: IntegerNode, x: Quantized, weights: Quantized, bias: Value | None, known: Any, outputs: int) -> Fixed | str:
    """Biases at the scale of the sums, and the scales from sums to stored values; `known` is the bias as far as it is quantised."""
    products = np.broadcast_to(x.scale * np.asarray(weights.scales, np.float64).reshape(-1), (outputs,))
    if not np.all(products > 0) or np.any(products / node.out.scale >= 2.0**8):
        return "the scale of its sums is too large beside the result's"
    pairs = [multiplier_shift(float(scale)) for scale in products / node.out.scale]
    if any(shift < -31 for _, shift in pairs):
        return "the scale of its sums is too small beside the result's"
    multipliers, shifts = (np.array(part, np.int32) for part in zip(*pairs, strict=True))
    if bias is None:
        return Fixed(None, multipliers, shifts)
    if isinstance(known, Quantized) and known.value.data is not None:
        real = (known.value.data.astype(np.float64) - known.zero_points) * known.scales
    elif bias.data is not None and bias.spec.dtype is DType.FLOAT32:
        real = bias.data.astype(np.float64)
    else:
        return "its bias is not a constant"
    words = np.rint(np.broadcast_to(real.reshape(-1), (outputs,)) / products)
    if not np.all(np.abs(words) < 2**31):
        return "its bias needs more than 32 bits"
    return Fixed(words.astype(np.int32), multipliers, shifts)


def product_of_activations(node: IntegerNode) -> Fused | str:
    """The rule for `aten::bmm` and `aten::mm` of two activations."""
    a, b = activation(node, "self"), activation(node, "mat2")
    if isinstance(a, str) or isinstance(b, str):
        return a if isinstance(a, str) else str(b)
    scale = a.scale * b.scale / node.out.scale
    if scale <= 0 or scale >= 2.0**8:
        return "the scale of its sums is too large beside the result's"
    multiplier, shift = multiplier_shift(scale)
    if shift < -31 or a.value.spec.shape[-1] * 255 * 255 << max(word_multiplier(multiplier, shift)[1], shift, 0) >= 2**31:
        return "its sums need more than 32 bits"
    zeros = (a.zero_point, b.zero_point, node.out.zero_point)
    return Fused(BMM, (a.ref, b.ref, *zeros, multiplier, shift, node.out.low, node.out.high))
