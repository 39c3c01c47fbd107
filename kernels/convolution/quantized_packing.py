"""Weights of integer layers as bytes in flash: the definition of the layouts, of which every variant of a kernel reads
the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from etexport.kernel.call import Call, Const, Read, Scratch, Target, Write
from etexport.kernel.integer_layer import PAIRED_BITS, Layer, extremes, paired
from etexport.kernel.windows import read_then_stored
from etexport.program.model import Array, DType, Value

STEP = 4
"""Columns and rows of packed weights are filled up to multiples of this, a word of bytes."""


MOST_STRETCHES = 10
"""How many stretches of bytes a tile sees at most: kMostStretches in `kernels/convolution/quantized_blocks.h`."""


@dataclass(frozen=True)
class Tile:
    """The C++ type that makes 4 outputs of several positions at a time, on cores without DSP instructions."""

    core: str
    positions: int
    header: str
    variant: str


def tile_for(target: Target) -> Tile:
    """As many positions as the registers hold sums."""
    if "riscv" in target.features:
        return Tile("et::Rv32Tile8", 4, "convolution/quantized_rv32.h", "rv32")
    eight_registers = "arm" in target.features and "thumb2" not in target.features
    positions = 1 if eight_registers else 2
    at_once = 1 if eight_registers or target.optimize == "size" else 4
    return Tile(f"et::Tile8<{positions}, {at_once}>", positions, "convolution/quantized_dense.h", "portable")


def scale_of(layers: Sequence[Layer], target: Target) -> str:
    """The name in C++ of how all these layers' sums are scaled, as `pack_blocks` writes it."""
    if target.rounding == "tflm":
        return "et::Scale8::kTwice"
    return f"et::Scale8::{'kNearest' if all(_at_once(layer) for layer in layers) else 'kShifted'}"


def _at_once(layer: Layer) -> bool:
    """Whether sums are scaled by a doubled multiplier alone: all scales below one quarter."""
    words, left = layer.words
    return not np.any(left) and not np.any(words >= 2**30)


def pointwise(x: Value, out: Value, target: Target, layer: Layer, store: dict[str, int], *, in_place: bool) -> Call:
    """A linear layer, or a 1x1 convolution: every position's inputs, which are neighbours in memory, become its
    results.

    `in_place`: where a position has no more outputs than inputs, it may be written over them, for which inputs are
    copied first.
    """
    core = paired([layer], target)
    if core:
        return _pointwise_pairs(x, out, target, layer, store, core)
    outputs, inputs = layer.weights.shape
    positions = x.spec.numel // inputs
    tile, scale = tile_for(target), scale_of([layer], target)
    copied = in_place and outputs <= inputs
    tiles = positions // tile.positions if tile.positions > 1 else 0
    if in_place and not copied and tiles * tile.positions == positions:
        # what is read with the last results would else lie as far above them as several positions' results take
        tiles -= 1
    many = tile.positions if tiles else 1
    ends = [*range(many, many * tiles + 1, many), *range(many * tiles + 1, positions + 1)]
    first = np.arange(positions + 1) * inputs
    within = None if copied or outputs <= 4 else stored_before_last(outputs)
    geometry = {"positions": positions, "tiles": tiles, "inputs": inputs, "outputs": outputs, **store}
    aside = Scratch(DType.INT8, many * inputs) if copied else Const("aside", None)
    operands = (Write(out.id), Read(x.id), Const("packed", pack_blocks(layer, target, 4, scale)), aside)
    function = f"quantized_pointwise<{scale}, {tile.core}>"
    overlaps = {x.id: read_then_stored(first, ends, outputs, within)}
    return Call(function, tile.header, geometry, operands, None, positions * inputs * outputs, tile.variant, overlaps)


def stored_before_last(outputs: int) -> int:
    """How many outputs of a position are stored while the last block of 4 is still to be made."""
    return (outputs - 1) // 4 * 4


def _pointwise_pairs(x: Value, out: Value, target: Target, layer: Layer, store: dict[str, int], core: str) -> Call:
    outputs, inputs = layer.weights.shape
    positions = x.spec.numel // inputs
    packed = pack_pairs(replace(layer, weights=in_column_order(layer.weights, 1)), target, core)
    words = int(inputs % 4 == 0 and begins_at_word(x))
    geometry = {"positions": positions, "inputs": inputs, "outputs": outputs, **store, "words": words}
    # pairs are copied before their results are stored; later positions are still to be read then
    stops = (2, (positions - 1) // 2 * 2)
    overlaps = {x.id: max([-x.spec.numel, *(done * (outputs - inputs) for done in stops if 0 < done < positions)])}
    elements = elements_of(inputs)
    halfwords = 2 * elements if positions > 1 else elements + (elements // 2 if inputs % 4 else 0)
    operands = (Write(out.id), Read(x.id), Const("packed", packed), Scratch(DType.INT32, -(-halfwords // 2)))
    function, header = f"quantized_pointwise_dsp<{core}>", "convolution/quantized_dsp.h"
    return Call(function, header, geometry, operands, None, positions * inputs * outputs, "dsp", overlaps)


def twice_of(target: Target) -> str:
    """The template argument that says whether results are rounded twice."""
    return "true" if target.rounding == "tflm" else "false"


def begins_at_word(value: Value) -> bool:
    """A part of another tensor may begin anywhere."""
    return value.storage is None or value.storage.offset % 4 == 0


def elements_of(k: int) -> int:
    """`k` filled up to whole steps."""
    return -(-k // STEP) * STEP


def in_column_order(weights: Array, stretches: int) -> Array:
    """(outputs, k) with k = (stretches, bytes of a stretch) as columns have them: first what each stretch has left over
    after its whole quads of bytes, each quad filled in the order k0, k2, k1, k3 (of their halfwords in a core with
    16-bit lanes), then the quads of every stretch."""
    windows = weights.reshape(len(weights), stretches, -1)
    whole = windows.shape[2] // 4 * 4
    rest = windows[:, :, whole:].reshape(len(weights), -1)
    filled = np.zeros((len(weights), elements_of(rest.shape[1])), weights.dtype)
    filled[:, : rest.shape[1]] = rest
    filled = filled.reshape(len(weights), -1, 4)[:, :, [0, 2, 1, 3]].reshape(filled.shape)
    return np.concatenate([filled, windows[:, :, :whole].reshape(len(weights), -1)], axis=1)


def pack_pairs(layer: Layer, target: Target, core: str) -> Array:
    """int8 bytes; for each 4 outputs: 4 words (b0, b0 + 256 b1, b2, b2 + 256 b3); for each 4 k the words (h01[k0],
    h01[k2]), (h23[k0], h23[k2]), (h01[k1], h01[k3]), (h23[k1], h23[k3]) of halfwords h01 = 256 * w[1] + w[0]; 4
    multipliers, each with 2^(32 - right shift) behind it where rounding is TFLite's.

    For a core that makes columns in parts: first a word with the bytes of the first part of a column, and one with
    those of each other part; the biases are b0, b2, b1, b3; before multipliers alone a byte for each output, by how
    much its sums go to the left.
    """
    outputs, k = layer.weights.shape
    blocks = -(-outputs // 4)
    weights = np.zeros((blocks * 4, elements_of(k)), np.int64)
    weights[:outputs, :k] = layer.weights
    scales = _scales(layer, target)
    bias, words = np.zeros(blocks * 4, np.int64), np.zeros((blocks * 4, scales.shape[1]), np.int64)
    bias[:outputs], words[:outputs] = layer.bias, scales
    halves = (256 * weights[1::2] + weights[::2]).reshape(blocks, 2, -1, 2, 2)  # block, pair, quad, (k / 2) % 2, k % 2
    stream = halves.transpose(0, 2, 4, 1, 3).reshape(blocks, -1).astype(np.int16).view(np.int8)
    head, shifts = np.zeros(0, np.int8), np.zeros((blocks, 0), np.int8)
    if core.endswith("Parts"):
        head = _bytes(np.array(_parts(weights[1::2])))
        bias = bias.reshape(blocks, 4)[:, [0, 2, 1, 3]]
        if target.rounding == "nearest":
            shifts = np.pad(layer.words[1], (0, blocks * 4 - outputs)).astype(np.int8).reshape(blocks, 4)
    else:
        bias[1::2] = bias[::2] + 256 * bias[1::2]
    parts = (_bytes(bias).reshape(blocks, -1), stream, shifts, _bytes(words).reshape(blocks, -1))
    return np.concatenate([head, np.concatenate(parts, axis=1).reshape(-1)])


_ROUND = 32
"""Parts of a column but the first are whole rounds of the core's longest loop."""


def _parts(upper: Array) -> tuple[int, int]:
    """The bytes of a column's first part and of each other one, as few as the upper sums of every part have room
    for."""
    elements = upper.shape[1]
    for count in range(1, elements):
        step = 0 if count == 1 else -(-elements // (count * _ROUND)) * _ROUND
        first = elements - (count - 1) * step
        if first <= 0:
            continue
        stops = [0, *range(first, elements + 1, step or elements)]
        ends = [extremes(upper[:, begin:end]) for begin, end in pairwise(stops)]
        if all(
            np.all(least >= -(2 ** (PAIRED_BITS - 1))) and np.all(most < 2 ** (PAIRED_BITS - 1)) for least, most in ends
        ):
            break
    return first, step


def pack_blocks(layer: Layer, target: Target, most: int, scale: str) -> Array:
    """int8 bytes; for each block of outputs: biases (words), weights [k][block], multipliers, and shifts where there
    are any (words); multipliers that stand alone are doubled.

    A block has `most` outputs while less than 4 are missing, then half as many, down to 4; what is missing is 0.
    """
    multipliers, shifts = (layer.multipliers, layer.shifts) if target.rounding == "tflm" else layer.words
    scales = [2 * multipliers] if scale == "et::Scale8::kNearest" else [multipliers, shifts]
    parts: list[Array] = []
    outputs, first = len(layer.weights), 0
    while first < outputs:
        width = most
        while outputs - first <= width - 4:
            width //= 2
        part = slice(first, first + width)
        missing = width - len(layer.bias[part])
        bias, *words = (_bytes(np.pad(values[part], (0, missing))) for values in (layer.bias, *scales))
        weights = np.pad(layer.weights[part], ((0, missing), (0, 0)))
        parts += [bias, np.ascontiguousarray(weights.T).reshape(-1), *words]
        first += width
    return np.concatenate(parts)


def pack_taps(layer: Layer, input_zero: int, target: Target) -> Array:
    """int8 bytes of a depthwise layer; for each 4 outputs: 4 biases, 4 multipliers, 4 shifts (words), then [tap][4]
    weights.

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
    return np.concatenate(
        [head, weights.reshape(blocks, 4, taps).transpose(0, 2, 1).reshape(blocks, -1)], axis=1
    ).reshape(-1)


def pack_channels(layer: Layer, target: Target, scale: str) -> Array:
    """int8 bytes of a depthwise layer; for each output: bias, multiplier, and shift where there are any (words, scales
    as `pack_blocks` has them), then its weights, filled up to a word."""
    multipliers, shifts = (layer.multipliers, layer.shifts) if target.rounding == "tflm" else layer.words
    words = [layer.bias, 2 * multipliers] if scale == "et::Scale8::kNearest" else [layer.bias, multipliers, shifts]
    weights = np.pad(layer.weights, ((0, 0), (0, -layer.weights.shape[1] % 4))).astype(np.int8)
    return np.concatenate([_bytes(np.stack(words, axis=1)).reshape(len(weights), -1), weights], axis=1).reshape(-1)


def pack_tap_pairs(layer: Layer, target: Target) -> Array:
    """int8 bytes of a depthwise layer, as words; for each 4 outputs: 4 biases; where the window has an odd number of
    taps, for the first one the pairs of outputs (w0, w2), (w1, w3); for each two others the pairs (w0, w1) of taps of 4
    outputs; 4 multipliers as `pack_pairs` has them. The last block ends with the last output: those that it shares with
    the block before are zeros."""
    outputs, taps = layer.weights.shape
    blocks, left, alone = -(-outputs // 4), outputs % 4, taps % 2
    at = np.arange(outputs) + np.where(np.arange(outputs) >= outputs - left, -left % 4, 0)
    weights = np.zeros((blocks * 4, taps), np.int64)
    weights[at] = layer.weights
    scales = _scales(layer, target)
    bias, words = np.zeros(blocks * 4, np.int64), np.zeros((blocks * 4, scales.shape[1]), np.int64)
    bias[at], words[at] = layer.bias, scales
    first = weights[:, :alone].reshape(blocks, 2, 2, alone)
    pairs = weights[:, alone:].reshape(blocks, 4, -1, 2).transpose(0, 2, 1, 3)
    parts = (bias, _halves(first[:, 0], first[:, 1]), _halves(pairs[..., 0], pairs[..., 1]), words)
    return _bytes(np.concatenate([part.reshape(blocks, -1) for part in parts], axis=1))


def _halves(low: Array, high: Array) -> Array:
    """Words of two int16 each."""
    return low & 0xFFFF | (high & 0xFFFF) << 16


def _scales(layer: Layer, target: Target) -> Array:
    """For each output its multiplier, and 2^(32 - right shift) where rounding is TFLite's."""
    scales = [layer.multipliers, np.int64(1) << (32 + layer.shifts)] if target.rounding == "tflm" else [layer.words[0]]
    return np.stack(scales, axis=1)


def pack_windows(layer: Layer) -> Array:
    """int8 bytes of a depthwise layer with a 3x3 window w[row][column]; for each output: bias (a word), w00 w01 w10
    w11, w02 w12 w12 w22, w10 w11 w20 w21, multiplier (a word). Of 4 weights the first and third, and the second and
    fourth, are those of two rows in one column."""
    outputs = len(layer.weights)
    weights = layer.weights.reshape(outputs, 9)[:, [0, 1, 3, 4, 2, 5, 5, 8, 3, 4, 6, 7]]
    bias, multipliers = (_bytes(words).reshape(outputs, 4) for words in (layer.bias, layer.words[0]))
    return np.concatenate([bias, weights, multipliers], axis=1).reshape(-1)


def pack_columns(layer: Layer, kernel_width: int) -> Array:
    """int8 bytes of a depthwise layer whose window has an odd number of rows, w[row][column]; for each output: bias (a
    word); for each column the pairs of rows (w0, w1), (w2, w3), ..., then (w1, w2), (w3, w4), ..., two pairs (a, b),
    (c, d) as a, c, b, d; multiplier (a word)."""
    outputs = len(layer.weights)
    columns = layer.weights.reshape(outputs, -1, kernel_width).transpose(0, 2, 1)
    height = columns.shape[2]
    pairs = np.array([(row, row + 1) for row in (*range(0, height - 1, 2), *range(1, height, 2))])
    order = pairs.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1)
    bias, multipliers = (_bytes(words).reshape(outputs, 4) for words in (layer.bias, layer.words[0]))
    return (
        np.concatenate([bias, columns[:, :, order].reshape(outputs, -1), multipliers], axis=1)
        .astype(np.int8)
        .reshape(-1)
    )


def _bytes(words: Array) -> Array:
    """Little-endian 32-bit words, modulo 2^32."""
    return np.ascontiguousarray(words & 0xFFFFFFFF).astype("<u4").reshape(-1).view(np.int8)
