"""Transposed convolution in integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Scratch, Target, swept_call
from etexport.kernel.integer_layer import Layer, paired
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec
from etexport.kernel.phases import ROW, Phases, phases_of, window_of
from etexport.program.model import Array, DType
from etexport_kernels.convolution.quantized_layer import check, finished, layers_of, store_of
from etexport_kernels.convolution.quantized_packing import (
    begins_at_word,
    in_column_order,
    pack_blocks,
    pack_pairs,
    scale_of,
    tile_for,
)


def _phases(node: Node) -> tuple[Phases, Phases]:
    x, weights = node["input"].spec, node["weight"].spec
    rank = len(x.shape) - 2
    if rank not in (1, 2) or len(weights.shape) != rank + 2 or 0 in weights.shape or weights.shape[-1] != x.shape[1]:
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}; it is (O, KH, KW, I)")
    axes = phases_of(node, weights.shape[1:-1], weights.shape[0])
    return (ROW, *axes)[-2], axes[-1]


def infer(node: Node) -> tuple[InferredSpec, ...]:
    rows, columns = _phases(node)
    outputs: int = node["weight"].spec.shape[0]
    check(node, outputs)
    x = node["input"].spec.shape
    return ((DType.INT8, (x[0], outputs, *((rows.out, columns.out) if len(x) == 4 else (columns.out,)))),)


def lower(node: Node, target: Target) -> Call:
    rows, columns = _phases(node)
    x = node["input"]
    inputs = x.spec.shape[1]
    weights = node["weight"].data
    outputs = len(weights)
    windows = weights.reshape(outputs, rows.kernel, columns.kernel, inputs)
    # a tap that a phase does not see has no part in its sums, so that each phase has biases of its own
    phases = [(list(y), list(across)) for y in rows.taps for across in columns.taps]
    parts = layers_of(node, target, [windows[:, y][:, :, across].reshape(outputs, -1) for y, across in phases])
    core, scale = paired(parts, target), scale_of(parts, target)
    stretches = [len(y) * (1 if columns.back == 1 else len(across)) if across else 0 for y, across in phases]
    ordered = [_as_column(part, count) for part, count in zip(parts, stretches, strict=True)]
    packed = (
        [pack_pairs(part, target, core) for part in ordered]
        if core
        else [pack_blocks(part, target, 4, scale) for part in parts]
    )
    ends = np.cumsum([0, *map(len, packed)])
    geometry: dict[str, GeometryField] = {
        "in_width": columns.size, "out_width": columns.out, "inputs": inputs, "outputs": outputs,
        "input_zero": -node["input_offset"], "window_rows": rows.most, "stride_y": rows.count,
        "stride_x": columns.count, "back": columns.back, "count_y": tuple(map(len, rows.taps)),
        "count_x": tuple(map(len, columns.taps)), "left": columns.lefts, "offset": tuple(int(end) for end in ends[:-1]),
        **store_of(node),
    }  # fmt: skip
    macs = x.spec.numel * outputs * rows.kernel * columns.kernel
    window, weight_bytes = (
        window_of(node, rows, columns, -node["input_offset"]),
        Const("packed", np.concatenate(packed)),
    )
    outside = columns.reaches_outside
    if not core:
        pixel = Const("outside", np.full(inputs, -node["input_offset"], np.int8) if outside else None)
        tile = tile_for(target)
        header = f"convolution/quantized_transposed{'' if tile.variant == 'portable' else f'_{tile.variant}'}.h"
        function = f"quantized_transposed<{scale}, {tile.core}>"
        return swept_call(node, function, header, geometry, window, (weight_bytes, pixel), macs, tile.variant)
    elements, most = max(part.weights.shape[1] for part in ordered), rows.most * columns.most
    by_taps = columns.back > 1 or inputs % 4 == 0
    pointers = most if by_taps else rows.most
    aside = (inputs if by_taps else 2 * most * inputs) if outside else 0
    words = int(inputs % 4 == 0 and begins_at_word(x))
    geometry |= {"elements": elements, "stretches": pointers, "words": words, "outside": int(outside)}
    scratch = Scratch(DType.INT32, elements + 2 * pointers + -(-aside // 4))
    function, header = f"quantized_transposed_dsp<{core}>", "convolution/quantized_transposed_dsp.h"
    return swept_call(node, function, header, geometry, window, (weight_bytes, scratch), macs, "dsp")


def _as_column(layer: Layer, stretches: int) -> Layer:
    """The weights that a phase sees, in the order of a column; one quad of zeros where it sees none."""
    weights = in_column_order(layer.weights, stretches) if stretches else np.zeros((len(layer.weights), 4), np.int8)
    return replace(layer, weights=weights)


def reference(
    x: Array, weights: Array, bias: Array | None, stride: Any, padding: Any, more: Any, dilation: Any,
    input_offset: int, output_offset: int, multipliers: Array, shifts: Array, low: int, high: int, scratch: Any,
    output_scratch: Any,
) -> Array:  # fmt: skip
    rank = x.ndim - 2
    stride, padding, more, dilation = (
        values * rank if len(values) == 1 else values for values in (stride, padding, more, dilation)
    )
    sizes = [
        (size - 1) * step + far * (taps - 1) + 1
        for size, step, far, taps in zip(x.shape[2:], stride, dilation, weights.shape[1:-1], strict=True)
    ]
    whole = np.zeros(
        (x.shape[0], len(weights), *(size + extra for size, extra in zip(sizes, more, strict=True))), np.int64
    )
    wide = x.astype(np.int64) + input_offset
    for tap in np.ndindex(*weights.shape[1:-1]):
        starts = [at * far for at, far in zip(tap, dilation, strict=True)]
        picks = tuple(
            slice(at, at + step * (size - 1) + 1, step)
            for at, step, size in zip(starts, stride, x.shape[2:], strict=True)
        )
        whole[(slice(None), slice(None), *picks)] += np.einsum(
            "ni...,oi->no...", wide, weights[(slice(None), *tap)].astype(np.int64)
        )
    cut = tuple(slice(around, size - around) for around, size in zip(padding, whole.shape[2:], strict=True))
    return finished(
        whole[(slice(None), slice(None), *cut)], weights, bias, multipliers, shifts, output_offset, low, high
    )
