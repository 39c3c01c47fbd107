"""Linear layers in integers: the pointwise convolution of their rows."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.integer_layer import (
    Layer,
    activation,
    fixed,
    layer_of,
    paired,
    problem,
    product_of_activations,
    settled,
    stored,
    weight,
)
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.quantized import Fused, IntegerNode, Quantized, Rule, multiplier_shift
from etexport.program.model import Array, DType, Role, Value
from etexport_kernels.convolution.quantized_packing import pack_blocks, pointwise, scale_of

_NAME = "cortex_m::quantized_linear.out"


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    x, weights, bias = node["input"].spec, node["weights"].spec, node["bias"]
    if len(weights.shape) != 2 or not x.shape or x.shape[-1] != weights.shape[1] or 0 in weights.shape:
        raise node.error(f"a weight {list(weights.shape)} for an input {list(x.shape)}")
    outputs = weights.shape[0]
    if weights.dtype is not DType.INT8:
        raise node.error(f"the weights are {weights.dtype.numpy}, not int8")
    for name, value in (("bias", bias), ("kernel_sum", node["kernel_sum"])):
        if value is not None and (value.spec.dtype is not DType.INT32 or value.spec.numel != outputs):
            raise node.error(f"{name} is {value.spec} for {outputs} outputs")
    for name in ("requantize_multipliers", "requantize_shifts"):
        if len(node[name]) not in (1, outputs):
            raise node.error(f"{len(node[name])} {name} for {outputs} outputs")
    if node["filter_offset"] != 0:
        raise node.error(f"weights with the zero point {-node['filter_offset']}", "quantise weights symmetrically")
    if not -127 <= node["input_offset"] <= 128 or not -128 <= node["output_offset"] <= 127:
        raise node.error("a zero point outside int8", "input_offset is the input's with the sign changed")
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"results clamped to {node['activation_min']} .. {node['activation_max']}, not within int8")
    if prod(x.shape) * max(outputs, 1) > 2**31 - 1:
        raise node.error(f"an input {list(x.shape)} is too large for 32-bit offsets")
    return ((DType.INT8, (*x.shape[:-1], outputs)),)


def _lower(node: Node, target: Target) -> Call:
    for name in ("weights", "bias", "kernel_sum"):
        if node[name] is not None and node[name].data is None:
            raise node.error(f"{name} is not a constant of the model", "only constant weights have a kernel")
    x, out = node["input"], node.out
    weights = node["weights"].data
    outputs, inputs = weights.shape
    layer = _layer(weights, _data(node["bias"]), _data(node["kernel_sum"]), node)
    store = {"zero_point": node["output_offset"], "low": node["activation_min"], "high": node["activation_max"]}
    layer = settled(layer, target, *store.values())
    reason = problem(layer)
    if reason:
        raise node.error(reason)
    positions = prod(x.spec.shape[:-1])
    eight_registers = "arm" in target.features and "thumb2" not in target.features
    if paired([layer], target) or (positions > 1 and not eight_registers):
        return pointwise(x, out, target, layer, store, in_place=False)
    geometry: dict[str, GeometryField] = {"positions": positions, "inputs": inputs, "outputs": outputs, **store}
    scale = scale_of([layer], target)
    # what the registers hold, and how much code a round of the loop is worth
    block = 16 if "riscv" in target.features else 8
    many = 1 if target.optimize == "size" else 4
    function = f"quantized_linear<{scale}, {block}, {many}>"
    operands = (Write(out.id), Read(x.id), Const("packed", pack_blocks(layer, target, block, scale)))
    # a row is read where it lies, until all of its outputs are stored
    overlaps = {x.id: max((first + 1) * outputs - first * inputs for first in (0, positions - 1))}
    macs = positions * inputs * outputs
    return Call(function, "linear/quantized.h", geometry, operands, None, macs, "portable", overlaps)


def _layer(weights: Array, bias: Array | None, kernel_sum: Array | None, node: Any) -> Layer:
    """ExecuTorch gives a bias, or (for cores with MVE) a sum that has the input's zero point in already."""
    zero, added = -node["input_offset"], bias
    if kernel_sum is not None:
        zero, added = 0, kernel_sum if bias is None else kernel_sum.reshape(-1) + bias.reshape(-1)
    added = None if added is None else added.reshape(-1)
    return layer_of(weights, added, zero, node["requantize_multipliers"], node["requantize_shifts"])


def _data(value: Value | None) -> Array | None:
    return None if value is None else value.data


def _reference(
    x: Array, weights: Array, bias: Array | None, kernel_sum: Array | None, input_offset: int, filter_offset: int,
    output_offset: int, multipliers: Any, shifts: Any, high: int, low: int,
) -> Array:  # fmt: skip
    arguments = {"input_offset": input_offset, "requantize_multipliers": multipliers, "requantize_shifts": shifts}
    layer = _layer(weights, bias, kernel_sum, arguments)
    sums = x.astype(np.int64) @ weights.astype(np.int64).T + layer.bias
    return stored(layer, sums, Target(), output_offset, low, high)


# ---- rules -----------------------------------------------------------------------------------------------------------


def _fused(node: IntegerNode, input_name: str, weight_name: str, axis: int, bias_name: str | None) -> Fused | str:
    """`axis`: which of the weight's dimensions the outputs are."""
    x, weights = activation(node, input_name), weight(node, weight_name, axis)
    if isinstance(x, str) or isinstance(weights, str):
        return x if isinstance(x, str) else str(weights)
    data = weights.value.data
    assert data is not None
    rows = np.ascontiguousarray(data if axis == 0 else data.T)
    bias = None if bias_name is None else node.node[bias_name]
    if bias is not None and bias.spec.numel not in (1, len(rows)):
        return "its bias has a value for each row"
    known = None if bias_name is None else node.quantized[bias_name]
    constants = fixed(node, x, weights, bias, known, rows)
    if isinstance(constants, str):
        return constants
    rows = constants.weights
    reason = problem(layer_of(rows, constants.bias, x.zero_point, constants.multipliers, constants.shifts))
    if reason:
        return reason
    scales = (tuple(map(int, constants.multipliers)), tuple(map(int, constants.shifts)))
    offsets = (-x.zero_point, 0, node.out.zero_point)
    return Fused(_NAME, (x.ref, rows, constants.bias, None, *offsets, *scales, node.out.high, node.out.low))


def _mm(node: IntegerNode) -> Fused | str:
    """Two activations, or an activation and constant weights."""
    both = [node.quantized[name] for name in ("self", "mat2")]
    if all(isinstance(one, Quantized) and one.value.role is not Role.CONSTANT for one in both):
        return product_of_activations(node)
    return _fused(node, "self", "mat2", 1, None)


def _addmm(node: IntegerNode) -> Fused | str:
    if node.node["alpha"] != 1 or node.node["beta"] != 1:
        return "alpha or beta is not 1"
    bias = node.node["self"].spec.shape
    if len(bias) == 2 and bias[0] != 1:
        return "its bias has a value for each row"
    return _fused(node, "mat1", "mat2", 1, "self")


# ---- cases -----------------------------------------------------------------------------------------------------------


def _case(
    x: tuple[int, ...],
    outputs: int,
    note: str = "",
    *,
    bias: bool = True,
    zeros: tuple[int, int] = (3, -5),
    bounds: tuple[int, int] = (-128, 127),
    scale: float = 1.0,
    channels: bool = True,
    least: int = -127,
    biases: int = 2000,
) -> Case:
    """Scales spread round one that uses the range of int8, times `scale`; one for all outputs without `channels`."""
    inputs = x[-1]
    spread = [
        multiplier_shift(scale * (0.4 + at % 7 / 7) / (60 * inputs**0.5)) for at in range(outputs if channels else 1)
    ]
    multipliers, shifts = zip(*spread, strict=True)
    added = T((outputs,), DType.INT32, -biases, biases, constant=True) if bias else None
    weights = T((outputs, inputs), DType.INT8, least, 128, constant=True)
    arguments = (T(x, DType.INT8, -128, 128), weights, added, None, -zeros[0], 0, zeros[1], multipliers, shifts)
    return Case((*arguments, bounds[1], bounds[0]), note)


_CASES = (
    _case((1, 64), 12, "one row"),
    _case((1, 640), 128, "long", zeros=(-128, -128)),
    _case((3, 17), 5, "three rows, nothing is a multiple of four"),
    _case((7,), 4, "a vector", bias=False),
    _case((2, 3, 8), 8, "more than two dimensions"),
    _case((4, 16), 10, "one scale", channels=False, bounds=(-5, 80)),
    _case((1, 1), 1, "one number"),
    _case((2, 12), 6, "a scale above one half", scale=120.0),
    _case((2, 12), 6, "weights of -128", least=-128),
    _case((1, 2048), 4, "sums that need more than 24 bits"),
    _case((3, 1405), 7, "long sums of an odd length, some outputs left over"),
    _case((1, 2047), 6, "one row of them", scale=0.01, biases=2**25),
    _case((2, 9), 5, "no weights", least=0, biases=2**25, scale=1e-5),
    _case((3, 40), 9, "biases beyond 24 bits", biases=2**24, scale=0.02),
    Case(
        (T((1, 8), DType.INT8, -128, 128), T((4, 8), DType.INT8, -127, 128, constant=True), None,
         T((1, 4), DType.INT32, -3000, 3000, constant=True), 7, 0, 3, (1 << 30,), (-6,), 127, -128),
        "the sum that ExecuTorch makes for cores with MVE",
    ),
)  # fmt: skip


def _draw(draw: Draw) -> Case:
    batch = tuple(draw.integer(1, 3) for _ in range(draw.integer(0, 3)))
    low, high = sorted((draw.integer(-128, 127), draw.integer(-128, 127))) if draw.integer(0, 3) == 0 else (-128, 127)
    return _case(
        (*batch, draw.integer(1, 70)), draw.integer(1, 21), bias=draw.flag(),
        zeros=(draw.integer(-128, 127), draw.integer(-128, 127)), bounds=(low, high),
        scale=draw.choice((1.0, 1.0, 0.1, 20.0, 150.0)), channels=draw.flag(), biases=draw.choice((2000, 2000, 2**24)),
        least=draw.choice((-127, -127, -128)),
    )  # fmt: skip


OPS = [
    Op(
        f"{_NAME}(Tensor input, Tensor weights, Tensor? bias, Tensor? kernel_sum, int input_offset, int filter_offset, "
        "int output_offset,"
        " int[] requantize_multipliers, int[] requantize_shifts, int activation_max, int activation_min, *, Tensor(a!) "
        "out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        dtypes=(DType.INT8,),
        reference=_reference,
        layout=Layout.CONTIGUOUS,
        exact=True,
        cases=_CASES,
        draw=_draw,
    )
]

RULES = [
    Rule("aten::linear.out", lambda node: _fused(node, "input", "weight", 0, "bias")),
    Rule("aten::mm.out", _mm),
    Rule("aten::addmm.out", _addmm),
]
