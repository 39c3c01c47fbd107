"""Images sampled where a grid says: bilinear or nearest, with zeros, the border or its reflection outside."""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, DType

_BILINEAR, _NEAREST = 0, 1
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2
_LIMIT = 2**31 - 1


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    x, grid = node["input"].spec, node["grid"].spec
    if (
        len(x.shape) != 4
        or len(grid.shape) != 4
        or grid.shape[-1] != 2
        or grid.shape[0] != x.shape[0]
        or 0 in (*x.shape, *grid.shape)
    ):
        raise node.error(f"a grid {list(grid.shape)} for images {list(x.shape)}; (N, H, W, 2) for (N, C, H, W) belongs")
    if grid.dtype is not x.dtype:
        raise node.error(f"{x} with {grid}", hint="convert both to float32")
    if node["interpolation_mode"] not in (_BILINEAR, _NEAREST):
        raise node.error(f"interpolation mode {node['interpolation_mode']}", hint="bilinear and nearest have a kernel")
    if node["padding_mode"] not in (_ZEROS, _BORDER, _REFLECTION):
        raise node.error(f"padding mode {node['padding_mode']}")
    shape = (*x.shape[:2], *grid.shape[1:3])
    if max(x.numel, shape[0] * shape[1] * shape[2] * shape[3]) > _LIMIT:
        raise node.error(f"images {list(x.shape)} at {list(grid.shape)} are too large for 32-bit offsets")
    return ((x.dtype, shape),)


def _lower(node: Node, target: Target) -> Call:
    x, out = node["input"].spec, node.out.spec
    geometry: dict[str, GeometryField] = {
        "batch": x.shape[0],
        "channels": x.shape[1],
        "in_height": x.shape[2],
        "in_width": x.shape[3],
        "out_height": out.shape[2],
        "out_width": out.shape[3],
        "nearest": node["interpolation_mode"] == _NEAREST,
        "padding": node["padding_mode"],
        "aligned": bool(node["align_corners"]),
    }
    operands = (Write(node.out.id), Read(node["input"].id), Read(node["grid"].id))
    return Call("grid_sample", "grid_sample/grid_sample.h", geometry, operands)


def _elements(at: Array, size: int, aligned: bool, padding: int) -> Array:
    """Coordinates of the grid, -1 to 1 from edge to edge, in elements."""
    last = size - 1
    place = (at + 1) / 2 * last if aligned else ((at + 1) * size - 1) / 2
    if padding == _REFLECTION:
        low, span = (0.0, last) if aligned else (-0.5, size)
        distance = np.abs(place - low)
        beyond = np.mod(distance, span) if span else np.zeros(place.shape)
        place = np.where(np.floor(distance / max(span, 1)) % 2 != 0, span - beyond, beyond) + low
    return place if padding == _ZEROS else np.clip(place, 0, last)


def _reference(x: Array, grid: Array, mode: int, padding: int, aligned: bool) -> Array:
    height, width = x.shape[2:]
    places = grid.astype(np.float64)
    row, column = (
        _elements(places[..., 1], height, aligned, padding),
        _elements(places[..., 0], width, aligned, padding),
    )
    image = np.arange(len(x))[:, None, None]

    def element(rows: Array, columns: Array) -> Array:
        inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
        found = x[image, :, np.where(inside, rows, 0).astype(np.int64), np.where(inside, columns, 0).astype(np.int64)]
        return np.where(inside[..., None], found, 0.0)

    if mode == _NEAREST:
        result = element(np.rint(row), np.rint(column))
    else:
        top, left = np.floor(row), np.floor(column)
        corners = [(top + down, left + across) for down in (0, 1) for across in (0, 1)]
        weights = [(1 - np.abs(row - rows)) * (1 - np.abs(column - columns)) for rows, columns in corners]
        result = sum(weight[..., None] * element(*corner) for weight, corner in zip(weights, corners, strict=True))
    return np.moveaxis(np.asarray(result), -1, 1).astype(x.dtype)


def _values(seed: int, *shape: int) -> tuple[float, ...]:
    """Places inside and outside, none near a tie of two elements, where rounding decides which one is nearest."""
    return tuple((np.random.default_rng(seed).integers(-150, 150, shape) / 101.3).reshape(-1).tolist())


def _draw(draw: Draw) -> Case:
    batch = draw.integer(1, 2)
    size = (draw.integer(1, 5), draw.integer(1, 5))
    image = (batch, draw.integer(1, 6), draw.integer(1, 7), draw.integer(1, 7))
    grid: Any = T((batch, *size, 2), values=_values(draw.integer(0, 2**31 - 1), batch, *size, 2))
    return Case(
        (T(image), grid, draw.choice((_BILINEAR, _NEAREST)), draw.choice((_ZEROS, _BORDER, _REFLECTION)), draw.flag())
    )


def _grid(*shape: int) -> T:
    return T((*shape, 2), values=_values(1, *shape, 2))


OPS = [
    Op(
        "aten::grid_sampler_2d.out(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool "
        "align_corners, *, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        reference=_reference,
        dtypes=(DType.FLOAT32,),
        layout=Layout.CHANNELS_LAST,
        sum_length=lambda node: 4,
        cases=(
            Case((T((2, 5, 6, 7)), _grid(2, 4, 3), _BILINEAR, _ZEROS, False), "zeros outside"),
            Case((T((1, 3, 6, 7)), _grid(1, 4, 3), _BILINEAR, _BORDER, True), "the border outside"),
            Case((T((1, 3, 6, 7)), _grid(1, 4, 3), _BILINEAR, _REFLECTION, False), "reflected"),
            Case((T((1, 3, 6, 7)), _grid(1, 4, 3), _NEAREST, _ZEROS, False), "the nearest element"),
        ),
        draw=_draw,
    ),
]
