"""Tables of embeddings with weights in few bits: what the target side makes of a table that is dequantised, and
ExecuTorch's operators that have stored ones, `quantized_decomposed::embedding_byte`, `embedding_4bit` and
`embedding_2bit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.quantized import Fused
from etexport.kernel.weights import NO_ROWS, Kept, Rounded, Weights
from etexport.program.model import HALVES, Array, DType, widened
from etexport_kernels.few_bits import fixed, stored


@dataclass(frozen=True, eq=False)
class _Table:
    """Of `bits` bits, called `kind` by the kernels; weights (rows, elements), scales and zero points (rows, groups)."""

    weight: Array
    scales: Array | None
    zero_points: Array | None
    bits: int
    kind: str


def _infer(node: Node, elements: int) -> tuple[InferredSpec, ...]:
    if node["indices"].spec.dtype not in (DType.INT64, DType.INT32):
        raise node.error(f"indices are {node['indices'].spec.dtype.numpy}")
    return ((DType.FLOAT32, (*node["indices"].spec.shape, elements)),)


def _lower(node: Node, table: _Table, target: Target) -> Call:
    rows, elements = table.weight.shape
    geometry: dict[str, GeometryField] = {
        "count": node["indices"].spec.numel, "rows": rows, "elements": elements,
    }  # fmt: skip
    m4f = target.features >= {"arm", "dsp", "fpu"}
    laid = None
    if m4f and table.scales is not None and table.zero_points is None:
        laid = fixed.blocks(table.weight, table.scales, table.bits)
    if laid is not None:
        groups, words = laid
        geometry |= {"groups": groups.count, "group": groups.size, "eights": groups.eights}
        operands = (Write(node.out.id), words, Read(node["indices"].id))
        function = f"few_bits_embedding_fixed<et::Fixed{table.kind}>"
        return Call(function, "few_bits/fixed_m4f.h", geometry, operands, variant="fixed")
    halves = stored.as_float16(table.weight) if m4f and table.bits == 16 else None
    weight, unit = (table.weight, 1.0) if halves is None else halves  # as a linear layer of the M4 reads them
    group = elements if table.scales is None else elements // table.scales.shape[1]
    geometry |= {"group": group, "zero": 0 if table.bits == 16 else 1 << (table.bits - 1), "unit": unit}
    constants = stored.in_rows(weight, table.scales, table.zero_points, table.bits)
    kind = table.kind if halves is None else "Float16"
    operands = (Write(node.out.id), *constants, Read(node["indices"].id))
    return Call(f"few_bits_embedding<et::{kind}>", "few_bits/few_bits.h", geometry, operands)


# ---- made on the target side -----------------------------------------------------------------------------------------


def _infer_kept(node: Node) -> tuple[InferredSpec, ...]:
    return _infer(node, stored.rows_of(node)[1])


def _lower_kept(node: Node, target: Target) -> Call:
    scales, zeros = (None if node[name] is None else node[name].data for name in ("scales", "zero_points"))
    return _lower(node, _Table(node["weight"].data, scales, zeros, node["bits"], stored.kind(node)), target)


def _reference_kept(weight: Array, scales: Array | None, zero_points: Array | None, indices: Array, bits: int) -> Array:
    return np.take(stored.real(weight, scales, zero_points), indices, axis=0)


def _keep(node: Node, kept: Kept, before: Rounded) -> Fused | str:
    rows = kept.in_rows()
    if rows is None:
        return NO_ROWS
    return Fused(
        "etexport::few_bits_embedding.out", (rows.stored, rows.scales, rows.zero_points, node["indices"], kept.bits)
    )


def _in_file(node: Node, kept: Kept) -> Fused | None:
    rows = kept.in_rows() if kept.bits < 16 else None
    if rows is None or rows.scales is None or node["indices"].spec.dtype is not DType.INT64:
        return None
    weight, name, limit = rows.stored, "embedding_byte", 1 << kept.bits - 1
    if kept.bits == 4:
        if weight.shape[1] % 2:
            return None
        unsigned = (weight + 8).astype(np.uint8)
        weight, name = unsigned[:, ::2] << 4 | unsigned[:, 1::2], "embedding_4bit"
    shape = rows.scales.shape if rows.scales.shape[1] > 1 else rows.scales.shape[:1]
    zeros = None if rows.zero_points is None else rows.zero_points.astype(np.float32).reshape(shape)
    table = (weight, rows.scales.reshape(shape), zeros, -limit, limit - 1, node["indices"])
    return Fused(f"quantized_decomposed::{name}.out", table)


_FILES = {
    f"quantized_decomposed::embedding_{width}.{end}": f"int{bits}"
    for width, bits in (("byte", 8), ("4bit", 4), ("2bit", 4))
    for end in ("out", "dtype_out")
}
WEIGHTS = Weights("aten::embedding.out", "weight", _keep, stored=_in_file, files=_FILES)


def _kept(
    indices: T, rows: int, elements: int, groups: int, bits: int, note: str = "", *, zeros: bool = False,
    half: DType = DType.BFLOAT16,
) -> Case:  # fmt: skip
    return Case((*stored.of_case((rows, elements), rows, groups, bits, zeros=zeros, half=half), indices, bits), note)


def _draw_indices(draw: Draw) -> tuple[T, int]:
    rows, shape = draw.integer(1, 9), tuple(draw.integer(1, 3) for _ in range(draw.integer(0, 2)))
    return T(shape, draw.choice((DType.INT64, DType.INT32)), 0, rows), rows


def _draw_kept(draw: Draw) -> Case:
    groups, size = stored.draw_sizes(draw)
    indices, rows = _draw_indices(draw)
    bits, zeros, half = draw.choice((4, 8, 16)), draw.flag(), draw.choice(HALVES)
    return _kept(indices, rows, groups * size, groups, bits, zeros=zeros, half=half)


# ---- ExecuTorch's ----------------------------------------------------------------------------------------------------


def _stored(weight: Array, bits: int) -> Array:
    """What a table holds, as int8 (rows, elements): a byte the upper nibble first, or the lowest two bits."""
    if bits == 8:
        return weight if weight.dtype == np.int8 else (weight.astype(np.int16) - 128).astype(np.int8)
    places = (4, 0) if bits == 4 else (0, 2, 4, 6)
    parts = [(weight >> place & (1 << bits) - 1).astype(np.int8) - (1 << bits - 1) for place in places]
    return np.stack(parts, axis=-1).reshape(len(weight), -1).astype(np.int8)


def _shape(node: Node, bits: int) -> tuple[int, int, int]:
    """(rows, elements of a row, groups of a row), after checking the operands."""
    weight, scales, zeros = (node[name] for name in ("weight", "weight_scales", "weight_zero_points"))
    if any(one is not None and one.data is None for one in (weight, scales, zeros)):
        raise node.error("the table is no constant")
    if weight.spec.dtype not in ((DType.UINT8, DType.INT8) if bits == 8 else (DType.UINT8,)):
        raise node.error(f"a table of {weight.spec} in {bits} bits")
    if len(weight.spec.shape) != 2 or scales.spec.dtype not in (DType.FLOAT32, DType.FLOAT16):
        raise node.error(f"a table of {weight.spec} with scales {scales.spec}")
    rows, elements = weight.spec.shape[0], weight.spec.shape[1] * 8 // bits
    groups = scales.spec.shape[1] if len(scales.spec.shape) == 2 else 1
    if scales.spec.shape[:1] != (rows,) or len(scales.spec.shape) > 2 or groups < 1 or elements % groups:
        raise node.error(f"scales {scales.spec} of a table of {weight.spec}")
    if zeros is not None and zeros.spec.shape != scales.spec.shape:
        raise node.error(f"zero points {zeros.spec} beside scales {scales.spec}")
    return rows, elements, groups


def _table(node: Node, bits: int) -> _Table:
    rows, _, groups = _shape(node, bits)
    weight, zeros = node["weight"].data, node["weight_zero_points"]
    scales = _floats(node["weight_scales"].data).reshape(rows, groups)
    # numbers of bytes without signs are stored 128 lower, and what stands for zero with them
    shift = -128 if weight.dtype == np.uint8 and bits == 8 else 0
    points = np.zeros((rows, groups), np.float32) if zeros is None else _floats(zeros.data).reshape(rows, groups)
    points = points + shift
    if ((points != np.rint(points)) | (points < -128) | (points > 127)).any():
        raise node.error("zero points that are no whole numbers of 8 bits")
    whole = points.astype(np.int8) if points.any() else None
    return _Table(_stored(weight, bits), scales, whole, max(bits, 4), "Bytes" if bits == 8 else "Nibbles")


def _floats(numbers: Array) -> Array:
    return widened(numbers) if numbers.dtype == DType.FLOAT16.numpy else numbers.astype(np.float32)


def _op(name: str, bits: int, end: str, cases: tuple[Case, ...], draw: Callable[[Draw], Case]) -> Op:
    def infer(node: Node) -> tuple[InferredSpec, ...]:
        return _infer(node, _shape(node, bits)[1])

    def reference(
        weight: Array, scales: Array, zeros: Array | None, low: int, high: int, indices: Array, dtype: int | None = None
    ) -> Array:
        unsigned = weight.dtype == np.uint8 and bits == 8
        whole = weight.astype(np.int16) if unsigned else _stored(weight, bits)
        factors = _floats(scales).reshape(len(weight), -1)
        grouped = whole.reshape(*factors.shape, -1).astype(np.float32)
        if zeros is not None:
            grouped = grouped - _floats(zeros).reshape(*factors.shape, 1)
        return np.take((grouped * factors[..., None]).reshape(whole.shape), indices, axis=0)

    arguments = "Tensor weight, Tensor weight_scales, Tensor? weight_zero_points, int weight_quant_min, "
    return Op(
        f"quantized_decomposed::{name}({arguments}int weight_quant_max, Tensor indices, {end}) -> Tensor(a!)",
        infer=infer,
        lower=lambda node, target: _lower(node, _table(node, bits), target),
        reference=reference,
        layout=Layout.CONTIGUOUS,
        dtypes=(DType.UINT8, DType.INT8),
        exact=True,
        cases=cases,
        draw=draw,
    )


def _case(rows: int, elements: int, groups: int, bits: int, indices: T, *more: int, zeros: bool = False,
    dtype: DType = DType.UINT8, note: str = "") -> Case:  # fmt: skip
    weight = T((rows, elements * bits // 8), dtype, -128 if dtype is DType.INT8 else 0,
        128 if dtype is DType.INT8 else 256, constant=True)  # fmt: skip
    shape = (rows, groups) if groups > 1 else (rows,)
    points = tuple(float(at % 5 - 2) for at in range(rows * groups))
    offset = T(shape, values=points, constant=True) if zeros else None
    scales = T(shape, low=0.01, high=0.1, constant=True)
    limit = 1 << bits - 1
    return Case((weight, scales, offset, -limit, limit - 1, indices, *more), note)


def _drawing(bits: int, more: tuple[int, ...]) -> Callable[[Draw], Case]:
    def draw(source: Draw) -> Case:
        groups, size = source.choice((1, 1, 2, 3)), 4 * source.integer(1, 10)
        indices, rows = _draw_indices(source)
        dtype = source.choice((DType.UINT8, DType.INT8)) if bits == 8 else DType.UINT8
        # bytes without signs have zero points of their own, about 128
        zeros = source.flag() and dtype is not DType.UINT8 if bits == 8 else source.flag()
        return _case(rows, groups * size, groups, bits, indices, *more, zeros=zeros, dtype=dtype)

    return draw


def _ops(name: str, bits: int, dtype: DType, end: str) -> tuple[Op, ...]:
    indices = T((2, 3), DType.INT64, 0, 7)
    plain = (
        _case(7, 16, 1, bits, indices, dtype=dtype, note="a scale for each row"),
        _case(7, 64, 2, bits, indices, dtype=dtype, zeros=True, note="groups of 32, zero points"),
    )
    typed = (_case(8, 32, 4, bits, indices, DType.FLOAT32.code, dtype=dtype, note="groups of 8"),)
    return (
        _op(f"{name}.out", bits, "*, Tensor(a!) out", plain, _drawing(bits, ())),
        _op(f"{name}.dtype_out", bits, end, typed, _drawing(bits, (DType.FLOAT32.code,))),
    )


OPS = (
    Op(
        f"etexport::few_bits_embedding.out({stored.OF_WEIGHTS}, Tensor indices, int bits, *, Tensor(a!) out) -> "
        "Tensor(a!)",
        infer=_infer_kept,
        lower=_lower_kept,
        reference=_reference_kept,
        layout=Layout.CONTIGUOUS,
        dtypes=(DType.INT8, *HALVES),
        exact=True,
        cases=(
            _kept(T((2, 3), DType.INT64, 0, 7), 7, 16, 1, 8, "a scale for each row"),
            _kept(T((4,), DType.INT64, 0, 7), 7, 16, 1, 16, "float16", half=DType.FLOAT16),
            _kept(T((4,), DType.INT32, 0, 7), 7, 64, 2, 4, "groups of 32", zeros=True),
            _kept(T((4,), DType.INT32, 0, 7), 7, 64, 2, 4, "groups of 32 in blocks of rows"),
        ),
        draw=_draw_kept,
    ),
    *_ops("embedding_byte", 8, DType.INT8, "*, ScalarType? dtype=None, Tensor(a!) out"),
    *_ops("embedding_4bit", 4, DType.UINT8, "ScalarType? dtype=None, *, Tensor(a!) out"),
    *_ops("embedding_2bit", 2, DType.UINT8, "ScalarType? dtype=None, *, Tensor(a!) out"),
)
