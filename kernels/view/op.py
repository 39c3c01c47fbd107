"""Views: the same elements in the same logical order under another shape. They need no code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import COMPUTED


def _view(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    size = list(node["size"])
    if any(extent < -1 for extent in size) or size.count(-1) > 1:
        raise node.error(f"size {size} is no shape")
    if -1 in size:
        known = math.prod(extent for extent in size if extent != -1)
        if known == 0:
            raise node.error(f"size {size} does not say how large dimension {size.index(-1)} is")
        size[size.index(-1)] = spec.numel // known
    if math.prod(size) != spec.numel:
        raise node.error(f"{spec.numel} elements do not make the shape {list(node['size'])}")
    return ((spec.dtype, tuple(size)),)


def _squeeze(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    dims = node["dim"] if isinstance(node["dim"], tuple) else (node["dim"],)
    dropped = [node.dimension(dim, len(spec.shape)) for dim in dims]
    if len(set(dropped)) != len(dropped):
        raise node.error(f"a dimension is listed twice in {list(dims)}")
    return ((spec.dtype, tuple(size for dim, size in enumerate(spec.shape) if size != 1 or dim not in dropped)),)


def _unsqueeze(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    dim = node.dimension(node["dim"], len(spec.shape) + 1)
    return ((spec.dtype, (*spec.shape[:dim], 1, *spec.shape[dim:])),)


def _np_squeeze(x: Any, dims: int | list[int]) -> Any:
    rank = max(x.ndim, 1)
    dropped = {dim % rank for dim in ([dims] if isinstance(dims, int) else dims)}
    return np.reshape(x, tuple(size for dim, size in enumerate(x.shape) if size != 1 or dim not in dropped))


def _shape(draw: Draw, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw.choice((1, 1, 2, 3, 5)) for _ in range(draw.integer(low, high)))


def _draw_view(draw: Draw) -> Case:
    shape = _shape(draw, 0, 4)
    factors = [factor for size in shape for factor in ((2, 2) if size == 4 else (size,))]
    size: list[int] = []
    for factor in factors:
        if size and draw.flag():
            size[-1] *= factor
        else:
            size.append(factor)
    if size and math.prod(size) > 0 and draw.flag():
        size[draw.integer(0, len(size) - 1)] = -1
    return Case((T(shape, draw.choice(COMPUTED)), tuple(size)))


def _draw_squeeze(draw: Draw) -> Case:
    shape = _shape(draw, 1, 5)
    dims = tuple(dim - len(shape) * draw.integer(0, 1) for dim in range(len(shape)) if draw.flag())
    return Case((T(shape, draw.choice(COMPUTED)), dims))


def _draw_dim(extra: int) -> Any:
    def drawn(draw: Draw) -> Case:
        shape = _shape(draw, 0, 4)
        rank = max(1, len(shape) + extra)
        return Case((T(shape, draw.choice(COMPUTED)), draw.integer(-rank, rank - 1)))

    return drawn


OPS = [
    Op(
        "aten::view_copy.out(Tensor self, SymInt[] size, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_view,
        dtypes=COMPUTED,
        reference=lambda x, size: np.reshape(x, size),
        layout=Layout.VIEW,
        exact=True,
        cases=(
            Case((T((1, 4, 3, 3)), (1, 36)), "flatten"),
            Case((T((2, 6)), (2, -1, 3)), "one size follows from the rest"),
            Case((T((1,)), ()), "to a scalar"),
            Case(
                (T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), (2, 60)),
                "flatten of channels-last data keeps the logical order",
            ),
        ),
        draw=_draw_view,
    ),
    Op(
        "aten::squeeze_copy.dims_out(Tensor self, int[] dim, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_squeeze,
        dtypes=COMPUTED,
        reference=_np_squeeze,
        layout=Layout.VIEW,
        exact=True,
        cases=(
            Case((T((2, 3, 1, 1)), (2, 3)), "after global pooling"),
            Case((T((2, 3)), (0,)), "a size other than 1 stays"),
        ),
        draw=_draw_squeeze,
    ),
    Op(
        "aten::squeeze_copy.dim_out(Tensor self, int dim, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_squeeze,
        dtypes=COMPUTED,
        reference=_np_squeeze,
        layout=Layout.VIEW,
        exact=True,
        cases=(Case((T((2, 1, 3)), 1)), Case((T((2, 1, 3)), -1), "a size other than 1 stays")),
        draw=_draw_dim(0),
    ),
    Op(
        "aten::unsqueeze_copy.out(Tensor self, int dim, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_unsqueeze,
        dtypes=COMPUTED,
        reference=lambda x, dim: np.expand_dims(x, dim),
        layout=Layout.VIEW,
        exact=True,
        cases=(Case((T((2, 3)), 0)), Case((T((2, 3)), -1)), Case((T(()), 0), "a scalar")),
        draw=_draw_dim(1),
    ),
]

INT8 = [
    Int8(
        ("aten::view", "aten::reshape", "aten::squeeze.dim", "aten::unsqueeze"), Scales.SHARED,
        mask=Mask.MOVED, state=State.ELEMENTS, channels=Channels.MOVED,
    ),
    Int8(
        ("aten::flatten.using_ints", "aten::squeeze", "aten::squeeze.dims"), Scales.SHARED,
        mask=Mask.MOVED, state=State.MOVED, channels=Channels.MOVED,
    ),
    Int8(("aten::unflatten.int",), Scales.SHARED, mask=Mask.MOVED, channels=Channels.MOVED),
    Int8(("aten::reshape_as", "aten::view_as"), Scales.SHARED, mask=Mask.MOVED),
    Int8(("aten::_unsafe_view",), Scales.SHARED),
    Int8(("aten::atleast_1d", "aten::atleast_2d", "aten::atleast_3d", "aten::ravel"), Scales.PARTS),
]  # fmt: skip
