"""Comparison, logic and selection: eq, ne, lt, le, gt, ge with a tensor or a number, isnan, isinf, logical and, or,
xor, not, the same bit by bit, and where."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Mask, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import broadcast_shape, broadcast_strides, nest
from etexport.program.model import COMPUTED, DType, TensorSpec, Value

_ALL = COMPUTED


def _shape(node: Node, *names: str) -> tuple[int, ...]:
    shapes = [node[name].spec.shape for name in names]
    shape = broadcast_shape(*shapes)
    if shape is None:
        raise node.error(f"shapes {' and '.join(str(list(one)) for one in shapes)} do not broadcast")
    return shape


def _loops(node: Node, *names: str) -> dict[str, GeometryField]:
    out = node.out.spec
    loops = nest(out.shape, out.strides, *(broadcast_strides(node[name].spec, out.shape) for name in names))
    fields: dict[str, GeometryField] = {"sizes": loops.sizes, "out_strides": loops.strides[0]}
    return {**fields, **{f"{name}_strides": strides for name, strides in zip(names, loops.strides[1:], strict=True)}}


# ---- two tensors -----------------------------------------------------------------------------------------------------


def _infer_tensors(node: Node) -> tuple[InferredSpec, ...]:
    return ((DType.BOOL, _shape(node, "self", "other")),)


_BITWISE = (DType.BOOL, DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64)


def _infer_bits(node: Node) -> tuple[InferredSpec, ...]:
    self, other = node["self"].spec, node["other"].spec
    if self.dtype is not other.dtype or self.dtype not in _BITWISE:
        raise node.error(f"the bits of {self} with those of {other}", hint="convert both to one integer type")
    return ((self.dtype, _shape(node, "self", "other")),)


def _infer_bits_number(node: Node) -> tuple[InferredSpec, ...]:
    self, number = node["self"].spec, node["other"]
    if (
        self.dtype not in _BITWISE
        or isinstance(number, float)
        or (self.dtype is DType.BOOL and not isinstance(number, bool))
    ):
        raise node.error(f"the bits of {self} with those of {number!r}", hint="convert both to one integer type")
    _number(node)
    return ((self.dtype, self.shape),)


def _one_type(node: Node, self: Value, other: Value) -> None:
    """PyTorch lets a tensor without dimensions yield to the other's type, which may wrap it round: those have no
    kernel."""
    kinds = {self.spec.dtype.numpy.kind, other.spec.dtype.numpy.kind}
    if self.spec.dtype is not other.spec.dtype and (
        kinds <= set("iub") or "f" not in kinds or not (self.spec.shape and other.spec.shape)
    ):
        raise node.error(f"no kernel for {self.spec} with {other.spec}", hint="convert one to the other's type")


def _tensors(function: str, *, typed: bool = True) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        if typed:
            _one_type(node, node["self"], node["other"])
        operands = (Write(node.out.id), Read(node["self"].id), Read(node["other"].id))
        return Call(function, "logic/logic.h", _loops(node, "self", "other"), operands)

    return lower


# ---- a tensor and a number -------------------------------------------------------------------------------------------


def _number(node: Node) -> np.ndarray[Any, Any]:
    """The number as a tensor of one element, in the type in which PyTorch compares."""
    dtype, number = node["self"].spec.dtype, node["other"]
    if dtype.numpy.kind == "f" or isinstance(number, float):
        return np.array(number, dtype.numpy if dtype.numpy.kind == "f" else np.float32)
    if dtype is DType.BOOL:
        dtype = DType.BOOL if isinstance(number, bool) else DType.INT64
    limits = (0, 1) if dtype is DType.BOOL else (int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max))
    if not limits[0] <= int(number) <= limits[1]:
        raise node.error(f"comparison of {dtype.numpy} with {number}, which it cannot hold")
    return np.array(number, dtype.numpy)


def _infer_number(node: Node) -> tuple[InferredSpec, ...]:
    _number(node)
    return ((DType.BOOL, node["self"].spec.shape),)


def _lower_number(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        out, self = node.out, node["self"]
        loops = nest(out.spec.shape, out.spec.strides, self.spec.strides, (0,) * len(out.spec.shape))
        geometry: dict[str, GeometryField] = {
            "sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1],
            "other_strides": loops.strides[2],
        }  # fmt: skip
        return Call(function, "logic/logic.h", geometry, (Write(out.id), Read(self.id), Const("number", _number(node))))

    return lower


def _np_number(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, number: Any) -> Any:
        if x.dtype.kind == "f":
            return function(x, x.dtype.type(number))
        return function(x.astype(np.float32), np.float32(number)) if isinstance(number, float) else function(x, number)

    return reference


# ---- not, where ------------------------------------------------------------------------------------------------------


def _infer_not(node: Node) -> tuple[InferredSpec, ...]:
    return ((DType.BOOL, node["self"].spec.shape),)


def _infer_not_bits(node: Node) -> tuple[InferredSpec, ...]:
    if node["self"].spec.dtype not in _BITWISE:
        raise node.error(f"the bits of {node['self'].spec}")
    return ((node["self"].spec.dtype, node["self"].spec.shape),)


def _lower_one(function: str) -> Callable[[Node, Target], Call]:
    return lambda node, target: Call(
        function, "logic/logic.h", _loops(node, "self"), (Write(node.out.id), Read(node["self"].id))
    )


def _promoted(one: TensorSpec, other: TensorSpec) -> DType:
    """torch.result_type of two tensors: the higher kind wins, of one kind the one with dimensions, else the type that
    holds both."""
    order = {"b": 0, "u": 1, "i": 1, "f": 2}
    ranks = [order[spec.dtype.numpy.kind] for spec in (one, other)]
    if ranks[0] != ranks[1]:
        return one.dtype if ranks[0] > ranks[1] else other.dtype
    if bool(one.shape) != bool(other.shape):
        return one.dtype if one.shape else other.dtype
    return DType.of_numpy(np.promote_types(one.dtype.numpy, other.dtype.numpy))


def _infer_where(node: Node) -> tuple[InferredSpec, ...]:
    if node["condition"].spec.dtype is not DType.BOOL:
        raise node.error(f"a condition of {node['condition'].spec.dtype.numpy}", hint="compare with 0 first")
    return ((_promoted(node["self"].spec, node["other"].spec), _shape(node, "condition", "self", "other")),)


def _lower_where(node: Node, target: Target) -> Call:
    operands: tuple[Operand, ...] = (
        Write(node.out.id),
        *(Read(node[name].id) for name in ("condition", "self", "other")),
    )
    return Call("where", "logic/logic.h", _loops(node, "condition", "self", "other"), operands)


def _np_where(condition: Any, x: Any, y: Any) -> Any:
    specs = [TensorSpec(DType.of_numpy(one.dtype), one.shape) for one in (x, y)]
    dtype = _promoted(*specs).numpy
    return np.where(condition, x.astype(dtype), y.astype(dtype))


# ---- cases -----------------------------------------------------------------------------------------------------------


def _draw_shapes(draw: Draw, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast: the common one with dimensions of size 1 and leading ones left out."""
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    shapes = []
    for _ in range(count):
        left_out = draw.choice((0, 0, 0, draw.integer(0, len(shape))))
        shapes.append(tuple(1 if draw.integer(0, 4) == 0 else size for size in shape[left_out:]))
    return shapes


def _operand(shape: tuple[int, ...], dtype: DType, draw: Draw) -> T:
    """Few distinct values, so that there are equal ones; floats between them too."""
    values = None if draw.flag() else tuple(float(draw.integer(0, 2)) for _ in range(math.prod(shape)))
    return T(shape, dtype, low=0.0, high=3.0, values=values, constant=draw.flag())


def _draw_tensors(draw: Draw) -> Case:
    one, other = _draw_shapes(draw, 2)
    dtype = draw.choice((DType.FLOAT32, DType.FLOAT32, DType.INT64, DType.INT32, DType.INT8, DType.BOOL))
    return Case((_operand(one, dtype, draw), _operand(other, dtype, draw)))


def _draw_bits(draw: Draw) -> Case:
    one, other = _draw_shapes(draw, 2)
    dtype = draw.choice((DType.BOOL, *_BITWISE))
    return Case((T(one, dtype, -(2.0**31), 2.0**31), T(other, dtype, -(2.0**31), 2.0**31, constant=draw.flag())))


def _draw_bits_number(draw: Draw) -> Case:
    (shape,) = _draw_shapes(draw, 1)
    dtype = draw.choice(_BITWISE)
    return Case(
        (T(shape, dtype, -(2.0**31), 2.0**31), draw.choice((True, False) if dtype is DType.BOOL else (0, 1, 6, 127)))
    )


def _draw_number(draw: Draw) -> Case:
    (shape,) = _draw_shapes(draw, 1)
    dtype = draw.choice((DType.FLOAT32, DType.FLOAT32, DType.INT64, DType.INT32, DType.INT8, DType.BOOL))
    operand = _operand(shape, dtype, draw)
    number = draw.choice((0, 1, draw.number(0.0, 3.0), 1.0)) if dtype is DType.FLOAT32 else draw.choice((0, 1, 1.0))
    return Case((operand, number))


def _draw_not(*dtypes: DType) -> Callable[[Draw], Case]:
    def drawn(draw: Draw) -> Case:
        (shape,) = _draw_shapes(draw, 1)
        return Case((T(shape, draw.choice(dtypes), low=-1.0, high=2.0),))

    return drawn


def _draw_odd(draw: Draw) -> Case:
    """Of floats every third is NaN or infinite."""
    (shape,) = _draw_shapes(draw, 1)
    some = (0.0, 1.5, -2.0, -0.0, math.nan, math.inf, -math.inf)
    values = tuple(draw.choice(some) for _ in range(math.prod(shape)))
    return Case((T(shape, values=values) if draw.integer(0, 3) else T(shape, draw.choice(_ALL), 0.0, 3.0),))


def _draw_where(draw: Draw) -> Case:
    condition, one, other = _draw_shapes(draw, 3)
    dtype = draw.choice((*COMPUTED, DType.FLOAT32, DType.FLOAT32))
    kind = draw.choice((dtype, dtype, DType.FLOAT32, DType.INT64))
    low = 0.0 if DType.UINT8 in (dtype, kind) else -5.0
    return Case((T(condition, DType.BOOL), T(one, dtype, low, 5.0), T(other, kind, low, 5.0, constant=draw.flag())))


_PAIRS = (
    Case((T((2, 3, 4, 5)), T((2, 3, 4, 5))), "one shape"),
    Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), T((3, 1, 1), constant=True)), "one number a channel, channels last"),
    Case(
        (T((4,), values=(1.0, math.nan, -0.0, math.inf)), T((4,), values=(1.0, math.nan, 0.0, math.inf))),
        "NaN, and zeros of both signs",
    ),
    Case((T((5, 1), DType.INT64, 0, 4), T((4,), DType.INT64, 0, 4)), "indices"),
)
_MASKS = (
    Case((T((3, 4), DType.BOOL), T((3, 4), DType.BOOL))),
    Case((T((2, 3, 4), DType.BOOL), T((3, 1), DType.BOOL)), "one repeats"),
)
_BITS = (
    *_MASKS,
    *(Case((T((3, 4), dtype, -99, 99), T((4,), dtype, -99, 99)), str(dtype.numpy)) for dtype in _BITWISE[1:]),
)


def _compared(name: str, reference: Callable[..., Any]) -> tuple[Op, Op]:
    numbers = (
        Case((T((2, 3, 4)), 0)),
        Case((T((2, 3, 4, 5), dim_order=(0, 2, 3, 1)), 0.1), "a number that float32 rounds"),
        Case(
            (T((4,), values=(1.0, math.nan, -0.0, -math.inf)), -math.inf),
            "with minus infinity, as masks of attention are",
        ),
        Case((T((6,), DType.INT64, 0, 4), 2), "indices"),
    )
    plain, by_number = _tensors(name), _lower_number(name)
    return (
        _op(f"{name}.Tensor_out(Tensor self, Tensor other", _infer_tensors, plain, reference, _PAIRS, _draw_tensors),
        _op(
            f"{name}.Scalar_out(Tensor self, Scalar other",
            _infer_number,
            by_number,
            _np_number(reference),
            numbers,
            _draw_number,
        ),
    )


def _op(
    schema: str,
    infer: Callable[[Node], tuple[InferredSpec, ...]],
    lower: Callable[[Node, Target], Call],
    reference: Callable[..., Any],
    cases: tuple[Case, ...],
    draw: Callable[[Draw], Case],
    dtypes: tuple[DType, ...] = _ALL,
    inplace: tuple[str, ...] = ("self",),
    carries: tuple[str, ...] = (),
) -> Op:
    return Op(
        f"aten::{schema}, *, Tensor(a!) out) -> Tensor(a!)",
        infer=infer, lower=lower, dtypes=dtypes, reference=reference, inplace=inplace, elementwise=True,
        carries=carries, exact=True, cases=cases, draw=draw,
    )  # fmt: skip


def _logical(name: str, reference: Callable[..., Any], bitwise: Callable[..., Any]) -> tuple[Op, Op, Op]:
    lower = _tensors(f"logical_{name}", typed=False)
    bits, by_number = _tensors(f"bitwise_{name}"), _lower_number(f"bitwise_{name}")
    return (
        _op(f"logical_{name}.out(Tensor self, Tensor other", _infer_tensors, lower, reference, (*_MASKS, *_PAIRS[2:]),
        _draw_tensors), _op(f"bitwise_{name}.Tensor_out(Tensor self, Tensor other", _infer_bits, bits, bitwise, _BITS,
        _draw_bits, _BITWISE), _op(
            f"bitwise_{name}.Scalar_out(Tensor self, Scalar other", _infer_bits_number, by_number, lambda x,
            y: bitwise(x, x.dtype.type(y)), (Case((T((3, 4), DType.INT64, -99, 99), 12)),
            Case((T((7,), DType.UINT8, 0, 256), 15), "the lower half of a byte")), _draw_bits_number, _BITWISE,
        ),
    )  # fmt: skip


_ODD = T((7,), values=(1.0, math.nan, math.inf, -math.inf, -0.0, 3.0e38, -math.nan))
_ONE = (Case((T((3, 4), DType.BOOL),)), Case((T((2, 3, 4, 5), DType.BOOL, dim_order=(0, 2, 3, 1)),), "channels last"))

OPS = [
    *_compared("eq", lambda x, y: np.equal(x, y)),
    *_compared("ne", lambda x, y: np.not_equal(x, y)),
    *_compared("lt", lambda x, y: np.less(x, y)),
    *_compared("le", lambda x, y: np.less_equal(x, y)),
    *_compared("gt", lambda x, y: np.greater(x, y)),
    *_compared("ge", lambda x, y: np.greater_equal(x, y)),
    *_logical("and", lambda x, y: np.logical_and(x, y), lambda x, y: np.bitwise_and(x, y)),
    *_logical("or", lambda x, y: np.logical_or(x, y), lambda x, y: np.bitwise_or(x, y)),
    *_logical("xor", lambda x, y: np.logical_xor(x, y), lambda x, y: np.bitwise_xor(x, y)),
    _op(
        "logical_not.out(Tensor self", _infer_not, _lower_one("logical_not"), lambda x: np.logical_not(x),
        (*_ONE, Case((T((3,), values=(0.0, -0.0, math.nan)),), "of numbers")), _draw_not(*COMPUTED),
    ),
    _op(
        "bitwise_not.out(Tensor self", _infer_not_bits, _lower_one("bitwise_not"), lambda x: np.invert(x),
        (*_ONE, *(Case((T((7,), dtype, -99, 99),), str(dtype.numpy)) for dtype in _BITWISE[1:])), _draw_not(*_BITWISE),
        _BITWISE,
    ),
    _op(
        "isnan.out(Tensor self", _infer_not, _lower_one("mark_nan"), lambda x: np.isnan(x),
        (Case((_ODD,)), Case((T((4,), DType.INT32, -9, 9),), "of whole numbers: never")), _draw_odd, inplace=(),
    ),
    _op(
        "isinf.out(Tensor self", _infer_not, _lower_one("mark_infinite"), lambda x: np.isinf(x),
        (Case((_ODD,)), Case((T((4,), DType.INT32, -9, 9),), "of whole numbers: never")), _draw_odd, inplace=(),
    ),
    _op(
        "where.self_out(Tensor condition, Tensor self, Tensor other", _infer_where, _lower_where, _np_where,
        (
            Case((T((3, 4), DType.BOOL), T((3, 4)), T((3, 4)))),
            Case((T((5, 5), DType.BOOL, constant=True), T((2, 2, 5, 5)), T((), values=(-math.inf,), constant=True)),
            "a causal mask"), Case((T((2, 3, 4, 5), DType.BOOL, dim_order=(0, 2, 3, 1)), T((3, 1, 1)), T((2, 3, 4, 5))),
            "one number a channel"), Case((T((6,), DType.BOOL), T((6,), DType.INT64), T((), DType.FLOAT32)),
            "of two types: the wider one"),
        ),
        _draw_where, (DType.BOOL,), ("self", "other"), ("self", "other"),
    ),
]  # fmt: skip

_COMPARED = ("ne", "lt", "le", "gt", "ge")

INT8 = [
    Int8(("aten::where.self",), Scales.CHOICE, mask=Mask.CHOSEN, state=State.ELEMENTS),
    Int8(("aten::where.ScalarOther", "aten::where.ScalarSelf"), Scales.CHOICE, mask=Mask.CHOSEN),
    Int8(("aten::where.Scalar",), mask=Mask.CHOSEN),
    Int8(("aten::masked_fill.Scalar",), Scales.CHOICE, mask=Mask.FILLED),
    Int8(("aten::masked_fill_.Scalar",), Scales.CHOICE),
    Int8(("aten::masked_fill.Tensor",), mask=Mask.FILLED),
    Int8(("aten::eq.Scalar",), mask=Mask.EQUAL),
    Int8(tuple(f"aten::{name}.Scalar" for name in _COMPARED), mask=Mask.COMPARED),
    Int8(("aten::logical_not",), mask=Mask.INVERTED),
]
