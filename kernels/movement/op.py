"""Movement beyond views: flip, repeat, copy, and writing over a part (slice_scatter, select_scatter)."""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import COMPUTED, DType

_ALL = COMPUTED
_LIMIT = 2**31 - 1


def _rearranged(node: Node, shape: tuple[int, ...], out: tuple[int, ...], self: tuple[int, ...], offset: int) -> Call:
    loops = nest(shape, out, self)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1], "offset": offset,
    }  # fmt: skip
    return Call("rearrange", "movement/movement.h", geometry, (Write(node.out.id), Read(node["self"].id)))


# ---- flip, repeat ----------------------------------------------------------------------------------------------------


def _turned(node: Node) -> frozenset[int]:
    rank = len(node["self"].spec.shape)
    dims = frozenset(node.dimension(dim, rank, of_scalars=False) for dim in node["dims"])
    if len(dims) != len(node["dims"]):
        raise node.error(f"a dimension is listed twice in {list(node['dims'])}")
    return dims


def _infer_flip(node: Node) -> tuple[InferredSpec, ...]:
    _turned(node)
    return ((node["self"].spec.dtype, node["self"].spec.shape),)


def _lower_flip(node: Node, target: Target) -> Call:
    self, turned = node["self"].spec, _turned(node)
    strides = tuple(-stride if dim in turned else stride for dim, stride in enumerate(self.strides))
    offset = sum((self.shape[dim] - 1) * self.strides[dim] for dim in turned) if self.numel else 0
    return _rearranged(node, self.shape, node.out.spec.strides, strides, offset)


def _infer_repeat(node: Node) -> tuple[InferredSpec, ...]:
    self, repeats = node["self"].spec, node["repeats"]
    added = len(repeats) - len(self.shape)
    if added < 0 or any(count < 0 for count in repeats):
        raise node.error(f"repeats {list(repeats)} of a tensor {list(self.shape)}")
    shape = tuple(count * size for count, size in zip(repeats, (1,) * added + self.shape, strict=True))
    if max((0, *shape)) > _LIMIT:
        raise node.error(f"a result {list(shape)}")
    return ((self.dtype, shape),)


def _lower_repeat(node: Node, target: Target) -> Call:
    """Two loops a dimension: over the copies, and over the elements of one."""
    self, repeats = node["self"].spec, node["repeats"]
    added = len(repeats) - len(self.shape)
    sizes, strides = (1,) * added + self.shape, (0,) * added + self.strides
    shape: list[int] = []
    out: list[int] = []
    source: list[int] = []
    for count, size, stride, step in zip(repeats, sizes, strides, node.out.spec.strides, strict=True):
        shape += [count, size]
        out += [step * size, step]
        source += [0, stride]
    return _rearranged(node, tuple(shape), tuple(out), tuple(source), 0)


# ---- writing over a part ---------------------------------------------------------------------------------------------


def _part(node: Node) -> tuple[int, range]:
    """The dimension, and the indices along it that are overwritten."""
    self = node["self"].spec
    dim = node.dimension(node["dim"], len(self.shape), of_scalars=False)
    if "index" in node.operands:
        at = node["index"]
        if not -self.shape[dim] <= at < self.shape[dim]:
            raise node.error(f"index {at} along a dimension of size {self.shape[dim]}")
        return dim, range(at % self.shape[dim], at % self.shape[dim] + 1)
    if node["step"] <= 0:
        raise node.error(f"step {node['step']} is not positive")
    return dim, range(self.shape[dim])[slice(node["start"], node["end"], node["step"])]


def _infer_scatter(node: Node) -> tuple[InferredSpec, ...]:
    self, src = node["self"].spec, node["src"].spec
    dim, taken = _part(node)
    own = () if "index" in node.operands else (len(taken),)
    wanted = (*self.shape[:dim], *own, *self.shape[dim + 1 :])
    if src.shape != wanted or src.dtype is not self.dtype:
        raise node.error(f"a part {src} where {self.dtype.numpy} {list(wanted)} belongs")
    return ((self.dtype, self.shape),)


def _lower_scatter(node: Node, target: Target) -> Call:
    out, self, src = node.out.spec, node["self"].spec, node["src"].spec
    dim, taken = _part(node)
    whole = nest(out.shape, out.strides, self.strides)
    source = (*src.strides[:dim], 0, *src.strides[dim:]) if "index" in node.operands else src.strides
    steps = (*out.strides[:dim], out.strides[dim] * taken.step, *out.strides[dim + 1 :])
    part = nest((*out.shape[:dim], len(taken), *out.shape[dim + 1 :]), steps, source)
    geometry: dict[str, GeometryField] = {
        "sizes": whole.sizes,
        "out_strides": whole.strides[0],
        "self_strides": whole.strides[1],
        "part_sizes": part.sizes,
        "part_strides": part.strides[0],
        "src_strides": part.strides[1],
        "offset": out.strides[dim] * taken.start if taken else 0,
    }
    return Call(
        "overwrite", "movement/movement.h", geometry, (Write(node.out.id), Read(node["self"].id), Read(node["src"].id))
    )


def _np_slice(x: Any, src: Any, dim: int, start: int | None, end: int | None, step: int) -> Any:
    result = x.copy()
    result[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)] = src
    return result


def _np_select(x: Any, src: Any, dim: int, index: int) -> Any:
    result = x.copy()
    result[(slice(None),) * (dim % x.ndim) + (index,)] = src
    return result


def _infer_copy(node: Node) -> tuple[InferredSpec, ...]:
    self, src = node["self"].spec, node["src"].spec
    if broadcast_shape(self.shape, src.shape) != self.shape:
        raise node.error(f"a tensor of shape {list(src.shape)} does not fill one of {list(self.shape)}")
    return ((self.dtype, self.shape),)


def _lower_copy(node: Node, target: Target) -> Call:
    out, src = node.out.spec, node["src"]
    loops = nest(out.shape, out.strides, broadcast_strides(src.spec, out.shape))
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
    }
    return Call("fill_from", "movement/movement.h", geometry, (Write(node.out.id), Read(src.id)))


def _np_copy(x: Any, src: Any, non_blocking: bool) -> Any:
    return np.broadcast_to(src, x.shape).astype(x.dtype)


# ---- cases -----------------------------------------------------------------------------------------------------------


def _operand(draw: Draw, low: int = 0) -> T:
    return T(
        tuple(draw.integer(1, 5) for _ in range(draw.integer(low, 4))),
        draw.choice((DType.FLOAT32, *COMPUTED)),
        low=0.0,
        high=100.0,
    )


def _draw_flip(draw: Draw) -> Case:
    operand = _operand(draw)
    rank = len(operand.shape)
    return Case((operand, tuple(dim - rank * draw.integer(0, 1) for dim in range(rank) if draw.flag())))


def _draw_repeat(draw: Draw) -> Case:
    operand = _operand(draw)
    return Case((operand, tuple(draw.integer(1, 3) for _ in range(len(operand.shape) + draw.integer(0, 1)))))


def _draw_slice(draw: Draw) -> Case:
    operand = _operand(draw, 1)
    rank = len(operand.shape)
    dim = draw.integer(0, rank - 1)
    size = operand.shape[dim]
    start = draw.integer(0, size - 1)
    end, step = draw.choice((draw.integer(start + 1, size), 2**63 - 1)), draw.integer(1, 3)
    taken = len(range(start, min(end, size), step))
    src = T(
        (*operand.shape[:dim], taken, *operand.shape[dim + 1 :]),
        operand.dtype,
        low=0.0,
        high=100.0,
        constant=draw.flag(),
    )
    return Case((operand, src, dim - rank * draw.integer(0, 1), start, end, step))


def _draw_select(draw: Draw) -> Case:
    operand = _operand(draw, 1)
    dim = draw.integer(-len(operand.shape), len(operand.shape) - 1)
    at = dim % len(operand.shape)
    src = T((*operand.shape[:at], *operand.shape[at + 1 :]), operand.dtype, low=0.0, high=100.0, constant=draw.flag())
    return Case((operand, src, dim, draw.integer(-operand.shape[at], operand.shape[at] - 1)))


def _draw_copy(draw: Draw) -> Case:
    operand = _operand(draw)
    shape = tuple(
        1 if draw.integer(0, 3) == 0 else size for size in operand.shape[draw.choice((0, 0, len(operand.shape) // 2)) :]
    )
    return Case((operand, T(shape, draw.choice((operand.dtype, DType.INT8)), low=0.0, high=100.0), False))


_IMAGE = T((2, 3, 4, 5))
_LAST = T((2, 3, 4, 5), dim_order=(0, 2, 3, 1))

OPS = [
    Op(
        "aten::flip.out(Tensor self, int[] dims, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_flip,
        lower=_lower_flip,
        dtypes=_ALL,
        reference=lambda x, dims: np.flip(x, tuple(dims)),
        carries=("self",),
        exact=True,
        cases=(Case((T((7, 1, 6)), (0,)), "time, as of a bidirectional network"), Case((_LAST, (2, -1)), "images")),
        draw=_draw_flip,
    ),
    Op(
        "aten::repeat.out(Tensor self, SymInt[] repeats, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_repeat,
        lower=_lower_repeat,
        dtypes=_ALL,
        reference=lambda x, repeats: np.tile(x, tuple(repeats)),
        carries=("self",),
        exact=True,
        cases=(
            Case((T((2, 3)), (2, 2))),
            Case((_LAST, (1, 2, 1, 3))),
            Case((T((3,)), (4, 1)), "a new leading dimension"),
        ),
        draw=_draw_repeat,
    ),
    Op(
        "aten::slice_scatter.out(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt "
        "step=1, *, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_scatter,
        lower=_lower_scatter,
        dtypes=_ALL,
        reference=_np_slice,
        inplace=("self",),
        carries=("self", "src"),
        exact=True,
        cases=(
            Case((T((3, 8)), T((3, 2)), 1, 2, 4, 1), "x[:, 2:4] = y"),
            Case((_LAST, T((2, 3, 2, 5)), -2, 0, 2**63 - 1, 2), "every second row"),
        ),
        draw=_draw_slice,
    ),
    Op(
        "aten::select_scatter.out(Tensor self, Tensor src, int dim, SymInt index, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_scatter,
        lower=_lower_scatter,
        dtypes=_ALL,
        reference=_np_select,
        inplace=("self",),
        carries=("self", "src"),
        exact=True,
        cases=(
            Case((T((3, 8)), T((8,)), 0, 0), "x[0] = y"),
            Case((_IMAGE, T((2, 4, 5), constant=True), 1, -1), "the last channel"),
        ),
        draw=_draw_select,
    ),
    Op(
        "aten::copy.out(Tensor self, Tensor src, bool non_blocking=False, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_copy,
        lower=_lower_copy,
        dtypes=_ALL,
        reference=_np_copy,
        exact=True,
        cases=(
            Case((_IMAGE, T((3, 1, 1)), False), "broadcasting"),
            Case((T((4,), DType.INT64), T((4,)), False), "to another type"),
        ),
        draw=_draw_copy,
    ),
]

INT8 = [
    Int8(("aten::flip", "aten::roll"), Scales.SHARED, mask=Mask.MOVED, state=State.MOVED, channels=Channels.MOVED),
    Int8(("aten::repeat",), Scales.SHARED, mask=Mask.MOVED),
    Int8(
        ("aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle"),
        Scales.SHARED,
        channels=Channels.MOVED,
    ),
    Int8(("aten::tile", "aten::fliplr", "aten::flipud", "aten::repeat_interleave.self_int"), Scales.PARTS),
    Int8(("aten::slice_scatter", "aten::select_scatter"), Scales.SHARED, shares=("self", "src"), state=State.MOVED),
]
