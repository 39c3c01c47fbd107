"""Dense and grouped convolution in integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, Scratch, Target
from etexport.kernel.integer_layer import Layer, paired
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec
from etexport.kernel.windows import (
    ONE,
    Axis,
    first_reads,
    read_then_stored,
    window_over,
)
from etexport.program.model import Array, DType
from etexport_kernels.convolution.quantized_layer import axes_within, check, finished, layers_of, store_of, sums_of
from etexport_kernels.convolution.quantized_packing import (
    MOST_STRETCHES,
    begins_at_word,
    in_column_order,
    pack_blocks,
    pack_pairs,
    pointwise,
    scale_of,
    stored_before_last,
    tile_for,
)


def _geometry(node: Node) -> tuple[Axis, Axis, int]:
    """Rows, columns, groups."""
    x, weights = node["input"].spec, node["weight"].spec
    if len(weights.shape) not in (3, 4) or 0 in weights.shape or not x.shape[1:]:
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}; it is (O, KH, KW, I / groups)")
    axes = axes_within(node, weights.shape[1:-1])
    groups, rest = divmod(x.shape[1], weights.shape[-1])
    if rest or not groups or weights.shape[0] % groups:
        raise node.error(f"a weight {list(weights.shape)} cannot be that of an input {list(x.shape)} in groups")
    return (ONE, *axes)[-2], axes[-1], groups


def infer(node: Node) -> tuple[InferredSpec, ...]:
    rows, columns, _ = _geometry(node)
    outputs: int = node["weight"].spec.shape[0]
    check(node, outputs)
    x = node["input"].spec.shape
    return ((DType.INT8, (x[0], outputs, *((rows.out, columns.out) if len(x) == 4 else (columns.out,)))),)


def lower(node: Node, target: Target) -> Call:
    rows, columns, groups = _geometry(node)
    weights = node["weight"].data
    (layer,) = layers_of(node, target, [weights.reshape(weights.shape[0], -1)])
    together = _together(groups, len(weights) // groups, weights.shape[-1])
    return dense(
        node, target, rows, columns, groups // together, with_zeros(layer, groups, together, weights.shape[-1])
    )


def _together(groups: int, outputs: int, inputs: int) -> int:
    """How many groups to compute as one: as few as fill words of channels, for kernels that make four results at a
    time."""
    return next((n for n in (1, 2, 3, 4) if groups % n == 0 and min(outputs, inputs) * n >= 4), 1)


def with_zeros(layer: Layer, groups: int, together: int, inputs: int) -> Layer:
    """`together` groups of channels as one, with weights of 0 where a result does not see a channel."""
    if together == 1:
        return layer
    outputs, k = layer.weights.shape
    weights = np.zeros((outputs, k // inputs, together, inputs), layer.weights.dtype)
    group = np.arange(outputs) // (outputs // groups) % together
    weights[np.arange(outputs), :, group] = layer.weights.reshape(outputs, -1, inputs)
    return replace(layer, weights=weights.reshape(outputs, -1))


def dense(node: Node, target: Target, rows: Axis, columns: Axis, groups: int, layer: Layer) -> Call:
    x, out = node["input"], node.out
    inputs = x.spec.shape[1] // groups
    outputs = len(layer.weights) // groups
    macs = out.spec.numel * node["weight"].spec.numel // out.spec.shape[1]
    if groups == 1 and all(
        (axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in (rows, columns)
    ):
        return replace(pointwise(x, out, target, layer, store_of(node), in_place=True), macs=macs)
    merged = groups == 1 and columns.dilation == 1
    each = [layer.rows(slice(group * outputs, (group + 1) * outputs)) for group in range(groups)]
    geometry = {
        "in_width": columns.size, "groups": groups, "inputs": inputs, "outputs": outputs, "out_width": columns.out,
        "kernel_height": rows.kernel, "kernel_width": columns.kernel, "stride_y": rows.stride,
        "stride_x": columns.stride, "pad_x": columns.before, "dilation_x": columns.dilation, "merged": int(merged),
        "inner_begin": columns.inner[0], "inner_end": columns.inner[1], "input_zero": -node["input_offset"],
        "elements": layer.weights.shape[1], "words": 0, **store_of(node),
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
    ends = [
        start + end
        for start in starts
        for end in (*range(at_once, whole + 1, at_once), *range(whole + 1, columns.out + 1))
    ]
    stored = [group * (outputs - inputs) + stored_before_last(outputs) for group in (0, groups - 1)]
    within = max(stored) if groups > 1 or outputs > 4 else None
    overlaps = {
        x.id: read_then_stored(
            first_reads(x.spec.shape[0], rows, columns, x.spec.shape[1]), ends, groups * outputs, within
        )
    }
    outside = np.full(inputs, -node["input_offset"], np.int8) if edges and not gathered else None
    operands = (Const("packed", np.concatenate(packed)), Const("outside", outside), aside)
    window = window_over(node, rows, columns, -node["input_offset"])
    return Call(
        f"quantized_convolution<{scale}, {tile.core}>",
        tile.header,
        geometry,
        operands,
        window,
        macs,
        tile.variant,
        overlaps,
    )


_COPY, _GATHER = 48, 350
"""Instructions for copying a row beside one for each byte, and for putting a window together that reaches out of its
rows: counted."""
_GATHER_SMALL = 200
"""Where a copy must be worth its code as well."""

_MOST_PAIRS = 8
"""How many pairs of windows are made of one group of channels before the next one: kMostPairs in `dsp.h`."""


def _runs(columns: Axis, rows: int, groups: int) -> list[int]:
    """The pairs of positions of so many rows in the runs in which `convolution8_rows_dsp` makes them: each pair is
    stored before the next one is read, but of several groups a run of one before the next one's."""
    runs = []
    x, left = 0, rows * columns.out
    while left >= 2:
        inside = (columns.inner[1] - x) // 2 if x >= columns.inner[0] and groups > 1 else 1
        runs.append(min(max(inside, 1), _MOST_PAIRS))
        left -= 2 * runs[-1]
        x = (x + 2 * runs[-1]) % columns.out
    return runs


def _dense_pairs(
    node: Node,
    target: Target,
    rows: Axis,
    columns: Axis,
    each: list[Layer],
    geometry: dict[str, int],
    macs: int,
    core: str,
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
    function, header = "quantized_convolution_dsp", "convolution/quantized_dsp.h"
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


def reference(
    x: Array, weights: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, input_offset: int,
    output_offset: int, multipliers: Array, shifts: Array, low: int, high: int, scratch: Any,
) -> Array:  # fmt: skip
    sums = sums_of(x, weights, -input_offset, stride, padding, dilation, x.shape[1] // weights.shape[-1])
    return finished(sums, weights, bias, multipliers, shifts, output_offset, low, high)
