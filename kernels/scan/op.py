"""Sums and products of all that comes before, along a dimension. Whole numbers and masks are summed up in int64, as
PyTorch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import lines
from etexport.program.model import DType


def _length(node: Node) -> int:
    shape = node["self"].spec.shape
    dim = node.dimension(node["dim"], len(shape))
    return shape[dim] if shape else 1


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec, dtype = node["self"].spec, node["dtype"]
    gives = spec.dtype if spec.dtype.numpy.kind == "f" else DType.INT64
    if dtype not in (None, gives.code):
        raise node.error(f"running sums of {spec.dtype.numpy} as type {dtype}", hint="convert to float32 before")
    node.dimension(node["dim"], len(spec.shape))
    return ((gives, spec.shape),)


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        geometry = lines(node["dim"], out=node.out.spec, self=node["self"].spec)
        return Call(function, "scan/scan.h", geometry, (Write(node.out.id), Read(node["self"].id)))

    return lower


def _reference(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, dim: int, dtype: int | None = None) -> Any:
        gives = x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)
        return (
            function(x, axis=dim, dtype=np.float64 if gives.kind == "f" else gives).astype(gives)
            if x.ndim
            else x.astype(gives)
        )

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
