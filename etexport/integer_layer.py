"""Integer layers: sums of int8 products, stored as int8. What convolutions and linear layers share: proofs, packing, rules.

The packers are the definition of the layouts; every variant of a kernel reads the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etexport.op import Target
from etexport.program.model import Array, DType, Role, Value
from etexport.quantized import Fused, IntegerNode, Quantized, multiplier_shift, requantize, requantize_tflm, word_multiplier

BMM = "etexport::quantized_bmm.out"

STEP = 4
"""Columns and rows of packed weights are filled up to multiples of this, a word of bytes."""


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


# ---- packing ------------------------------------------------------------------------------------------------------------------------


def can_pair(layer: Layer, target: Target) -> bool:
    """Whether two rows fit into one row of halfwords, 256 * upper + lower, and the upper one's sum into 24 bits.

    The lower sum comes of the low bytes; (both - lower) >> 8 is the upper one.
    """
    upper = slice(1, None, 2)
    lower = layer.weights[::2][: len(layer.weights[upper])]
    too_low = (layer.weights[upper] == -128) & (lower < 0)
    twice = bool(np.all(layer.shifts <= -2) and np.all(reach(layer) < 2**30))
    scaled = twice if target.rounding == "tflm" else not np.any(layer.words[1])
    return bool(scaled and np.all(reach(layer)[upper] < 2**23) and not np.any(too_low))


def elements_of(k: int) -> int:
    """`k` filled up to whole steps."""
    return -(-k // STEP) * STEP


def in_column_order(weights: Array, rows: int) -> Array:
    """(outputs, k) with k = (rows of the window, bytes of a row) as columns have them: first what each row leaves over after its whole
    quads of bytes, filled up to a quad, then the quads of every row."""
    windows = weights.reshape(len(weights), rows, -1)
    whole = windows.shape[2] // 4 * 4
    rest = windows[:, :, whole:].reshape(len(weights), -1)
    filled = np.zeros((len(weights), -(-rest.shape[1] // 4) * 4), weights.dtype)
    filled[:, : rest.shape[1]] = rest
    return np.concatenate([filled, windows[:, :, :whole].reshape(len(weights), -1)], axis=1)


def pack_pairs(layer: Layer, target: Target) -> Array:
    """int8 bytes; for each 4 outputs: 4 words (b0, b0 + 256 b1, b2, b2 + 256 b3); for each 4 k the words
    (h01[k0], h01[k2]), (h23[k0], h23[k2]), (h01[k1], h01[k3]), (h23[k1], h23[k3]) of halfwords h01 = 256 * w[1] + w[0]; 4 multipliers,
    each with 2^(32 - right shift) behind it where rounding is TFLite's.
    """
    outputs, k = layer.weights.shape
    blocks = -(-outputs // 4)
    weights = np.zeros((blocks * 4, elements_of(k)), np.int64)
    weights[:outputs, :k] = layer.weights
    scales = [layer.multipliers, np.int64(1) << (32 + layer.shifts)] if target.rounding == "tflm" else [layer.words[0]]
    bias, words = np.zeros(blocks * 4, np.int64), np.zeros((blocks * 4, len(scales)), np.int64)
    bias[:outputs], words[:outputs] = layer.bias, np.stack(scales, axis=1)
    bias[1::2] = bias[::2] + 256 * bias[1::2]
    halves = (256 * weights[1::2] + weights[::2]).reshape(blocks, 2, -1, 2, 2)  # block, pair, quad, (k / 2) % 2, k % 2
    stream = halves.transpose(0, 2, 4, 1, 3).reshape(blocks, -1).astype(np.int16).view(np.int8)
    parts = (_bytes(bias).reshape(blocks, -1), stream, _bytes(words).reshape(blocks, -1))
    return np.concatenate(parts, axis=1).reshape(-1)


def pack_singles(layer: Layer, target: Target) -> Array:
    """int8 bytes; for each output: bias, multiplier and shift (words), then its weights."""
    outputs, k = layer.weights.shape
    weights = np.zeros((outputs, elements_of(k)), np.int8)
    weights[:, :k] = layer.weights
    multipliers, shifts = (layer.multipliers, layer.shifts) if target.rounding == "tflm" else layer.words
    words = _bytes(np.stack([layer.bias, multipliers, shifts], axis=1)).reshape(outputs, -1)
    return np.concatenate([words, weights], axis=1).reshape(-1)


def pack_blocks(layer: Layer, target: Target, block: int) -> Array:
    """int8 bytes; for each `block` outputs (the last ones in a block of 4 where that is enough): biases (words), weights [k][block],
    multipliers, and shifts where there are any (words)."""
    multipliers, shifts = (layer.multipliers, layer.shifts) if target.rounding == "tflm" else layer.words
    scales = [multipliers, shifts] if has_shifts(layer, target) else [multipliers]
    parts: list[Array] = []
    outputs = len(layer.weights)
    for first in range(0, outputs, block):
        part = slice(first, first + block)
        width = 4 if outputs - first <= 4 else block
        filled = width - len(layer.bias[part])
        weights = np.pad(layer.weights[part], ((0, filled), (0, 0)))
        bias, *words = (np.pad(values[part], (0, filled)) for values in (layer.bias, *scales))
        parts += [_bytes(bias), np.ascontiguousarray(weights.T).reshape(-1), *map(_bytes, words)]
    return np.concatenate(parts)


def has_shifts(layer: Layer, target: Target) -> bool:
    """Whether sums are scaled by more than a multiplier."""
    return target.rounding == "tflm" or bool(np.any(layer.words[1]))


def pack_taps(layer: Layer, input_zero: int, target: Target) -> Array:
    """int8 bytes of a depthwise layer; for each 4 outputs: 4 biases, 4 multipliers, 4 shifts (words), then [tap][4] weights.

    The kernel leaves out taps outside the image, so that biases are without the input's zero point.
    """
    outputs, taps = layer.weights.shape
    blocks = -(-outputs // 4)
    weights = np.zeros((blocks * 4, taps), np.int8)
    weights[:outputs] = layer.weights
    multipliers, shifts = (layer.multipliers, layer.shifts) if target.rounding == "tflm" else layer.words
    words = np.zeros((3, blocks * 4), np.int64)
    bias = layer.bias + input_zero * layer.weights.astype(np.int64).sum(axis=1)
    words[:, :outputs] = bias, multipliers, shifts
    head = _bytes(words.reshape(3, blocks, 4).transpose(1, 0, 2)).reshape(blocks, -1)
    return np.concatenate([head, weights.reshape(blocks, 4, taps).transpose(0, 2, 1).reshape(blocks, -1)], axis=1).reshape(-1)


def pack_windows(layer: Layer) -> Array:
    """int8 bytes of a depthwise layer with a 3x3 window; for each output, as words: pairs (w0, w1) of rows 0 and 1 for its 3 columns,
    pairs (w1, w2) likewise, bias, multiplier."""
    outputs = len(layer.weights)
    weights = layer.weights.astype(np.int64).reshape(outputs, 3, 3) & 0xFFFF
    upper, lower = weights[:, 0] | weights[:, 1] << 16, weights[:, 1] | weights[:, 2] << 16
    return _bytes(np.concatenate([upper, lower, layer.bias[:, None], layer.words[0][:, None]], axis=1))


def _bytes(words: Array) -> Array:
    """Little-endian 32-bit words, modulo 2^32."""
    return np.ascontiguousarray(words & 0xFFFFFFFF).astype("<u4").reshape(-1).view(np.int8)


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
