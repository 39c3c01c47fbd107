"""Resizing of images: nearest and bilinear, the latter with and without aligned corners."""

from __future__ import annotations

import math

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Target, Window, swept_call
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Scales
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, DType

_LIMIT = 2**31 - 1


def _sizes(node: Node) -> tuple[int, int]:
    """Height and width of the result."""
    x, size, factors = node["input"].spec, node["output_size"], node["scale_factors"]
    if len(x.shape) != 4 or 0 in x.shape[1:]:
        raise node.error(f"resizing of {list(x.shape)}; images (N, C, H, W) have a kernel")
    if (size is None) == (factors is None) or len(size or factors) != 2:
        raise node.error(f"output_size is {size} and scale_factors is {factors}", "one of them, with two entries")
    if factors is not None and not all(
        math.isfinite(factor) and 0 < factor * max(x.shape) <= _LIMIT for factor in factors
    ):
        raise node.error(f"scale_factors is {list(factors)}")
    height, width = size or (int(x.shape[2] * factors[0]), int(x.shape[3] * factors[1]))
    if min(height, width) < 1 or x.shape[0] * x.shape[1] * height * width > _LIMIT:
        raise node.error(f"a result of {height} x {width}")
    return height, width


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["input"].spec.dtype, (*node["input"].spec.shape[:2], *_sizes(node))),)


def _geometry(node: Node) -> dict[str, GeometryField]:
    return {"out_width": _sizes(node)[1], "channels": node["input"].spec.shape[1]}


def _window(node: Node, kernel: int, firsts: Array, numbered: bool = False) -> Window:
    """Each output row sees `kernel` input rows, all inside, of which `firsts` has the first."""
    (batch, channels, in_height, in_width), (height, width) = node["input"].spec.shape, _sizes(node)
    return Window(
        input=node["input"].id, output=node.out.id, batch=batch, in_rows=in_height, in_row=in_width * channels,
        out_rows=height, out_row=width * channels, kernel=kernel, stride=0, pad=0, dilation=1, pad_value=0.0,
        pad_elements=0, firsts=tuple(firsts.tolist()), numbered=numbered,
    )  # fmt: skip


def _source(inputs: int, outputs: int, factor: float | None) -> Array:
    """Which input each output is a copy of, in the float32 arithmetic of PyTorch's `nearest_idx`."""
    at = np.arange(outputs)
    if outputs in (inputs, 2 * inputs):
        return np.asarray(at * inputs // outputs, np.int32)
    scale = np.float32(1.0 / factor) if factor else np.float32(inputs) / np.float32(outputs)
    source: Array = np.minimum(np.floor(at.astype(np.float32) * scale), inputs - 1).astype(np.int32)
    return source


def _sources(shape: tuple[int, ...], height: int, width: int, factors: tuple[float, ...] | None) -> tuple[Array, Array]:
    down, across = factors or (None, None)
    return _source(shape[2], height, down), _source(shape[3], width, across)


def _lower_nearest(node: Node, target: Target) -> Call:
    rows, columns = _sources(node["input"].spec.shape, *_sizes(node), node["scale_factors"])
    return swept_call(
        node,
        "upsample_nearest",
        "upsample/nearest.h",
        _geometry(node),
        _window(node, 1, rows),
        (Const("columns", columns),),
    )


def _nearest(x: Array, size: tuple[int, ...] | None, factors: tuple[float, ...] | None) -> Array:
    down, across = factors or (1.0, 1.0)
    height, width = size or (int(x.shape[2] * down), int(x.shape[3] * across))
    rows, columns = _sources(x.shape, height, width, factors)
    return x[:, :, rows][:, :, :, columns]


def _draw_nearest(draw: Draw) -> Case:
    shape = (draw.integer(1, 2), draw.integer(1, 9), draw.integer(1, 8), draw.integer(1, 8))
    x = T(shape, DType.INT8, -128, 128) if draw.flag() else T(shape)
    if draw.flag():
        return Case((x, (draw.integer(1, 17), draw.integer(1, 17)), None))
    return Case((x, None, (draw.number(1.0, 3.5), draw.number(1.0, 3.5))))


def _between(inputs: int, outputs: int, aligned: bool, factor: float | None) -> tuple[Array, Array]:
    """The two inputs between which each output lies, and how far towards the second: PyTorch's
    `area_pixel_compute_source_index`."""
    at = np.arange(outputs, dtype=np.float64)
    if aligned:
        source = at * ((inputs - 1) / (outputs - 1) if outputs > 1 else 0.0)
    else:
        source = np.maximum((1.0 / factor if factor else inputs / outputs) * (at + 0.5) - 0.5, 0.0)
    if inputs == outputs:
        source = at
    first = np.minimum(np.floor(source), inputs - 1).astype(np.int32)
    share = np.clip(source - first, 0.0, 1.0)
    return np.stack([first, np.minimum(first + 1, inputs - 1)], axis=1).astype(np.int32), share.astype(np.float32)


def _lower_bilinear(node: Node, target: Target) -> Call:
    aligned, (in_height, in_width), (height, width) = node["align_corners"], node["input"].spec.shape[2:], _sizes(node)
    down, across = node["scale_factors"] or (None, None)
    rows, row_shares = _between(in_height, height, aligned, down)
    columns, column_shares = _between(in_width, width, aligned, across)
    if in_height > 1:  # the last row is the second of the last two
        row_shares[rows[:, 0] == in_height - 1] = 1.0
    last = min(in_height - 1, 1)
    window = _window(node, last + 1, np.minimum(rows[:, 0], in_height - 1 - last), numbered=True)
    tables = (
        Const("row_shares", row_shares),
        Const("columns", columns.reshape(-1)),
        Const("column_shares", column_shares),
    )
    return swept_call(
        node, "upsample_bilinear", "upsample/bilinear.h", {**_geometry(node), "last": last}, window, tables
    )


def _bilinear(x: Array, size: tuple[int, ...] | None, aligned: bool, factors: tuple[float, ...] | None) -> Array:
    down, across = factors or (None, None)
    height, width = size or (int(x.shape[2] * (down or 1.0)), int(x.shape[3] * (across or 1.0)))
    rows, row_shares = _between(x.shape[2], height, aligned, down)
    columns, column_shares = _between(x.shape[3], width, aligned, across)
    share = row_shares.astype(np.float64)[:, None]
    tall = x[:, :, rows[:, 0]] * (1 - share) + x[:, :, rows[:, 1]] * share
    wide: Array = tall[..., columns[:, 0]] * (1 - column_shares) + tall[..., columns[:, 1]] * column_shares
    return wide.astype(x.dtype)


def _draw_bilinear(draw: Draw) -> Case:
    x = T((draw.integer(1, 2), draw.integer(1, 9), draw.integer(1, 8), draw.integer(1, 8)))
    if draw.flag():
        return Case((x, (draw.integer(1, 17), draw.integer(1, 17)), draw.flag(), None))
    return Case((x, None, draw.flag(), (draw.number(1.0, 3.5), draw.number(1.0, 3.5))))


OPS = [
    Op(
        schema="aten::upsample_nearest2d.vec_out(Tensor input, SymInt[]? output_size, float[]? scale_factors, *, "
        "Tensor(a!) out)"
        " -> Tensor(a!)",
        infer=_infer,
        lower=_lower_nearest,
        dtypes=(DType.FLOAT32, DType.INT8),  # PyTorch itself has no int8
        reference=_nearest,
        carries=("input",),
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case((T((1, 8, 4, 4)), None, (2.0, 2.0)), "twice the size"),
            Case((T((2, 3, 4, 5)), (7, 3), None), "to a size; one side shrinks"),
            Case((T((1, 1, 1, 1)), (3, 2), None), "one pixel"),
            Case((T((1, 2, 5, 3)), None, (1.5, 2.6)), "fractional factors"),
            Case((T((1, 5, 4, 3), DType.INT8, -128, 128), None, (2.0, 2.0)), "stored values"),
            Case((T((2, 8, 3, 5), DType.INT8, -128, 128), (7, 4), None), "stored values to a size"),
        ),
        draw=_draw_nearest,
    ),
    Op(
        schema="aten::upsample_bilinear2d.vec_out(Tensor input, SymInt[]? output_size, bool align_corners, float[]? "
        "scale_factors, *, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower_bilinear,
        reference=_bilinear,
        layout=Layout.CHANNELS_LAST,
        sum_length=lambda node: 4,
        cases=(
            Case((T((1, 8, 4, 4)), None, False, (2.0, 2.0)), "twice the size"),
            Case((T((2, 3, 4, 5)), (7, 9), True, None), "to a size, with aligned corners"),
            Case((T((1, 2, 6, 5)), (3, 1), False, None), "smaller"),
            Case((T((1, 1, 1, 1)), (3, 2), True, None), "one pixel"),
        ),
        draw=_draw_bilinear,
    ),
]

INT8 = [
    Int8(("aten::upsample_nearest1d.vec",), Scales.SHARED, channels=Channels.WINDOW, spatial=1),
    Int8(("aten::upsample_nearest2d.vec",), Scales.SHARED, channels=Channels.WINDOW, spatial=2),
    Int8(
        ("aten::upsample_bilinear2d.vec",), channels=Channels.WINDOW, spatial=2,
        reason="bilinear resizing: fractions of neighbours have no integer form",
    ),
    Int8(("aten::upsample_bicubic2d.vec",), reason="bicubic resizing: fractions of neighbours have no integer form"),
]  # fmt: skip
