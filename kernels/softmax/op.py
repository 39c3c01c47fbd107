"""Softmax and log-softmax along any dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.op import Call, Case, Draw, InferredSpec, Node, Op, Read, T, Target, Write
from etexport.program.model import TensorSpec
from etexport.strided import nest


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec, dim = node["self"].spec, node["dim"]
    rank = max(len(spec.shape), 1)
    if not -rank <= dim < rank:
        raise node.error(f"dimension {dim} of a tensor with {len(spec.shape)} dimensions")
    if spec.dtype.numpy.kind != "f":
        raise node.error(f"softmax of {spec.dtype.numpy}")
    if node["half_to_float"]:
        raise node.error("half_to_float is for float16 on GPUs")
    return ((spec.dtype, spec.shape),)


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        out, self = node.out.spec, node["self"].spec
        dim = node["dim"] % max(len(self.shape), 1)

        def others(values: tuple[int, ...]) -> tuple[int, ...]:
            return values[:dim] + values[dim + 1 :]

        def along(spec: TensorSpec) -> int:
            return spec.strides[dim] if spec.shape else 1

        loops = nest(others(out.shape), others(out.strides), others(self.strides), rank=3)
        geometry = {
            "sizes": loops.sizes,
            "out_strides": loops.strides[0],
            "self_strides": loops.strides[1],
            "n": self.shape[dim] if self.shape else 1,
            "out_step": along(out),
            "self_step": along(self),
        }
        return Call(function, "softmax/softmax.h", geometry, (Write(node.out.id), Read(node["self"].id)))

    return lower


def _np_softmax(x: Any, dim: int, half_to_float: bool) -> Any:
    with np.errstate(invalid="ignore"):
        powers = np.exp(x - np.max(x, axis=dim, keepdims=True)) if x.ndim else np.exp(x - x)
        return powers / np.sum(powers, axis=dim, keepdims=True) if x.ndim else powers


def _np_log_softmax(x: Any, dim: int, half_to_float: bool) -> Any:
    with np.errstate(invalid="ignore"):
        shifted = x - np.max(x, axis=dim, keepdims=True) if x.ndim else x - x
        return shifted - np.log(np.sum(np.exp(shifted), axis=dim, keepdims=True)) if x.ndim else shifted


def _draw(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
    rank = max(len(shape), 1)
    return Case((T(shape, low=-10.0, high=10.0), draw.integer(-rank, rank - 1), False))


def _op(name: str, function: str, reference: Callable[..., Any]) -> Op:
    return Op(
        f"aten::{name}.out(Tensor self, int dim, bool half_to_float, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower(function),
        reference=reference,
        inplace=("self",),
        cases=(
            Case((T((2, 10)), -1, False), "classes"),
            Case((T((2, 3, 4, 5)), 1, False), "over channels"),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 1, False), "over channels of channels-last data"),
            Case((T((1, 12), low=-1000.0, high=1000.0), 1, False), "too large for exp without subtracting the maximum"),
            Case((T(()), 0, False), "a scalar"),
        ),
        draw=_draw,
    )


OPS = [_op("_softmax", "softmax", _np_softmax), _op("_log_softmax", "log_softmax", _np_log_softmax)]
