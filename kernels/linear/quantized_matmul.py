"""Products of two int8 activations. ExecuTorch's operator takes the second one transposed; ours as PyTorch does, in any
dim order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Scratch, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.integer_layer import BMM, product_of_activations
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.quantized import Rule, multiplier_shift, requantize, word_multiplier
from etexport.program.model import Array, DType, Value


def _infer(node: Node, left: str, right: str, *, transposed: bool) -> tuple[InferredSpec, ...]:
    a, b = node[left].spec, node[right].spec
    inner, columns = (-1, -2) if transposed else (-2, -1)
    ranks = (3,) if transposed else (2, 3)
    if (
        len(a.shape) not in ranks
        or len(b.shape) != len(a.shape)
        or a.shape[-1] != b.shape[inner]
        or a.shape[:-2] != b.shape[:-2]
    ):
        raise node.error(f"no product of {list(a.shape)} and {list(b.shape)}")
    if b.dtype is not DType.INT8:
        raise node.error(f"{right} is {b.dtype.numpy}, not int8")
    shape = (*a.shape[:-1], b.shape[columns])
    is_word = 0 <= node["multiplier"] < 2**31 and -31 <= node["shift"] <= 30
    word, shift = word_multiplier(node["multiplier"], node["shift"]) if is_word else (-1, 0)
    if not 0 <= word < 2**31:
        raise node.error(f"a scale of {node['multiplier']} * 2^({node['shift']} - 31)")
    if a.shape[-1] * 255 * 255 << max(shift, node["shift"], 0) >= 2**31:
        raise node.error(f"sums of {a.shape[-1]} products at this scale need more than 32 bits")
    return ((DType.INT8, shape),)


def _infer_ours(node: Node) -> tuple[InferredSpec, ...]:
    for name in ("self_zero_point", "mat2_zero_point", "output_zero_point"):
        _check_zero(node, name, node[name])
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"results clamped to {node['activation_min']} .. {node['activation_max']}, not within int8")
    return _infer(node, "self", "mat2", transposed=False)


def _infer_theirs(node: Node) -> tuple[InferredSpec, ...]:
    for name, value in (
        ("lhs_offset", -node["lhs_offset"]),
        ("rhs_offset", -node["rhs_offset"]),
        ("output_offset", node["output_offset"]),
    ):
        _check_zero(node, name, value)
    return _infer(node, "lhs", "rhs_transposed", transposed=True)


def _check_zero(node: Node, name: str, value: int) -> None:
    if not -128 <= value <= 127:
        raise node.error(f"{name} is {node[name]}: a zero point outside int8")


@dataclass(frozen=True)
class _Side:
    """One operand as vectors of `inner` elements: steps in elements of the batch, the vectors, along them."""

    value: Value
    vectors: int
    steps: tuple[int, int, int]
    out_step: int
    zero: int

    @property
    def neighbours(self) -> bool:
        """Whether the elements of a vector lie side by side."""
        return self.steps[2] == 1


def _batched(strides: tuple[int, ...]) -> tuple[int, int, int]:
    batch, row, column = (*(0,) * (3 - len(strides)), *strides)
    return batch, row, column


def _sides(a: _Side, b: _Side, inner: int) -> tuple[_Side, _Side]:
    """The rows, and the columns, which are packed four at a time: packing costs about 15 instructions for 4 elements, 4
    x 4 products 14."""
    quads = -(-inner // 4)

    def cost(rows: _Side, columns: _Side) -> tuple[bool, int]:
        return not rows.neighbours, -(-columns.vectors // 4) * (60 * quads + rows.vectors * (14 * quads + 28))

    return (a, b) if cost(a, b) <= cost(b, a) else (b, a)


def _call(
    node: Node,
    target: Target,
    names: tuple[str, str],
    zeros: tuple[int, int, int],
    bounds: tuple[int, int],
    transposed: bool,
) -> Call:
    a, b, out = node[names[0]], node[names[1]], node.out
    scale = (node["multiplier"], node["shift"])
    multiplier, shift = scale if target.rounding == "tflm" else word_multiplier(*scale)
    batch, rows, columns = (*(1,) * (3 - len(out.spec.shape)), *out.spec.shape)
    inner = a.spec.shape[-1]
    out_batch, out_row, out_column = _batched(out.spec.strides)
    b_batch, second, third = _batched(b.spec.strides)
    b_vectors, b_inner = (second, third) if transposed else (third, second)
    x, y = _sides(
        _Side(a, rows, _batched(a.spec.strides), out_row, zeros[0]),
        _Side(b, columns, (b_batch, b_vectors, b_inner), out_column, zeros[1]),
        inner,
    )
    geometry: dict[str, GeometryField] = {
        "batch": batch, "rows": x.vectors, "inner": inner, "columns": y.vectors, "x_steps": x.steps, "y_steps": y.steps,
        "out_steps": (out_batch, x.out_step, y.out_step), "x_zero": x.zero, "y_zero": y.zero, "zero_point": zeros[2],
        "multiplier": multiplier, "shift": shift, "low": bounds[0], "high": bounds[1],
    }  # fmt: skip
    twice = target.rounding == "tflm"
    fast = "dsp" in target.features and x.neighbours and not twice and shift == 0
    if fast:
        function, header = (
            f"quantized_matmul_dsp<{str(bounds != (-128, 127)).lower()}>",
            "linear/quantized_matmul_dsp.h",
        )
        elements = 8 + 18 * -(-inner // 4)
    else:
        at_once = 2 if "riscv" in target.features else 1
        function, header = (
            f"quantized_matmul<et::PortableProducts<{str(twice).lower()}, {at_once}>>",
            "linear/quantized_matmul.h",
        )
        elements = 8 + 4 * inner
    operands = (Write(out.id), Read(x.value.id), Read(y.value.id), Scratch(DType.INT16, elements))
    return Call(function, header, geometry, operands, None, out.spec.numel * inner, "dsp" if fast else "portable")


def _lower_ours(node: Node, target: Target) -> Call:
    zeros = (node["self_zero_point"], node["mat2_zero_point"], node["output_zero_point"])
    return _call(
        node, target, ("self", "mat2"), zeros, (node["activation_min"], node["activation_max"]), transposed=False
    )


def _lower_theirs(node: Node, target: Target) -> Call:
    zeros = (-node["lhs_offset"], -node["rhs_offset"], node["output_offset"])
    return _call(node, target, ("lhs", "rhs_transposed"), zeros, (-128, 127), transposed=True)


def _reference_ours(
    a: Array, b: Array, a_zero: int, b_zero: int, zero: int, multiplier: int, shift: int, low: int, high: int
) -> Array:
    sums = np.matmul(a.astype(np.int64) - a_zero, b.astype(np.int64) - b_zero)
    results: Array = np.clip(requantize(sums, *word_multiplier(multiplier, shift)) + zero, low, high).astype(np.int8)
    return results


def _reference_theirs(
    a: Array, a_offset: int, b: Array, b_offset: int, zero: int, multiplier: int, shift: int, scratch: Any
) -> Array:
    return _reference_ours(a, b.swapaxes(1, 2), -a_offset, -b_offset, zero, multiplier, shift, -128, 127)


# ---- cases -----------------------------------------------------------------------------------------------------------


def _int8(*shape: int) -> T:
    return T(shape, DType.INT8, -128, 128)


def _ours(a: tuple[int, ...], columns: int, note: str = "", zeros: tuple[int, int, int] = (3, -5, 7),
    scale: float = 1.0,
          bounds: tuple[int, int] = (-128, 127)) -> Case:  # fmt: skip
    multiplier, shift = multiplier_shift(scale / (60 * a[-1] ** 0.5))
    b = (*a[:-2], a[-1], columns)
    return Case((_int8(*a), _int8(*b), *zeros, multiplier, shift, *bounds), note)


def _theirs(a: tuple[int, ...], columns: int, note: str = "", zeros: tuple[int, int, int] = (3, -5, 7)) -> Case:
    multiplier, shift = multiplier_shift(1 / (60 * a[-1] ** 0.5))
    return Case((_int8(*a), -zeros[0], _int8(a[0], columns, a[-1]), -zeros[1], zeros[2], multiplier, shift, None), note)


def _drawn(draw: Draw) -> tuple[tuple[int, ...], int, str, tuple[int, int, int]]:
    shape = (draw.integer(1, 3), draw.integer(1, 7), draw.integer(1, 30))
    zeros = (draw.integer(-128, 127), draw.integer(-128, 127), draw.integer(-128, 127))
    return shape, draw.integer(1, 9), "", zeros


OPS = [
    Op(
        f"{BMM}(Tensor self, Tensor mat2, int self_zero_point, int mat2_zero_point, int output_zero_point, int "
        "multiplier, int shift,"
        " int activation_min, int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_ours,
        lower=_lower_ours,
        dtypes=(DType.INT8,),
        reference=_reference_ours,
        exact=True,
        cases=(
            _ours((2, 3, 4), 5, "two products"),
            _ours((1, 9, 16), 8, "zero points at the ends", (-128, 127, 0)),
            _ours((4, 7), 6, "matrices"),
            _ours((1, 2, 8), 4, "a scale above one half", scale=150.0),
            _ours((2, 5, 7), 3, "three columns, rows of seven", bounds=(-20, 90)),
            _ours((1, 3, 1), 9, "one product each"),
        ),
        draw=lambda draw: _ours(*_drawn(draw)),
    ),
    Op(
        "cortex_m::quantized_batch_matmul.out(Tensor lhs, int lhs_offset, Tensor rhs_transposed, int rhs_offset, int "
        "output_offset,"
        " int multiplier, int shift, Tensor? scratch, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_theirs,
        lower=_lower_theirs,
        dtypes=(DType.INT8,),
        reference=_reference_theirs,
        exact=True,
        cases=(_theirs((2, 3, 4), 5, "two products"), _theirs((1, 5, 17), 6, "one product")),
        draw=lambda draw: _theirs(*_drawn(draw)),
    ),
]

RULES = [Rule("aten::bmm.out", product_of_activations)]
