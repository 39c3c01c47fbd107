"""Depthwise convolution in integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, Scratch, Target
from etexport.kernel.integer_layer import Layer, scales_at_once
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec
from etexport.kernel.windows import (
    ONE,
    Axis,
    first_reads,
    last_reads,
    read_then_stored,
    read_then_stored_upward,
    window_over,
)
from etexport.program.model import Array, DType
from etexport_kernels.convolution.quantized_dense import dense, with_zeros
from etexport_kernels.convolution.quantized_layer import axes_within, check, finished, layers_of, store_of, sums_of
from etexport_kernels.convolution.quantized_packing import (
    begins_at_word,
    pack_channels,
    pack_columns,
    pack_tap_pairs,
    pack_taps,
    pack_windows,
    scale_of,
    twice_of,
)


def _depthwise_geometry(node: Node) -> tuple[Axis, Axis]:
    x, weights, multiplier = node["input"].spec, node["weight"].spec, node["depth_multiplier"]
    if (
        len(weights.shape) not in (3, 4)
        or 0 in weights.shape
        or len(x.shape) < 3
        or weights.shape[0] != 1
        or multiplier < 1
    ):
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}; it is (1, KH, KW, O)")
    if weights.shape[-1] != x.shape[1] * multiplier:
        raise node.error(f"{weights.shape[-1]} outputs of {x.shape[1]} channels, {multiplier} each")
    axes = axes_within(node, weights.shape[1:-1])
    return (ONE, *axes)[-2], axes[-1]


def infer(node: Node) -> tuple[InferredSpec, ...]:
    rows, columns = _depthwise_geometry(node)
    outputs: int = node["weight"].spec.shape[-1]
    check(node, outputs)
    x = node["input"].spec.shape
    return ((DType.INT8, (x[0], outputs, *((rows.out, columns.out) if len(x) == 4 else (columns.out,)))),)


def lower(node: Node, target: Target) -> Call:
    rows, columns = _depthwise_geometry(node)
    x, out = node["input"], node.out
    batch, channels = x.spec.shape[:2]
    (layer,) = layers_of(node, target, [node["weight"].data.reshape(-1, node["weight"].spec.shape[-1]).T])
    dsp = "dsp" in target.features
    fast = dsp and scales_at_once(layer, target)
    if channels == 1 or (dsp and channels < 4):
        # fewer channels than a word has
        return dense(node, target, rows, columns, 1, with_zeros(layer, channels, channels, 1))
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
        "in_width": columns.size, "channels": channels, "multiplier": node["depth_multiplier"],
        "out_width": columns.out, "kernel_height": rows.kernel, "kernel_width": columns.kernel,
        "stride_x": columns.stride, "pad_x": columns.before, "dilation_x": columns.dilation,
        "input_zero": -node["input_offset"], **store_of(node),
    }  # fmt: skip
    outputs, taps = layer.weights.shape
    positions = range(1, batch * rows.out * columns.out + 1)
    overlaps = {
        x.id: read_then_stored(first_reads(batch, rows, columns, channels), positions, outputs, outputs - channels)
    }
    window = window_over(node, rows, columns, -node["input_offset"])
    operands = (Const("packed", pack_taps(layer, -node["input_offset"], target)),)
    function = f"quantized_depthwise<{twice_of(target)}>"
    header = "convolution/quantized_depthwise.h"
    return Call(function, header, geometry, operands, window, out.spec.numel * taps, "portable", overlaps)


def _raised(layer: Layer, target: Target) -> Layer | None:
    """The same layer without shifts of its sums to the left: its weights are larger in their place. None where they
    leave int16."""
    left = layer.words[1]
    weights = layer.weights.astype(np.int64) << left[:, None]
    if target.rounding == "tflm" or np.any(np.abs(weights) >= 2**15):
        return None
    return Layer(weights, layer.bias << left, layer.multipliers, layer.shifts - left)


def _depthwise_channels(node: Node, target: Target, rows: Axis, columns: Axis, layer: Layer) -> Call:
    """A row is made channel after channel. Where input and output lie whole pixels apart they meet only themselves, so
    that a channel may follow its windows as closely as if it were alone."""
    x, out = node["input"], node.out
    batch, channels = x.spec.shape[:2]
    geometry = {
        "in_width": columns.size, "channels": channels, "out_width": columns.out, "pad_x": columns.before,
        "input_zero": -node["input_offset"], **store_of(node),
    }  # fmt: skip
    scale = scale_of([layer], target)
    function, header, variant = (
        f"quantized_depthwise_channels<{scale}, {columns.stride}>",
        "quantized_depthwise3x3.h",
        "portable",
    )
    outside = columns.stride * (columns.out - 1) + 3 - columns.before - columns.size  # columns of the last window
    if "riscv" in target.features and scale == "et::Scale8::kNearest" and outside <= 1:
        function, header, variant = (
            f"quantized_depthwise_channels_rv32<{columns.stride}>",
            "quantized_depthwise3x3_rv32.h",
            "rv32",
        )
    window = window_over(node, rows, columns, -node["input_offset"])
    operands = (Const("packed", pack_channels(layer, target, scale)),)
    call = Call(function, f"convolution/{header}", geometry, operands, window, out.spec.numel * 9, variant)
    out_row = columns.out * channels
    if any(value.storage is not None and value.storage.offset % channels for value in (x, out)):
        first = first_reads(batch, rows, ONE, columns.size * channels)  # rows as positions
        return replace(
            call, overlaps={x.id: read_then_stored(first, range(1, len(first)), out_row, out_row - channels)}
        )
    call = replace(
        call, overlaps={x.id: _behind(batch, rows, columns, channels)}, multiples={x.id: channels, out.id: channels}
    )
    if (rows.stride, columns.stride) != (1, 1):
        return call
    # the other way round it is the same with the other end of each tensor
    turned = (replace(axis, before=axis.after, after=axis.before) for axis in (rows, columns))
    upward = _behind(batch, *turned, channels) + x.spec.nbytes - out.spec.nbytes
    return replace(call, overlaps_upward={x.id: upward})


def _behind(batch: int, rows: Axis, columns: Axis, pixel: int) -> int:
    """How many bytes a channel's input must start above its output, where each column of a window is read once, the
    last one with the window's result."""
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
        "in_width": columns.size, "channels": channels, "multiplier": multiplier, "out_width": columns.out,
        "kernel_height": rows.kernel, "kernel_width": columns.kernel, "stride_x": columns.stride,
        "pad_x": columns.before, "dilation_x": columns.dilation, "input_zero": -node["input_offset"],
        "inner_begin": columns.inner[0], "inner_end": columns.inner[1],
        "first_pairs": (pairs - 1) % 5 + 1 if pairs else 0, "share_bytes": len(shares[0]), **store_of(node),
    }  # fmt: skip
    first = first_reads(batch, rows, columns, channels)
    # With one result a channel: position after position, block of channels after block. With more: of a run of
    # positions whose windows lie inside the row, or of one other position, the first results of all channels, then the
    # second ones.
    begin, end = (0, 0) if multiplier == 1 else columns.inner
    stops = [*range(1, begin + 1), *range(max(end, begin), columns.out + 1)]
    ends = [row + stop for row in range(0, len(first) - 1, columns.out) for stop in stops if stop > 0]
    overlaps = {x.id: read_then_stored(first, ends, outputs, 0 if multiplier == 1 else outputs - 1)}
    aside = channels if columns.inner != (0, columns.out) else 0
    operands = (Const("packed", np.concatenate(shares)), Scratch(DType.INT32, taps + -(-aside // 4)))
    function = f"quantized_depthwise_dsp<{twice_of(target)}>"
    window = window_over(node, rows, columns, -node["input_offset"])
    header = "convolution/quantized_depthwise_dsp.h"
    return Call(function, header, geometry, operands, window, out.spec.numel * taps, "dsp", overlaps)


def _is_3x3(node: Node, target: Target) -> bool:
    """Whether it is faster two rows at once: windows of 3x3 that share most of their rows."""
    rows, columns = _depthwise_geometry(node)
    fits = all((axis.kernel, axis.dilation, axis.stride) == (3, 1, 1) and axis.before <= 1 for axis in (rows, columns))
    plain = node["depth_multiplier"] == 1 and node["input"].spec.shape[1] % 4 == 0
    # it makes two columns at once and moves whole words; a part of another tensor may begin anywhere
    return (
        fits
        and columns.out > 1
        and plain
        and begins_at_word(node["input"])
        and begins_at_word(node.out)
        and target.rounding == "nearest"
    )


def _in_columns(node: Node, target: Target) -> bool:
    """Whether it is faster two rows at once: windows of 5 or 7 rows. With fewer than 3 columns, or 4 positions, it is
    not."""
    rows, columns = _depthwise_geometry(node)
    fits = (
        (rows.stride, rows.dilation, columns.dilation) == (1, 1, 1)
        and 3 <= columns.kernel <= 7
        and columns.before < columns.kernel
    )
    plain = node["depth_multiplier"] == 1 and node["input"].spec.shape[1] % 4 == 0
    return (
        fits and rows.kernel in (5, 7) and rows.out > 1 and columns.out > 3 and plain and target.rounding == "nearest"
    )


def _depthwise_3x3(node: Node, rows: Axis, columns: Axis, layer: Layer) -> Call:
    geometry = {
        "in_width": columns.size, "channels": node["input"].spec.shape[1], "out_width": columns.out,
        "pad_x": columns.before, "input_zero": -node["input_offset"], **store_of(node),
    }  # fmt: skip
    operands = (Const("packed", pack_windows(layer)), Scratch(DType.INT32, 8 * (columns.out + 2)))
    window = window_over(node, rows, columns, -node["input_offset"], 2)
    header = "convolution/quantized_depthwise3x3_dsp.h"
    call = Call("quantized_depthwise_3x3", header, geometry, operands, window, node.out.spec.numel * 9, "dsp")
    return _two_rows_over(node, rows, columns, call)


def _depthwise_columns(node: Node, rows: Axis, columns: Axis, layer: Layer) -> Call:
    pairs = (rows.kernel + 1) // 2
    seen = columns.stride * (columns.out - 1) + columns.kernel
    geometry = {
        "in_width": columns.size, "channels": node["input"].spec.shape[1], "out_width": columns.out,
        "kernel_width": columns.kernel, "stride_x": columns.stride, "pad_x": columns.before, "columns": seen,
        "input_zero": -node["input_offset"], **store_of(node),
    }  # fmt: skip
    scratch = Scratch(DType.INT32, 4 * pairs * seen + (2 * pairs - 2) * columns.kernel)
    operands = (Const("packed", pack_columns(layer, columns.kernel)), scratch)
    window = window_over(node, rows, columns, -node["input_offset"], 2)
    header = "convolution/quantized_depthwise_rows_dsp.h"
    macs = node.out.spec.numel * rows.kernel * columns.kernel
    call = Call(f"quantized_depthwise_rows<{pairs}>", header, geometry, operands, window, macs, "dsp")
    return _two_rows_over(node, rows, columns, call)


def _two_rows_over(node: Node, rows: Axis, columns: Axis, call: Call) -> Call:
    """Four channels of a call's rows are stored before others are read. Where input and output lie whole pixels apart
    they meet only themselves, so that rows may follow their windows as closely as if they were stored at the end of the
    call."""
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


def reference(
    x: Array, weights: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, multiplier: int,
    input_offset: int, output_offset: int, multipliers: Array, shifts: Array, low: int, high: int, scratch: Any,
) -> Array:  # fmt: skip
    rows = np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], *weights.shape[1:-1], 1)
    sums = sums_of(x, rows, -input_offset, stride, padding, dilation, x.shape[1])
    return finished(sums, rows, bias, multipliers, shifts, output_offset, low, high)
