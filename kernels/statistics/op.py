"""Further reductions: variance, vector norms, products, any and all, and the largest and smallest with their
indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Mask, Scales
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import COMPUTED, DType, TensorSpec


def _gone(node: Node) -> tuple[int, ...]:
    """The dimensions that go, in order: one, a list (None and an empty list mean all), or all where the operator names
    none."""
    rank, dim = len(node["self"].spec.shape), node.operands.get("dim")
    dims = (dim,) if isinstance(dim, int) else dim or ()
    gone = {node.dimension(one, rank) for one in dims}
    if len(gone) != len(dims):
        raise node.error(f"a dimension is listed twice in {list(dims)}")
    return tuple(sorted(gone)) if gone and rank else tuple(range(rank))


def _keeps(node: Node) -> bool:
    return bool(node.operands.get("keepdim", False))


def _reduced(node: Node) -> tuple[int, ...]:
    shape, gone = node["self"].spec.shape, _gone(node)
    if _keeps(node):
        return tuple(1 if dim in gone else size for dim, size in enumerate(shape))
    return tuple(size for dim, size in enumerate(shape) if dim not in gone)


def _terms(node: Node) -> int:
    return math.prod(node["self"].spec.shape[dim] for dim in _gone(node))


def _loops(node: Node, *further: TensorSpec) -> dict[str, GeometryField]:
    """The loops over the dimensions that stay, and over those that go; `further` results have `index_strides`."""
    self, gone = node["self"].spec, _gone(node)
    kept = [dim for dim in range(len(self.shape)) if dim not in gone]
    own = kept if _keeps(node) else range(len(kept))
    results = [tuple(one.strides[dim] for dim in own) for one in (node.out.spec, *further)]
    loops = nest(
        tuple(self.shape[dim] for dim in kept),
        results[0],
        tuple(self.strides[dim] for dim in kept),
        *results[1:],
        rank=3,
    )
    inner = nest(tuple(self.shape[dim] for dim in gone), tuple(self.strides[dim] for dim in gone), rank=2)
    fields: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "reduced_sizes": inner.sizes,
        "reduced_strides": inner.strides[0],
    }
    return {**fields, "index_strides": loops.strides[2]} if further else fields


def _axes(x: Any, dims: Any) -> tuple[int, ...] | None:
    dims = (dims,) if isinstance(dims, int) else dims
    return tuple(dims) if dims and x.ndim else None


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        return Call(function, "statistics/statistics.h", _loops(node), (Write(node.out.id), Read(node["self"].id)))

    return lower


def _float(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    dtype = node.operands.get("dtype")
    if spec.dtype.numpy.kind != "f" or dtype not in (None, spec.dtype.code):
        raise node.error(f"this reduction of {spec.dtype.numpy} to type {dtype}", hint="convert to float32 before")
    return ((spec.dtype, _reduced(node)),)


# ---- variance, norms -------------------------------------------------------------------------------------------------


def _infer_variance(node: Node) -> tuple[InferredSpec, ...]:
    if node["correction"] is not None and not math.isfinite(node["correction"]):
        raise node.error(f"correction is {node['correction']}")
    return _float(node)


def _correction(correction: float | None) -> float:
    return 1.0 if correction is None else float(correction)


def _lower_variance(node: Node, target: Target) -> Call:
    terms = _terms(node)
    left = max(terms - _correction(node["correction"]), 0.0)
    # of one element squares are 0, and PyTorch divides them by 0
    geometry = {
        **_loops(node),
        "scale": 1.0 / terms if terms else math.inf,
        "divisor": 1.0 / left if left else math.inf,
    }
    return Call("variance", "statistics/statistics.h", geometry, (Write(node.out.id), Read(node["self"].id)))


def _np_variance(x: Any, dims: Any, correction: float | None, keepdim: bool) -> Any:
    axes = _axes(x, dims)
    with np.errstate(all="ignore"):
        squares = np.square(x - np.mean(x, axis=axes, keepdims=True, dtype=np.float64)).sum(axis=axes, keepdims=keepdim)
        terms = x.size // max(np.asarray(squares).size, 1)
        return np.asarray(squares / np.float64(max(terms - _correction(correction), 0.0))).astype(x.dtype)


_NORMS = {1.0: "norm_1", 2.0: "norm_2", math.inf: "norm_inf"}


def _infer_norm(node: Node) -> tuple[InferredSpec, ...]:
    if float(node["ord"]) not in _NORMS:
        raise node.error(f"a norm of order {node['ord']}", hint="1, 2 and infinity have a kernel")
    return _float(node)


def _lower_norm(node: Node, target: Target) -> Call:
    return _lower(_NORMS[float(node["ord"])])(node, target)


def _np_norm(x: Any, order: float, dims: Any, keepdim: bool, dtype: int | None) -> Any:
    axes, size = _axes(x, dims), np.abs(x).astype(np.float64)
    if order == 2:
        return np.asarray(np.sqrt(np.sum(size * size, axis=axes, keepdims=keepdim))).astype(x.dtype)
    return np.asarray((np.sum if order == 1 else np.max)(size, axis=axes, keepdims=keepdim)).astype(x.dtype)


# ---- products, any, all, extremes ------------------------------------------------------------------------------------


def _np_product(x: Any, *rest: Any) -> Any:
    dim, keepdim = rest[:2] if len(rest) == 3 else (None, False)
    return np.asarray(np.prod(x, axis=dim if x.ndim else None, keepdims=keepdim))


def _infer_logic(node: Node) -> tuple[InferredSpec, ...]:
    if node["self"].spec.dtype is DType.UINT8:
        raise node.error("any and all of uint8, which PyTorch answers in uint8", hint="compare with 0 before")
    if node.operands.get("dim") == ():
        raise node.error("an empty list of dimensions, with which PyTorch reduces nothing")
    return ((DType.BOOL, _reduced(node)),)


def _np_logic(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, dims: Any = None, keepdim: bool = False) -> Any:
        return np.asarray(function(x, axis=_axes(x, dims), keepdims=keepdim))

    return reference


def _infer_extreme(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    if _terms(node) == 0:
        raise node.error(f"no largest or smallest of no elements, the shape is {list(spec.shape)}")
    values = (spec.dtype, _reduced(node))
    return (values, (DType.INT64, values[1])) if len(node.schema.outs) == 2 else (values,)


def _lower_extreme(smallest: bool) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        indices: Operand = Const("indices", None)
        index_spec = node.out.spec
        if len(node.outs) == 2 and 1 not in node.unused_outs:
            indices, index_spec = Write(node.outs[1].id), node.outs[1].spec
        geometry: dict[str, GeometryField] = {**_loops(node, index_spec), "smallest": smallest}
        return Call(
            "extreme", "statistics/statistics.h", geometry, (Write(node.out.id), indices, Read(node["self"].id))
        )

    return lower


def _np_extreme(value: Callable[..., Any], place: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return np.asarray(value(x))
        axis = dim if x.ndim else None
        return np.asarray(value(x, axis=axis, keepdims=keepdim)), np.asarray(
            place(x, axis=axis, keepdims=keepdim)
        ).astype(np.int64)

    return reference


# ---- cases -----------------------------------------------------------------------------------------------------------


def _shape(draw: Draw, low: int = 1) -> tuple[int, ...]:
    return tuple(draw.integer(low, 6) for _ in range(draw.integer(0, 4)))


def _dims(draw: Draw, rank: int) -> tuple[int, ...]:
    return tuple(dim - rank * draw.integer(0, 1) for dim in range(rank) if draw.flag())


def _dim(draw: Draw, rank: int) -> int:
    return draw.integer(-max(rank, 1), max(rank, 1) - 1)


def _draw_variance(draw: Draw) -> Case:
    shape = _shape(draw, 2)
    return Case((T(shape), _dims(draw, len(shape)) or None, draw.choice((None, 0, 1, 2, 0.5)), draw.flag()))


def _draw_norm(draw: Draw) -> Case:
    shape = _shape(draw)
    return Case((T(shape), draw.choice((2, 2.0, 1, math.inf)), _dims(draw, len(shape)) or None, draw.flag(), None))


def _draw_product(draw: Draw) -> Case:
    shape = _shape(draw)
    return Case((T(shape), _dim(draw, len(shape)), draw.flag(), None))


def _logical(draw: Draw, shape: tuple[int, ...]) -> T:
    dtype = draw.choice(tuple(one for one in COMPUTED if one is not DType.UINT8))
    # mostly the same, so that a single other one decides
    other = draw.integer(0, 1)
    values = tuple(float(other if draw.integer(0, 5) == 0 else 1 - other) for _ in range(math.prod(shape)))
    return T(shape, dtype, values=values)


def _draw_logic(draw: Draw) -> Case:
    shape = _shape(draw)
    return Case((_logical(draw, shape), _dim(draw, len(shape)), draw.flag()))


def _draw_logic_dims(draw: Draw) -> Case:
    shape = _shape(draw)
    return Case((_logical(draw, shape), _dims(draw, len(shape)) or None, draw.flag()))


def _ties(draw: Draw, shape: tuple[int, ...]) -> T:
    values = tuple(float(draw.integer(-2, 2)) for _ in range(math.prod(shape))) if draw.flag() else None
    dtype = draw.choice(tuple(one for one in _ORDERED if values is None or one is not DType.UINT8))
    return draw.choice((T(shape, values=values), T(shape, dtype, -128, 128, values=values)))


def _draw_extreme(draw: Draw) -> Case:
    shape = _shape(draw)
    return Case((_ties(draw, shape), _dim(draw, len(shape)), draw.flag()))


_LAST = T((2, 8, 5, 6), dim_order=(0, 2, 3, 1))
_MASK = T((3, 5), DType.BOOL)
_EIGHT = T((3, 8), DType.INT8, -128, 128)
_ORDERED = (DType.FLOAT32, DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64)
_LOGIC = tuple(dtype for dtype in COMPUTED if dtype is not DType.UINT8)


def _logic_ops(name: str, reference: Callable[..., Any]) -> tuple[Op, ...]:
    def op(overload: str, arguments: str, cases: tuple[Case, ...], draw: Callable[[Draw], Case]) -> Op:
        return Op(
            f"aten::{name}.{overload}(Tensor self, {arguments}*, Tensor(a!) out) -> Tensor(a!)",
            infer=_infer_logic, lower=_lower(name), dtypes=_LOGIC, reference=_np_logic(reference), exact=True,
            cases=cases, draw=draw,
        )  # fmt: skip

    every = (Case((_MASK, None, False)), Case((_MASK, (0, 1), True)))
    numbers = T((2, 3), values=(0.0, -0.0, math.nan, 0.0, 0.0, 1.0))
    return (
        op(
            "out",
            "int dim, bool keepdim=False, ",
            (Case((_MASK, -1, True), "rows of a mask"), Case((numbers, 1, False))),
            _draw_logic,
        ),
        op("dims_out", "int[]? dim=None, bool keepdim=False, ", every, _draw_logic_dims),
        op("all_out", "", (Case((_MASK,)),), lambda draw: Case((_logical(draw, _shape(draw)),))),
    )


def _extreme_ops(
    name: str, indices: str, smallest: bool, value: Callable[..., Any], place: Callable[..., Any]
) -> tuple[Op, Op]:
    reference = _np_extreme(value, place)
    tie = T((6,), values=(1.0, 3.0, 3.0, -1.0, -1.0, 0.0))
    nans = T((5,), values=(1.0, math.nan, math.inf, math.nan, -math.inf))
    return (
        Op(
            f"aten::{name}.dim_{name}(Tensor self, int dim, bool keepdim=False, *, Tensor(a!) {name}, Tensor(b!) "
            f"{indices}) -> "
            "(Tensor(a!) values, Tensor(b!) indices)",
            infer=_infer_extreme, lower=_lower_extreme(smallest), dtypes=_ORDERED, reference=reference,
            carries=("self",), exact=True, cases=(
                Case((T((3, 8)), 1, False)), Case((_EIGHT, 0, False), "int8"),
                Case((T((3, 8), DType.INT64, -9, 9), 1, True), "int64"),
                Case((_LAST, 1, True), "over channels of channels-last data"),
                Case((tie, 0, False), "the first of equal ones"), Case((nans, -1, False), "the first NaN"),
            ),
            draw=_draw_extreme,
        ),
        Op(
            f"aten::{name}.unary_out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)",
            infer=_infer_extreme, lower=_lower_extreme(smallest), dtypes=_ORDERED, reference=reference,
            carries=("self",), exact=True, cases=(Case((_LAST,)), Case((_EIGHT,), "int8"), Case((nans,), "NaN wins"),
            Case((T(()),), "a scalar")), draw=lambda draw: Case((_ties(draw, _shape(draw)),)),
        ),
    )  # fmt: skip


OPS = [
    Op(
        "aten::var.correction_out(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False, "
        "Tensor(a!) out)"
        " -> Tensor(a!)",
        infer=_infer_variance,
        lower=_lower_variance,
        reference=_np_variance,
        sum_length=_terms,
        cases=(
            Case((T((3, 20)), (1,), None, False), "unbiased"),
            Case((_LAST, (2, 3), 0, True), "as normalisation takes it, channels last"),
            Case((T((40,), low=1.9), None, 1, False), "of all, far from 0"),
            Case((T((3, 1)), (1,), 1, False), "of one element: NaN"),
        ),
        draw=_draw_variance,
    ),
    Op(
        "aten::linalg_vector_norm.out(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? "
        "dtype=None, "
        "Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_norm,
        lower=_lower_norm,
        reference=_np_norm,
        sum_length=_terms,
        cases=(
            Case((T((3, 20)), 2, (1,), True, None), "as F.normalize takes it"),
            Case((_LAST, 1, (1,), False, None), "sizes of channels"),
            Case((_LAST, math.inf, None, False, None), "the largest size"),
        ),
        draw=_draw_norm,
    ),
    Op(
        "aten::prod.int_out(Tensor self, int dim, bool keepdim=False, *, ScalarType? dtype=None, Tensor(a!) out) -> "
        "Tensor(a!)",
        infer=_float,
        lower=_lower("product"),
        reference=_np_product,
        sum_length=_terms,
        cases=(Case((T((3, 5)), 1, False, None)), Case((_LAST, 1, True, None), "channels last")),
        draw=_draw_product,
    ),
    Op(
        "aten::prod.out(Tensor self, *, ScalarType? dtype=None, Tensor(a!) out) -> Tensor(a!)",
        infer=_float,
        lower=_lower("product"),
        reference=_np_product,
        sum_length=_terms,
        cases=(Case((T((3, 4)), None)),),
        draw=lambda draw: Case((T(_shape(draw)[:2]), None)),  # a product of many leaves the range of float32
    ),
    *_logic_ops("any", np.any),
    *_logic_ops("all", np.all),
    *_extreme_ops("max", "max_values", False, np.max, np.argmax),
    *_extreme_ops("min", "min_indices", True, np.min, np.argmin),
]

INT8 = [
    Int8(("aten::max", "aten::min", "aten::max.dim", "aten::min.dim"), Scales.SHARED),
    Int8(("aten::max.other",), mask=Mask.BOUNDED),
    Int8(
        ("aten::var.correction", "aten::std.correction", "aten::var_mean.correction", "aten::std_mean.correction"),
        reason="the spread of activations has no integer form",
    ),
    Int8(
        ("aten::linalg_vector_norm", "aten::norm.ScalarOpt_dim", "aten::frobenius_norm.dim"),
        reason="the length of a vector of activations has no integer form",
    ),
]
