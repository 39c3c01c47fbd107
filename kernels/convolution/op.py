"""Convolution of sequences and images: one kernel for dense and grouped ones, one for 1x1, one for depthwise, one for
transposed."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, RowRead, Target, swept_call
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Scales, State, Weights
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.phases import ROW, Phases, phases_of, window_of
from etexport.kernel.windows import LIMIT, ONE, Axis, axes_of, per_axis, window_over
from etexport.program.model import Array
from etexport_kernels.convolution import quantized
from etexport_kernels.convolution.packing import PORTABLE_TILES, pack_layer, tiles_for
from etexport_kernels.convolution.pointwise import pointwise

_INF = float("inf")


def _dimensions(node: Node) -> tuple[Axis, ...] | tuple[Phases, ...]:
    """The spatial ones, outermost first, after checking every attribute; node.error for what PyTorch refuses or we
    cannot do."""
    x, weight, bias, groups = node["input"].spec, node["weight"].spec, node["bias"], node["groups"]
    rank = len(x.shape) - 2
    if rank not in (1, 2) or len(weight.shape) != rank + 2:
        raise node.error(
            f"convolution of {list(x.shape)} with a weight {list(weight.shape)}; sequences (N, C, L) and images have a "
            "kernel"
        )
    if not 1 <= groups <= LIMIT:
        raise node.error(f"groups is {groups}")
    inputs, outputs = _channels(node)
    if x.shape[1] != inputs:
        raise node.error(
            f"the input has {x.shape[1]} channels, the weight {list(weight.shape)} in {groups} groups wants {inputs}"
        )
    if weight.shape[0] == 0 or weight.shape[0] % groups or outputs == 0:
        raise node.error(f"a weight {list(weight.shape)} cannot be split into {groups} groups")
    if bias is not None and bias.spec.shape != (outputs,):
        raise node.error(f"a bias {list(bias.spec.shape)} for {outputs} output channels")
    return phases_of(node, weight.shape[2:], outputs) if node["transposed"] else axes(node)


def axes(node: Node) -> tuple[Axis, ...]:
    """The spatial dimensions of a layer that is not transposed."""
    x, weight = node["input"].spec, node["weight"].spec
    per_axis(node, "output_padding", len(x.shape) - 2, 0)  # means nothing here, yet PyTorch checks it
    found = axes_of(node, weight.shape[2:])
    if prod((x.shape[0], x.shape[1] * weight.shape[0], *(axis.padded for axis in found))) > LIMIT:
        raise node.error(
            f"an input {list(x.shape)} with padding {list(node['padding'])} is too large for 32-bit offsets"
        )
    return found


def _channels(node: Node) -> tuple[int, int]:
    """Of the input and of the output, by the weight: (out, in / groups, ...), and transposed (in, out / groups,
    ...)."""
    first, second, *_ = node["weight"].spec.shape
    return (first, second * node["groups"]) if node["transposed"] else (second * node["groups"], first)


def infer(node: Node) -> tuple[InferredSpec, ...]:
    x = node["input"].spec
    dimensions = _dimensions(node)  # first: it says whether the weight is one
    return ((x.dtype, (x.shape[0], _channels(node)[1], *(axis.out for axis in dimensions))),)


def sum_length(node: Node) -> int:
    shape: tuple[int, ...] = node["weight"].spec.shape
    return prod(shape[2:]) * (shape[0] // int(node["groups"]) if node["transposed"] else shape[1]) + 1


def _lower(node: Node, target: Target) -> Call:
    x, out, groups = node["input"], node.out, node["groups"]
    if node["weight"].data is None:
        raise node.error("the weight is not a constant of the model", "only constant weights have a kernel")
    if node["bias"] is not None and node["bias"].data is None:
        raise node.error(
            "the bias is not a constant of the model", "add it behind the layer, in the shape (1, channels, 1, 1)"
        )
    if node["transposed"]:
        return _lower_transposed(node, target)
    rows, columns = (ONE, *axes(node))[-2:]
    weight: Array = node["weight"].data
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    bias: Array = np.zeros(weight.shape[0], np.float32) if node["bias"] is None else node["bias"].data
    if groups == 1 and all(
        (axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in (rows, columns)
    ):
        return pointwise(node, x, target, weight.reshape(weight.shape[0], inputs), bias)
    depthwise = inputs == 1 and groups > 1
    matrix = rows_of(weight, groups)
    variant, core, lanes = (
        depthwise_tiles(target, matrix, bias, outputs) if depthwise else tiles_for(target, matrix, bias)
    )
    weights, biases = pack_layer(matrix, bias.reshape(len(matrix), -1), variant, lanes)
    constants = (Const("weight", weights), Const("bias", biases))
    macs = out.spec.numel * inputs * rows.kernel * columns.kernel
    header = _header(variant, "depthwise")
    geometry = geometry_of(node, rows, columns)
    window = window_over(node, rows, columns, 0.0)
    if (
        depthwise
        and outputs == 1
        and _is_3x3(rows, columns)
        and groups % 4 == 0
        and node.residual is None
        and variant != "fixed"
    ):
        low, high = bounds(node)
        geometry = {"width": columns.size, "channels": groups, "low": low, "high": high}
        packed = np.concatenate([weight.reshape(groups // 4, 4, 9).transpose(0, 2, 1), bias.reshape(-1, 1, 4)], axis=1)
        return swept_call(
            node,
            f"depthwise_3x3<et::{core}>",
            header,
            geometry,
            window,
            (Const("weight", packed.reshape(-1)),),
            macs,
            variant,
        )
    function = f"{'depthwise' if depthwise else 'convolution'}<et::{core}>"
    return swept_call(node, function, header, geometry, window, (*constants, residual(node, RowRead)), macs, variant)


def rows_of(weight: Array, groups: int) -> Array:
    """(out, in / groups, ...) -> (groups, out / groups, k), k in the order in which a window reads its inputs, channels
    last. A depthwise layer is packed as one group whose channels each have one input."""
    outputs, inputs = weight.shape[:2]
    packed = 1 if inputs == 1 and groups > 1 else groups
    return weight.reshape(outputs, inputs, -1).transpose(0, 2, 1).reshape(packed, outputs // packed, -1)


def geometry_of(node: Node, rows: Axis, columns: Axis) -> dict[str, GeometryField]:
    """What the kernels know of a row of a layer that is not transposed."""
    weight, groups, (low, high) = node["weight"].spec.shape, node["groups"], bounds(node)
    return {
        "in_width": columns.size, "out_width": columns.out, "groups": groups, "inputs": weight[1],
        "outputs": weight[0] // groups, "kernel_rows": rows.kernel, "kernel_width": columns.kernel,
        "stride": columns.stride, "pad": columns.before, "dilation": columns.dilation, "inner_begin": columns.inner[0],
        "inner_end": columns.inner[1], "low": low, "high": high,
    }  # fmt: skip


def depthwise_tiles(target: Target, matrix: Array, bias: Array, outputs: int = 1) -> tuple[str, str, int]:
    """As `tiles_for`, of a layer whose channels have `outputs` results each."""
    variant, core, lanes = tiles_for(target, matrix, bias)
    if variant == "fixed" and (outputs > 1 or len(bias) % 4):  # its blocks are fours of channels with one result each
        variant, core, lanes = PORTABLE_TILES
    return variant, core, min(lanes, 8) if variant == "m4f" else 4


def _lower_transposed(node: Node, target: Target) -> Call:
    rows, columns = phases(node)
    groups, (inputs, outputs) = node["groups"], node["weight"].spec.shape[:2]
    bias: Array = np.zeros(groups * outputs, np.float32) if node["bias"] is None else node["bias"].data
    matrix = rows_of_phases(node["weight"].data, groups, rows, columns)
    depthwise = groups > 1 and inputs == groups and outputs == 1
    variant, core, lanes = depthwise_tiles(target, matrix, bias) if depthwise else tiles_for(target, matrix, bias)
    weights, biases = pack_layer(matrix, bias.reshape(len(matrix), -1), variant, lanes)
    core = "M4fShort" if variant == "m4f" and not depthwise else core
    operands = (Const("weight", weights), Const("bias", biases), residual(node, RowRead))
    function = f"transposed_{'depthwise' if depthwise else 'convolution'}<et::{core}>"
    geometry, window = geometry_of_phases(node, rows, columns), window_of(node, rows, columns, 0.0)
    return swept_call(
        node, function, _header(variant, "transposed"), geometry, window, operands, macs_of_phases(node), variant
    )


def phases(node: Node) -> tuple[Phases, Phases]:
    """Of a transposed layer: rows and columns."""
    rows, columns = (ROW, *phases_of(node, node["weight"].spec.shape[2:], _channels(node)[1]))[-2:]
    return rows, columns


def rows_of_phases(weight: Array, groups: int, rows: Phases, columns: Phases) -> Array:
    """Of a transposed layer: (in, out / groups, ...) -> (groups, out / groups, k), as `rows_of`. What a phase sees is
    one stretch, phase behind phase."""
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    apart = weight.reshape(groups, inputs, outputs, rows.kernel, columns.kernel).transpose(0, 2, 3, 4, 1)
    parts = [
        apart[:, :, y][:, :, :, x].reshape(groups, outputs, -1)
        for y in map(list, rows.taps)
        for x in map(list, columns.taps)
    ]
    matrix = np.concatenate(parts, axis=2)
    if matrix.shape[2] == 0:  # no result sees an input
        matrix = np.zeros((groups, outputs, 1), weight.dtype)
    return matrix.reshape(1, groups, -1) if groups > 1 and inputs == outputs == 1 else matrix


def geometry_of_phases(node: Node, rows: Phases, columns: Phases) -> dict[str, GeometryField]:
    """What the kernels know of a row of a transposed layer."""
    groups, (low, high) = node["groups"], bounds(node)
    inputs, outputs = node["weight"].spec.shape[0] // groups, node["weight"].spec.shape[1]
    seen = [len(taps) for taps in rows.taps]
    across = [len(taps) for taps in columns.taps]
    before = [sum(seen[:phase]) * sum(across) * inputs for phase in range(len(seen))]
    return {
        "in_width": columns.size, "out_width": columns.out, "groups": groups, "inputs": inputs, "outputs": outputs,
        "window_rows": rows.most, "stride_y": rows.count, "stride_x": columns.count, "back": columns.back,
        "elements": max(sum(seen) * sum(across) * inputs, 1), "count_y": tuple(seen), "weights_y": tuple(before),
        "count_x": tuple(across), "left": columns.lefts, "low": low, "high": high,
    }  # fmt: skip


def macs_of_phases(node: Node) -> int:
    return int(node["input"].spec.numel * prod(node["weight"].spec.shape[1:]))


def _header(variant: str, portable: str) -> str:
    """A variant's header brings all kernels."""
    return f"convolution/{portable if variant == 'portable' else variant}.h"


def bounds(node: Node) -> tuple[float, float]:
    """What results are clamped to."""
    epilogue = node.instruction.epilogue
    return (epilogue.low, epilogue.high) if epilogue is not None else (-_INF, _INF)


def _is_3x3(rows: Axis, columns: Axis) -> bool:
    """A 3x3 window whose row of results has one for each input, each side padded by one."""
    return rows.kernel == 3 and (columns.kernel, columns.stride, columns.dilation, columns.before, columns.after) == (
        3,
        1,
        1,
        1,
        1,
    )


def residual(node: Node, read: type[Read] | type[RowRead]) -> Operand:
    return Const("residual", None) if node.residual is None else read(node.residual.id)


def reference(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    output_padding: tuple[int, ...],
    groups: int,
) -> Array:
    """Shifted products, one for each tap, summed in float64."""
    if transposed:
        return _np_transposed(x, weight, bias, stride, padding, dilation, output_padding, groups)
    rank = x.ndim - 2
    stride, dilation = (values * rank if len(values) == 1 else values for values in (stride, dilation))
    ends = padding if len(padding) == 2 * rank else (padding * rank if len(padding) == 1 else padding) * 2
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *zip(ends[:rank], ends[rank:], strict=True)))
    reach = [step * (size - 1) + 1 for step, size in zip(dilation, weight.shape[2:], strict=True)]
    sizes = [(size - length) // step + 1 for size, length, step in zip(wide.shape[2:], reach, stride, strict=True)]
    grouped = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    out = np.zeros((x.shape[0], groups, grouped.shape[1], *sizes))
    for tap in np.ndindex(*weight.shape[2:]):
        starts = [at * far for at, far in zip(tap, dilation, strict=True)]
        picks = tuple(
            slice(at, at + step * (size - 1) + 1, step) for at, step, size in zip(starts, stride, sizes, strict=True)
        )
        seen = wide[(slice(None), slice(None), *picks)].reshape(x.shape[0], groups, -1, *sizes)
        out += np.einsum("ngi...,goi->ngo...", seen, grouped[(..., *tap)])
    out = out.reshape(x.shape[0], weight.shape[0], *sizes)
    if bias is not None:
        out += bias.reshape(1, -1, *[1] * rank)
    return out.astype(x.dtype)


def _np_transposed(
    x: Array, weight: Array, bias: Array | None, stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...], output_padding: tuple[int, ...], groups: int,
) -> Array:  # fmt: skip
    """Every tap adds a scaled image to every `stride`th element of the result."""
    rank = x.ndim - 2
    stride, padding, dilation, added = (
        tuple(values) * rank if len(values) == 1 else tuple(values)
        for values in (stride, padding, dilation, output_padding)
    )
    axes = tuple(zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, added, strict=True))
    sizes = [(size - 1) * step + far * (kernel - 1) + more + 1 for size, kernel, step, _, far, more in axes]
    out = np.zeros((x.shape[0], groups, weight.shape[1], *sizes))
    grouped = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    seen = x.astype(np.float64).reshape(x.shape[0], groups, -1, *x.shape[2:])
    for tap in np.ndindex(*weight.shape[2:]):
        spots = zip(tap, axes, strict=True)
        picks = [slice(at * far, at * far + step * (size - 1) + 1, step) for at, (size, _, step, _, far, _) in spots]
        out[(slice(None),) * 3 + tuple(picks)] += np.einsum("ngi...,gio->ngo...", seen, grouped[(..., *tap)])
    out = out.reshape(x.shape[0], -1, *sizes)
    out = out[
        (slice(None),) * 2 + tuple(slice(around, size - around) for around, size in zip(padding, sizes, strict=True))
    ]
    if bias is not None:
        out = out + bias.reshape(1, -1, *[1] * rank)
    return out.astype(x.dtype)


# ---- cases -----------------------------------------------------------------------------------------------------------


def case(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    note: str,
    *,
    bias: bool = True,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] = (0,),
    dilation: tuple[int, ...] = (1,),
    groups: int = 1,
) -> Case:
    rank = len(x) - 2
    wide = [values * rank if len(values) == 1 else values for values in (stride, padding, dilation)]
    weights = T(weight, low=-1.0, high=1.0, constant=True)
    return Case(
        (T(x), weights, T(weight[:1], constant=True) if bias else None, *wide, False, (0,) * rank, groups), note
    )


def turned(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    note: str,
    *,
    bias: bool = True,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] = (0,),
    output_padding: tuple[int, ...] = (0,),
    dilation: tuple[int, ...] = (1,),
    groups: int = 1,
) -> Case:
    """Transposed: the weight is (in, out / groups, ...)."""
    plain = case(x, weight, note, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    biases = T((weight[1] * groups,), constant=True) if bias else None
    added = output_padding * (len(x) - 2) if len(output_padding) == 1 else output_padding
    return replace(plain, args=(*plain.args[:2], biases, *plain.args[3:6], True, added, groups))


_SPECIAL = T((1, 1, 3, 3), values=(1.0, float("nan"), -0.0, _INF, 1.0, 1.0, 1.0, 1.0, 2.0))
_TINY = T((1, 1, 3, 3), values=(1e-36, 3e-38, 0.0, -2e-37, -0.0, 1e-40, 2e-38, 3e-36, 5e-37))

_CASES = (
    case((1, 3, 8, 8), (8, 3, 3, 3), "dense, padded by one", padding=(1,)),
    case((1, 4, 6, 6), (4, 4, 3, 3), "no padding, no bias", bias=False),
    case((2, 3, 7, 5), (6, 3, 3, 3), "a batch, stride 2", stride=(2,), padding=(1,)),
    case((1, 5, 9, 4), (7, 5, 1, 1), "pointwise: 5 -> 7 channels"),
    case((3, 16, 5, 5), (12, 16, 1, 1), "pointwise over a batch, an odd number of positions"),
    case((1, 8, 6, 6), (9, 8, 1, 1), "1x1 of stride 2 is no pointwise", stride=(2,)),
    case((1, 4, 4, 4), (5, 4, 1, 1), "1x1 with padding: the border is the bias", padding=(1,)),
    case((1, 1, 49, 10), (16, 1, 10, 4), "one input channel, 10x4, stride 2", stride=(2,), padding=(4, 1)),
    case((1, 4, 5, 6), (3, 4, 3, 3), "padding wider than the kernel's reach", padding=(4, 5)),
    case((1, 2, 3, 3), (4, 2, 5, 5), "a kernel larger than the image", padding=(2,)),
    case((1, 3, 9, 9), (5, 3, 3, 2), "dilation", dilation=(2, 3), padding=(2, 1)),
    case((1, 3, 2, 7), (5, 3, 2, 3), "dilation beyond the padding", dilation=(1, 5), padding=(0, 4)),
    case((1, 6, 5, 5), (9, 2, 3, 3), "three groups", groups=3, padding=(1,)),
    case(
        (2, 8, 5, 4),
        (24, 4, 2, 3),
        "two groups of 12, strides differ",
        groups=2,
        padding=(1, 2),
        dilation=(1, 2),
        stride=(2, 1),
    ),
    case((1, 8, 7, 5), (8, 1, 3, 3), "depthwise", groups=8, padding=(1,)),
    case((1, 16, 7, 8), (16, 1, 3, 3), "depthwise, stride 2", groups=16, padding=(1,), stride=(2,)),
    case((2, 5, 6, 6), (5, 1, 5, 3), "depthwise 5x3, five channels", groups=5, padding=(2, 1)),
    case((1, 8, 6, 6), (8, 1, 3, 3), "depthwise, dilated", groups=8, padding=(2,), dilation=(2,)),
    case((1, 3, 6, 6), (9, 1, 3, 3), "depthwise, three results a channel", groups=3, padding=(1,)),
    case((1, 20, 1, 1), (20, 1, 3, 3), "depthwise, one pixel", groups=20, padding=(1,)),
    case((1, 16, 9), (8, 16, 3), "a sequence", padding=(1,)),
    case(
        (2, 4, 11),
        (6, 2, 4),
        "sequences in two groups, stride 3, dilated",
        groups=2,
        stride=(3,),
        dilation=(2,),
        padding=(2,),
    ),
    case((1, 12, 9), (12, 1, 3), "depthwise along a sequence", groups=12, padding=(1,)),
    case((1, 16, 8), (24, 16, 1), "pointwise along a sequence"),
    turned((1, 4, 5, 5), (4, 6, 2, 2), "transposed: twice the size", stride=(2,)),
    turned((2, 3, 4, 5), (3, 5, 3, 3), "transposed, windows overlap", stride=(2,), padding=(1,), output_padding=(1,)),
    turned((1, 6, 4, 3), (6, 2, 4, 3), "transposed, groups", groups=3, stride=(2, 1), padding=(1, 0), bias=False),
    turned(
        (1, 4, 7),
        (4, 3, 5),
        "transposed, a sequence, dilated",
        stride=(3,),
        dilation=(2,),
        padding=(4,),
        output_padding=(2,),
    ),
    turned((1, 8, 3, 3), (8, 1, 3, 3), "transposed, depthwise", groups=8, stride=(2,), padding=(1,)),
    turned(
        (2, 3, 3, 2),
        (3, 9, 2, 2),
        "transposed, a stride beyond the window: some outputs are the bias",
        stride=(3,),
        output_padding=(2,),
    ),
    Case(
        (_TINY, T((2, 1, 2, 2), constant=True, low=0.5), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1), "tiny inputs"
    ),
    Case(
        (_SPECIAL, T((2, 1, 2, 2), constant=True, low=0.5), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1),
        "NaN and infinity",
    ),
)


def draw_layer(draw: Draw) -> Case:
    rank = draw.integer(1, 2)
    groups = draw.choice((1, 1, 1, 2, 3, 8))
    depthwise = draw.integer(0, 3) == 0
    groups = draw.integer(2, 20) if depthwise else groups
    inputs = 1 if depthwise else draw.integer(1, 12)
    outputs = groups * (draw.choice((1, 1, 1, 2, 3)) if depthwise else draw.integer(1, 17))
    kernel = tuple(draw.choice((1, 1, 2, 3, 3, 3, 4, 5)) for _ in range(rank))
    stride = tuple(draw.integer(1, 3) for _ in range(rank))
    dilation = tuple(draw.choice((1, 1, 1, 2, 3)) for _ in range(rank))
    if draw.integer(0, 3) == 0:
        return _draw_turned(draw, inputs * groups, outputs // groups, groups, kernel, stride, dilation)
    padding = tuple(draw.choice((0, 0, 1, size // 2, draw.integer(0, size + 1))) for size in kernel)
    sizes = tuple(
        max(draw.integer(1, 10), far * (size - 1) + 1 - 2 * around)
        for size, far, around in zip(kernel, dilation, padding, strict=True)
    )
    return case(
        (draw.choice((1, 1, 2)), inputs * groups, *sizes),
        (outputs, inputs, *kernel),
        "",
        bias=draw.flag(),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _draw_turned(
    draw: Draw,
    inputs: int,
    outputs: int,
    groups: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Case:
    padding = tuple(draw.integer(0, far * (size - 1) // 2) for size, far in zip(kernel, dilation, strict=True))
    added = tuple(draw.integer(0, max(pair) - 1) for pair in zip(stride, dilation, strict=True))
    sizes = tuple(draw.integer(1, 6) for _ in kernel)
    return turned(
        (draw.choice((1, 1, 2)), inputs, *sizes), (inputs, outputs, *kernel), "",
        bias=draw.flag(), stride=stride, padding=padding, output_padding=added, dilation=dilation, groups=groups,
    )  # fmt: skip


OPS = [
    Op(
        schema="aten::convolution.out(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, "
        "SymInt[] dilation,"
        " bool transposed, SymInt[] output_padding, SymInt groups, *, Tensor(a!) out) -> Tensor(a!)",
        infer=infer,
        lower=_lower,
        reference=reference,
        layout=Layout.CHANNELS_LAST,
        absorbs=frozenset({"clamp", "residual"}),
        sum_length=sum_length,
        cases=_CASES,
        draw=draw_layer,
    ),
    *quantized.OPS,
]

RULES = [*quantized.RULES]

INT8 = [
    Int8(("aten::conv1d", "aten::conv2d"), Scales.LAYER, Weights(0), saturates=True, state=State.PRODUCTS),
    Int8(("aten::conv1d.padding", "aten::conv2d.padding", "aten::convolution"), Scales.LAYER, Weights(0),
    saturates=True), Int8(
        ("aten::conv_transpose1d", "aten::conv_transpose2d.input"), Scales.LAYER, Weights(1), saturates=True,
        reason="a transposed convolution with groups has no integer form",
    ),
]  # fmt: skip
