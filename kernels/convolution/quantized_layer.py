"""What the forms of int8 convolution have in common: their operands, their sums, their scales."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from etexport.kernel.call import Target
from etexport.kernel.integer_layer import Layer, layer_of, problem, settled, stored
from etexport.kernel.node import Node
from etexport.kernel.windows import (
    LIMIT,
    Axis,
    axes_of,
)
from etexport.program.model import Array, DType

CONVOLUTION = "cortex_m::quantized_conv2d.out"
DEPTHWISE = "cortex_m::quantized_depthwise_conv2d.out"
TRANSPOSED = "cortex_m::quantized_transpose_conv2d.out"


def axes_within(node: Node, kernel: tuple[int, ...]) -> tuple[Axis, ...]:
    axes = axes_of(node, kernel)
    x = node["input"].spec
    if prod((x.shape[0], x.shape[1], *(axis.padded for axis in axes))) > LIMIT:
        raise node.error(
            f"an input {list(x.shape)} with padding {list(node['padding'])} is too large for 32-bit offsets"
        )
    return axes


_DTYPES = {
    "weight": DType.INT8,
    "bias": DType.INT32,
    "requantize_multipliers": DType.INT32,
    "requantize_shifts": DType.INT32,
}


def check(node: Node, outputs: int) -> None:
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


def layers_of(node: Node, target: Target, weights: Sequence[Array]) -> list[Layer]:
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


def store_of(node: Node) -> dict[str, int]:
    return {"zero_point": node["output_offset"], "low": node["activation_min"], "high": node["activation_max"]}


def sums_of(x: Array, weights: Array, zero: int, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
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
        picks = tuple(
            slice(at, at + step * (size - 1) + 1, step) for at, step, size in zip(starts, stride, sizes, strict=True)
        )
        seen = wide[(slice(None), slice(None), *picks)].reshape(x.shape[0], groups, -1, *sizes)
        out += np.einsum("ngi...,goi->ngo...", seen, grouped[(slice(None), slice(None), *tap)])
    return out.reshape(x.shape[0], -1, *sizes)


def finished(
    sums: Array, weights: Array, bias: Array | None, multipliers: Array, shifts: Array, zero: int, low: int, high: int
) -> Array:
    """`weights` (o, k) only for the number of outputs."""
    layer = layer_of(np.zeros((len(weights), 1), np.int8), bias, 0, multipliers, shifts)
    last = np.moveaxis(sums, 1, -1) + layer.bias
    return np.moveaxis(stored(layer, last, Target(), zero, low, high), -1, 1)
