"""Arithmetic with broadcasting: add, sub, mul, div, maximum, minimum of two tensors, or of a tensor and a number.

Counters, indices and bytes are integers: all but plain division take two tensors of one integer type, and wrap round as
PyTorch's do. A product of masks is both. Division that rounds down or towards 0 gives 0 where an integer is divided by
0: PyTorch raises an error there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import DType, TensorSpec, Value
from etexport_kernels.binary import quantized

_RANK_OF_KIND = {"b": 0, "u": 1, "i": 1, "f": 2}
_INTEGERS = (DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64)
_SCALAR = {bool: DType.BOOL, int: DType.INT64, float: DType.FLOAT32}


def _promoted(*operands: TensorSpec | bool | int | float) -> DType:
    """PyTorch's result type: the highest category (bool, integer, float) wins, and within it tensors with dimensions
    before scalar tensors before numbers (torch.result_type)."""

    def candidates(priority: int) -> list[DType]:
        found = []
        for operand in operands:
            own = (0 if operand.shape else 1) if isinstance(operand, TensorSpec) else 2
            if own == priority:
                found.append(operand.dtype if isinstance(operand, TensorSpec) else _SCALAR[type(operand)])
        return found

    result: DType | None = None
    for priority in range(3):
        for dtype in candidates(priority):
            if result is None or _RANK_OF_KIND[dtype.numpy.kind] > _RANK_OF_KIND[result.numpy.kind]:
                result = dtype
            elif dtype.numpy.kind in "uif" and result.numpy.kind in "uif" and _peers(operands, dtype, result, priority):
                result = DType.of_numpy(np.promote_types(dtype.numpy, result.numpy))
    assert result is not None
    return result


def _peers(operands: tuple[Any, ...], dtype: DType, result: DType, priority: int) -> bool:
    """Both types come from operands of this priority, so neither yields to the other."""
    own = {
        operand.dtype
        for operand in operands
        if isinstance(operand, TensorSpec) and (0 if operand.shape else 1) == priority
    }
    return dtype in own and result in own and _RANK_OF_KIND[dtype.numpy.kind] == _RANK_OF_KIND[result.numpy.kind]


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    self, other = node["self"].spec, node["other"]
    shape = broadcast_shape(self.shape, other.spec.shape) if not isinstance(other, (bool, int, float)) else self.shape
    if shape is None:
        raise node.error(f"shapes {list(self.shape)} and {list(other.spec.shape)} do not broadcast")
    dtype = _promoted(self, other if isinstance(other, (bool, int, float)) else other.spec)
    name = node.schema.name.split("::")[1].split(".")[0]
    mode = node.operands.get("rounding_mode")
    if mode not in (None, *_MODES):
        raise node.error(f"rounding_mode is {mode!r}", hint=f"there are {' and '.join(_MODES)}")
    if name == "div" and mode is None and dtype.numpy.kind != "f":
        dtype = DType.FLOAT32
    if mode is not None and (
        dtype is DType.BOOL or (dtype.numpy.kind != "f" and not isinstance(other, Value) and other == 0)
    ):
        raise node.error(f"a rounded division of {dtype.numpy} by {other}")
    if name == "sub" and dtype is DType.BOOL:
        raise node.error("subtraction of bool tensors", hint="use a logical operator")
    alpha = node.operands.get("alpha", 1)
    if isinstance(alpha, float) and dtype.numpy.kind != "f":
        raise node.error(f"alpha {alpha} for integers")
    return ((dtype, shape),)


def _bounds(node: Node) -> dict[str, GeometryField]:
    epilogue = node.instruction.epilogue
    low, high = (epilogue.low, epilogue.high) if epilogue else (-math.inf, math.inf)
    return {"clamps": bool(epilogue and epilogue.clamps), "low": float(low), "high": float(high)}


def _types(name: str) -> tuple[DType, ...]:
    if name == "div":
        return (DType.FLOAT32,)
    return (DType.FLOAT32, *_INTEGERS, *((DType.BOOL,) if name == "mul" else ()))


def _tensors(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        out, self, other = node.out, node["self"], node["other"]
        if self.spec.dtype not in _types(function) or other.spec.dtype is not self.spec.dtype:
            raise node.error(f"no kernel for {self.spec} with {other.spec}", hint="convert both to one type")
        loops = nest(
            out.spec.shape, out.spec.strides, *(broadcast_strides(one.spec, out.spec.shape) for one in (self, other))
        )
        geometry: dict[str, GeometryField] = {
            "sizes": loops.sizes,
            "out_strides": loops.strides[0],
            "self_strides": loops.strides[1],
            "other_strides": loops.strides[2],
            **_bounds(node),
        }
        alpha = node.operands.get("alpha", 1)
        name = function
        if alpha != 1:
            alpha = -alpha if function == "sub" else alpha
            if self.spec.dtype in _INTEGERS and not -(2**31) <= alpha < 2**31:
                raise node.error(f"alpha {alpha} is too large")
            name = "add_scaled"
            geometry["alpha"] = int(alpha) if self.spec.dtype in _INTEGERS else float(alpha)
        return Call(name, "binary/binary.h", geometry, (Write(out.id), Read(self.id), Read(other.id)))

    return lower


_MODES = {"trunc": "div_trunc", "floor": "div_floor"}


def _lower_mode(node: Node, target: Target) -> Call:
    """Of two tensors of one type, or of a tensor and a number of its type."""
    out, self, other, mode = node.out, node["self"], node["other"], node["rounding_mode"]
    is_number = isinstance(other, (bool, int, float))
    dtype = self.spec.dtype if is_number else other.spec.dtype
    if self.spec.dtype is not out.spec.dtype or dtype is not out.spec.dtype:
        raise node.error(
            f"no kernel for {self.spec} with {other if is_number else other.spec}", hint="convert both to one type"
        )
    second: Operand = Const("number", np.array(other).astype(dtype.numpy)) if is_number else Read(other.id)
    steps = (0,) * len(out.spec.shape) if is_number else broadcast_strides(other.spec, out.spec.shape)
    loops = nest(out.spec.shape, out.spec.strides, broadcast_strides(self.spec, out.spec.shape), steps)
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "other_strides": loops.strides[2],
        "clamps": False,
        "low": -math.inf,
        "high": math.inf,
    }
    function = "div" if mode is None else _MODES[mode]
    return Call(function, "binary/binary.h", geometry, (Write(out.id), Read(self.id), second))


def _number(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        out, self = node.out, node["self"]
        number = float(node["other"]) * float(node.operands.get("alpha", 1))
        loops = nest(out.spec.shape, out.spec.strides, self.spec.strides)
        geometry: dict[str, GeometryField] = {
            "sizes": loops.sizes,
            "out_strides": loops.strides[0],
            "self_strides": loops.strides[1],
            "number": -number if function == "sub" else number,
            **_bounds(node),
        }
        name = "add_number" if function == "sub" else f"{function}_number"
        return Call(name, "binary/binary.h", geometry, (Write(out.id), Read(self.id)))

    return lower


def _typed(result: Any, *operands: Any) -> Any:
    """numpy's result in PyTorch's type: arrays of one type keep it, and a division of integers gives float32."""
    arrays = [operand for operand in operands if isinstance(operand, np.ndarray)]
    if arrays and result.dtype == np.float64 and all(array.dtype != np.float64 for array in arrays):
        return result.astype(np.float32)
    return result


def _np_add(x: Any, y: Any, alpha: Any = 1) -> Any:
    return _typed(np.add(x, _scaled(x, y, alpha), dtype=_dtype(x, y)), x, y)


def _np_sub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return _typed(np.subtract(x, _scaled(x, y, alpha), dtype=_dtype(x, y)), x, y)


def _scaled(x: Any, y: Any, alpha: Any) -> Any:
    dtype = _dtype(x, y)
    return np.multiply(y, np.array(alpha).astype(dtype), dtype=dtype) if alpha != 1 else y


def _dtype(x: Any, y: Any) -> Any:
    specs = [TensorSpec(DType.of_numpy(one.dtype), one.shape) if isinstance(one, np.ndarray) else one for one in (x, y)]
    return _promoted(*specs).numpy


def _np_mul(x: Any, y: Any) -> Any:
    return np.multiply(x, y, dtype=_dtype(x, y))


def _np_div(x: Any, y: Any) -> Any:
    dtype = _dtype(x, y)
    with np.errstate(all="ignore"):  # infinity and NaN are what PyTorch gives, too
        return np.divide(x, y, dtype=dtype if dtype.kind == "f" else np.dtype(np.float32), casting="unsafe")


def _np_mode(x: Any, y: Any, mode: str | None) -> Any:
    if mode is None:
        return _np_div(x, y)
    dtype = _dtype(x, y)
    x, y = np.asarray(x).astype(dtype), np.asarray(y).astype(dtype)
    with np.errstate(all="ignore"):
        if dtype.kind == "f":
            return np.floor_divide(x, y) if mode == "floor" else np.trunc(x / y)
        down = np.floor_divide(x, y)
    return down if mode == "floor" else np.where((down < 0) & (down * y != x), down + 1, down).astype(dtype)


def _draw_pair(draw: Draw, dtype: DType = DType.FLOAT32) -> tuple[T, T]:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    other = tuple(
        1 if draw.integer(0, 3) == 0 else size for size in shape[draw.choice((0, 0, 0, draw.integer(0, len(shape)))) :]
    )
    own = tuple(1 if draw.integer(0, 5) == 0 else size for size in shape)
    high = 2.0 if dtype is DType.FLOAT32 else 2.0**31
    pair = (T(own, dtype, -high, high), T(other, dtype, -high, high, constant=draw.flag()))
    return pair if draw.flag() else (T(other, dtype, -high, high), T(own, dtype, -high, high, constant=draw.flag()))


def _draw_tensors(name: str, alpha: bool) -> Callable[[Draw], Case]:
    def drawn(draw: Draw) -> Case:
        dtype = DType.FLOAT32 if draw.flag() or name == "div" else draw.choice(_INTEGERS)
        pair = _draw_pair(draw, dtype)
        # powers of 2, because where self and alpha * other cancel the rounding of their product is all that is left
        factors = (1, 1, 2, -1, *(() if dtype in _INTEGERS else (0.5, -4.0)))
        return Case((*pair, draw.choice(factors)) if alpha else pair)

    return drawn


def _draw_mode(draw: Draw) -> Case:
    """Divisors are not 0, for then PyTorch raises an error of integers."""
    dtype = DType.FLOAT32 if draw.flag() else draw.choice(_INTEGERS)
    self, other = _draw_pair(draw, dtype)
    low = 0.5 if dtype is DType.FLOAT32 else draw.choice((1.0, -9.0 if dtype is not DType.UINT8 else 1.0))
    high = 9.0 if low > 0 else 0.0
    mode = draw.choice((*_MODES, *((None,) if dtype is DType.FLOAT32 else ())))
    return Case((T(self.shape, dtype, -50.0, 50.0), T(other.shape, dtype, low, high, constant=draw.flag()), mode))


def _draw_number_mode(draw: Draw) -> Case:
    dtype = DType.FLOAT32 if draw.flag() else draw.choice(_INTEGERS)
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    number = draw.choice(
        (2, 3, 1, *((-2, -1) if dtype is not DType.UINT8 else ()), *((0.5, -0.7) if dtype is DType.FLOAT32 else ()))
    )
    return Case((T(shape, dtype, -50.0, 50.0), number, draw.choice(tuple(_MODES))))


def _draw_number(alpha: bool) -> Callable[[Draw], Case]:
    def drawn(draw: Draw) -> Case:
        operand = T(tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4))))
        number = draw.choice((2, -1, draw.number(0.1, 3.0), draw.number(-3.0, -0.1)))
        # powers of 2 here too: the product is rounded, and self may be all but the same
        return Case((operand, number, draw.choice((1, 1, 2, -1, 0.5, -4.0))) if alpha else (operand, number))

    return drawn


_PAIRS = (
    ((T((2, 3, 4, 5)), T((2, 3, 4, 5))), "one shape"),
    ((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), T((2, 3, 4, 5))), "two dim orders"),
    ((T((1, 8, 5, 5)), T((8, 1, 1), constant=True)), "one number a channel"),
    ((T((4, 1)), T((3,))), "both repeat"),
    ((T((2, 3)), T(())), "a scalar tensor"),
)


def _of_tensors(name: str, reference: Callable[..., Any], *, alpha: bool = False) -> Op:
    return Op(
        f"aten::{name}.out(Tensor self, Tensor other, *, {'Scalar alpha=1, ' if alpha else ''}Tensor(a!) out) -> "
        "Tensor(a!)",
        infer=_infer,
        lower=_tensors(name),
        dtypes=_types(name),
        reference=reference,
        absorbs=frozenset({"clamp"}),
        inplace=("self", "other"),
        elementwise=True,
        carries=("self", "other") if name in ("maximum", "minimum") else (),
        cases=tuple(Case((*pair, 1) if alpha else pair, note) for pair, note in _PAIRS)
        + ((Case((T((3, 4)), T((3, 4)), 2.5), "alpha"),) if alpha else ())
        + tuple(
            Case((T((3,), dtype, -9, 9), T((2, 1), dtype, -9, 9), *((-2,) if alpha else ())), str(dtype.numpy))
            for dtype in _types(name)
            if dtype is not DType.FLOAT32
        ),
        draw=_draw_tensors(name, alpha),
    )


def _int8(shape: tuple[int, ...]) -> T:
    return T(shape, DType.INT8, -128, 128)


def _stored(name: str, reference: Callable[..., Any]) -> Op:
    """ExecuTorch's name for it where both are int8 of one scale."""
    return Op(
        f"cortex_m::{name}.out(Tensor self, Tensor other, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_stored,
        lower=_tensors(name),
        dtypes=(DType.INT8,),
        reference=reference,
        inplace=("self", "other"),
        exact=True,
        cases=(
            Case((_int8((2, 3, 4)), _int8((2, 3, 4)))),
            Case((_int8((1, 8, 5, 5)), _int8((8, 1, 1))), "one number a channel"),
        ),
        draw=lambda draw: Case(tuple(_int8(one.shape) for one in _draw_pair(draw))),
    )


def _infer_stored(node: Node) -> tuple[InferredSpec, ...]:
    if node["other"].spec.dtype is not DType.INT8:
        raise node.error(f"{node['self'].spec} with {node['other'].spec}")
    return _infer(node)


def _of_number(name: str, reference: Callable[..., Any], *, alpha: bool = False) -> Op:
    operand = T((2, 3, 4))
    return Op(
        f"aten::{name}.Scalar_out(Tensor self, Scalar other, {'Scalar alpha=1, ' if alpha else ''}*, Tensor(a!) out) "
        "-> Tensor(a!)",
        infer=_infer,
        lower=_number(name),
        reference=reference,
        absorbs=frozenset({"clamp"}),
        inplace=("self",),
        elementwise=True,
        cases=(Case((operand, 0.5, 2)), Case((operand, 3, 1), "an integer"))
        if alpha
        else (Case((operand, 0.5)), Case((operand, 3))),
        draw=_draw_number(alpha),
    )


OPS = [
    _of_tensors("add", _np_add, alpha=True),
    _of_tensors("sub", _np_sub, alpha=True),
    _of_tensors("mul", _np_mul),
    _of_tensors("div", _np_div),
    # not exact: of 0 and -0 PyTorch takes either, as its vector registers fall
    _of_tensors("maximum", lambda x, y: np.maximum(x, y)),
    _of_tensors("minimum", lambda x, y: np.minimum(x, y)),
    _stored("maximum", lambda x, y: np.maximum(x, y)),
    _stored("minimum", lambda x, y: np.minimum(x, y)),
    _of_number("add", _np_add, alpha=True),
    _of_number("sub", _np_sub, alpha=True),
    _of_number("mul", _np_mul),
    _of_number("div", _np_div),
    Op(
        "aten::div.out_mode(Tensor self, Tensor other, *, str? rounding_mode, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower_mode,
        dtypes=(DType.FLOAT32, *_INTEGERS),
        reference=_np_mode,
        inplace=("self", "other"),
        elementwise=True,
        cases=(
            Case((T((3, 20), low=-9.0, high=9.0), T((20,), low=0.5), "floor"), "rounded down"),
            Case(
                (
                    T((2, 3, 4, 5), low=-9.0, high=9.0, dim_order=(0, 2, 3, 1)),
                    T((3, 1, 1), low=-3.0, high=-0.5),
                    "trunc",
                ),
                "towards 0",
            ),
            *(
                Case((T((3, 20), dtype, -50, 50), T((20,), dtype, 1, 9), mode), f"{dtype.numpy}")
                for dtype in _INTEGERS
                for mode in _MODES
            ),
        ),
        draw=_draw_mode,
    ),
    Op(
        "aten::div.Scalar_mode_out(Tensor self, Scalar other, *, str? rounding_mode, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower_mode,
        dtypes=(DType.FLOAT32, *_INTEGERS),
        reference=_np_mode,
        inplace=("self",),
        elementwise=True,
        cases=(
            Case((T((3, 20), low=-9.0, high=9.0), 0.7, "floor")),
            Case((T((3, 20), DType.INT64, -50, 50), 7, "floor"), "indices"),
            Case((T((3, 20), DType.INT32, -50, 50), -7, "trunc")),
        ),
        draw=_draw_number_mode,
    ),
    *quantized.OPS,
]

RULES = [*quantized.RULES]

_QUOTIENT = "a quotient of two tensors has no bound, and no integer form"

INT8 = [
    Int8(("aten::add.Tensor",), Scales.PAIR, saturates=True, mask=Mask.ADDED, state=State.SUM),
    Int8(("aten::add_.Tensor",), Scales.PAIR, saturates=True, state=State.SUM),
    Int8(("aten::add.Scalar",), mask=Mask.ADDED),
    Int8(("aten::sub.Tensor",), Scales.PAIR, saturates=True, mask=Mask.SUBTRACTED, state=State.SUM),
    Int8(("aten::sub_.Tensor", "aten::lerp.Scalar", "aten::lerp.Tensor", "aten::addcmul"), state=State.SUM),
    Int8(("aten::sub.Scalar",), mask=Mask.SUBTRACTED),
    Int8(("aten::rsub.Tensor",), Scales.TABLE, mask=Mask.SUBTRACTED_FROM, state=State.SUM),
    Int8(("aten::rsub.Scalar",), mask=Mask.SUBTRACTED_FROM, state=State.SUM),
    Int8(
        ("aten::mul.Tensor",), Scales.PAIR, saturates=True, mask=Mask.MULTIPLIED, state=State.ELEMENTS,
        channels=Channels.BY_NUMBER,
    ),
    Int8(("aten::mul_.Tensor",), Scales.PAIR, saturates=True, state=State.ELEMENTS),
    Int8(("aten::mul.Scalar",), mask=Mask.MULTIPLIED),
    Int8(("aten::div.Tensor",), mask=Mask.DIVIDED, state=State.ELEMENTS, channels=Channels.BY_NUMBER, reason=_QUOTIENT),
    Int8(("aten::div_.Tensor",), state=State.ELEMENTS),
    Int8(("aten::div.Scalar",), mask=Mask.DIVIDED),
    Int8(("aten::subtract.Tensor", "aten::multiply.Tensor"), Scales.PARTS),
    Int8(("aten::maximum",), Scales.CHOICE, mask=Mask.BOUNDED, state=State.ELEMENTS),
    Int8(("aten::minimum",), Scales.CHOICE, state=State.ELEMENTS),
]  # fmt: skip
