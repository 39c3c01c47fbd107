"""Linear layers and matrix products. A layer with constant weights is the pointwise convolution of its rows."""

from __future__ import annotations

from math import prod

import numpy as np

from etexport.kernel.call import Call, Const, Operand, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Scales, State, Weights
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, TensorSpec, Value
from etexport_kernels.convolution.pointwise import pointwise
from etexport_kernels.linear import quantized, quantized_matmul

_INF = float("inf")


def _clamp(node: Node) -> tuple[float, float]:
    epilogue = node.instruction.epilogue
    return (epilogue.low, epilogue.high) if epilogue is not None else (-_INF, _INF)


def _product(node: Node, a: Value, b: Value, bias: Value | None = None, alpha: float = 1.0, beta: float = 1.0) -> Call:
    """a (..., rows, inner) x b (..., inner, columns), neither of them packed."""
    if node.residual is not None:
        raise node.error("a product of two activations takes no residual")
    rows, inner = a.spec.shape[-2:]
    inner = inner if alpha != 0 else 0  # PyTorch does not look at the product then, be it NaN
    columns = b.spec.shape[-1]
    batch = prod(a.spec.shape[:-2])
    strides = (0, 0, 0) if bias is None else _broadcast(bias.spec)
    low, high = _clamp(node)
    geometry = {
        "batch": batch, "rows": rows, "inner": inner, "columns": columns,
        "batch_stride": strides[0], "row_stride": strides[1], "column_stride": strides[2],
        "alpha": float(alpha), "beta": float(beta), "low": low, "high": high,
    }  # fmt: skip
    last: Operand = Const("bias", None) if bias is None or beta == 0 else Read(bias.id)
    operands = (Write(node.out.id), Read(a.id), Read(b.id), last)
    return Call("matmul", "linear/matmul.h", geometry, operands, None, batch * rows * inner * columns)


def _broadcast(spec: TensorSpec) -> tuple[int, int, int]:
    """Strides of a bias over (batch, row, column): 0 where it has size 1 or no such dimension."""
    shape = (1,) * (3 - len(spec.shape)) + spec.shape
    strides = (0,) * (3 - len(spec.shape)) + spec.strides
    return tuple(0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))  # type: ignore[return-value]


# ---- mm, addmm, bmm --------------------------------------------------------------------------------------------------


def _matrices(node: Node, left: str, right: str, rank: int) -> tuple[int, ...]:
    """The shape of the product of two operands of this rank."""
    a, b = node[left].spec, node[right].spec
    if len(a.shape) != rank or len(b.shape) != rank or a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        raise node.error(f"no product of {list(a.shape)} and {list(b.shape)}")
    if a.dtype is not b.dtype:
        raise node.error(f"a product of {a.dtype.numpy} and {b.dtype.numpy}")
    return (*a.shape[:-1], b.shape[-1])


def _infer_mm(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, _matrices(node, "self", "mat2", 2)),)


def _infer_bmm(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, _matrices(node, "self", "mat2", 3)),)


def _infer_addmm(node: Node) -> tuple[InferredSpec, ...]:
    shape = _matrices(node, "mat1", "mat2", 2)
    bias = node["self"].spec
    padded = (1,) * (2 - len(bias.shape)) + bias.shape
    if len(padded) != 2 or any(size not in (1, full) for size, full in zip(padded, shape, strict=True)):
        raise node.error(f"a bias {list(bias.shape)} cannot be added to {list(shape)}")
    return ((node["mat1"].spec.dtype, shape),)


def _lower_mm(node: Node, target: Target) -> Call:
    weight = node["mat2"]
    if weight.data is None:
        return _product(node, node["self"], weight)
    return pointwise(node, node["self"], target, weight.data.T, np.zeros(weight.spec.shape[1], np.float32))


def _lower_addmm(node: Node, target: Target) -> Call:
    bias, x, weight, alpha, beta = node["self"], node["mat1"], node["mat2"], node["alpha"], node["beta"]
    one_for_all_rows = len(bias.spec.shape) < 2 or bias.spec.shape[0] == 1
    if alpha == 0 or weight.data is None or not (beta == 0 or (bias.data is not None and one_for_all_rows)):
        return _product(node, x, weight, bias, alpha, beta)
    outputs = weight.spec.shape[1]
    # with beta 0 PyTorch does not look at the bias, be it NaN
    added = (
        np.zeros(outputs, np.float32)
        if beta == 0
        else np.broadcast_to(_scaled(bias.data, beta).reshape(-1), (outputs,))
    )
    return pointwise(node, x, target, _scaled(weight.data, alpha).T, added)


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1 else (array.astype(np.float64) * factor).astype(np.float32)


def _lower_bmm(node: Node, target: Target) -> Call:
    return _product(node, node["self"], node["mat2"])


def _reference_mm(a: Array, b: Array) -> Array:
    product: Array = np.matmul(a.astype(np.float64), b.astype(np.float64))
    return product.astype(a.dtype)


def _reference_addmm(bias: Array, a: Array, b: Array, beta: float, alpha: float) -> Array:
    product: Array = np.zeros((a.shape[0], b.shape[1]))
    if alpha != 0:
        product = alpha * np.matmul(a.astype(np.float64), b.astype(np.float64))
    if beta != 0:
        product = product + beta * bias.astype(np.float64)
    return product.astype(a.dtype)


# ---- linear ----------------------------------------------------------------------------------------------------------


def _infer_linear(node: Node) -> tuple[InferredSpec, ...]:
    x, weight, bias = node["input"].spec, node["weight"].spec, node["bias"]
    if len(weight.shape) != 2 or not x.shape or x.shape[-1] != weight.shape[1]:
        raise node.error(f"linear of {list(x.shape)} with a weight {list(weight.shape)}")
    if bias is not None and bias.spec.shape != weight.shape[:1]:
        raise node.error(f"a bias {list(bias.spec.shape)} for {weight.shape[0]} outputs")
    return ((x.dtype, (*x.shape[:-1], weight.shape[0])),)


def _lower_linear(node: Node, target: Target) -> Call:
    weight, bias = node["weight"], node["bias"]
    if weight.data is None or (bias is not None and bias.data is None):
        raise node.error(
            "the weight or the bias is not a constant of the model", "write it as a matrix product: x @ weight.T + bias"
        )
    return pointwise(
        node,
        node["input"],
        target,
        weight.data,
        np.zeros(weight.spec.shape[0], np.float32) if bias is None else bias.data,
    )


def _reference_linear(x: Array, weight: Array, bias: Array | None) -> Array:
    product: Array = np.matmul(x.astype(np.float64), weight.astype(np.float64).T)
    if bias is not None:
        product = product + bias
    return product.astype(x.dtype)


# ---- cases -----------------------------------------------------------------------------------------------------------


def _draw_mm(draw: Draw) -> Case:
    rows, inner, columns = draw.integer(1, 6), draw.integer(1, 40), draw.integer(1, 21)
    return Case((T((rows, inner)), T((inner, columns), constant=draw.flag())))


def _draw_bmm(draw: Draw) -> Case:
    batch, rows, inner, columns = draw.integer(1, 3), draw.integer(1, 6), draw.integer(1, 12), draw.integer(1, 9)
    return Case((T((batch, rows, inner)), T((batch, inner, columns))))


def _draw_addmm(draw: Draw) -> Case:
    rows, inner, columns = draw.integer(1, 6), draw.integer(1, 40), draw.integer(1, 21)
    bias = draw.choice(((columns,), (1, columns), (rows, columns), (rows, 1), (1,), ()))
    beta, alpha = (draw.choice((1, 1, 1, 0, draw.number(-2.0, 2.0))) for _ in range(2))
    return Case(
        (T(bias, constant=draw.flag()), T((rows, inner)), T((inner, columns), constant=draw.flag()), beta, alpha)
    )


def _draw_linear(draw: Draw) -> Case:
    batch = tuple(draw.integer(1, 3) for _ in range(draw.integer(0, 3)))
    inputs, outputs = draw.integer(1, 40), draw.integer(1, 21)
    return Case(
        (
            T((*batch, inputs)),
            T((outputs, inputs), constant=True),
            T((outputs,), constant=True) if draw.flag() else None,
        )
    )


_NAN = float("nan")

OPS = [
    Op(
        schema="aten::linear.out(Tensor input, Tensor weight, Tensor? bias=None, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_linear,
        lower=_lower_linear,
        reference=_reference_linear,
        layout=Layout.CONTIGUOUS,
        absorbs=frozenset({"clamp", "residual"}),
        sum_length=lambda node: int(node["weight"].spec.shape[1]) + 1,
        cases=(
            Case((T((1, 64)), T((12, 64), constant=True), T((12,), constant=True)), "one row"),
            Case((T((3, 17)), T((5, 17), constant=True), None), "three rows, nothing is a multiple of four"),
            Case((T((7,)), T((4, 7), constant=True), T((4,), constant=True)), "a vector"),
            Case((T((2, 3, 8)), T((8, 8), constant=True), T((8,), constant=True)), "more than two dimensions"),
            Case((T((1, 1)), T((1, 1), constant=True), T((1,), constant=True)), "one number"),
            Case(
                (T((1, 3), values=(_NAN, 1.0, _INF)), T((2, 3), constant=True, low=0.5, high=1.0), None),
                "NaN and infinity",
            ),
        ),
        draw=_draw_linear,
    ),
    Op(
        schema="aten::addmm.out(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1, Tensor(a!) "
        "out) -> Tensor(a!)",
        infer=_infer_addmm,
        lower=_lower_addmm,
        reference=_reference_addmm,
        layout=Layout.CONTIGUOUS,
        absorbs=frozenset({"clamp"}),
        sum_length=lambda node: int(node["mat1"].spec.shape[1]) + 1,
        cases=(
            Case(
                (T((10,), constant=True), T((1, 64)), T((64, 10), constant=True), 1, 1),
                "a linear layer as export writes it",
            ),
            Case((T((1, 6), constant=True), T((4, 5)), T((5, 6), constant=True), 1, 1), "bias of one row"),
            Case((T((4, 6), constant=True), T((4, 5)), T((5, 6), constant=True), 1, 1), "a bias for each row"),
            Case((T((4, 1)), T((4, 5)), T((5, 6)), 1, 1), "bias and weight are activations"),
            Case((T((6,), constant=True), T((2, 5)), T((5, 6), constant=True), 0.5, -2.0), "beta and alpha"),
            Case(
                (T((2,), values=(_NAN, _INF), constant=True), T((2, 5)), T((5, 2), constant=True), 0, 1),
                "beta 0 ignores the bias",
            ),
            Case(
                (T((2,), values=(_NAN, _INF)), T((2, 5)), T((5, 2)), 0, 1), "beta 0 ignores the bias, all activations"
            ),
            Case(
                (T((2,), constant=True), T((1, 2), values=(_NAN, _INF)), T((2, 2), constant=True), 1, 0),
                "alpha 0 ignores the product",
            ),
        ),
        draw=_draw_addmm,
    ),
    Op(
        schema="aten::mm.out(Tensor self, Tensor mat2, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_mm,
        lower=_lower_mm,
        reference=_reference_mm,
        layout=Layout.CONTIGUOUS,
        absorbs=frozenset({"clamp"}),
        sum_length=lambda node: int(node["self"].spec.shape[1]),
        cases=(
            Case((T((3, 8)), T((8, 5), constant=True)), "constant weights"),
            Case((T((3, 7)), T((7, 6))), "two activations"),
            Case((T((1, 1)), T((1, 1))), "one number"),
        ),
        draw=_draw_mm,
    ),
    Op(
        schema="aten::bmm.out(Tensor self, Tensor mat2, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_bmm,
        lower=_lower_bmm,
        reference=_reference_mm,
        layout=Layout.CONTIGUOUS,
        absorbs=frozenset({"clamp"}),
        sum_length=lambda node: int(node["self"].spec.shape[2]),
        cases=(
            Case((T((2, 3, 4)), T((2, 4, 5))), "two products"),
            Case((T((1, 4, 9)), T((1, 9, 8))), "one product"),
        ),
        draw=_draw_bmm,
    ),
    *quantized.OPS,
    *quantized_matmul.OPS,
]

RULES = [*quantized.RULES, *quantized_matmul.RULES]

INT8 = [
    Int8(("aten::linear",), Scales.LAYER, Weights(0, rows=True), saturates=True, state=State.PRODUCTS),
    Int8(("aten::matmul", "aten::bmm", "aten::mm"), Scales.OWN, saturates=True, state=State.PRODUCTS),
    Int8(("aten::addmm", "aten::mv", "aten::dot"), state=State.PRODUCTS),
    Int8(
        ("aten::einsum", "aten::tensordot", "aten::inner", "aten::outer", "aten::ger", "aten::chain_matmul",
        "aten::linalg_multi_dot",
         "aten::linalg_matmul"), Scales.PARTS,
    ),
    Int8(("aten::scaled_dot_product_attention",), reason="attention with dropout"),
]  # fmt: skip
