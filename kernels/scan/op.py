"""Sums of all that comes before, along a dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.op import Call, Case, Draw, InferredSpec, Node, Op, Read, T, Target, Write
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
    if spec.dtype.numpy.kind != "f" or dtype not in (None, spec.dtype.code):
        raise node.error(f"running sums of {spec.dtype.numpy} as type {dtype}", hint="convert to float32 before")
    _axis(node)
    return ((spec.dtype, spec.shape),)


def _lower(node: Node, target: Target) -> Call:
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
    return Call("running_sum", "scan/scan.h", geometry, (Write(node.out.id), Read(node["self"].id)))


def _reference(x: Any, dim: int, dtype: int | None = None) -> Any:
    return np.cumsum(x, axis=dim, dtype=np.float64).astype(x.dtype) if x.ndim else x


def _draw(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
    return Case((T(shape), draw.integer(-max(len(shape), 1), max(len(shape), 1) - 1), None))


OPS = [
    Op(
        "aten::cumsum.out(Tensor self, int dim, *, ScalarType? dtype=None, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        reference=_reference,
        inplace=("self",),
        sum_length=_length,
        cases=(
            Case((T((3, 40)), 1, None)),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 1, None), "over channels of channels-last data"),
        ),
        draw=_draw,
    ),
]
