"""Further functions element by element: rounding, sign, sine and cosine, logarithms, powers and rests of division by a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.op import Call, Case, Draw, GeometryField, InferredSpec, Node, Op, Read, T, Target, Write
from etexport.program.model import DType
from etexport.strided import nest


def _call(node: Node, function: str, number: float | None = None) -> Call:
    loops = nest(node.out.spec.shape, node.out.spec.strides, node["self"].spec.strides)
    geometry: dict[str, GeometryField] = {"sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1]}
    if number is not None:
        geometry["number"] = number
    return Call(function, "functions/functions.h", geometry, (Write(node.out.id), Read(node["self"].id)))


def _lower(function: str) -> Callable[[Node, Target], Call]:
    return lambda node, target: _call(node, function)


def _same(node: Node) -> tuple[InferredSpec, ...]:
    """Of floats: what PyTorch makes of integers differs by function."""
    spec = node["self"].spec
    if spec.dtype.numpy.kind != "f":
        raise node.error(f"this function of {spec.dtype.numpy}", hint="convert to float32 before")
    return ((spec.dtype, spec.shape),)


def _draw_of(low: float, high: float) -> Callable[[Draw], Case]:
    return lambda draw: Case((T(tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4))), low=low, high=high),))


def _op(name: str, reference: Callable[[Any], Any], low: float, high: float, *further: Case, exact: bool = False) -> Op:
    image = T((2, 3, 4, 5), low=low, high=high, dim_order=(0, 2, 3, 1))
    return Op(
        f"aten::{name}.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_same,
        lower=_lower(name),
        reference=reference,
        inplace=("self",),
        elementwise=True,
        exact=exact,
        cases=(Case((T((3, 20), low=low, high=high),)), Case((image,), "channels last"), *further),
        draw=_draw_of(low, high),
    )


# ---- with a number ----------------------------------------------------------------------------------------------------------------


def _infer_power(node: Node) -> tuple[InferredSpec, ...]:
    """Integers to a whole number stay what they are, so that sizes and positions that a script computes can be folded."""
    spec, exponent = node["self"].spec, node["exponent"]
    if spec.dtype in (DType.INT64, DType.INT32) and isinstance(exponent, int) and not isinstance(exponent, bool):
        if exponent < 0:
            raise node.error(f"integers to the power {exponent}")
        return ((spec.dtype, spec.shape),)
    return _same(node)


def _infer_rest(node: Node) -> tuple[InferredSpec, ...]:
    if not math.isfinite(node["other"]) or node["other"] == 0:
        raise node.error(f"the rest of a division by {node['other']}")
    return _same(node)


def _lower_number(function: str, argument: str) -> Callable[[Node, Target], Call]:
    return lambda node, target: _call(node, function, float(node[argument]))


def _np_power(x: Any, exponent: Any) -> Any:
    return np.sqrt(x) if exponent == 0.5 else np.power(x, x.dtype.type(exponent))


def _np_fmod(x: Any, number: Any) -> Any:
    return np.fmod(x, x.dtype.type(number))


def _np_remainder(x: Any, number: Any) -> Any:
    rest, divisor = np.fmod(x, x.dtype.type(number)), x.dtype.type(number)
    return np.where((rest != 0) & ((rest < 0) != (divisor < 0)), rest + divisor, rest)


def _draw_power(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    exponent = draw.choice((2, 3, 2.0, 0.5, -1, -0.5, -2, 0, 1, draw.number(-2.0, 3.0)))
    return Case((T(shape, low=0.1, high=3.0), exponent))


def _draw_rest(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    return Case((T(shape, low=-20.0, high=20.0), draw.choice((2, -3, 1.0, 0.25, draw.number(0.5, 7.0), draw.number(-7.0, -0.5)))))


def _rest(name: str, reference: Callable[..., Any]) -> Op:
    return Op(
        f"aten::{name}.Scalar_out(Tensor self, Scalar other, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_rest,
        lower=_lower_number(f"{name}_number", "other"),
        reference=reference,
        inplace=("self",),
        elementwise=True,
        exact=True,
        cases=(
            Case((T((3, 20), low=-9.0, high=9.0), 2.5)),
            Case((T((3, 20), low=-9.0, high=9.0), -2), "by a negative number"),
        ),
        draw=_draw_rest,
    )


_HALVES = Case((T((6,), values=(0.5, 1.5, 2.5, -0.5, -1.5, 1e9)),), "halves go to the even neighbour")

OPS = [
    _op("floor", lambda x: np.floor(x), -9.0, 9.0, exact=True),
    _op("ceil", lambda x: np.ceil(x), -9.0, 9.0, exact=True),
    _op("trunc", lambda x: np.trunc(x), -9.0, 9.0, exact=True),
    _op("round", lambda x: np.round(x), -9.0, 9.0, _HALVES, exact=True),
    _op("sign", lambda x: np.where(np.isnan(x), x.dtype.type(0), np.sign(x)), -2.0, 2.0),
    _op("sin", lambda x: np.sin(x), -20.0, 20.0),
    _op("cos", lambda x: np.cos(x), -20.0, 20.0),
    _op("atan", lambda x: np.arctan(x), -9.0, 9.0),
    _op("erf", lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x), -4.0, 4.0),
    _op("expm1", lambda x: np.expm1(x), -5.0, 5.0),
    _op("log1p", lambda x: np.log1p(x), -0.9, 50.0),
    _op("log2", lambda x: np.log2(x), 0.01, 100.0),
    _op("log10", lambda x: np.log10(x), 0.01, 100.0),
    Op(
        "aten::pow.Tensor_Scalar_out(Tensor self, Scalar exponent, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_power,
        lower=_lower_number("power", "exponent"),
        reference=_np_power,
        inplace=("self",),
        elementwise=True,
        cases=(
            Case((T((3, 20)), 2), "squares"),
            Case((T((3, 20), low=0.1), 0.5), "roots"),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 3), "channels last"),
            Case((T((3, 20), low=0.1), 1.7), "any power"),
        ),
        draw=_draw_power,
    ),
    _rest("fmod", _np_fmod),
    _rest("remainder", _np_remainder),
]
