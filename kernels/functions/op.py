"""Further functions element by element: rounding, sign, circular and hyperbolic functions, logarithms, powers and rests
of division."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import DType

_INTEGERS = (DType.INT32, DType.INT64)
_HIGHEST_POWER = 64


def _call(node: Node, function: str, number: int | float | None = None) -> Call:
    loops = nest(node.out.spec.shape, node.out.spec.strides, node["self"].spec.strides)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
    }
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


# ---- with a number ---------------------------------------------------------------------------------------------------


def _infer_power(node: Node) -> tuple[InferredSpec, ...]:
    """Integers to a whole number stay what they are, so that sizes and positions that a script computes can be
    folded."""
    spec, exponent = node["self"].spec, node["exponent"]
    if spec.dtype in _INTEGERS and isinstance(exponent, int) and not isinstance(exponent, bool):
        if not 0 <= exponent <= _HIGHEST_POWER:
            raise node.error(f"integers to the power {exponent}")
        return ((spec.dtype, spec.shape),)
    return _same(node)


def _infer_rest(node: Node) -> tuple[InferredSpec, ...]:
    spec, number = node["self"].spec, node["other"]
    if not math.isfinite(number) or number == 0:
        raise node.error(f"the rest of a division by {number}")
    if spec.dtype in _INTEGERS and isinstance(number, int) and not isinstance(number, bool):
        if not -(2**31) <= number < 2**31:
            raise node.error(f"the rest of a division by {number}")
        return ((spec.dtype, spec.shape),)
    return _same(node)


def _lower_rest(function: str) -> Callable[[Node, Target], Call]:
    return lambda node, target: _call(
        node, function, (int if node["self"].spec.dtype in _INTEGERS else float)(node["other"])
    )


def _lower_power(node: Node, target: Target) -> Call:
    whole = node["self"].spec.dtype in _INTEGERS
    return _call(node, "whole_power" if whole else "power", (int if whole else float)(node["exponent"]))


def _np_power(x: Any, exponent: Any) -> Any:
    return np.sqrt(x) if exponent == 0.5 else np.power(x, x.dtype.type(exponent))


def _np_fmod(x: Any, number: Any) -> Any:
    return np.fmod(x, x.dtype.type(number))


def _np_remainder(x: Any, number: Any) -> Any:
    divisor = np.asarray(number, x.dtype)
    rest = np.fmod(x, divisor)
    return np.where((rest != 0) & ((rest < 0) != (divisor < 0)), rest + divisor, rest)


def _draw_power(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    if draw.integer(0, 3) == 0:
        return Case((T(shape, draw.choice(_INTEGERS), -(2.0**31), 2.0**31), draw.integer(0, 9)))
    exponent = draw.choice((2, 3, 2.0, 0.5, -1, -0.5, -2, 0, 1, draw.number(-2.0, 3.0)))
    return Case((T(shape, low=0.1, high=3.0), exponent))


def _draw_rest(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    if draw.integer(0, 3) == 0:
        return Case((T(shape, draw.choice(_INTEGERS), -(2.0**31), 2.0**31), draw.choice((1, -1, 2, -3, 100, -(2**31)))))
    return Case(
        (
            T(shape, low=-20.0, high=20.0),
            draw.choice((2, -3, 1.0, 0.25, draw.number(0.5, 7.0), draw.number(-7.0, -0.5))),
        )
    )


def _rest(name: str, reference: Callable[..., Any]) -> Op:
    return Op(
        f"aten::{name}.Scalar_out(Tensor self, Scalar other, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_rest,
        lower=_lower_rest(f"{name}_number"),
        dtypes=(DType.FLOAT32, *_INTEGERS),
        reference=reference,
        inplace=("self",),
        elementwise=True,
        exact=True,
        cases=(
            Case((T((3, 20), low=-9.0, high=9.0), 2.5)),
            Case((T((3, 20), low=-9.0, high=9.0), -2), "by a negative number"),
            *(Case((T((3, 20), dtype, -50, 50), 7), str(dtype.numpy)) for dtype in _INTEGERS),
        ),
        draw=_draw_rest,
    )


# ---- of two tensors --------------------------------------------------------------------------------------------------


def _second(node: Node) -> tuple[Any, Any]:
    """The two operands; the second one has another name in each schema."""
    self, other = (operand for name, operand in node.operands.items() if name != "out")
    return self, other


def _infer_pair(node: Node) -> tuple[InferredSpec, ...]:
    self, other = _second(node)
    dtype = self.spec.dtype
    if other.spec.dtype is not dtype or (
        dtype is not DType.FLOAT32 and (_name(node) not in _OF_INTEGERS or dtype not in _INTEGERS)
    ):
        raise node.error(f"{self.spec} with {other.spec}", hint="convert both to float32")
    shape = broadcast_shape(self.spec.shape, other.spec.shape)
    if shape is None:
        raise node.error(f"shapes {list(self.spec.shape)} and {list(other.spec.shape)} do not broadcast")
    return ((dtype, shape),)


_OF_INTEGERS = ("fmod", "remainder")
"""By 0 they give 0: PyTorch raises an error there."""


def _name(node: Node) -> str:
    return node.schema.name.partition("::")[2].partition(".")[0]


def _lower_pair(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        pair, out = _second(node), node.out
        loops = nest(out.spec.shape, out.spec.strides, *(broadcast_strides(one.spec, out.spec.shape) for one in pair))
        names = ("out_strides", "self_strides", "other_strides")
        geometry = {"sizes": loops.sizes, **dict(zip(names, loops.strides, strict=True))}
        return Call(function, "functions/functions.h", geometry, (Write(out.id), *(Read(one.id) for one in pair)))

    return lower


def _pair(
    name: str,
    operands: str,
    function: str,
    reference: Callable[..., Any],
    low: float,
    high: float,
    *,
    exact: bool = False,
) -> Op:
    integers = _INTEGERS if function in _OF_INTEGERS else ()

    def one(*shape: int) -> T:
        return T(shape, low=low, high=high)

    def whole(dtype: DType, *shape: int) -> T:
        return T(shape, dtype, low=1, high=50)

    def draw(draw: Draw) -> Case:
        shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
        other = tuple(
            draw.choice((1, size, size)) for size in shape[draw.choice((0, 0, draw.integer(0, len(shape)))) :]
        )
        if integers and draw.integer(0, 3) == 0:
            dtype = draw.choice(integers)
            return Case((T(shape, dtype, -50, 50), draw.choice((whole(dtype, *other), T(other, dtype, -9, 0)))))
        pair = (one(*shape), one(*other))
        return Case(pair if draw.flag() else pair[::-1])

    return Op(
        f"aten::{name}({operands}, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_pair,
        lower=_lower_pair(function),
        dtypes=(DType.FLOAT32, *integers),
        reference=reference,
        inplace=tuple(part.split()[1] for part in operands.split(", ")),
        elementwise=True,
        exact=exact,
        cases=(
            Case((one(3, 20), one(3, 20))),
            Case((one(4, 1), one(3)), "both repeat"),
            Case((T((2, 3, 4, 5), low=low, high=high, dim_order=(0, 2, 3, 1)), one(2, 3, 4, 5)), "two dim orders"),
            *(Case((T((3, 20), dtype, -50, 50), whole(dtype, 20)), str(dtype.numpy)) for dtype in integers),
        ),
        draw=draw,
    )


def _infer_base(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["exponent"].spec
    if spec.dtype.numpy.kind != "f":
        raise node.error(f"a power of {spec.dtype.numpy}", hint="convert to float32 before")
    return ((spec.dtype, spec.shape),)


def _lower_base(node: Node, target: Target) -> Call:
    exponent = node["exponent"]
    loops = nest(node.out.spec.shape, node.out.spec.strides, exponent.spec.strides)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
    }
    geometry["number"] = float(node["self"])
    return Call("power_of_number", "functions/functions.h", geometry, (Write(node.out.id), Read(exponent.id)))


def _draw_base(draw: Draw) -> Case:
    return Case(
        (
            draw.choice((2, 10, 0.5, draw.number(0.1, 4.0))),
            T(tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))),
        )
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
    _op("tan", lambda x: np.tan(x), -1.5, 1.5),
    _op("asin", lambda x: np.arcsin(x), -1.0, 1.0),
    _op("acos", lambda x: np.arccos(x), -1.0, 1.0),
    _op("atan", lambda x: np.arctan(x), -9.0, 9.0),
    _op("sinh", lambda x: np.sinh(x), -5.0, 5.0),
    _op("cosh", lambda x: np.cosh(x), -5.0, 5.0),
    _op("asinh", lambda x: np.arcsinh(x), -20.0, 20.0),
    _op("acosh", lambda x: np.arccosh(x), 1.0, 20.0),
    _op("atanh", lambda x: np.arctanh(x), -0.99, 0.99),
    _op("erf", lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x), -4.0, 4.0),
    _op("erfc", lambda x: np.vectorize(math.erfc, otypes=[x.dtype])(x), -4.0, 4.0),
    _op("expm1", lambda x: np.expm1(x), -5.0, 5.0),
    _op("log1p", lambda x: np.log1p(x), -0.9, 50.0),
    _op("log2", lambda x: np.log2(x), 0.01, 100.0),
    _op("log10", lambda x: np.log10(x), 0.01, 100.0),
    Op(
        "aten::pow.Tensor_Scalar_out(Tensor self, Scalar exponent, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_power,
        lower=_lower_power,
        dtypes=(DType.FLOAT32, *_INTEGERS),
        reference=_np_power,
        inplace=("self",),
        elementwise=True,
        cases=(
            Case((T((3, 20)), 2), "squares"),
            Case((T((3, 20), low=0.1), 0.5), "roots"),
            Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 3), "channels last"),
            Case((T((3, 20), low=0.1), 1.7), "any power"),
            *(
                Case((T((3, 20), dtype, -50, 50), exponent), str(dtype.numpy))
                for dtype in _INTEGERS
                for exponent in (0, 2, 5)
            ),
        ),
        draw=_draw_power,
    ),
    Op(
        "aten::pow.Scalar_out(Scalar self, Tensor exponent, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_base,
        lower=_lower_base,
        reference=lambda number, exponent: np.power(exponent.dtype.type(number), exponent),
        inplace=("exponent",),
        elementwise=True,
        cases=(Case((2, T((3, 20)))), Case((0.3, T((2, 3, 4, 5), dim_order=(0, 2, 3, 1))), "channels last")),
        draw=_draw_base,
    ),
    _pair("pow.Tensor_Tensor_out", "Tensor self, Tensor exponent", "power", lambda x, y: np.power(x, y), 0.1, 3.0),
    _pair("atan2.out", "Tensor self, Tensor other", "atan2", lambda x, y: np.arctan2(x, y), -4.0, 4.0),
    _pair("fmod.Tensor_out", "Tensor self, Tensor other", "fmod", lambda x, y: np.fmod(x, y), 0.5, 9.0, exact=True),
    _pair("remainder.Tensor_out", "Tensor self, Tensor other", "remainder", _np_remainder, 0.5, 9.0, exact=True),
    _pair("hypot.out", "Tensor self, Tensor other", "hypot", lambda x, y: np.hypot(x, y), -9.0, 9.0),
    _pair(
        "copysign.out", "Tensor self, Tensor other", "copysign", lambda x, y: np.copysign(x, y), -9.0, 9.0, exact=True
    ),
    # not exact: of 0 and -0 PyTorch takes either
    _pair("fmax.out", "Tensor self, Tensor other", "fmax", lambda x, y: np.fmax(x, y), -9.0, 9.0),
    _pair("fmin.out", "Tensor self, Tensor other", "fmin", lambda x, y: np.fmin(x, y), -9.0, 9.0),
    _rest("fmod", _np_fmod),
    _rest("remainder", _np_remainder),
]
