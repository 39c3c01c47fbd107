"""Sorting along a dimension, and the largest or smallest of it in order, each with its indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Operand, Read, Scratch, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import lines
from etexport.program.model import DType

_INTEGERS = (DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64)


def _extent(node: Node, shape: tuple[int, ...]) -> int:
    """Of the dimension that is put in order."""
    dim = node.dimension(node["dim"], len(shape))
    return shape[dim] if shape else 1


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    dim, length = node.dimension(node["dim"], len(spec.shape)), _extent(node, spec.shape)
    count = node.operands.get("k", length)
    if spec.dtype is DType.BOOL:
        raise node.error("an order of bool")
    if not 0 <= count <= length:
        raise node.error(f"the first {count} of {length}")
    shape = tuple(count if at == dim else size for at, size in enumerate(spec.shape))
    return ((spec.dtype, shape), (DType.INT64, shape))


def _lower(descending: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        self, (out, index) = node["self"].spec, (out.spec for out in node.outs)
        geometry = {
            **lines(node["dim"], out=out, index=index, self=self),
            "count": _extent(node, out.shape),
            "descending": bool(node[descending]),
        }
        # places, and the same again that runs are merged into
        scratch = Scratch(DType.INT32, 2 * _extent(node, self.shape))
        operands: tuple[Operand, ...] = (Write(node.outs[0].id), Write(node.outs[1].id), scratch, Read(node["self"].id))
        return Call("order", "order/order.h", geometry, operands)

    return lower


def _ordered(x: Any, axis: int, descending: bool) -> tuple[Any, Any]:
    """Stable in both directions; NaN counts as the largest."""
    if x.ndim == 0:
        return x, np.zeros((), np.int64)
    if not descending:
        places = np.argsort(x, axis=axis, kind="stable")
    else:
        places = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return np.take_along_axis(x, places, axis), places.astype(np.int64)


def _np_sort(x: Any, dim: int = -1, descending: bool = False) -> Any:
    return _ordered(x, dim, descending)


def _np_stable(x: Any, stable: bool | None, dim: int = -1, descending: bool = False) -> Any:
    return _ordered(x, dim, descending)


def _np_first(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return tuple(one if x.ndim == 0 else one.take(range(k), axis=dim) for one in _ordered(x, dim, largest))


def _shape(draw: Draw) -> tuple[int, ...]:
    return tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 3)))


def _dim(draw: Draw, shape: tuple[int, ...]) -> int:
    return draw.integer(-max(len(shape), 1), max(len(shape), 1) - 1)


def _draw_sort(draw: Draw) -> Case:
    shape = _shape(draw)
    dtype = draw.choice((*[DType.FLOAT32] * 5, *_INTEGERS))  # of whole numbers there are ties
    return Case((T(shape, dtype, 0.0 if dtype is DType.UINT8 else -4.0, 4.0), _dim(draw, shape), draw.flag()))


def _draw_stable(draw: Draw) -> Case:
    tensor, dim, descending = _draw_sort(draw).args
    return Case((tensor, draw.choice((True, False, None)), dim, descending))


def _draw_first(draw: Draw) -> Case:
    shape = _shape(draw)
    dim = _dim(draw, shape)
    # all different: which one of two equal ones is the first, PyTorch leaves open
    values = np.random.default_rng(draw.integer(0, 2**31 - 1)).permutation(math.prod(shape)) * 0.25 - 3.0
    case = T(shape, values=tuple(values.tolist()))
    return Case((case, draw.integer(1, shape[dim] if shape else 1), dim, draw.flag(), True))


_LAST = T((2, 6, 4, 5), dim_order=(0, 2, 3, 1))
_EIGHT = T((3, 40), DType.INT8, -9, 9)
_WIDE = T((6,), DType.INT64, values=(2**62, -(2**63), 2**62 + 1, 0, 2**63 - 1, -1))
_NAN, _INF = float("nan"), float("inf")
_ODD = T((7,), values=(1.0, _NAN, -0.0, _INF, 0.0, _NAN, -_INF))

_RESULTS = "Tensor(a!) values, Tensor(b!) indices) -> (Tensor(a!) values, Tensor(b!) indices)"


def _op(
    name: str,
    parameters: str,
    descending: str,
    reference: Callable[..., Any],
    draw: Callable[[Draw], Case],
    *cases: Case,
) -> Op:
    """`descending` names the parameter that says whether the largest comes first."""
    return Op(
        f"aten::{name}(Tensor self, {parameters}, {_RESULTS}",
        infer=_infer,
        lower=_lower(descending),
        dtypes=(DType.FLOAT32, *_INTEGERS),
        reference=reference,
        carries=("self",),
        exact=True,
        cases=cases,
        draw=draw,
    )


OPS = [
    _op(
        "topk.values",
        "SymInt k, int dim=-1, bool largest=True, bool sorted=True, *",
        "largest",
        _np_first,
        _draw_first,
        Case((T((2, 10)), 3, -1, True, True), "classes"),
        Case((_LAST, 2, 1, False, True), "the smallest, over channels of channels-last data"),
        Case((T((300,)), 300, 0, True, True), "all of many"),
    ),
    _op(
        "sort.values",
        "int dim=-1, bool descending=False, *",
        "descending",
        _np_sort,
        _draw_sort,
        Case((T((3, 20)), -1, False)),
        Case((_LAST, 1, True), "descending, over channels of channels-last data"),
    ),
    _op(
        "sort.values_stable",
        "*, bool? stable, int dim=-1, bool descending=False",
        "descending",
        _np_stable,
        _draw_stable,
        Case((_EIGHT, True, 1, False), "equal ones keep their order"),
        Case((_EIGHT, True, 1, True), "descending too"),
        Case((_WIDE, True, 0, True), "whole numbers of 64 bits, which no float tells apart"),
        Case((_ODD, True, 0, False), "NaN is the largest, and both zeros are one"),
        Case((_ODD, True, 0, True), "NaN first"),
    ),
]
