"""Elements picked by tensors of indices: embedding, index_select, gather, and index with one or two tensors.

Constant indices are checked here. One that the device computes or receives and that is out of range gives NaN, or 0 in integers,
and never reads outside: PyTorch raises an error, which a kernel cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.op import Call, Case, Draw, GeometryField, InferredSpec, Node, Op, Operand, Read, T, Target, Write
from etexport.program.model import DType, Value
from etexport.strided import broadcast_shape, broadcast_strides, nest

_ALL = tuple(DType)
_INDICES = (DType.INT64, DType.INT32)


def _dim(node: Node, rank: int) -> int:
    if not -rank <= node["dim"] < rank:
        raise node.error(f"dimension {node['dim']} of a tensor with {rank} dimensions")
    return int(node["dim"] % rank)


def _check(node: Node, index: Value, extent: int, *, wraps: bool = False, dtypes: tuple[DType, ...] = _INDICES) -> None:
    if index.spec.dtype not in dtypes:
        hint = "bool masks give tensors whose size nobody knows before" if index.spec.dtype is DType.BOOL else "convert them to int64"
        raise node.error(f"indices of {index.spec.dtype.numpy}", hint)
    if index.data is not None and index.data.size:
        least, largest = int(index.data.min()), int(index.data.max())
        if least < (-extent if wraps else 0) or largest >= extent:
            raise node.error(f"indices from {least} to {largest} along a dimension of size {extent}")


def _take(node: Node, source: Value, index: Value, dim: int, wraps: bool) -> Call:
    """The dimensions of the index stand in the output where dimension `dim` stands in the source."""
    out, self = node.out.spec, source.spec
    count = len(out.shape) - len(self.shape) + 1
    places = out.strides[dim : dim + count]
    loops = nest(index.spec.shape, places[count - len(index.spec.shape) :], index.spec.strides, rank=2)
    others = [at for at in range(len(self.shape)) if at != dim]
    shape, strides = (tuple(sizes[at] for at in others) for sizes in (self.shape, self.strides))
    rest = nest(shape, out.strides[:dim] + out.strides[dim + count :], strides, rank=3)
    geometry: dict[str, GeometryField] = {
        "index_sizes": loops.sizes,
        "index_out_strides": loops.strides[0],
        "index_strides": loops.strides[1],
        "sizes": rest.sizes,
        "out_strides": rest.strides[0],
        "self_strides": rest.strides[1],
        "extent": self.shape[dim],
        "step": self.strides[dim],
        "wraps": wraps,
    }
    return Call("take", "index/index.h", geometry, (Write(node.out.id), Read(source.id), Read(index.id)))


# ---- embedding --------------------------------------------------------------------------------------------------------------------


def _infer_embedding(node: Node) -> tuple[InferredSpec, ...]:
    weight, indices = node["weight"].spec, node["indices"].spec
    if len(weight.shape) != 2:
        raise node.error(f"an embedding of {list(weight.shape)}; a table has two dimensions")
    _check(node, node["indices"], weight.shape[0])
    return ((weight.dtype, (*indices.shape, weight.shape[1])),)


def _lower_embedding(node: Node, target: Target) -> Call:
    return _take(node, node["weight"], node["indices"], 0, False)


# ---- index_select, gather ---------------------------------------------------------------------------------------------------------


def _infer_select(node: Node) -> tuple[InferredSpec, ...]:
    self, index = node["self"].spec, node["index"].spec
    dim = _dim(node, len(self.shape))
    if len(index.shape) > 1:
        raise node.error(f"indices {list(index.shape)}; one dimension belongs")
    _check(node, node["index"], self.shape[dim])
    return ((self.dtype, (*self.shape[:dim], index.numel, *self.shape[dim + 1 :])),)


def _lower_select(node: Node, target: Target) -> Call:
    return _take(node, node["self"], node["index"], _dim(node, len(node["self"].spec.shape)), False)


def _np_select(x: Any, dim: int, index: Any) -> Any:
    return np.take(x, index.reshape(-1), axis=dim)


def _infer_gather(node: Node) -> tuple[InferredSpec, ...]:
    self, index = node["self"].spec, node["index"].spec
    dim = _dim(node, len(self.shape))
    if len(self.shape) != len(index.shape):
        raise node.error(f"indices {list(index.shape)} for a tensor {list(self.shape)}: the ranks differ")
    if any(wanted > size for at, (wanted, size) in enumerate(zip(index.shape, self.shape, strict=True)) if at != dim):
        raise node.error(f"indices {list(index.shape)} for a tensor {list(self.shape)} along dimension {dim}")
    _check(node, node["index"], self.shape[dim], dtypes=(DType.INT64,))
    return ((self.dtype, index.shape),)


def _lower_gather(node: Node, target: Target) -> Call:
    out, self, index = node.out.spec, node["self"].spec, node["index"].spec
    dim = _dim(node, len(self.shape))
    fixed = tuple(0 if at == dim else stride for at, stride in enumerate(self.strides))
    loops = nest(out.shape, out.strides, fixed, index.strides)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "index_strides": loops.strides[2],
        "extent": self.shape[dim],
        "step": self.strides[dim],
    }
    return Call("gather", "index/index.h", geometry, (Write(node.out.id), Read(node["self"].id), Read(node["index"].id)))


def _np_gather(x: Any, dim: int, index: Any, sparse_grad: bool) -> Any:
    inside = x[tuple(slice(None) if at == dim % x.ndim else slice(size) for at, size in enumerate(index.shape))]
    return np.take_along_axis(inside, index, dim)


# ---- index ------------------------------------------------------------------------------------------------------------------------


def _given(node: Node) -> tuple[tuple[int, Value], ...]:
    """The dimensions that have an index, and these."""
    self, indices = node["self"].spec, node["indices"]
    if len(indices) > len(self.shape):
        raise node.error(f"{len(indices)} indices for a tensor with {len(self.shape)} dimensions")
    given = tuple((dim, index) for dim, index in enumerate(indices) if index is not None)
    if not 1 <= len(given) <= 2:
        raise node.error(f"{len(given)} tensors of indices; one and two have a kernel")
    for dim, index in given:
        _check(node, index, self.shape[dim], wraps=True)
    return given


def _indexed(node: Node) -> tuple[tuple[int, ...], int]:
    """The shape of the indices, and at which dimension of the result it stands: at the front where the indexed ones lie apart."""
    given = _given(node)
    shape = broadcast_shape(*(index.spec.shape for _, index in given))
    if shape is None:
        raise node.error(f"indices {' and '.join(str(list(index.spec.shape)) for _, index in given)} do not broadcast")
    return shape, 0 if given[-1][0] - given[0][0] >= len(given) else given[0][0]


def _infer_index(node: Node) -> tuple[InferredSpec, ...]:
    self, gone = node["self"].spec, [dim for dim, _ in _given(node)]
    shape, first = _indexed(node)
    kept = [size for dim, size in enumerate(self.shape) if dim not in gone]
    return ((self.dtype, (*kept[:first], *shape, *kept[first:])),)


def _lower_index(node: Node, target: Target) -> Call:
    given, (shape, first) = _given(node), _indexed(node)
    out, self = node.out.spec, node["self"].spec
    if len(given) == 1:
        return _take(node, node["self"], given[0][1], given[0][0], True)
    kept = [stride for dim, stride in enumerate(self.strides) if dim not in dict(given)]
    before, after = (0,) * first, (0,) * (len(kept) - first)
    fixed = (*kept[:first], *(0 for _ in shape), *kept[first:])
    walks = ((*before, *broadcast_strides(index.spec, shape), *after) for _, index in given)
    loops = nest(out.shape, out.strides, fixed, *walks)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "first_strides": loops.strides[2],
        "second_strides": loops.strides[3],
        "extents": tuple(self.shape[dim] for dim, _ in given),
        "steps": tuple(self.strides[dim] for dim, _ in given),
    }
    operands: tuple[Operand, ...] = (Write(node.out.id), Read(node["self"].id), *(Read(index.id) for _, index in given))
    return Call("pick", "index/index.h", geometry, operands)


def _np_index(x: Any, indices: Any) -> Any:
    return x[tuple(slice(None) if index is None else index for index in indices)]


# ---- cases ------------------------------------------------------------------------------------------------------------------------


def _table(draw: Draw, rank: int) -> T:
    """Every dimension has 6 elements or more, so that the indices 0 and 1 that an input has stay legal however the test bends a shape."""
    return T(tuple(draw.integer(6, 8) for _ in range(rank)), draw.choice((DType.FLOAT32, *DType)), low=0.0, high=100.0)


def _indices(draw: Draw, shape: tuple[int, ...], extent: int, dtype: DType = DType.INT64, low: int = 0) -> T:
    constant = draw.flag()
    return T(shape, dtype, low=low if constant else 0, high=extent if constant else 2, constant=constant)


def _draw_shape(draw: Draw, low: int = 0, high: int = 2) -> tuple[int, ...]:
    return tuple(draw.integer(1, 4) for _ in range(draw.integer(low, high)))


def _draw_embedding(draw: Draw) -> Case:
    table = _table(draw, 2)
    return Case((table, _indices(draw, _draw_shape(draw), table.shape[0], draw.choice(_INDICES)), -1, False, False))


def _draw_select(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    dim = draw.integer(0, len(table.shape) - 1)
    return Case((table, dim, _indices(draw, _draw_shape(draw, 0, 1), table.shape[dim], draw.choice(_INDICES))))


def _draw_gather(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    dim = draw.integer(0, len(table.shape) - 1)
    shape = tuple(draw.integer(1, 6 if at == dim else size) for at, size in enumerate(table.shape))
    return Case((table, dim, _indices(draw, shape, table.shape[dim]), False))


def _draw_index(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    rank = len(table.shape)
    dims = {draw.integer(0, rank - 1), draw.integer(0, rank - 1)}
    shape = _draw_shape(draw, 1)
    chosen: list[Any] = [None] * (max(dims) + 1)
    for dim in dims:
        own = tuple(1 if draw.integer(0, 3) == 0 else size for size in shape)
        chosen[dim] = _indices(draw, own, table.shape[dim], draw.choice(_INDICES), -table.shape[dim])
    return Case((table, tuple(chosen)))


_IMAGE = T((2, 3, 4, 5))
_LAST = T((2, 3, 4, 5), dim_order=(0, 2, 3, 1))


def _at(*values: int) -> T:
    return T((len(values),), DType.INT64, values=tuple(float(value) for value in values), constant=True)


def _input(shape: tuple[int, ...], extent: int, dtype: DType = DType.INT64, low: int = 0) -> T:
    return T(shape, dtype, low=low, high=extent)


OPS = [
    Op(
        "aten::embedding.out(Tensor weight, Tensor indices, SymInt padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False, *, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_embedding,
        lower=_lower_embedding,
        dtypes=_ALL,
        reference=lambda weight, indices, *_: weight[indices],
        carries=("weight",),
        exact=True,
        cases=(
            Case((T((10, 6), constant=True), _input((2, 5), 10), -1, False, False), "tokens"),
            Case((T((10, 6), constant=True), _input((4,), 10, DType.INT32), 0, False, False), "int32 tokens, with a padding row"),
            Case((T((10, 6), constant=True), _input((), 10), -1, False, False), "one token"),
        ),
        draw=_draw_embedding,
    ),
    Op(
        "aten::index_select.out(Tensor self, int dim, Tensor index, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_select,
        lower=_lower_select,
        dtypes=_ALL,
        reference=_np_select,
        carries=("self",),
        exact=True,
        cases=(Case((_LAST, 1, _at(2, 0, 2, 1)), "channels"), Case((T((6, 4)), -2, _input((3,), 6)), "rows that the device chooses")),
        draw=_draw_select,
    ),
    Op(
        "aten::gather.out(Tensor self, int dim, Tensor index, *, bool sparse_grad=False, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_gather,
        lower=_lower_gather,
        dtypes=_ALL,
        reference=_np_gather,
        carries=("self",),
        exact=True,
        cases=(Case((T((4, 6)), 1, _input((4, 2), 6), False), "two of each row"), Case((_LAST, -1, _input((2, 2, 3, 7), 5), False))),
        draw=_draw_gather,
    ),
    Op(
        "aten::index.Tensor_out(Tensor self, Tensor?[] indices, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_index,
        lower=_lower_index,
        dtypes=_ALL,
        reference=_np_index,
        carries=("self",),
        exact=True,
        cases=(
            Case((_LAST, (None, None, None, _at(1, 0, 1, 2, 3, 4, 3))), "the columns of a reflected border"),
            Case((_IMAGE, (None, None, _at(-1, 0), _at(1, -2))), "two side by side"),
            Case((_IMAGE, (_input((3, 1), 2), None, _input((2,), 4, low=-4))), "two apart: their dimensions go to the front"),
            Case((T((6, 4)), (_input((2, 3), 6, DType.INT32),)), "a table of rows"),
        ),
        draw=_draw_index,
    ),
]
