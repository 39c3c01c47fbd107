"""Convolutions whose weights stay in 4, 8 or 16 bits beside float activations.

Scales are those of groups of a row's elements; a row has the weights of an output channel in the order in which a
window reads its inputs: tap by tap, with all input channels of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Read, RowRead, Scratch, Target, Window, Write, swept_call
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.phases import window_of
from etexport.kernel.quantized import Fused
from etexport.kernel.weights import NO_ROWS, Kept, Rounded, Weights
from etexport.kernel.windows import ONE, window_over
from etexport.program.model import HALVES, Array, DType
from etexport_kernels.convolution import op as convolution
from etexport_kernels.convolution.packing import PORTABLE_TILES, pack_rows, pack_vector, padded_rows, tiles_for
from etexport_kernels.few_bits import stored

_POSITIONS = 48
"""For which weights are decoded at a time, where rows are short."""


def _in_rows(weight: Array, transposed: bool, groups: int) -> Array:
    """(out, in / groups, ...), or transposed (in, out / groups, ...), as (out, elements)."""
    if transposed:
        weight = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        weight = weight.reshape(-1, *weight.shape[2:])
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1)


def _as_weight(rows: Array, shape: tuple[int, ...], transposed: bool, groups: int) -> Array:
    """The way back: `rows` (out, elements) in the weight's shape."""
    inputs = shape[0] // groups if transposed else shape[1]
    weight = np.moveaxis(rows.reshape(len(rows), *shape[2:], inputs), -1, 1)
    if transposed:
        weight = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return weight.reshape(shape)


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    inferred = convolution.infer(node)
    stored.groups_of(node, inferred[0][1][1])
    return inferred


@dataclass(frozen=True, eq=False)
class _Form:
    """Of a layer: its kernel's name and geometry, without a window where it has its positions all at once; how weights
    become rows in the order in which it reads them."""

    kernel: str
    geometry: dict[str, GeometryField]
    window: Window | None
    macs: int
    rows: Callable[[Array], Array]


def _straight(node: Node) -> _Form:
    rows, columns = (ONE, *convolution.axes(node))[-2:]
    groups, shape, positions = node["groups"], node["weight"].spec.shape, node.out.spec.numel // node.out.spec.shape[1]
    geometry = convolution.geometry_of(node, rows, columns) | {"row_stride": rows.stride}
    together = min(rows.out, -(-_POSITIONS // columns.out)) if rows.dilation == 1 else 1
    window: Window | None = window_over(node, rows, columns, 0.0, together)
    kernel = "depthwise" if groups > 1 and shape[1] == 1 else "convolution"
    at_once = all((axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in (rows, columns))
    if at_once and kernel == "convolution":
        kernel, geometry, window = "pointwise", geometry | _in_one_row(positions), None
    return _Form(kernel, geometry, window, positions * prod(shape), lambda of: convolution.rows_of(of, groups))


def _in_one_row(positions: int) -> dict[str, GeometryField]:
    return {"in_width": positions, "out_width": positions, "inner_begin": 0, "inner_end": positions}


def _turned(node: Node) -> _Form:
    rows, columns = convolution.phases(node)
    groups, shape = node["groups"], node["weight"].spec.shape
    kernel = "transposed_depthwise" if groups > 1 and shape[:2] == (groups, 1) else "transposed_convolution"
    geometry, window = convolution.geometry_of_phases(node, rows, columns), window_of(node, rows, columns, 0.0)
    return _Form(
        kernel, geometry, window, convolution.macs_of_phases(node),
        lambda of: convolution.rows_of_phases(of, groups, rows, columns),
    )  # fmt: skip


def _lower(node: Node, target: Target) -> Call:
    form = _turned(node) if node["transposed"] else _straight(node)
    weight, groups, bits, outputs = node["weight"].data, node["groups"], node["bits"], node.out.spec.shape[1]
    layer = [form.rows(stored.integers(weight, bits))]
    for one in (node["scales"], node["zero_points"]):
        if one is not None:
            rows = one.data.repeat(prod(weight.shape) // outputs // one.data.shape[1], axis=1)
            layer.append(form.rows(_as_weight(rows, weight.shape, node["transposed"], groups)))
    return _decoded(node, target, form, layer)


def linear(node: Node, target: Target) -> Call:
    """A linear layer, as a 1x1 convolution."""
    (outputs, inputs), positions = node["weight"].spec.shape, node.out.spec.numel // node["weight"].spec.shape[0]
    low, high = convolution.bounds(node)
    geometry: dict[str, GeometryField] = {
        **_in_one_row(positions), "groups": 1, "inputs": inputs, "outputs": outputs, "kernel_rows": 1,
        "kernel_width": 1, "stride": 1, "pad": 0, "dilation": 1, "low": low, "high": high, "row_stride": 1,
    }  # fmt: skip
    form = _Form("pointwise", geometry, None, positions * outputs * inputs, lambda of: of[None])
    layer = [form.rows(stored.integers(node["weight"].data, node["bits"]))]
    for one in (node["scales"], node["zero_points"]):
        if one is not None:
            layer.append(form.rows(one.data.repeat(inputs // one.data.shape[1], axis=1)))
    return _decoded(node, target, form, layer)


def _decoded(node: Node, target: Target, form: _Form, layer: list[Array]) -> Call:
    """The call of a float kernel whose weights are decoded before. `layer` has integers, scales and zero points, the
    latter where there are any, as (groups, rows, k) each."""
    numbers, *factors = layer
    outputs = numbers.shape[0] * numbers.shape[1]
    bias: Array = np.zeros(outputs, np.float32) if node["bias"] is None else node["bias"].data
    bits, depthwise = node["bits"], "depthwise" in form.kernel
    variant, core, lanes = (convolution.depthwise_tiles if depthwise else tiles_for)(target, numbers, bias)
    if variant == "fixed":  # its weights are no floats
        variant, core, lanes = PORTABLE_TILES
    if variant == "m4f" and form.kernel == "transposed_convolution":
        core = "M4fShort"
    scaled = gcd(numbers.shape[2], *(int(at) + 1 for one in factors for at in _changes(one)))

    def packed(of: Array) -> Array:
        return np.concatenate([pack_rows(rows, lanes) for rows in of])

    scales, zeros = (*(packed(one[:, :, ::scaled]) for one in factors), None, None)[:2]
    weights = stored.constants(stored.in_bytes(packed(numbers), bits), scales, zeros)
    biases = np.concatenate([pack_vector(rows, lanes) for rows in bias.reshape(len(numbers), -1)])
    rows = numbers.shape[1]
    at_once = padded_rows(rows, lanes) if depthwise else lanes if rows >= lanes else 4
    scratch = Scratch(DType.FLOAT32, at_once * numbers.shape[2])
    header = "few_bits/convolution.h" if variant == "portable" else f"few_bits/convolution_{variant}.h"
    function = f"few_bits_{form.kernel}<et::{core}, et::{stored.kind(node)}>"
    geometry = {**form.geometry, "scaled": scaled, "zero": stored.zero_of(node)}
    residual = convolution.residual(node, Read if form.window is None else RowRead)
    operands = (*weights, Const("bias", biases), residual, scratch)
    if form.window is not None:
        return swept_call(node, function, header, geometry, form.window, operands, form.macs, variant)
    operands = (Write(node.out.id), Read(node["input"].id), *operands)
    return Call(function, header, geometry, operands, None, form.macs, variant)


def _changes(of: Array) -> Array:
    """Where neighbours in a row differ, in any of (groups, rows, k)."""
    return np.flatnonzero((of[:, :, 1:] != of[:, :, :-1]).any(axis=(0, 1)))


def _reference(
    x: Array, weight: Array, scales: Array | None, zero_points: Array | None, bias: Array | None,
    stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], transposed: bool,
    output_padding: tuple[int, ...], groups: int, bits: int,
) -> Array:  # fmt: skip
    rows = stored.real(_in_rows(weight, transposed, groups), scales, zero_points)
    real = _as_weight(rows, weight.shape, transposed, groups)
    return convolution.reference(x, real, bias, stride, padding, dilation, transposed, output_padding, groups)


def _keep(node: Node, kept: Kept, before: Rounded) -> Fused | str:
    bias, transposed, groups = node["bias"], node["transposed"], node["groups"]
    if bias is not None and bias.data is None:
        return "its bias is no constant"
    rows = kept.moved(lambda of: _in_rows(of, transposed, groups)).in_rows()
    if rows is None:
        return NO_ROWS
    others = (node[name] for name in ("stride", "padding", "dilation"))
    weights = (kept.stored, rows.scales, rows.zero_points, bias)
    args = (node["input"], *weights, *others, transposed, node["output_padding"], groups, kept.bits)
    return Fused("etexport::few_bits_convolution.out", args)


# ---- cases -----------------------------------------------------------------------------------------------------------


def _few(case: Case, groups: int, bits: int, *, zeros: bool = False, half: DType = DType.BFLOAT16) -> Case:
    """A case of floats with its weights in few bits."""
    x, weight, bias, *others = case.args
    assert isinstance(weight, T)
    transposed, parts = others[3], others[5]
    outputs = weight.shape[1] * parts if transposed else weight.shape[0]
    few = stored.of_case(weight.shape, outputs, groups, bits, zeros=zeros, half=half)
    return Case((x, *few, bias, *others, bits), case.note)


def _draw(draw: Draw) -> Case:
    case = convolution.draw_layer(draw)
    groups = draw.choice((1, 1, prod(case.args[1].shape[2:])))
    return _few(case, groups, draw.choice((4, 8, 16)), zeros=draw.integer(0, 3) == 0, half=draw.choice(HALVES))


_case, _turned_case = convolution.case, convolution.turned

OP = Op(
    f"etexport::few_bits_convolution.out(Tensor input, {stored.OF_WEIGHTS}, Tensor? bias, SymInt[] stride, "
    "SymInt[] padding, SymInt[] dilation, bool transposed, SymInt[] output_padding, SymInt groups, int bits, *, "
    "Tensor(a!) out) -> Tensor(a!)",
    infer=_infer,
    lower=_lower,
    reference=_reference,
    layout=Layout.CHANNELS_LAST,
    absorbs=frozenset({"clamp", "residual"}),
    sum_length=convolution.sum_length,
    cases=(
        _few(_case((1, 3, 7, 6), (9, 3, 3, 3), "a scale for each output channel", padding=(1,)), 1, 8),
        _few(_case((1, 64, 4, 3), (12, 64, 1, 1), "1x1, groups of 32", bias=False), 2, 4),
        _few(_case((2, 16, 5, 5), (8, 16, 3, 3), "a scale for each tap, zero points", stride=(2,)), 9, 4, zeros=True),
        _few(_case((1, 6, 5, 5), (9, 2, 3, 3), "three groups", groups=3, padding=(1,)), 1, 4),
        _few(_case((1, 12, 7, 5), (12, 1, 3, 3), "depthwise", groups=12, padding=(1,)), 1, 8),
        _few(_case((1, 3, 6, 6), (9, 1, 3, 3), "depthwise, three results a channel", groups=3), 1, 4),
        _few(_case((1, 8, 9), (10, 8, 3), "a sequence, bfloat16", padding=(1,)), 1, 16),
        _few(_case((1, 8, 9), (10, 8, 3), "a sequence, float16", stride=(2,)), 1, 16, half=DType.FLOAT16),
        _few(_turned_case((1, 4, 5, 4), (4, 10, 3, 3), "transposed", stride=(2,), padding=(1,)), 1, 8),
        _few(_turned_case((1, 6, 4, 3), (6, 2, 2, 3), "transposed, groups", groups=3, stride=(2, 1)), 6, 4),
        _few(_turned_case((1, 8, 3, 3), (8, 1, 3, 3), "transposed, depthwise", groups=8, stride=(2,)), 1, 8),
    ),
    draw=_draw,
)

LAYERS = tuple(name for one in convolution.INT8 for name in one.operators)

WEIGHTS = Weights("aten::convolution.out", "weight", _keep, LAYERS)
