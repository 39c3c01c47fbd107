"""Functions of one tensor, element by element: neg, abs, exp, log, sqrt, rsqrt, reciprocal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Mask, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import DType
from etexport_kernels.unary import table

_INTEGERS = (DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64)


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        loops = nest(node.out.spec.shape, node.out.spec.strides, node["self"].spec.strides)
        geometry = {"sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1]}
        return Call(function, "unary/unary.h", geometry, (Write(node.out.id), Read(node["self"].id)))

    return lower


def _same(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    if spec.dtype is DType.BOOL:
        raise node.error("this function of bool")
    return ((spec.dtype, spec.shape),)


def _float(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    return ((spec.dtype if spec.dtype.numpy.kind == "f" else DType.FLOAT32, spec.shape),)


def _in_float(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Integers become float32 first, as in PyTorch."""
    return lambda x: function(x if x.dtype.kind == "f" else x.astype(np.float32))


def _op(
    name: str,
    reference: Callable[[Any], Any],
    low: float,
    high: float,
    *,
    exact: bool = False,
    integers: tuple[DType, ...] = (),
) -> Op:
    def draw(draw: Draw) -> Case:
        shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
        if integers and draw.integer(0, 3) == 0:
            return Case((T(shape, draw.choice(integers), -(2.0**31), 2.0**31),))
        return Case((T(shape, low=low, high=high),))

    return Op(
        f"aten::{name}.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_same if exact else _float,
        lower=_lower(name),
        dtypes=(DType.FLOAT32, *integers),
        reference=reference if exact else _in_float(reference),
        inplace=("self",),
        elementwise=True,
        exact=exact,
        cases=(
            Case((T((2, 3, 4, 5), low=low, high=high),)),
            Case((T((2, 3, 4, 5), low=low, high=high, dim_order=(0, 2, 3, 1)),), "channels last"),
            *(Case((T((7,), dtype, -9, 9),), str(dtype.numpy)) for dtype in integers),
        ),
        draw=draw,
    )


OPS = [
    _op("neg", lambda x: np.negative(x), -2.0, 2.0, exact=True, integers=_INTEGERS),
    _op("abs", lambda x: np.abs(x), -2.0, 2.0, exact=True, integers=_INTEGERS),
    _op("exp", lambda x: np.exp(x), -10.0, 10.0),
    _op("log", lambda x: np.log(x), 0.01, 100.0),
    _op("sqrt", lambda x: np.sqrt(x), 0.0, 100.0),
    _op("rsqrt", lambda x: np.ones((), x.dtype) / np.sqrt(x), 0.01, 100.0),
    _op("reciprocal", lambda x: np.ones((), x.dtype) / x, 0.1, 10.0),
    *table.OPS,
]

INT8 = [
    Int8(("aten::neg",), mask=Mask.NEGATED, state=State.ELEMENTS, channels=Channels.ALIKE),
    Int8(("aten::abs",), channels=Channels.ALIKE),
]
