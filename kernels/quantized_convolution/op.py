"""Convolution in integers: dense, grouped and depthwise; images, and sequences as images of height 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from etexport.integer_layer import Layer, activation, fixed, layer_of, paired, problem, scales_at_once, settled, stored, weight
from etexport.integer_packing import (
    MOST_STRETCHES,
    begins_at_word,
    in_column_order,
    pack_blocks,
    pack_channels,
    pack_columns,
    pack_pairs,
    pack_tap_pairs,
    pack_taps,
    pack_windows,
    pointwise,
    scale_of,
    stored_before_last,
    tile_for,
    twice_of,
)
from etexport.op import (
    Call,
    Case,
    Const,
    Draw,
    GeometryField,
    InferredSpec,
    Layout,
    Node,
    Op,
    Scratch,
    T,
    Target,
    swept_call,
)
from etexport.phases import ROW, Phases, phases_of, window_of
from etexport.program.model import Array, DType
from etexport.quantized import Fused, IntegerNode, Rule, multiplier_shift
from etexport.windows import (
    LIMIT,
    ONE,
    Axis,
    axes_of,
    first_reads,
    last_reads,
    read_then_stored,
    read_then_stored_upward,
    window_over,
)

_CONV = "cortex_m::quantized_conv2d.out"
_DEPTHWISE = "cortex_m::quantized_depthwise_conv2d.out"
_TRANSPOSED = "cortex_m::quantized_transpose_conv2d.out"


def _axes(node: Node, kernel: tuple[int, ...]) -> tuple[Axis, ...]:
    axes = axes_of(node, kernel)
    x = node["input"].spec
    if prod((x.shape[0], x.shape[1], *(axis.padded for axis in axes))) > LIMIT:
        raise node.error(f"an input {list(x.shape)} with padding {list(node['padding'])} is too large for 32-bit offsets")
    return axes


_DTYPES = {"weight": DType.INT8, "bias": DType.INT32, "requantize_multipliers": DType.INT32, "requantize_shifts": DType.INT32}


def _check(node: Node, outputs: int) -> None:
    """What both operators want of the operands beside the geometry."""
    for name, dtype in _DTYPES.items():
        value = node[name]
        if value is None:
            continue
        if value.spec.dtype is not dtype:
            raise node.error(f"{name} is {value.spec.dtype.numpy}, not {dtype.numpy}")
        if name != "weight" and value.spec.numel not in {outputs, outputs if name == "bias" else 1}:
            raise node.error(f"{value.spec.numel} elements in {name} for {outputs} output channels")
    if not -127 <= node["input_offset"] <= 128 or not -128 <= node["output_offset"] <= 127:
        raise node.error("a zero point outside int8", "input_offset is the input's with the sign changed")
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"results clamped to {node['activation_min']} .. {node['activation_max']}, not within int8")


def _layers(node: Node, target: Target, weights: Sequence[Array]) -> list[Layer]:
    """One for each of `weights` (outputs, k)."""
    for name in _DTYPES:
        if node[name] is not None and node[name].data is None:
            raise node.error(f"{name} is not a constant of the model", "only constant weights have a kernel")
    bias = None if node["bias"] is None else node["bias"].data.reshape(-1)
    scales = (node["requantize_multipliers"].data, node["requantize_shifts"].data)
    store = (node["output_offset"], node["activation_min"], node["activation_max"])
    layers = [settled(layer_of(rows, bias, -node["input_offset"], *scales), target, *store) for rows in weights]
    reason = next(filter(None, map(problem, layers)), "")
    if reason:
        raise node.error(reason)
    return layers


def _stored(node: Node) -> dict[str, int]:
    return {"zero_point": node["output_offset"], "low": node["activation_min"], "high": node["activation_max"]}


# ---- dense and grouped --------------------------------------------------------------------------------------------------------------


def _geometry(node: Node) -> tuple[Axis, Axis, int]:
    """Rows, columns, groups."""
    x, weights = node["input"].spec, node["weight"].spec
    if len(weights.shape) not in (3, 4) or 0 in weights.shape or not x.shape[1:]:
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}; it is (O, KH, KW, I / groups)")
    axes = _axes(node, weights.shape[1:-1])
    groups, rest = divmod(x.shape[1], weights.shape[-1])
    if rest or not groups or weights.shape[0] % groups:
        raise node.error(f"a weight {list(weights.shape)} cannot be that of an input {list(x.shape)} in groups")
    return (ONE, *axes)[-2], axes[-1], groups


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    rows, columns, _ = _geometry(node)
    outputs: int = node["weight"].spec.shape[0]
    _check(node, outputs)
    x = node["input"].spec.shape
    return ((DType.INT8, (x[0], outputs, *((rows.out, columns.out) if len(x) == 4 else (columns.out,)))),)


def _lower(node: Node, target: Target) -> Call:
    rows, columns, groups = _geometry(node)
    weights = node["weight"].data
    (layer,) = _layers(node, target, [weights.reshape(weights.shape[0], -1)])
    together = _together(groups, len(weights) // groups, weights.shape[-1])
    return _dense(node, target, rows, columns, groups // together, _with_zeros(layer, groups, together, weights.shape[-1]))


def _together(groups: int, outputs: int, inputs: int) -> int:
    """How many groups to compute as one: as few as fill words of channels, for kernels that make four results at a time."""
    return next((n for n in (1, 2, 3, 4) if groups % n == 0 and min(outputs, inputs) * n >= 4), 1)


def _with_zeros(layer: Layer, groups: int, together: int, inputs: int) -> Layer:
    """`together` groups of channels as one, with weights of 0 where a result does not see a channel."""
    if together == 1:
        return layer
    outputs, k = layer.weights.shape
    weights = np.zeros((outputs, k // inputs, together, inputs), layer.weights.dtype)
    group = np.arange(outputs) // (outputs // groups) % together
    weights[np.arange(outputs), :, group] = layer.weights.reshape(outputs, -1, inputs)
    return replace(layer, weights=weights.reshape(outputs, -1))


def _dense(node: Node, target: Target, rows: Axis, columns: Axis, groups: int, layer: Layer) -> Call:
    x, out = node["input"], node.out
    inputs = x.spec.shape[1] // groups
    outputs = len(layer.weights) // groups
    macs = out.spec.numel * node["weight"].spec.numel // out.spec.shape[1]
    if groups == 1 and all((axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in (rows, columns)):
        return replace(pointwise(x, out, target, layer, _stored(node), in_place=True), macs=macs)
    merged = groups == 1 and columns.dilation == 1
    each = [layer.rows(slice(group * outputs, (group + 1) * outputs)) for group in range(groups)]
    geometry = {
        "in_width": columns.size, "groups": groups, "inputs": inputs, "outputs": outputs, "out_width": columns.out,
        "kernel_height": rows.kernel, "kernel_width": columns.kernel, "stride_y": rows.stride, "stride_x": columns.stride,
        "pad_x": columns.before, "dilation_x": columns.dilation, "merged": int(merged), "inner_begin": columns.inner[0],
        "inner_end": columns.inner[1], "input_zero": -node["input_offset"], "elements": layer.weights.shape[1], "words": 0, **_stored(node),
    }  # fmt: skip
    core = paired(each, target)
    if core:
        return _dense_pairs(node, target, rows, columns, each, geometry, macs, core)
    scale, tile = scale_of(each, target), tile_for(target)
    packed = [pack_blocks(one, target, 4, scale) for one in each]
    geometry |= {"group_bytes": len(packed[0])}
    edges = columns.inner != (0, columns.out)
    elements = layer.weights.shape[1]
    few = rows.kernel * (1 if merged else columns.kernel) <= MOST_STRETCHES
    gathered = inputs < 4 and edges and (merged or not few)  # else every stretch would be a byte or a few
    together = gathered or few
    at_once = tile.positions if together and columns.out >= tile.positions else 1
    aside = Scratch(DType.INT8, at_once * elements) if gathered else Const("aside", None)
    # a tile's results are stored block of channels after block, group after group
    starts = range(0, x.spec.shape[0] * rows.out * columns.out, columns.out)
    whole = columns.out // at_once * at_once
    ends = [start + end for start in starts for end in (*range(at_once, whole + 1, at_once), *range(whole + 1, columns.out + 1))]
    stored = [group * (outputs - inputs) + stored_before_last(outputs) for group in (0, groups - 1)]
    within = max(stored) if groups > 1 or outputs > 4 else None
    overlaps = {x.id: read_then_stored(first_reads(x.spec.shape[0], rows, columns, x.spec.shape[1]), ends, groups * outputs, within)}
    outside = np.full(inputs, -node["input_offset"], np.int8) if edges and not gathered else None
    operands = (Const("packed", np.concatenate(packed)), Const("outside", outside), aside)
    window = window_over(node, rows, columns, -node["input_offset"])
    return Call(f"quantized_convolution<{scale}, {tile.core}>", tile.header, geometry, operands, window, macs, tile.variant, overlaps)


_COPY, _GATHER = 48, 350
"""Instructions for copying a row beside one for each byte, and for putting a window together that reaches out of its rows: counted."""
_GATHER_SMALL = 200
"""Where a copy must be worth its code as well."""

_MOST_PAIRS = 8
"""How many pairs of windows are made of one group of channels before the next one: kMostPairs in `dsp.h`."""


def _runs(columns: Axis, rows: int, groups: int) -> list[int]:
    """The pairs of positions of so many rows in the runs in which `convolution8_rows_dsp` makes them: each pair is stored before the next
    one is read, but of several groups a run of one before the next one's."""
    runs = []
    x, left = 0, rows * columns.out
    while left >= 2:
        inside = (columns.inner[1] - x) // 2 if x >= columns.inner[0] and groups > 1 else 1
        runs.append(min(max(inside, 1), _MOST_PAIRS))
        left -= 2 * runs[-1]
        x = (x + 2 * runs[-1]) % columns.out
    return runs


def _dense_pairs(
    node: Node, target: Target, rows: Axis, columns: Axis, each: list[Layer], geometry: dict[str, int], macs: int, core: str
) -> Call:
    x = node["input"]
    groups, inputs, outputs, merged = (geometry[name] for name in ("groups", "inputs", "outputs", "merged"))
    taps = rows.kernel * columns.kernel
    stretches = rows.kernel if merged else taps
    ordered = [replace(one, weights=in_column_order(one.weights, stretches)) for one in each]
    packed = [pack_pairs(one, target, core) for one in ordered]
    elements = ordered[0].weights.shape[1]
    words = int(inputs % 4 == 0 and begins_at_word(x))
    geometry = {**geometry, "elements": elements, "group_bytes": len(packed[0]), "words": words}
    # pairs go over the ends of rows whose number of positions is odd
    rows_at_once = 2 if columns.out % 2 and rows.out > 1 and rows.dilation == 1 else 1
    window = window_over(node, rows, columns, -node["input_offset"], rows_at_once)
    call = rows_at_once * columns.out
    starts = range(0, x.spec.shape[0] * rows.out * columns.out, rows.out * columns.out)
    runs = np.cumsum(2 * np.array(_runs(columns, rows_at_once, groups)))
    ends = [
        start + min(first + done, rows.out * columns.out, first + call)
        for start in starts
        for first in range(0, rows.out * columns.out, call)
        for done in [*runs.tolist(), call]
    ]
    first = first_reads(x.spec.shape[0], rows, columns, x.spec.shape[1])
    more = outputs - inputs
    within = None if groups == 1 else max(more, (groups - 1) * more)  # group after group of a position
    overlaps = {x.id: read_then_stored(first, ends, groups * outputs, within)}
    outside = columns.inner != (0, columns.out)
    by_taps = not merged or inputs % 4 == 0
    pointers = 2 * (taps if by_taps else rows.kernel)
    aside = (inputs if by_taps else 2 * taps * inputs) if outside else 0
    room = elements + pointers + -(-aside // 4)
    function, header = "quantized_convolution_dsp", "quantized_convolution/dsp.h"
    seen = rows.kernel + (rows_at_once - 1) * rows.stride
    reach_out = rows_at_once * (columns.out - columns.inner[1] + columns.inner[0])
    gather = _GATHER_SMALL if target.optimize == "size" else _GATHER
    if not by_taps and seen * (columns.padded * inputs + _COPY) < reach_out * gather:
        function = "quantized_convolution_padded_dsp"
        before, inside, after = (width * inputs for width in (columns.before, columns.size, columns.after))
        copied = seen + -(-seen * (before + inside + after) // 4)
        room = copied + elements + pointers
        geometry |= {
            "in_width": columns.padded, "pad_x": 0, "inner_begin": 0, "inner_end": columns.out,
            "before": before, "inside": inside, "after": after, "copied": copied,
        }  # fmt: skip
        images = range(0, x.spec.shape[0] * rows.out, rows.out)
        calls = [image + min(y + rows_at_once, rows.out) for image in images for y in range(0, rows.out, rows_at_once)]
        in_rows = first_reads(x.spec.shape[0], rows, ONE, columns.size * inputs)  # rows as positions
        overlaps = {x.id: read_then_stored(in_rows, calls, columns.out * outputs)}
    scratch = Scratch(DType.INT32, room)
    operands = (Const("packed", np.concatenate(packed)), scratch)
    return Call(f"{function}<{core}>", header, geometry, operands, window, macs, "dsp", overlaps)


def _sums(x: Array, weights: Array, zero: int, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """sum((x - zero) * w) in int64: (n, o, ...) from x (n, c, ...) and weights (o, taps ..., i)."""
    rank = x.ndim - 2
    stride, dilation = (values * rank if len(values) == 1 else values for values in (stride, dilation))
    ends = padding if len(padding) == 2 * rank else (padding * rank if len(padding) == 1 else padding) * 2
    wide = np.pad(x.astype(np.int64) - zero, ((0, 0), (0, 0), *zip(ends[:rank], ends[rank:], strict=True)))
    kernel = weights.shape[1:-1]
    reach = [far * (taps - 1) + 1 for far, taps in zip(dilation, kernel, strict=True)]
    sizes = [(size - length) // step + 1 for size, length, step in zip(wide.shape[2:], reach, stride, strict=True)]
    grouped = weights.astype(np.int64).reshape(groups, -1, *weights.shape[1:])
    out = np.zeros((x.shape[0], groups, grouped.shape[1], *sizes), np.int64)
    for tap in np.ndindex(*kernel):
        starts = [at * far for at, far in zip(tap, dilation, strict=True)]
        picks = tuple(slice(at, at + step * (size - 1) + 1, step) for at, step, size in zip(starts, stride, sizes, strict=True))
        seen = wide[(slice(None), slice(None), *picks)].reshape(x.shape[0], groups, -1, *sizes)
        out += np.einsum("ngi...,goi->ngo...", seen, grouped[(slice(None), slice(None), *tap)])
    return out.reshape(x.shape[0], -1, *sizes)


def _finish(sums: Array, weights: Array, bias: Array | None, multipliers: Array, shifts: Array, zero: int, low: int, high: int) -> Array:
    """`weights` (o, k) only for the number of outputs."""
    layer = layer_of(np.zeros((len(weights), 1), np.int8), bias, 0, multipliers, shifts)
    last = np.moveaxis(sums, 1, -1) + layer.bias
    return np.moveaxis(stored(layer, last, Target(), zero, low, high), -1, 1)


def _reference(
    x: Array, weights: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, input_offset: int, output_offset: int,
    multipliers: Array, shifts: Array, low: int, high: int, scratch: Any,
) -> Array:  # fmt: skip
    sums = _sums(x, weights, -input_offset, stride, padding, dilation, x.shape[1] // weights.shape[-1])
    return _finish(sums, weights, bias, multipliers, shifts, output_offset, low, high)


# ---- depthwise ----------------------------------------------------------------------------------------------------------------------


def _depthwise_geometry(node: Node) -> tuple[Axis, Axis]:
    x, weights, multiplier = node["input"].spec, node["weight"].spec, node["depth_multiplier"]
    if len(weights.shape) not in (3, 4) or 0 in weights.shape or len(x.shape) < 3 or weights.shape[0] != 1 or multiplier < 1:
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}; it is (1, KH, KW, O)")
    if weights.shape[-1] != x.shape[1] * multiplier:
        raise node.error(f"{weights.shape[-1]} outputs of {x.shape[1]} channels, {multiplier} each")
    axes = _axes(node, weights.shape[1:-1])
    return (ONE, *axes)[-2], axes[-1]


def _infer_depthwise(node: Node) -> tuple[InferredSpec, ...]:
    rows, columns = _depthwise_geometry(node)
    outputs: int = node["weight"].spec.shape[-1]
    _check(node, outputs)
    x = node["input"].spec.shape
    return ((DType.INT8, (x[0], outputs, *((rows.out, columns.out) if len(x) == 4 else (columns.out,)))),)


def _lower_depthwise(node: Node, target: Target) -> Call:
    rows, columns = _depthwise_geometry(node)
    x, out = node["input"], node.out
    batch, channels = x.spec.shape[:2]
    (layer,) = _layers(node, target, [node["weight"].data.reshape(-1, node["weight"].spec.shape[-1]).T])
    dsp = "dsp" in target.features
    fast = dsp and scales_at_once(layer, target)
    if channels == 1 or (dsp and channels < 4):
        return _dense(node, target, rows, columns, 1, _with_zeros(layer, channels, channels, 1))  # fewer channels than a word has
    if fast and _is_3x3(node, target):
        return _depthwise_3x3(node, rows, columns, layer)
    if fast and _in_columns(node, target):
        return _depthwise_columns(node, rows, columns, layer)
    raised = layer if fast else _raised(layer, target) if dsp else None
    if raised is not None:
        return _depthwise_taps(node, target, rows, columns, raised)
    slides = columns.stride <= 2 and columns.before <= 1 and columns.after <= 2 and columns.dilation == 1
    if (rows.kernel, columns.kernel, node["depth_multiplier"]) == (3, 3, 1) and slides:
        return _depthwise_channels(node, target, rows, columns, layer)
    geometry = {
        "in_width": columns.size, "channels": channels, "multiplier": node["depth_multiplier"], "out_width": columns.out,
        "kernel_height": rows.kernel, "kernel_width": columns.kernel, "stride_x": columns.stride, "pad_x": columns.before,
        "dilation_x": columns.dilation, "input_zero": -node["input_offset"], **_stored(node),
    }  # fmt: skip
    outputs, taps = layer.weights.shape
    positions = range(1, batch * rows.out * columns.out + 1)
    overlaps = {x.id: read_then_stored(first_reads(batch, rows, columns, channels), positions, outputs, outputs - channels)}
    window = window_over(node, rows, columns, -node["input_offset"])
    operands = (Const("packed", pack_taps(layer, -node["input_offset"], target)),)
    function = f"quantized_depthwise<{twice_of(target)}>"
    header = "quantized_convolution/depthwise.h"
    return Call(function, header, geometry, operands, window, out.spec.numel * taps, "portable", overlaps)


def _raised(layer: Layer, target: Target) -> Layer | None:
    """The same layer without shifts of its sums to the left: its weights are larger in their place. None where they leave int16."""
    left = layer.words[1]
    weights = layer.weights.astype(np.int64) << left[:, None]
    if target.rounding == "tflm" or np.any(np.abs(weights) >= 2**15):
        return None
    return Layer(weights, layer.bias << left, layer.multipliers, layer.shifts - left)


def _depthwise_channels(node: Node, target: Target, rows: Axis, columns: Axis, layer: Layer) -> Call:
    """A row is made channel after channel. Where input and output lie whole pixels apart they meet only themselves, so that a channel may
    follow its windows as closely as if it were alone."""
    x, out = node["input"], node.out
    batch, channels = x.spec.shape[:2]
    geometry = {
        "in_width": columns.size, "channels": channels, "out_width": columns.out, "pad_x": columns.before,
        "input_zero": -node["input_offset"], **_stored(node),
    }  # fmt: skip
    scale = scale_of([layer], target)
    function, header, variant = f"quantized_depthwise_channels<{scale}, {columns.stride}>", "depthwise3x3.h", "portable"
    outside = columns.stride * (columns.out - 1) + 3 - columns.before - columns.size  # columns of the last window
    if "riscv" in target.features and scale == "et::Scale8::kNearest" and outside <= 1:
        function, header, variant = f"quantized_depthwise_channels_rv32<{columns.stride}>", "depthwise3x3_rv32.h", "rv32"
    window = window_over(node, rows, columns, -node["input_offset"])
    operands = (Const("packed", pack_channels(layer, target, scale)),)
    call = Call(function, f"quantized_convolution/{header}", geometry, operands, window, out.spec.numel * 9, variant)
    out_row = columns.out * channels
    if any(value.storage is not None and value.storage.offset % channels for value in (x, out)):
        first = first_reads(batch, rows, ONE, columns.size * channels)  # rows as positions
        return replace(call, overlaps={x.id: read_then_stored(first, range(1, len(first)), out_row, out_row - channels)})
    call = replace(call, overlaps={x.id: _behind(batch, rows, columns, channels)}, multiples={x.id: channels, out.id: channels})
    if (rows.stride, columns.stride) != (1, 1):
        return call
    # the other way round it is the same with the other end of each tensor
    turned = (replace(axis, before=axis.after, after=axis.before) for axis in (rows, columns))
    upward = _behind(batch, *turned, channels) + x.spec.nbytes - out.spec.nbytes
    return replace(call, overlaps_upward={x.id: upward})


def _behind(batch: int, rows: Axis, columns: Axis, pixel: int) -> int:
    """How many bytes a channel's input must start above its output, where each column of a window is read once, the last one with the
    window's result."""
    seen = columns.kernel - columns.stride  # columns that a window shares with the one before
    first = first_reads(batch, rows, replace(columns, before=columns.before - seen, after=columns.after + seen), pixel)
    row = slice(0, None, columns.out)
    first[row] = np.minimum(first[row], first_reads(batch, rows, columns, pixel)[row])
    return read_then_stored(np.minimum.accumulate(first[::-1])[::-1], range(1, len(first)), pixel)


def _depthwise_taps(node: Node, target: Target, rows: Axis, columns: Axis, layer: Layer) -> Call:
    x, out, multiplier = node["input"], node.out, node["depth_multiplier"]
    batch, channels = x.spec.shape[:2]
    outputs, taps = layer.weights.shape
    shares = [pack_tap_pairs(layer.rows(slice(share, None, multiplier)), target) for share in range(multiplier)]
    pairs = taps // 2
    geometry = {
        "in_width": columns.size, "channels": channels, "multiplier": multiplier, "out_width": columns.out, "kernel_height": rows.kernel,
        "kernel_width": columns.kernel, "stride_x": columns.stride, "pad_x": columns.before, "dilation_x": columns.dilation,
        "input_zero": -node["input_offset"], "inner_begin": columns.inner[0], "inner_end": columns.inner[1],
        "first_pairs": (pairs - 1) % 5 + 1 if pairs else 0, "share_bytes": len(shares[0]), **_stored(node),
    }  # fmt: skip
    first = first_reads(batch, rows, columns, channels)
    # With one result a channel: position after position, block of channels after block. With more: of a run of positions whose windows
    # lie inside the row, or of one other position, the first results of all channels, then the second ones.
    begin, end = (0, 0) if multiplier == 1 else columns.inner
    stops = [*range(1, begin + 1), *range(max(end, begin), columns.out + 1)]
    ends = [row + stop for row in range(0, len(first) - 1, columns.out) for stop in stops if stop > 0]
    overlaps = {x.id: read_then_stored(first, ends, outputs, 0 if multiplier == 1 else outputs - 1)}
    aside = channels if columns.inner != (0, columns.out) else 0
    operands = (Const("packed", np.concatenate(shares)), Scratch(DType.INT32, taps + -(-aside // 4)))
    function = f"quantized_depthwise_dsp<{twice_of(target)}>"
    window = window_over(node, rows, columns, -node["input_offset"])
    header = "quantized_convolution/depthwise_dsp.h"
    return Call(function, header, geometry, operands, window, out.spec.numel * taps, "dsp", overlaps)


def _is_3x3(node: Node, target: Target) -> bool:
    """Whether it is faster two rows at once: windows of 3x3 that share most of their rows."""
    rows, columns = _depthwise_geometry(node)
    fits = all((axis.kernel, axis.dilation, axis.stride) == (3, 1, 1) and axis.before <= 1 for axis in (rows, columns))
    plain = node["depth_multiplier"] == 1 and node["input"].spec.shape[1] % 4 == 0
    # it makes two columns at once and moves whole words; a part of another tensor may begin anywhere
    return (
        fits and columns.out > 1 and plain and begins_at_word(node["input"]) and begins_at_word(node.out) and target.rounding == "nearest"
    )


def _in_columns(node: Node, target: Target) -> bool:
    """Whether it is faster two rows at once: windows of 5 or 7 rows. With fewer than 3 columns, or 4 positions, it is not."""
    rows, columns = _depthwise_geometry(node)
    fits = (rows.stride, rows.dilation, columns.dilation) == (1, 1, 1) and 3 <= columns.kernel <= 7 and columns.before < columns.kernel
    plain = node["depth_multiplier"] == 1 and node["input"].spec.shape[1] % 4 == 0
    return fits and rows.kernel in (5, 7) and rows.out > 1 and columns.out > 3 and plain and target.rounding == "nearest"


def _depthwise_3x3(node: Node, rows: Axis, columns: Axis, layer: Layer) -> Call:
    geometry = {
        "in_width": columns.size, "channels": node["input"].spec.shape[1], "out_width": columns.out, "pad_x": columns.before,
        "input_zero": -node["input_offset"], **_stored(node),
    }  # fmt: skip
    operands = (Const("packed", pack_windows(layer)), Scratch(DType.INT32, 8 * (columns.out + 2)))
    window = window_over(node, rows, columns, -node["input_offset"], 2)
    header = "quantized_convolution/depthwise3x3_dsp.h"
    call = Call("quantized_depthwise_3x3", header, geometry, operands, window, node.out.spec.numel * 9, "dsp")
    return _two_rows_over(node, rows, columns, call)


def _depthwise_columns(node: Node, rows: Axis, columns: Axis, layer: Layer) -> Call:
    pairs = (rows.kernel + 1) // 2
    seen = columns.stride * (columns.out - 1) + columns.kernel
    geometry = {
        "in_width": columns.size, "channels": node["input"].spec.shape[1], "out_width": columns.out, "kernel_width": columns.kernel,
        "stride_x": columns.stride, "pad_x": columns.before, "columns": seen, "input_zero": -node["input_offset"], **_stored(node),
    }  # fmt: skip
    scratch = Scratch(DType.INT32, 4 * pairs * seen + (2 * pairs - 2) * columns.kernel)
    operands = (Const("packed", pack_columns(layer, columns.kernel)), scratch)
    window = window_over(node, rows, columns, -node["input_offset"], 2)
    header = "quantized_convolution/depthwise_rows_dsp.h"
    macs = node.out.spec.numel * rows.kernel * columns.kernel
    call = Call(f"quantized_depthwise_rows<{pairs}>", header, geometry, operands, window, macs, "dsp")
    return _two_rows_over(node, rows, columns, call)


def _two_rows_over(node: Node, rows: Axis, columns: Axis, call: Call) -> Call:
    """Four channels of a call's rows are stored before others are read. Where input and output lie whole pixels apart they meet only
    themselves, so that rows may follow their windows as closely as if they were stored at the end of the call."""
    x, out = node["input"], node.out
    batch, channels = x.spec.shape[:2]
    in_row, out_row = columns.size * channels, columns.out * channels
    images = range(0, batch * rows.out, rows.out)
    ends = [image + min(y + 2, rows.out) for image in images for y in range(0, rows.out, 2)]
    first = first_reads(batch, rows, ONE, in_row)  # rows as positions
    if any(value.storage is not None and value.storage.offset % channels for value in (x, out)):
        # the last pixel stored in the channels done, beside the first one in those to come
        within = out_row - channels if channels > 4 else None
        return replace(call, overlaps={x.id: read_then_stored(first, ends, out_row, within)})
    upward = read_then_stored_upward(last_reads(batch, rows, ONE, in_row), [0, *ends[:-1]], out_row)
    return replace(
        call,
        overlaps={x.id: read_then_stored(first, ends, out_row)},
        overlaps_upward={x.id: upward},
        multiples={x.id: channels, out.id: channels},
    )


def _reference_depthwise(
    x: Array, weights: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, multiplier: int, input_offset: int,
    output_offset: int, multipliers: Array, shifts: Array, low: int, high: int, scratch: Any,
) -> Array:  # fmt: skip
    rows = np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], *weights.shape[1:-1], 1)
    sums = _sums(x, rows, -input_offset, stride, padding, dilation, x.shape[1])
    return _finish(sums, rows, bias, multipliers, shifts, output_offset, low, high)


# ---- transposed ---------------------------------------------------------------------------------------------------------------------


def _phases(node: Node) -> tuple[Phases, Phases]:
    x, weights = node["input"].spec, node["weight"].spec
    rank = len(x.shape) - 2
    if rank not in (1, 2) or len(weights.shape) != rank + 2 or 0 in weights.shape or weights.shape[-1] != x.shape[1]:
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}; it is (O, KH, KW, I)")
    axes = phases_of(node, weights.shape[1:-1], weights.shape[0])
    return (ROW, *axes)[-2], axes[-1]


def _infer_transposed(node: Node) -> tuple[InferredSpec, ...]:
    rows, columns = _phases(node)
    outputs: int = node["weight"].spec.shape[0]
    _check(node, outputs)
    x = node["input"].spec.shape
    return ((DType.INT8, (x[0], outputs, *((rows.out, columns.out) if len(x) == 4 else (columns.out,)))),)


def _lower_transposed(node: Node, target: Target) -> Call:
    rows, columns = _phases(node)
    x = node["input"]
    inputs = x.spec.shape[1]
    weights = node["weight"].data
    outputs = len(weights)
    windows = weights.reshape(outputs, rows.kernel, columns.kernel, inputs)
    # a tap that a phase does not see has no part in its sums, so that each phase has biases of its own
    phases = [(list(y), list(across)) for y in rows.taps for across in columns.taps]
    parts = _layers(node, target, [windows[:, y][:, :, across].reshape(outputs, -1) for y, across in phases])
    core, scale = paired(parts, target), scale_of(parts, target)
    stretches = [len(y) * (1 if columns.back == 1 else len(across)) if across else 0 for y, across in phases]
    ordered = [_as_column(part, count) for part, count in zip(parts, stretches, strict=True)]
    packed = [pack_pairs(part, target, core) for part in ordered] if core else [pack_blocks(part, target, 4, scale) for part in parts]
    ends = np.cumsum([0, *map(len, packed)])
    geometry: dict[str, GeometryField] = {
        "in_width": columns.size, "out_width": columns.out, "inputs": inputs, "outputs": outputs, "input_zero": -node["input_offset"],
        "window_rows": rows.most, "stride_y": rows.count, "stride_x": columns.count, "back": columns.back,
        "count_y": tuple(map(len, rows.taps)), "count_x": tuple(map(len, columns.taps)), "left": columns.lefts,
        "offset": tuple(int(end) for end in ends[:-1]), **_stored(node),
    }  # fmt: skip
    macs = x.spec.numel * outputs * rows.kernel * columns.kernel
    window, weight_bytes = window_of(node, rows, columns, -node["input_offset"]), Const("packed", np.concatenate(packed))
    outside = columns.reaches_outside
    if not core:
        pixel = Const("outside", np.full(inputs, -node["input_offset"], np.int8) if outside else None)
        tile = tile_for(target)
        header = f"quantized_convolution/transposed{'' if tile.variant == 'portable' else f'_{tile.variant}'}.h"
        function = f"quantized_transposed<{scale}, {tile.core}>"
        return swept_call(node, function, header, geometry, window, (weight_bytes, pixel), macs, tile.variant)
    elements, most = max(part.weights.shape[1] for part in ordered), rows.most * columns.most
    by_taps = columns.back > 1 or inputs % 4 == 0
    pointers = most if by_taps else rows.most
    aside = (inputs if by_taps else 2 * most * inputs) if outside else 0
    words = int(inputs % 4 == 0 and begins_at_word(x))
    geometry |= {"elements": elements, "stretches": pointers, "words": words, "outside": int(outside)}
    scratch = Scratch(DType.INT32, elements + 2 * pointers + -(-aside // 4))
    function, header = f"quantized_transposed_dsp<{core}>", "quantized_convolution/transposed_dsp.h"
    return swept_call(node, function, header, geometry, window, (weight_bytes, scratch), macs, "dsp")


def _as_column(layer: Layer, stretches: int) -> Layer:
    """The weights that a phase sees, in the order of a column; one quad of zeros where it sees none."""
    weights = in_column_order(layer.weights, stretches) if stretches else np.zeros((len(layer.weights), 4), np.int8)
    return replace(layer, weights=weights)


def _reference_transposed(
    x: Array, weights: Array, bias: Array | None, stride: Any, padding: Any, more: Any, dilation: Any, input_offset: int,
    output_offset: int, multipliers: Array, shifts: Array, low: int, high: int, scratch: Any, output_scratch: Any,
) -> Array:  # fmt: skip
    rank = x.ndim - 2
    stride, padding, more, dilation = (values * rank if len(values) == 1 else values for values in (stride, padding, more, dilation))
    sizes = [
        (size - 1) * step + far * (taps - 1) + 1
        for size, step, far, taps in zip(x.shape[2:], stride, dilation, weights.shape[1:-1], strict=True)
    ]
    whole = np.zeros((x.shape[0], len(weights), *(size + extra for size, extra in zip(sizes, more, strict=True))), np.int64)
    wide = x.astype(np.int64) + input_offset
    for tap in np.ndindex(*weights.shape[1:-1]):
        starts = [at * far for at, far in zip(tap, dilation, strict=True)]
        picks = tuple(slice(at, at + step * (size - 1) + 1, step) for at, step, size in zip(starts, stride, x.shape[2:], strict=True))
        whole[(slice(None), slice(None), *picks)] += np.einsum("ni...,oi->no...", wide, weights[(slice(None), *tap)].astype(np.int64))
    cut = tuple(slice(around, size - around) for around, size in zip(padding, whole.shape[2:], strict=True))
    return _finish(whole[(slice(None), slice(None), *cut)], weights, bias, multipliers, shifts, output_offset, low, high)


# ---- the rule -----------------------------------------------------------------------------------------------------------------------


def _convolution(node: IntegerNode) -> Fused | str:
    plain = node.node
    transposed, groups = plain["transposed"], plain["groups"]
    if transposed and groups != 1:
        return "it is transposed and has groups"
    x, weights = activation(node, "input"), weight(node, "weight", 1 if transposed else 0)
    if isinstance(x, str) or isinstance(weights, str):
        return x if isinstance(x, str) else str(weights)
    data = weights.value.data
    assert data is not None
    data = data.swapaxes(0, 1) if transposed else data
    rank = data.ndim - 2
    if rank not in (1, 2):
        return f"it has {rank} spatial dimensions"
    constants = fixed(node, x, weights, plain["bias"], node.quantized["bias"], data)
    if isinstance(constants, str):
        return constants
    data = constants.weights
    reason = problem(layer_of(data.reshape(len(data), -1), constants.bias, x.zero_point, constants.multipliers, constants.shifts))
    if reason:
        return reason
    stride, dilation = (tuple(plain[name]) * (rank if len(plain[name]) == 1 else 1) for name in ("stride", "dilation"))
    padding = tuple(plain["padding"]) * (rank if len(plain["padding"]) == 1 else 1)
    last = (constants.multipliers, constants.shifts, node.out.low, node.out.high, None)
    offsets = (-x.zero_point, node.out.zero_point)
    if transposed:
        more = tuple(plain["output_padding"]) * (rank if len(plain["output_padding"]) == 1 else 1)
        turned = np.ascontiguousarray(np.moveaxis(data, 1, -1))
        return Fused(_TRANSPOSED, (x.ref, turned, constants.bias, stride, padding, more, dilation, *offsets, *last, None))
    if 1 < groups == x.value.spec.shape[1]:
        packed = np.moveaxis(data.reshape(len(data), *data.shape[2:]), 0, -1)[None]
        return Fused(_DEPTHWISE, (x.ref, packed, constants.bias, stride, padding, dilation, len(data) // groups, *offsets, *last))
    return Fused(_CONV, (x.ref, np.moveaxis(data, 1, -1), constants.bias, stride, padding, dilation, *offsets, *last))


# ---- cases --------------------------------------------------------------------------------------------------------------------------


def _case(
    x: tuple[int, ...],
    weights: tuple[int, ...],
    note: str = "",
    *,
    bias: bool = True,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] = (0,),
    dilation: tuple[int, ...] = (1,),
    zeros: tuple[int, int] = (3, -5),
    bounds: tuple[int, int] = (-128, 127),
    scale: float = 1.0,
    least: int = -127,
    depthwise: int = 0,
    transposed: tuple[int, ...] | None = None,
    biases: int = 2000,
    dead: bool = False,
) -> Case:
    """`weights` as the operator takes them; scales spread round one that uses the range of int8, times `scale`. With `dead` every second
    output of three has no weights, a bias beyond 24 bits and a scale of nearly nothing."""
    rank = len(x) - 2
    attributes = (stride, padding, dilation) if transposed is None else (stride, padding, transposed, dilation)
    wide = [values * rank if len(values) == 1 else values for values in attributes]
    outputs = weights[-1] if depthwise else weights[0]
    k = prod(weights) // outputs
    scales = [scale * (0.4 + at % 7 / 7) / (60 * k**0.5) for at in range(outputs)]
    added = T((outputs,), DType.INT32, -biases, biases, constant=True) if bias else None
    rows = T(weights, DType.INT8, least, 128, constant=True)
    if dead:
        scales = [2.0**-24 if at % 3 == 1 else each for at, each in enumerate(scales)]
        added = _numbers([(at % 8 - 3) << 27 if at % 3 == 1 else at for at in range(outputs)])
        some = np.random.default_rng(k).integers(least, 128, weights)
        some[(..., slice(1, None, 3)) if depthwise else slice(1, None, 3)] = 0
        rows = replace(rows, values=tuple(map(float, some.reshape(-1).tolist())))
    multipliers, shifts = map(_numbers, zip(*map(multiplier_shift, scales), strict=True))
    arguments = (T(x, DType.INT8, -128, 128), rows, added, *wide)
    middle = (depthwise,) if depthwise else ()
    scratch = (None,) if transposed is None else (None, None)
    return Case((*arguments, *middle, -zeros[0], zeros[1], multipliers, shifts, *bounds, *scratch), note)


def _numbers(values: Sequence[int]) -> T:
    return T((len(values),), DType.INT32, values=tuple(map(float, values)), constant=True)


_CASES = (
    _case((1, 3, 8, 8), (8, 3, 3, 3), "dense, padded by one", padding=(1,)),
    _case((1, 4, 6, 6), (4, 3, 3, 4), "no padding, no bias", bias=False),
    _case((2, 3, 7, 5), (6, 3, 3, 3), "a batch, stride 2", stride=(2,), padding=(1,)),
    _case((1, 3, 8, 8), (8, 3, 3, 3), "padded at the ends only", stride=(2,), padding=(0, 0, 1, 1)),
    _case((1, 16, 6, 5), (16, 3, 3, 16), "16 channels", padding=(1,), zeros=(-128, -128)),
    _case((1, 32, 4, 4), (8, 3, 3, 32), "long columns", padding=(1,), zeros=(127, 0)),
    _case((1, 16, 5, 5), (12, 1, 1, 16), "pointwise, an odd number of positions"),
    _case((1, 5, 9, 4), (7, 1, 1, 5), "pointwise, nothing is a multiple of four"),
    _case((2, 64, 3, 3), (64, 1, 1, 64), "pointwise over a batch, a ReLU's bounds", zeros=(-128, 4), bounds=(4, 100)),
    _case((1, 8, 6, 6), (9, 1, 1, 8), "1x1 of stride 2 is no pointwise", stride=(2,)),
    _case((1, 4, 4, 4), (5, 1, 1, 4), "1x1 with padding: the border is the bias", padding=(1,)),
    _case((1, 1, 49, 10), (16, 10, 4, 1), "one input channel, 10x4, stride 2", stride=(2,), padding=(5, 1)),
    _case((1, 4, 5, 6), (3, 3, 3, 4), "padding wider than the kernel's reach", padding=(4, 5)),
    _case((1, 2, 3, 3), (4, 5, 5, 2), "a kernel larger than the image", padding=(2,)),
    _case((1, 3, 9, 9), (5, 3, 2, 3), "dilation", dilation=(2, 3), padding=(2, 1)),
    _case((1, 6, 5, 5), (9, 3, 3, 2), "three groups", padding=(1,)),
    _case((1, 16, 5, 6), (16, 3, 3, 2), "eight groups of two channels", padding=(1,)),
    _case((1, 8, 6, 7), (4, 1, 1, 2), "pointwise in groups, one result each"),
    _case((1, 10, 5, 7), (9, 3, 3, 10), "an odd number of positions a row, ten channels", padding=(1,)),
    _case((1, 16, 5, 5), (8, 3, 3, 16), "dilated rows of an odd number of positions", padding=(2,), dilation=(2,)),
    _case((2, 8, 5, 4), (24, 2, 3, 4), "two groups of 12", padding=(1, 2), dilation=(1, 2), stride=(2, 1)),
    _case((1, 8, 4, 4), (6, 3, 3, 8), "scales above one half", scale=150.0),
    _case((1, 8, 4, 4), (6, 3, 3, 8), "weights of -128", least=-128),
    _case((1, 512, 2, 2), (4, 3, 3, 512), "sums that need more than 24 bits", padding=(1,)),
    _case((1, 1203, 3, 1), (7, 1, 1, 1203), "long sums of an odd length, some channels left over"),
    _case((1, 606, 3, 3), (6, 3, 2, 303), "long sums in groups", padding=(1,)),
    _case((1, 12, 5, 5), (10, 3, 3, 12), "dead channels", padding=(1,), dead=True),
    _case((1, 12, 5, 5), (10, 3, 3, 12), "biases beyond 24 bits", padding=(1,), biases=2**24, scale=0.02),
    _case((1, 16, 9), (8, 3, 16), "a sequence", padding=(1,)),
    _case((2, 4, 11), (6, 4, 2), "sequences in two groups, stride 3, dilated", stride=(3,), dilation=(2,), padding=(2,)),
)

_DEPTHWISE_CASES = (
    _case((1, 8, 7, 5), (1, 3, 3, 8), "3x3, an odd number of rows", padding=(1,), depthwise=1),
    _case((1, 64, 6, 5), (1, 3, 3, 64), "3x3, an even number of rows", padding=(1,), zeros=(-128, -128), depthwise=1),
    _case((1, 16, 5, 6), (1, 3, 3, 16), "3x3, sixteen channels", padding=(1,), depthwise=1),
    _case((2, 12, 4, 6), (1, 3, 3, 12), "a batch", padding=(1,), bias=False, depthwise=1),
    _case((1, 12, 7, 8), (1, 3, 3, 12), "stride 2", padding=(1,), stride=(2,), depthwise=1),
    _case((1, 16, 8, 8), (1, 3, 3, 16), "stride 2, padded at the ends only", padding=(0, 0, 1, 1), stride=(2,), depthwise=1),
    _case((1, 8, 5, 5), (1, 3, 3, 8), "no padding", depthwise=1, bounds=(-20, 60)),
    _case((2, 24, 7, 9), (1, 3, 3, 24), "padded below and right, an odd number of rows", padding=(0, 0, 1, 1), depthwise=1),
    _case((1, 4, 1, 1), (1, 3, 3, 4), "one pixel", padding=(1,), depthwise=1),
    _case((2, 5, 6, 6), (1, 5, 3, 5), "5x3, five channels", padding=(2, 1), depthwise=1),
    _case((1, 8, 6, 6), (1, 3, 3, 8), "dilated", padding=(2,), dilation=(2,), depthwise=1),
    _case((1, 3, 6, 6), (1, 3, 3, 9), "three results a channel", padding=(1,), depthwise=3),
    _case((1, 1, 9, 6), (1, 4, 3, 8), "one channel, eight results", padding=(1,), stride=(2,), depthwise=8),
    _case((1, 8, 4, 4), (1, 3, 3, 8), "scales above one half", padding=(1,), scale=150.0, depthwise=1),
    _case((1, 8, 4, 4), (1, 3, 3, 8), "weights of -128", padding=(1,), least=-128, depthwise=1),
    _case((1, 32, 7, 6), (1, 5, 5, 32), "5x5, stride 2", padding=(2,), stride=(2,), depthwise=1),
    _case((1, 6, 5, 7), (1, 3, 3, 6), "six channels: a block and a half", padding=(1,), depthwise=1),
    _case((1, 12, 7, 6), (1, 5, 5, 12), "5x5, twelve channels, an odd number of rows", padding=(2,), depthwise=1),
    _case((2, 16, 8, 9), (1, 7, 3, 16), "7x3, sixteen channels, stride 1 and 2", padding=(3, 1), stride=(1, 2), depthwise=1),
    _case((1, 7, 4, 5), (1, 2, 2, 14), "seven channels, two results each", padding=(1,), depthwise=2),
    _case((1, 3, 6, 5), (1, 3, 3, 3), "three channels", padding=(1,), depthwise=1),
    _case((1, 12, 9), (1, 3, 12), "along a sequence", padding=(1,), depthwise=1),
    _case((1, 12, 6, 5), (1, 3, 3, 12), "dead channels", padding=(1,), depthwise=1, dead=True),
    _case((1, 3, 6, 5), (1, 3, 3, 3), "three channels, scales above one half", padding=(1,), depthwise=1, scale=150.0),
    _case((1, 8, 6, 5), (1, 3, 3, 8), "a scale above 100", padding=(1,), depthwise=1, scale=20000.0),
)


_TRANSPOSED_CASES = (
    _case((1, 4, 5, 5), (6, 2, 2, 4), "twice the size", stride=(2,), transposed=(0,)),
    _case((2, 3, 4, 5), (5, 3, 3, 3), "windows overlap", stride=(2,), padding=(1,), transposed=(1,)),
    _case((1, 8, 3, 3), (4, 4, 4, 8), "padded", stride=(2,), padding=(1,), transposed=(0,), bounds=(-50, 50)),
    _case((1, 4, 3, 4), (5, 3, 2, 4), "stride 1", stride=(1,), transposed=(0,), bias=False),
    _case((1, 4, 3, 3), (3, 2, 2, 4), "a stride beyond the window: some outputs are the bias", stride=(3,), transposed=(2,)),
    _case((1, 4, 4, 3), (6, 3, 4, 4), "dilated, strides differ", stride=(2, 3), dilation=(3, 2), padding=(2, 0), transposed=(1, 0)),
    _case((1, 4, 7), (3, 5, 4), "a sequence", stride=(3,), dilation=(2,), padding=(4,), transposed=(2,)),
    _case((1, 4, 3, 3), (3, 3, 3, 4), "scales above one half", stride=(2,), scale=150.0, transposed=(0,)),
    _case((1, 612, 2, 3), (6, 3, 3, 612), "long sums", stride=(2,), padding=(1,), transposed=(1,)),
    _case((1, 8, 4, 3), (7, 3, 3, 8), "dead channels", stride=(2,), transposed=(0,), dead=True),
)


def _draw_transposed(draw: Draw) -> Case:
    kernel = tuple(draw.choice((1, 2, 2, 3, 3, 4, 5)) for _ in range(draw.choice((1, 2, 2))))
    stride, dilation = (tuple(draw.choice((1, 2, 2, 3)) for _ in kernel) for _ in range(2))
    more = tuple(draw.integer(0, max(step, far) - 1) for step, far in zip(stride, dilation, strict=True))
    sizes = tuple(draw.integer(1, 6) for _ in kernel)
    reach = [(n - 1) * step + far * (taps - 1) for n, step, far, taps in zip(sizes, stride, dilation, kernel, strict=True)]
    padding = tuple(draw.integer(0, length // 2) for length in reach)
    inputs, outputs = draw.choice((1, 2, 3, 4, 5, 8, 16)), draw.integer(1, 12)
    return _case(
        (draw.choice((1, 1, 2)), inputs, *sizes), (outputs, *kernel, inputs), bias=draw.flag(), stride=stride, padding=padding,
        dilation=dilation, zeros=(draw.integer(-128, 127), draw.integer(-128, 127)), transposed=more,
        scale=draw.choice((1.0, 1.0, 150.0)), biases=draw.choice((2000, 2000, 2**24)), dead=draw.integer(0, 5) == 0,
    )  # fmt: skip


def _drawn(draw: Draw, channels: int, weights: tuple[int, ...], kernel: tuple[int, ...], depthwise: int) -> Case:
    stride = tuple(draw.integer(1, 3) for _ in kernel)
    dilation = tuple(draw.choice((1, 1, 1, 2, 3)) for _ in kernel)
    ends = 2 if len(kernel) == 2 and draw.integer(0, 3) == 0 else 1
    padding = tuple(draw.choice((0, 0, 1, size // 2, draw.integer(0, size + 1))) for size in kernel * ends)
    least = tuple(padding[: len(kernel)])
    sizes = tuple(
        max(draw.integer(1, 10), far * (size - 1) + 1 - around) for size, far, around in zip(kernel, dilation, least, strict=True)
    )
    low, high = sorted((draw.integer(-128, 127), draw.integer(-128, 127))) if draw.integer(0, 3) == 0 else (-128, 127)
    return _case(
        (draw.choice((1, 1, 2)), channels, *sizes), weights, bias=draw.flag(), stride=stride, padding=padding, dilation=dilation,
        zeros=(draw.integer(-128, 127), draw.integer(-128, 127)), bounds=(low, high), scale=draw.choice((1.0, 1.0, 1.0, 0.1, 20.0, 150.0)),
        biases=draw.choice((2000, 2000, 2**24)), dead=draw.integer(0, 5) == 0, least=draw.choice((-127, -127, -128)), depthwise=depthwise,
    )  # fmt: skip


def _draw(draw: Draw) -> Case:
    kernel = tuple(draw.choice((1, 1, 2, 3, 3, 3, 4, 5)) for _ in range(draw.choice((1, 2, 2, 2))))
    groups = draw.choice((1, 1, 1, 1, 2, 3))
    inputs = draw.choice((1, 2, 3, 4, 5, 8, 12, 16, 32))
    return _drawn(draw, inputs * groups, (groups * draw.integer(1, 17), *kernel, inputs), kernel, 0)


def _draw_depthwise(draw: Draw) -> Case:
    kernel = (3, 3) if draw.flag() else tuple(draw.choice((1, 2, 3, 3, 4, 5)) for _ in range(draw.choice((1, 2, 2))))
    channels, multiplier = draw.choice((1, 2, 4, 5, 8, 12, 20, 32)), draw.choice((1, 1, 1, 1, 2, 3))
    return _drawn(draw, channels, (1, *kernel, channels * multiplier), kernel, multiplier)


_ENDING = (
    "int input_offset, int output_offset, Tensor requantize_multipliers, Tensor requantize_shifts, int activation_min,"
    " int activation_max, Tensor? scratch, *, Tensor(a!) out) -> Tensor(a!)"
)

OPS = [
    Op(
        f"{_CONV}(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, {_ENDING}",
        infer=_infer,
        lower=_lower,
        dtypes=(DType.INT8,),
        reference=_reference,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=_CASES,
        draw=_draw,
    ),
    Op(
        f"{_DEPTHWISE}(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation,"
        f" int depth_multiplier, {_ENDING}",
        infer=_infer_depthwise,
        lower=_lower_depthwise,
        dtypes=(DType.INT8,),
        reference=_reference_depthwise,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=_DEPTHWISE_CASES,
        draw=_draw_depthwise,
    ),
    Op(
        f"{_TRANSPOSED}(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] output_padding,"
        f" int[] dilation, {_ENDING.replace('scratch,', 'scratch, Tensor? output_scratch,')}",
        infer=_infer_transposed,
        lower=_lower_transposed,
        dtypes=(DType.INT8,),
        reference=_reference_transposed,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=_TRANSPOSED_CASES,
        draw=_draw_transposed,
    ),
]

RULES = [Rule("aten::convolution.out", _convolution)]
