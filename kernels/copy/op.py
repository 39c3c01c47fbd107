"""Movement: permute, slice, select, expand, clone, layout and element type. One strided copy does what cannot be had by
an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import COMPUTED, HALVES, DType, TensorSpec

_ALL = COMPUTED


def _copy(node: Node, strides: tuple[int, ...], offset: int = 0, source: str = "self") -> Call:
    """Copy the view of the operand that has the output's shape, these strides and this first element."""
    out = node.out
    loops = nest(out.spec.shape, out.spec.strides, strides)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "offset": offset,
    }
    return Call("copy", "copy/copy.h", geometry, (Write(out.id), Read(node[source].id)))


def _alias(node: Node, strides: tuple[int, ...], offset: int = 0) -> int | None:
    """The byte offset of a view with these strides where the output, as it is laid out, is that view."""
    spec, operand = node.out.spec, node["self"].spec
    same = all(
        size == 1 or wanted == stride for size, wanted, stride in zip(spec.shape, spec.strides, strides, strict=True)
    )
    return offset * spec.dtype.itemsize if same and spec.dtype is operand.dtype else None


# ---- permute, transpose ----------------------------------------------------------------------------------------------


def _permute(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    rank = len(spec.shape)
    if len(node["dims"]) != rank:
        raise node.error(f"{len(node['dims'])} dimensions in the order for a tensor with {rank}")
    dims = [node.dimension(dim, rank) for dim in node["dims"]]
    if len(set(dims)) != rank:
        raise node.error(f"a dimension is listed twice in {list(node['dims'])}")
    return ((spec.dtype, tuple(spec.shape[dim] for dim in dims)),)


def _transpose(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    shape = list(spec.shape)
    first, second = (node.dimension(node[name], len(shape)) for name in ("dim0", "dim1"))
    if shape:
        shape[first], shape[second] = shape[second], shape[first]
    return ((spec.dtype, tuple(shape)),)


def _draw_permute(draw: Draw) -> Case:
    operand = _operand(draw)
    left = list(range(len(operand.shape)))
    dims = [left.pop(draw.integer(0, len(left) - 1)) for _ in operand.shape]
    return Case((operand, tuple(dim - len(dims) * draw.integer(0, 1) for dim in dims)))


def _draw_transpose(draw: Draw) -> Case:
    operand = _operand(draw)
    rank = max(len(operand.shape), 1)
    return Case((operand, draw.integer(-rank, rank - 1), draw.integer(-rank, rank - 1)))


# ---- slice, select, expand -------------------------------------------------------------------------------------------


def _slice_range(node: Node) -> tuple[int, range]:
    """The dimension and the indices along it, with Python's rules for negative and excessive bounds."""
    spec = node["self"].spec
    if not spec.shape:
        raise node.error("a scalar cannot be sliced")
    dim = node.dimension(node["dim"], len(spec.shape))
    if node["step"] <= 0:
        raise node.error(f"step {node['step']} is not positive")
    return dim, range(spec.shape[dim])[slice(node["start"], node["end"], node["step"])]


def _slice(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    dim, taken = _slice_range(node)
    return ((spec.dtype, (*spec.shape[:dim], len(taken), *spec.shape[dim + 1 :])),)


def _slice_view(node: Node) -> tuple[tuple[int, ...], int]:
    dim, taken = _slice_range(node)
    strides = node["self"].spec.strides
    return (*strides[:dim], strides[dim] * node["step"], *strides[dim + 1 :]), strides[dim] * (
        taken.start if taken else 0
    )


def _np_slice(x: Any, dim: int, start: int | None, end: int | None, step: int) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


def _draw_slice(draw: Draw) -> Case:
    operand = _operand(draw, 1)
    dim = draw.integer(0, len(operand.shape) - 1)
    size = operand.shape[dim]
    # an empty result is legal, but there is nothing in it to compare
    first = draw.integer(0, size - 1)
    last = draw.integer(first + 1, size + 3)
    start = draw.choice((first, first - size) if first else (None, 0, -size, -size - 2))
    end = draw.choice((last, last - size) if last < size else (None, last, 2**63 - 1))
    return Case((operand, dim - len(operand.shape) * draw.integer(0, 1), start, end, draw.integer(1, 3)))


def _select(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    if not spec.shape:
        raise node.error("a scalar has no dimension to select from")
    dim = node.dimension(node["dim"], len(spec.shape))
    _dim_index(node, dim)
    return ((spec.dtype, (*spec.shape[:dim], *spec.shape[dim + 1 :])),)


def _dim_index(node: Node, dim: int) -> int:
    size = node["self"].spec.shape[dim]
    if not -size <= node["index"] < size:
        raise node.error(f"index {node['index']} along a dimension of size {size}")
    return int(node["index"] % size)


def _select_view(node: Node) -> tuple[tuple[int, ...], int]:
    strides = node["self"].spec.strides
    dim = node["dim"] % len(strides)
    return (*strides[:dim], *strides[dim + 1 :]), strides[dim] * _dim_index(node, dim)


def _draw_select(draw: Draw) -> Case:
    operand = _operand(draw, 1)
    rank = len(operand.shape)
    dim = draw.integer(-rank, rank - 1)
    return Case((operand, dim, draw.integer(-operand.shape[dim], operand.shape[dim] - 1)))


def _expand(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    size = list(node["size"])
    added = len(size) - len(spec.shape)
    if added < 0:
        raise node.error(f"{len(size)} sizes for a tensor with {len(spec.shape)} dimensions")
    for dim, extent in enumerate(size):
        own = spec.shape[dim - added] if dim >= added else None
        if extent == -1 and own is not None:
            size[dim] = own
        elif extent < 0 or own not in (None, 1, extent):
            raise node.error(f"size {list(node['size'])} for a tensor of shape {list(spec.shape)}")
    return ((spec.dtype, tuple(size)),)


def _expand_view(node: Node) -> tuple[tuple[int, ...], int]:
    return broadcast_strides(node["self"].spec, node.out.spec.shape), 0


def _np_expand(x: Any, size: tuple[int, ...], implicit: bool) -> Any:
    added = len(size) - x.ndim
    return np.broadcast_to(
        x, tuple(x.shape[dim - added] if extent == -1 else extent for dim, extent in enumerate(size))
    )


def _draw_expand(draw: Draw) -> Case:
    operand = _operand(draw)
    size = [draw.choice((-1, own)) if own != 1 else draw.integer(1, 4) for own in operand.shape]
    return Case((operand, (*(draw.integer(1, 3) for _ in range(draw.integer(0, 5 - len(size)))), *size), False))


def _view_op(
    schema: str,
    infer: Callable[[Node], tuple[InferredSpec, ...]],
    view: Callable[[Node], tuple[tuple[int, ...], int]],
    reference: Callable[..., Any],
    cases: tuple[Case, ...],
    draw: Callable[[Draw], Case],
) -> Op:
    """An operator whose result is `view(node)` = (strides, offset) of its first operand."""

    def lower(node: Node, target: Target) -> Call:
        return _copy(node, *view(node))

    def alias(node: Node) -> int | None:
        return _alias(node, *view(node))

    return Op(
        schema,
        infer=infer,
        lower=lower,
        dtypes=_ALL,
        reference=reference,
        alias=alias,
        carries=("self",),
        exact=True,
        cases=cases,
        draw=draw,
    )


# ---- copies ----------------------------------------------------------------------------------------------------------


def _same(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, node["self"].spec.shape),)


def _converted(node: Node) -> tuple[InferredSpec, ...]:
    """The shape of the operand; the element type is the output's, because the schema has no argument for it."""
    spec = node["self"].spec
    order = node["dim_order"]
    if order is not None and sorted(order) != list(range(len(spec.shape))):
        raise node.error(f"dim order {list(order)} for a tensor with {len(spec.shape)} dimensions")
    return ((node.out.spec.dtype, spec.shape),)


def _cloned(node: Node) -> tuple[InferredSpec, ...]:
    _converted(node)
    return _same(node)


def _written(node: Node) -> tuple[InferredSpec, ...]:
    spec, source = node.out.spec, node["src"].spec
    if broadcast_shape(spec.shape, source.shape) != spec.shape:
        raise node.error(f"a tensor of shape {list(source.shape)} does not fill one of {list(spec.shape)}")
    return ((spec.dtype, spec.shape),)


def _lower_same(node: Node, target: Target) -> Call:
    return _copy(node, node["self"].spec.strides)


def _lower_converted(node: Node, target: Target) -> Call:
    if node["self"].spec.dtype in HALVES:
        raise node.error("floats of 16 bits are for weights only", "make model and inputs float32: model.float()")
    return _lower_same(node, target)


def _alias_same(node: Node) -> int | None:
    return _alias(node, node["self"].spec.strides)


def _lower_written(node: Node, target: Target) -> Call:
    return _copy(node, broadcast_strides(node["src"].spec, node.out.spec.shape), source="src")


def _last(spec: TensorSpec | T) -> tuple[int, ...]:
    rank = len(spec.shape)
    return tuple(range(rank)) if rank < 3 else (0, *range(2, rank), 1)


def _draw_order(draw: Draw) -> Case:
    operand = _operand(draw)
    return Case((operand, False, draw.choice((None, tuple(range(len(operand.shape))), _last(operand)))))


def _operand(draw: Draw, low: int = 0) -> T:
    shape = tuple(draw.choice((1, 2, 3, 4, 5)) for _ in range(draw.integer(low, 4)))
    return T(shape, draw.choice(_ALL), low=-100.0 if draw.flag() else 0.0, high=100.0)


_ORDER = "*, bool non_blocking=False, int[]? dim_order=None, Tensor(a!) out) -> Tensor(a!)"
_IMAGE = T((2, 3, 4, 5))

OPS = [
    Op(
        "aten::permute_copy.out(Tensor self, int[] dims, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_permute,
        dtypes=_ALL,
        reference=lambda x, dims: np.transpose(x, dims),
        layout=Layout.PERMUTE,
        exact=True,
        cases=(
            Case((_IMAGE, (0, 2, 3, 1)), "to NHWC"),
            Case((T((3, 4), constant=True), (1, 0)), "the weight of a linear layer"),
        ),
        draw=_draw_permute,
    ),
    Op(
        "aten::transpose_copy.int_out(Tensor self, int dim0, int dim1, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_transpose,
        dtypes=_ALL,
        reference=lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1) if x.ndim else x,
        layout=Layout.PERMUTE,
        exact=True,
        cases=(Case((T((3, 4)), 0, 1)), Case((_IMAGE, 1, -1), "a negative dimension")),
        draw=_draw_transpose,
    ),
    _view_op(
        "aten::slice_copy.Tensor_out(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1, *, "
        "Tensor(a!) out)"
        " -> Tensor(a!)",
        _slice,
        _slice_view,
        _np_slice,
        (
            Case((T((6, 4)), 0, 2, 5, 1), "rows: an address, no copy"),
            Case((T((6, 4)), 1, -3, 2**63 - 1, 1), "from the end"),
            Case((_IMAGE, 3, 0, 5, 2), "every second column"),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 1, 1, 3, 1), "channels of channels-last data"),
        ),
        _draw_slice,
    ),
    _view_op(
        "aten::select_copy.int_out(Tensor self, int dim, SymInt index, *, Tensor(a!) out) -> Tensor(a!)",
        _select,
        _select_view,
        lambda x, dim, index: np.take(x, index % x.shape[dim], axis=dim),
        (Case((T((6, 4)), 0, 2), "a row: an address, no copy"), Case((T((6, 4)), 1, -1), "the last column")),
        _draw_select,
    ),
    _view_op(
        "aten::expand_copy.out(Tensor self, SymInt[] size, *, bool implicit=False, Tensor(a!) out) -> Tensor(a!)",
        _expand,
        _expand_view,
        _np_expand,
        (
            Case((T((3, 1)), (3, 4), False)),
            Case((T((4,)), (2, 3, -1), False), "new leading dimensions; -1 keeps the size"),
        ),
        _draw_expand,
    ),
    Op(
        "aten::clone.out(Tensor self, *, MemoryFormat? memory_format=None, Tensor(a!) out) -> Tensor(a!)",
        infer=_same,
        lower=_lower_same,
        dtypes=_ALL,
        reference=lambda x, memory_format: x,
        inplace=("self",),
        alias=_alias_same,
        carries=("self",),
        exact=True,
        cases=(Case((_IMAGE, None)),),
        draw=lambda draw: Case((_operand(draw), None)),
    ),
    Op(
        "aten::copy_(Tensor(a!) self, Tensor src, bool non_blocking=False) -> Tensor(a!)",
        infer=_written,
        lower=_lower_written,
        dtypes=_ALL,
        reference=lambda state, source, non_blocking: np.array(np.broadcast_to(source, state.shape)),
        exact=True,
        cases=(
            Case((T((2, 3)), T((2, 3)), False), "writes a state back"),
            Case((T((2, 3)), T((3,)), False), "broadcasting"),
        ),
        draw=lambda draw: (lambda operand: Case((operand, T(operand.shape, operand.dtype), False)))(_operand(draw)),
    ),
    Op(
        f"dim_order_ops::_to_dim_order_copy.out(Tensor self, {_ORDER}",
        infer=_converted,
        lower=_lower_converted,
        dtypes=(*_ALL, *HALVES),
        reference=lambda x, non_blocking, dim_order: x,
        alias=_alias_same,
        exact=True,
        cases=(
            Case((_IMAGE, False, (0, 2, 3, 1)), "to channels last"),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), False, (0, 1, 2, 3)), "back"),
            Case(
                (T((4,), DType.INT64, low=-100, high=100), False, (0,)),
                "also changes the element type, to the output's",
            ),
        ),
        draw=_draw_order,
    ),
    Op(
        f"dim_order_ops::_clone_dim_order.out(Tensor self, {_ORDER}",
        infer=_cloned,
        lower=_lower_same,
        dtypes=_ALL,
        reference=lambda x, non_blocking, dim_order: x,
        inplace=("self",),
        alias=_alias_same,
        exact=True,
        cases=(Case((_IMAGE, False, (0, 2, 3, 1)), "to channels last"), Case((T((3,)), False, None))),
        draw=_draw_order,
    ),
]

INT8 = [
    Int8(
        ("aten::permute", "aten::transpose.int", "aten::t", "aten::slice.Tensor", "aten::select.int"), Scales.SHARED,
        mask=Mask.MOVED, state=State.MOVED, channels=Channels.MOVED,
    ),
    Int8(("aten::movedim.int",), Scales.SHARED, mask=Mask.MOVED, channels=Channels.MOVED),
    Int8(("aten::narrow",), Scales.PARTS, mask=Mask.MOVED),
    Int8(
        ("aten::mT", "aten::mH", "aten::matrix_H", "aten::numpy_T", "aten::adjoint", "aten::moveaxis.int",
        "aten::moveaxis.intlist",
         "aten::movedim.intlist", "aten::swapaxes", "aten::swapdims", "aten::broadcast_to"), Scales.PARTS,
    ),
    Int8(
        ("aten::unsafe_chunk", "aten::tensor_split.sections", "aten::tensor_split.indices", "aten::hsplit.int",
        "aten::hsplit.array",
         "aten::vsplit.int", "aten::vsplit.array", "aten::dsplit.int", "aten::dsplit.array", "aten::split.sizes"),
         Scales.PARTS,
    ),
    Int8(("aten::expand",), Scales.SHARED, mask=Mask.REPEATED, state=State.MOVED),
    Int8(("aten::expand_as",), Scales.SHARED, mask=Mask.REPEATED),
    Int8(("aten::clone",), Scales.SHARED, mask=Mask.REPEATED, state=State.ELEMENTS, channels=Channels.ALIKE),
    Int8(("aten::contiguous",), Scales.SHARED, mask=Mask.REPEATED, channels=Channels.ALIKE),
    Int8(("aten::dropout",), Scales.SHARED, mask=Mask.SAME, channels=Channels.ALIKE),
    Int8(("aten::alias", "aten::detach"), mask=Mask.REPEATED),
    Int8(("aten::lift_fresh_copy",), mask=Mask.SAME),
    Int8(("aten::to.dtype", "aten::to.dtype_layout", "aten::to.other", "aten::_to_copy", "aten::type_as"),
    mask=Mask.CAST), Int8(("aten::chunk", "aten::split.Tensor", "aten::split_with_sizes", "aten::unbind.int"),
    Scales.SHARED, state=State.MOVED),
]  # fmt: skip
