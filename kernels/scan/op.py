"""Sums and products of all that comes before, along a dimension. Whole numbers and masks are summed up in int64, as PyTorch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.op import Call, Case, Draw, InferredSpec, Node, Op, Read, T, Target, Write
from etexport.program.model import DType
from etexport.strided import nest


def _axis(node: Node) -> int | None:
    rank, dim = len(node["self"].spec.shape), node["dim"]
    if not -max(rank, 1) <= dim < max(rank, 1):
        raise node.error(f"dimension {dim} of a tensor with {rank} dimensions")
    return dim % rank if rank else None


def _length(node: Node) -> int:
    axis = _axis(node)
    return 1 if axis is None else node["self"].spec.shape[axis]


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec, dtype = node["self"].spec, node["dtype"]
    gives = spec.dtype if spec.dtype.numpy.kind == "f" else DType.INT64
    if dtype not in (None, gives.code):
        raise node.error(f"running sums of {spec.dtype.numpy} as type {dtype}", hint="convert to float32 before")
    _axis(node)
    return ((gives, spec.shape),)


def _lower(function: str) -> Callable[[Node, Target], Call]:
    return lambda node, target: _along(node, function)


def _along(node: Node, function: str) -> Call:
    axis, self, out = _axis(node), node["self"].spec, node.out.spec
    kept = [dim for dim in range(len(self.shape)) if dim != axis]
    loops = nest(tuple(self.shape[dim] for dim in kept), *(tuple(spec.strides[dim] for dim in kept) for spec in (out, self)), rank=3)
    geometry = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "out_step": 1 if axis is None else out.strides[axis],
        "self_step": 1 if axis is None else self.strides[axis],
        "length": _length(node),
    }
    return Call(function, "scan/scan.h", geometry, (Write(node.out.id), Read(node["self"].id)))


def _reference(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, dim: int, dtype: int | None = None) -> Any:
        gives = x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)
        return function(x, axis=dim, dtype=np.float64 if gives.kind == "f" else gives).astype(gives) if x.ndim else x.astype(gives)

    return reference


def _draw(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
    return Case((T(shape, draw.choice(_TYPES)), draw.integer(-max(len(shape), 1), max(len(shape), 1) - 1), None))


_TYPES = (DType.FLOAT32, DType.FLOAT32, DType.FLOAT32, DType.BOOL, DType.INT8, DType.INT32, DType.INT64)
_LAST = T((2, 3, 4, 5), dim_order=(0, 2, 3, 1))


def _op(name: str, function: str, reference: Callable[..., Any]) -> Op:
    return Op(
        f"aten::{name}.out(Tensor self, int dim, *, ScalarType? dtype=None, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower(function),
        dtypes=tuple(dict.fromkeys(_TYPES)),
        reference=_reference(reference),
        inplace=("self",),
        sum_length=_length,
        cases=(
            Case((T((3, 12)), 1, None)),
            Case((_LAST, 1, None), "over channels of channels-last data"),
            Case((T((3, 6), DType.BOOL), 1, None), "of a mask"),
            Case((T((3, 6), DType.INT64, -4, 5), 0, None), "of whole numbers"),
        ),
        draw=_draw,
    )


OPS = [_op("cumsum", "running_sum", np.cumsum), _op("cumprod", "running_product", np.cumprod)]
