"""Elements picked by tensors of indices, and elements written where they say: embedding, index_select, gather, index;
scatter, index_put.

Constant indices are checked here. One that the device computes or receives and that is out of range gives NaN, or 0 in
integers, and never reads outside; where it would write, nothing is written. PyTorch raises an error, which a kernel
cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Scratch, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import COMPUTED, DType, Value

_ALL = COMPUTED
_NUMBERS = (DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64)
_INDICES = (DType.INT64, DType.INT32)


def _dim(node: Node, rank: int) -> int:
    return node.dimension(node["dim"], rank, of_scalars=False)


def _check(node: Node, index: Value, extent: int, *, wraps: bool = False, dtypes: tuple[DType, ...] = _INDICES) -> None:
    if index.spec.dtype not in dtypes:
        hint = (
            "bool masks give tensors whose size nobody knows before"
            if index.spec.dtype is DType.BOOL
            else "convert them to int64"
        )
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


# ---- embedding -------------------------------------------------------------------------------------------------------


def _infer_embedding(node: Node) -> tuple[InferredSpec, ...]:
    weight, indices = node["weight"].spec, node["indices"].spec
    if len(weight.shape) != 2:
        raise node.error(f"an embedding of {list(weight.shape)}; a table has two dimensions")
    _check(node, node["indices"], weight.shape[0])
    return ((weight.dtype, (*indices.shape, weight.shape[1])),)


def _lower_embedding(node: Node, target: Target) -> Call:
    return _take(node, node["weight"], node["indices"], 0, False)


# ---- index_select, gather --------------------------------------------------------------------------------------------


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
    return Call(
        "gather", "index/index.h", geometry, (Write(node.out.id), Read(node["self"].id), Read(node["index"].id))
    )


def _np_gather(x: Any, dim: int, index: Any, sparse_grad: bool) -> Any:
    inside = x[tuple(slice(None) if at == dim % x.ndim else slice(size) for at, size in enumerate(index.shape))]
    return np.take_along_axis(inside, index, dim)


# ---- index -----------------------------------------------------------------------------------------------------------


def _given(node: Node) -> tuple[tuple[int, Value], ...]:
    """The dimensions that have an index, and these."""
    self, indices = node["self"].spec, node["indices"]
    if len(indices) > len(self.shape):
        raise node.error(f"{len(indices)} indices for a tensor with {len(self.shape)} dimensions")
    given = tuple((dim, index) for dim, index in enumerate(indices) if index is not None)
    if not 1 <= len(given) <= 4:
        raise node.error(f"{len(given)} tensors of indices; one to four have a kernel")
    for dim, index in given:
        _check(node, index, self.shape[dim], wraps=True)
    return given


def _indexed(node: Node) -> tuple[tuple[int, ...], int]:
    """The shape of the indices, and at which dimension of the result it stands: at the front where the indexed ones lie
    apart."""
    given = _given(node)
    shape = broadcast_shape(*(index.spec.shape for _, index in given))
    if shape is None:
        raise node.error(f"indices {' and '.join(str(list(index.spec.shape)) for _, index in given)} do not broadcast")
    return shape, 0 if given[-1][0] - given[0][0] >= len(given) else given[0][0]


def _chosen(node: Node) -> tuple[int, ...]:
    """The shape of what the indices name."""
    self, gone = node["self"].spec, [dim for dim, _ in _given(node)]
    shape, first = _indexed(node)
    kept = [size for dim, size in enumerate(self.shape) if dim not in gone]
    return (*kept[:first], *shape, *kept[first:])


def _walks(node: Node, strides: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Over `_chosen`: the steps in the indexed tensor that no index makes, then those through each tensor of
    indices."""
    given, (shape, first) = _given(node), _indexed(node)
    kept = [stride for dim, stride in enumerate(strides) if dim not in dict(given)]
    before, after = (0,) * first, (0,) * (len(kept) - first)
    fixed = (*kept[:first], *(0 for _ in shape), *kept[first:])
    return fixed, *((*before, *broadcast_strides(index.spec, shape), *after) for _, index in given)


def _places(
    dims: list[int], shape: tuple[int, ...], strides: tuple[int, ...], walks: tuple[tuple[int, ...], ...]
) -> dict[str, GeometryField]:
    """What `Place` in index.h reads: the dimensions that indices lead along, and the walks through these."""
    return {
        "extents": tuple(shape[dim] for dim in dims),
        "steps": tuple(strides[dim] for dim in dims),
        "index_strides": tuple(stride for walk in walks for stride in walk),
    }


def _infer_index(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, _chosen(node)),)


def _lower_index(node: Node, target: Target) -> Call:
    given, out, self = _given(node), node.out.spec, node["self"].spec
    if len(given) == 1:
        return _take(node, node["self"], given[0][1], given[0][0], True)
    loops = nest(out.shape, out.strides, *_walks(node, self.strides))
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "wraps": True,
        **_places([dim for dim, _ in given], self.shape, self.strides, loops.strides[2:]),
    }
    operands: tuple[Operand, ...] = (Write(node.out.id), Read(node["self"].id), *(Read(index.id) for _, index in given))
    return Call("pick", "index/index.h", geometry, operands)


def _np_index(x: Any, indices: Any) -> Any:
    return x[tuple(slice(None) if index is None else index for index in indices)]


# ---- writing ---------------------------------------------------------------------------------------------------------


def _whole(node: Node) -> dict[str, GeometryField]:
    """The loops that copy self before anything is written over it."""
    out = node.out.spec
    loops = nest(out.shape, out.strides, node["self"].spec.strides)
    return {"whole_sizes": loops.sizes, "whole_out_strides": loops.strides[0], "whole_self_strides": loops.strides[1]}


def _infer_put(node: Node) -> tuple[InferredSpec, ...]:
    self, values, chosen = node["self"].spec, node["values"].spec, _chosen(node)
    if values.dtype is not self.dtype:
        raise node.error(f"{values} written into {self}", hint="convert it to the other's type")
    if len(values.shape) > len(chosen) or broadcast_shape(values.shape, chosen) != chosen:
        raise node.error(f"{values} where {list(chosen)} elements are written")
    if node["accumulate"] and self.dtype not in _NUMBERS:
        raise node.error(f"sums of {self.dtype.numpy}")
    return ((self.dtype, self.shape),)


def _lower_put(node: Node, target: Target) -> Call:
    given, out, values, chosen = _given(node), node.out.spec, node["values"], _chosen(node)
    # in the order of the indices, so that of two that name one place the last stays
    loops = nest(chosen, *_walks(node, out.strides), broadcast_strides(values.spec, chosen), ordered=True)
    geometry: dict[str, GeometryField] = {
        **_whole(node),
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "src_strides": loops.strides[-1],
        "wraps": True,
        "fresh": False,
        **_places([dim for dim, _ in given], out.shape, out.strides, loops.strides[1:-1]),
    }
    operands: tuple[Operand, ...] = (
        Write(node.out.id),
        Read(node["self"].id),
        Read(values.id),
        *(Read(index.id) for _, index in given),
    )
    return Call("put_sum" if node["accumulate"] else "put", "index/scatter.h", geometry, operands)


def _np_put(x: Any, indices: Any, values: Any, accumulate: bool) -> Any:
    result, places = x.copy(), tuple(slice(None) if index is None else index for index in indices)
    if accumulate:
        np.add.at(result, places, values)  # type: ignore[arg-type]
    else:
        result[places] = values
    return result


_REDUCTIONS = {"sum": "put_sum", "prod": "put_product", "amax": "put_largest", "amin": "put_least", "mean": "put_mean"}


def _infer_scatter(node: Node) -> tuple[InferredSpec, ...]:
    self, index, src = node["self"].spec, node["index"].spec, node.operands.get("src")
    dim = _dim(node, len(self.shape))
    shapes = [self.shape, index.shape, *(() if src is None else (src.spec.shape,))]
    if len({len(shape) for shape in shapes}) > 1:
        raise node.error(f"shapes {' and '.join(str(list(shape)) for shape in shapes)}: the ranks differ")
    if any(wanted > size for at, (wanted, size) in enumerate(zip(index.shape, self.shape, strict=True)) if at != dim):
        raise node.error(f"indices {list(index.shape)} for a tensor {list(self.shape)} along dimension {dim}")
    if src is None:
        _number(node)
    elif src.spec.dtype is not self.dtype:
        raise node.error(f"{src.spec} written into {self}", hint="convert it to the other's type")
    elif any(wanted > size for wanted, size in zip(index.shape, src.spec.shape, strict=True)):
        raise node.error(f"indices {list(index.shape)} for {list(src.spec.shape)} elements")
    if node.operands.get("reduce", "sum") not in _REDUCTIONS:
        raise node.error(f"reduction by {node['reduce']!r}", hint=f"there are {', '.join(_REDUCTIONS)}")
    if node.operands.get("reduce") == "mean" and self.dtype is not DType.FLOAT32:
        raise node.error(f"means of {self.dtype.numpy}", hint="convert to float32 before")
    _check(node, node["index"], self.shape[dim], dtypes=(DType.INT64,))
    return ((self.dtype, self.shape),)


def _number(node: Node) -> np.ndarray[Any, Any]:
    """The one value that is written everywhere."""
    dtype, value = node["self"].spec.dtype, node["value"]
    with np.errstate(over="ignore"):
        number = np.array(value).astype(dtype.numpy)
    if dtype.numpy.kind != "f" and number != value:
        raise node.error(f"{value} written into {dtype.numpy}, which cannot hold it")
    return number


def _lower_scatter(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        out, index, src = node.out.spec, node["index"].spec, node.operands.get("src")
        dim = _dim(node, len(out.shape))
        fixed = tuple(0 if at == dim else stride for at, stride in enumerate(out.strides))
        steps = (0,) * len(index.shape) if src is None else src.spec.strides
        loops = nest(index.shape, fixed, index.strides, steps, ordered=True)
        geometry: dict[str, GeometryField] = {
            **_whole(node),
            "sizes": loops.sizes,
            "out_strides": loops.strides[0],
            "src_strides": loops.strides[2],
            "wraps": False,
            "fresh": not node.operands.get("include_self", True),
            "elements": out.numel,
            **_places([dim], out.shape, out.strides, loops.strides[1:2]),
        }
        name = _REDUCTIONS[node["reduce"]] if "reduce" in node.operands else function
        counts = (Scratch(DType.INT32, out.numel),) if name == "put_mean" else ()
        source = Const("number", _number(node)) if src is None else Read(src.id)
        return Call(
            name,
            "index/scatter.h",
            geometry,
            (Write(node.out.id), *counts, Read(node["self"].id), source, Read(node["index"].id)),
        )

    return lower


def _np_scattered(ufunc: np.ufunc | None, x: Any, dim: int, index: Any, src: Any, include_self: bool = True) -> Any:
    result, places = x.copy(), list(np.indices(index.shape, sparse=True))
    places[dim % x.ndim] = index
    part = src[tuple(slice(size) for size in index.shape)] if isinstance(src, np.ndarray) else src
    if ufunc is None or (not include_self and ufunc in (np.maximum, np.minimum)):
        result[tuple(places)] = part
    elif not include_self:
        result[tuple(places)] = ufunc.identity
    if ufunc is not None:
        ufunc.at(result, tuple(places), part)
    return result


def _np_reduced(x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True) -> Any:
    if reduce == "mean":
        ones = np.full(x.shape, include_self, x.dtype)
        counts = _np_scattered(np.add, ones, dim, index, np.ones(src.shape, x.dtype))
        return _np_scattered(np.add, x, dim, index, src, include_self) / np.maximum(counts, 1)
    ufunc = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[reduce]
    return _np_scattered(ufunc, x, dim, index, src, include_self)


def _infer_masked(node: Node) -> tuple[InferredSpec, ...]:
    self, mask, source = node["self"].spec, node["mask"].spec, node["source"].spec
    shape = broadcast_shape(self.shape, mask.shape)
    if shape is None:
        raise node.error(f"shapes {list(self.shape)} and {list(mask.shape)} do not broadcast")
    if mask.dtype is not DType.BOOL or source.dtype is not self.dtype:
        raise node.error(f"{source} written into {self} where {mask} says")
    if source.numel < math.prod(shape):
        raise node.error(
            f"{source} may be fewer elements than the mask takes",
            hint=f"give as many as there are places, {math.prod(shape)}",
        )
    return ((self.dtype, shape),)


def _lower_masked(node: Node, target: Target) -> Call:
    out, operands = node.out.spec, [node[name] for name in ("self", "mask", "source")]
    walks = (broadcast_strides(one.spec, out.shape) for one in operands[:2])
    loops = nest(out.shape, out.strides, *walks, ordered=True)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "mask_strides": loops.strides[2],
        "count": operands[2].spec.numel,
    }
    return Call("put_masked", "index/scatter.h", geometry, (Write(node.out.id), *(Read(one.id) for one in operands)))


def _np_masked(x: Any, mask: Any, source: Any) -> Any:
    x, mask = (one.copy() for one in np.broadcast_arrays(x, mask))
    x[mask] = source.reshape(-1)[: np.count_nonzero(mask)]
    return x


# ---- cases -----------------------------------------------------------------------------------------------------------


def _table(draw: Draw, rank: int) -> T:
    """Every dimension has 6 elements or more, so that the indices 0 and 1 that an input has stay legal however the test
    bends a shape."""
    shape, dtype = tuple(draw.integer(6, 8) for _ in range(rank)), draw.choice((DType.FLOAT32, *COMPUTED))
    return T(shape, dtype, low=0.0, high=100.0)


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


def _draw_chosen(draw: Draw, table: T) -> tuple[Any, ...]:
    rank = len(table.shape)
    dims = {draw.integer(0, rank - 1) for _ in range(draw.integer(1, 4))}
    shape = _draw_shape(draw, 1)
    chosen: list[Any] = [None] * (max(dims) + 1)
    for dim in sorted(dims):
        own = tuple(1 if draw.integer(0, 3) == 0 else size for size in shape)
        chosen[dim] = _indices(draw, own, table.shape[dim], draw.choice(_INDICES), -table.shape[dim])
    return tuple(chosen)


def _draw_index(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    return Case((table, _draw_chosen(draw, table)))


def _picked(table: T, chosen: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of what the indices name."""
    return tuple(
        _np_index(
            np.empty(table.shape), [None if one is None else np.zeros(one.shape, np.int64) for one in chosen]
        ).shape
    )


def _draw_put(draw: Draw) -> Case:
    """Sums may meet at one place; where values replace one another, each index is there once."""
    if draw.flag():
        table = T(
            tuple(draw.integer(6, 8) for _ in range(draw.integer(1, 4))), draw.choice(_NUMBERS), low=0.0, high=9.0
        )
        chosen = _draw_chosen(draw, table)
    else:
        table = _table(draw, draw.integer(1, 4))
        dim = draw.integer(0, len(table.shape) - 1)
        chosen = (*(None for _ in range(dim)), _distinct(draw, (draw.integer(1, 5),), table.shape[dim], dim=0))
    shape = _picked(table, chosen)
    own = tuple(
        1 if draw.integer(0, 4) == 0 else size for size in shape[draw.choice((0, 0, draw.integer(0, len(shape)))) :]
    )
    accumulate = table.dtype in _NUMBERS and table.high == 9.0
    return Case((table, chosen, T(own, table.dtype, low=0.0, high=9.0, constant=draw.flag()), accumulate))


def _distinct(draw: Draw, shape: tuple[int, ...], extent: int, dim: int) -> T:
    """Indices of which none is there twice along the dimension."""
    random = np.random.default_rng(draw.integer(0, 2**31 - 1))
    constant = shape[dim] > 2 or draw.flag()
    extent = extent if constant else 2
    places = random.permuted(np.broadcast_to(np.arange(extent), (math.prod(shape) // shape[dim], extent)), axis=1)[
        :, : shape[dim]
    ]
    moved = np.moveaxis(places.reshape(*shape[:dim], *shape[dim + 1 :], shape[dim]), -1, dim)
    return T(shape, DType.INT64, low=0, high=2, values=tuple(moved.reshape(-1).tolist()), constant=constant)


def _draw_scattered(draw: Draw, table: T, distinct: bool) -> tuple[int, T, T]:
    dim = draw.integer(0, len(table.shape) - 1)
    shape = tuple(draw.integer(1, 6 if at == dim else size) for at, size in enumerate(table.shape))
    index = _distinct(draw, shape, table.shape[dim], dim) if distinct else _indices(draw, shape, table.shape[dim])
    src = T(
        tuple(size + draw.integer(0, 1) for size in shape), table.dtype, table.low, table.high, constant=draw.flag()
    )
    return dim - len(table.shape) * draw.integer(0, 1), index, src


def _draw_replaced(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    return Case((table, *_draw_scattered(draw, table, True)))


def _draw_filled(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    dim, index, _ = _draw_scattered(draw, table, False)
    return Case((table, dim, index, draw.choice((0, 1, 1.0))))


def _draw_added(draw: Draw) -> Case:
    table = T(
        tuple(draw.integer(6, 8) for _ in range(draw.integer(1, 4))),
        draw.choice((DType.FLOAT32, *_NUMBERS)),
        low=0.0,
        high=9.0,
    )
    return Case((table, *_draw_scattered(draw, table, False)))


def _draw_reduced(draw: Draw) -> Case:
    reduce = draw.choice(tuple(_REDUCTIONS))
    dtype = DType.FLOAT32 if reduce == "mean" or draw.flag() else draw.choice((DType.INT32, DType.INT64))
    table = T(tuple(draw.integer(6, 8) for _ in range(draw.integer(1, 3))), dtype, low=1.0, high=3.0)
    return Case((table, *_draw_scattered(draw, table, False), reduce, draw.flag()))


def _draw_masked(draw: Draw) -> Case:
    table = _table(draw, draw.integer(1, 4))
    mask = tuple(
        1 if draw.integer(0, 3) == 0 else size for size in table.shape[draw.choice((0, 0, len(table.shape) // 2)) :]
    )
    source = T((math.prod(table.shape) + draw.integer(0, 2),), table.dtype, low=0.0, high=100.0, constant=draw.flag())
    return Case((table, T(mask, DType.BOOL, constant=draw.flag()), source))


def _terms(node: Node) -> int:
    """At most so many are added up at one place, self's own with them."""
    if "indices" in node.operands:
        return 1 + math.prod(_indexed(node)[0])
    shape: tuple[int, ...] = node["index"].spec.shape
    return 1 + shape[_dim(node, len(shape))]


_IMAGE = T((2, 3, 4, 5))
_LAST = T((2, 3, 4, 5), dim_order=(0, 2, 3, 1))


def _at(*values: int) -> T:
    return T((len(values),), DType.INT64, values=tuple(float(value) for value in values), constant=True)


def _input(shape: tuple[int, ...], extent: int, dtype: DType = DType.INT64, low: int = 0) -> T:
    return T(shape, dtype, low=low, high=extent)


OPS = [
    Op(
        "aten::embedding.out(Tensor weight, Tensor indices, SymInt padding_idx=-1, bool scale_grad_by_freq=False, bool "
        "sparse=False, *, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_embedding,
        lower=_lower_embedding,
        dtypes=_ALL,
        reference=lambda weight, indices, *_: weight[indices],
        carries=("weight",),
        exact=True,
        cases=(
            Case((T((10, 6), constant=True), _input((2, 5), 10), -1, False, False), "tokens"),
            Case(
                (T((10, 6), constant=True), _input((4,), 10, DType.INT32), 0, False, False),
                "int32 tokens, with a padding row",
            ),
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
        cases=(
            Case((_LAST, 1, _at(2, 0, 2, 1)), "channels"),
            Case((T((6, 4)), -2, _input((3,), 6)), "rows that the device chooses"),
        ),
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
        cases=(
            Case((T((4, 6)), 1, _input((4, 2), 6), False), "two of each row"),
            Case((_LAST, -1, _input((2, 2, 3, 7), 5), False)),
        ),
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
            Case(
                (_IMAGE, (_input((3, 1), 2), None, _input((2,), 4, low=-4))),
                "two apart: their dimensions go to the front",
            ),
            Case((T((6, 4)), (_input((2, 3), 6, DType.INT32),)), "a table of rows"),
        ),
        draw=_draw_index,
    ),
    Op(
        "aten::index_put.out(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False, *, Tensor(a!) out) "
        "-> Tensor(a!)",
        infer=_infer_put,
        lower=_lower_put,
        dtypes=_ALL,
        reference=_np_put,
        inplace=("self",),
        carries=("self", "values"),
        sum_length=_terms,
        cases=(
            Case((T((6, 4)), (_at(4, 0),), T((2, 4)), False), "x[[4, 0]] = y"),
            Case((_LAST, (None, _at(0, -1)), T((), constant=True), False), "one value for two channels"),
            Case((T((6, 4)), (_input((5,), 6),), T((5, 4)), True), "index_add: some rows are there twice"),
            Case(
                (_IMAGE, (None, _input((3, 1), 3), _input((2,), 4, low=-4)), T((2, 3, 2, 5)), True), "two side by side"
            ),
            Case((_IMAGE, (_input((3,), 2), None, _input((3,), 4), _input((3,), 5)), T((3, 3)), True), "three"),
        ),
        draw=_draw_put,
    ),
    Op(
        "aten::scatter.src_out(Tensor self, int dim, Tensor index, Tensor src, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_scatter,
        lower=_lower_scatter("put"),
        dtypes=_ALL,
        reference=lambda x, dim, index, src: _np_scattered(None, x, dim, index, src),
        inplace=("self",),
        carries=("self", "src"),
        exact=True,
        cases=(
            Case((T((2, 6)), 1, T((2, 3), DType.INT64, values=(0, 4, 5, 3, 1, 0)), T((2, 3))), "three of each row"),
            Case(
                (
                    _LAST,
                    -3,
                    T((1, 3, 2, 2), DType.INT64, values=(0, 1, 2, 1, 1, 0, 0, 2, 2, 2, 1, 0), constant=True),
                    T((2, 3, 4, 5)),
                )
            ),
        ),
        draw=_draw_replaced,
    ),
    Op(
        "aten::scatter.value_out(Tensor self, int dim, Tensor index, Scalar value, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_scatter,
        lower=_lower_scatter("put"),
        dtypes=_ALL,
        reference=lambda x, dim, index, value: _np_scattered(None, x, dim, index, value),
        inplace=("self",),
        exact=True,
        cases=(
            Case((T((3, 5), values=(0.0,) * 15, constant=True), 1, _input((3, 1), 5), 1), "one hot"),
            Case((_LAST, 0, _input((1, 2, 3, 4), 2), 0.5)),
        ),
        draw=_draw_filled,
    ),
    Op(
        "aten::scatter_add.out(Tensor self, int dim, Tensor index, Tensor src, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_scatter,
        lower=_lower_scatter("put_sum"),
        dtypes=_NUMBERS,
        reference=lambda x, dim, index, src: _np_scattered(np.add, x, dim, index, src),
        inplace=("self",),
        sum_length=_terms,
        cases=(
            Case((T((6,)), 0, _input((20,), 6), T((20,))), "sums by class"),
            Case((_LAST, 1, _input((2, 3, 4, 5), 3), T((2, 3, 4, 5))), "channels last"),
        ),
        draw=_draw_added,
    ),
    Op(
        "aten::scatter_reduce.two_out(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, bool "
        "include_self=True, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_scatter,
        lower=_lower_scatter(""),
        dtypes=_NUMBERS,
        reference=_np_reduced,
        inplace=("self",),
        sum_length=_terms,
        cases=tuple(
            Case(
                (T((6, 3)), 0, _input((9, 3), 6), T((9, 3)), reduce, include),
                f"{reduce} with{'' if include else 'out'} self",
            )
            for reduce in _REDUCTIONS
            for include in (True, False)
        ),
        draw=_draw_reduced,
    ),
    Op(
        "aten::masked_scatter.out(Tensor self, Tensor mask, Tensor source, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_masked,
        lower=_lower_masked,
        dtypes=_ALL,
        reference=_np_masked,
        inplace=("self",),
        carries=("self", "source"),
        exact=True,
        cases=(
            Case((T((3, 4)), T((3, 4), DType.BOOL), T((12,)))),
            Case((_LAST, T((4, 1), DType.BOOL), T((120,))), "in logical order, though laid out channels last"),
        ),
        draw=_draw_masked,
    ),
]

INT8 = [
    Int8(("aten::index_select", "aten::index.Tensor"), Scales.SHARED, mask=Mask.MOVED, state=State.MOVED),
    Int8(("aten::gather", "aten::embedding"), Scales.SHARED),
    Int8(("aten::index_put",), Scales.SHARED, shares=("self", "values"), adds_if="accumulate", state=State.MOVED),
    Int8(("aten::index_copy",), Scales.SHARED, shares=("self", "source"), state=State.MOVED),
    Int8(("aten::scatter.src",), Scales.SHARED, shares=("self", "src")),
]
