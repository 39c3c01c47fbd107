"""argmax and argmin, along one dimension or over all elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import DType

_INTEGERS = (DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64)


def _searched(node: Node) -> tuple[int, ...]:
    """The dimensions that are searched."""
    rank, dim = len(node["self"].spec.shape), node["dim"]
    if dim is None:
        return tuple(range(rank))
    searched = node.dimension(dim, rank)
    return (searched,) if rank else ()


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec, searched = node["self"].spec, _searched(node)
    if spec.dtype is DType.BOOL:
        raise node.error("argmax of bool")
    if math.prod(spec.shape[dim] for dim in searched) == 0:
        raise node.error(f"no largest or smallest of no elements, the shape is {list(spec.shape)}")
    if node["keepdim"]:
        return ((DType.INT64, tuple(1 if dim in searched else size for dim, size in enumerate(spec.shape))),)
    return ((DType.INT64, tuple(size for dim, size in enumerate(spec.shape) if dim not in searched)),)


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        out, self, searched = node.out.spec, node["self"].spec, _searched(node)
        kept = [dim for dim in range(len(self.shape)) if dim not in searched]
        own = kept if node["keepdim"] else range(len(kept))
        shape = tuple(self.shape[dim] for dim in kept)
        loops = nest(shape, tuple(out.strides[dim] for dim in own), tuple(self.strides[dim] for dim in kept), rank=3)
        inner = nest(
            tuple(self.shape[dim] for dim in searched),
            tuple(self.strides[dim] for dim in searched),
            ordered=True,
            rank=2,
        )
        geometry = {
            "sizes": loops.sizes,
            "out_strides": loops.strides[0],
            "self_strides": loops.strides[1],
            "searched_sizes": inner.sizes,
            "searched_strides": inner.strides[0],
        }
        return Call(function, "argmax/argmax.h", geometry, (Write(node.out.id), Read(node["self"].id)))

    return lower


def _reference(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, dim: int | None, keepdim: bool) -> Any:
        axis = dim if x.ndim else None
        return np.asarray(function(x, axis=axis, keepdims=keepdim)).astype(np.int64)

    return reference


def _draw(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    rank = max(len(shape), 1)
    # few distinct values, so that there are ties
    values = tuple(float(draw.integer(-2, 2)) for _ in range(math.prod(shape))) if draw.flag() else None
    dtype = draw.choice((DType.FLOAT32, DType.FLOAT32, *_INTEGERS))
    return Case(
        (
            T(shape, dtype, low=-4.0, high=4.0, values=values),
            draw.choice((None, draw.integer(-rank, rank - 1))),
            draw.flag(),
        )
    )


def _op(name: str, reference: Callable[..., Any]) -> Op:
    nan, inf = math.nan, math.inf
    return Op(
        f"aten::{name}.out(Tensor self, int? dim=None, bool keepdim=False, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower(name),
        dtypes=(DType.FLOAT32, *_INTEGERS),
        reference=_reference(reference),
        exact=True,
        cases=(
            Case((T((2, 10)), 1, False), "classes"),
            Case((T((2, 3, 4, 5)), None, False), "the index counts in logical order"),
            Case(
                (T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), None, True), "in logical order, though laid out channels last"
            ),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 1, True)),
            Case((T((2, 40), DType.INT8, -128, 128), 1, False), "int8"),
            Case((T((2, 40), DType.INT64, -9, 9), 1, False), "int64"),
            Case((T((6,), values=(1.0, 3.0, 3.0, -1.0, -1.0, 0.0)), 0, False), "the first of equal ones"),
            Case((T((6,), values=(1.0, nan, inf, nan, -inf, 0.0)), 0, False), "the first NaN"),
            Case((T((4,), values=(-inf, -inf, -inf, -inf)), -1, False), "nothing but infinities"),
        ),
        draw=_draw,
    )


OPS = [_op("argmax", np.argmax), _op("argmin", np.argmin)]
