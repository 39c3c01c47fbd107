"""Convolution in integers: dense, grouped, depthwise and transposed; images, and sequences as images of height 1."""

from __future__ import annotations

import numpy as np

from etexport.kernel.integer_layer import activation, fixed, layer_of, problem, weight
from etexport.kernel.op import Layout, Op
from etexport.kernel.quantized import Fused, IntegerNode, Rule
from etexport.program.model import DType
from etexport_kernels.convolution import quantized_dense, quantized_depthwise, quantized_transposed
from etexport_kernels.convolution.quantized_cases import (
    DENSE_CASES,
    DEPTHWISE_CASES,
    TRANSPOSED_CASES,
    draw_dense,
    draw_depthwise,
    draw_transposed,
)
from etexport_kernels.convolution.quantized_layer import CONVOLUTION, DEPTHWISE, TRANSPOSED


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
    reason = problem(
        layer_of(data.reshape(len(data), -1), constants.bias, x.zero_point, constants.multipliers, constants.shifts)
    )
    if reason:
        return reason
    stride, dilation = (tuple(plain[name]) * (rank if len(plain[name]) == 1 else 1) for name in ("stride", "dilation"))
    padding = tuple(plain["padding"]) * (rank if len(plain["padding"]) == 1 else 1)
    last = (constants.multipliers, constants.shifts, node.out.low, node.out.high, None)
    offsets = (-x.zero_point, node.out.zero_point)
    if transposed:
        more = tuple(plain["output_padding"]) * (rank if len(plain["output_padding"]) == 1 else 1)
        turned = np.ascontiguousarray(np.moveaxis(data, 1, -1))
        return Fused(
            TRANSPOSED, (x.ref, turned, constants.bias, stride, padding, more, dilation, *offsets, *last, None)
        )
    if 1 < groups == x.value.spec.shape[1]:
        packed = np.moveaxis(data.reshape(len(data), *data.shape[2:]), 0, -1)[None]
        return Fused(
            DEPTHWISE, (x.ref, packed, constants.bias, stride, padding, dilation, len(data) // groups, *offsets, *last)
        )
    return Fused(
        CONVOLUTION, (x.ref, np.moveaxis(data, 1, -1), constants.bias, stride, padding, dilation, *offsets, *last)
    )


_ENDING = (
    "int input_offset, int output_offset, Tensor requantize_multipliers, Tensor requantize_shifts, int activation_min,"
    " int activation_max, Tensor? scratch, *, Tensor(a!) out) -> Tensor(a!)"
)

OPS = [
    Op(
        f"{CONVOLUTION}(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
        f"{_ENDING}",
        infer=quantized_dense.infer,
        lower=quantized_dense.lower,
        dtypes=(DType.INT8,),
        reference=quantized_dense.reference,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=DENSE_CASES,
        draw=draw_dense,
    ),
    Op(
        f"{DEPTHWISE}(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation,"
        f" int depth_multiplier, {_ENDING}",
        infer=quantized_depthwise.infer,
        lower=quantized_depthwise.lower,
        dtypes=(DType.INT8,),
        reference=quantized_depthwise.reference,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=DEPTHWISE_CASES,
        draw=draw_depthwise,
    ),
    Op(
        f"{TRANSPOSED}(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] output_padding,"
        f" int[] dilation, {_ENDING.replace('scratch,', 'scratch, Tensor? output_scratch,')}",
        infer=quantized_transposed.infer,
        lower=quantized_transposed.lower,
        dtypes=(DType.INT8,),
        reference=quantized_transposed.reference,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=TRANSPOSED_CASES,
        draw=draw_transposed,
    ),
]

RULES = [Rule("aten::convolution.out", _convolution)]
