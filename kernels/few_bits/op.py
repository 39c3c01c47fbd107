"""Layers and embeddings whose weights stay in 4, 8 or 16 bits beside float activations, or beside rows of them that are
rounded to int8. Convolutions are in convolution.py.

Made on the target side of a float operator that reads dequantised constants (`WEIGHTS`); no file has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Scratch, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.quantized import Fused
from etexport.kernel.weights import NO_ROWS, Kept, Rounded, Weights
from etexport.program.model import HALVES, Array, DType, Value
from etexport_kernels.few_bits import convolution, embedding, fixed, stored
from etexport_kernels.few_bits.dynamic import LONGEST, ROWS, infer_rows, rounded

_INF = float("inf")
_LONGEST = 128
"""Elements of a block at most: its sum is that of unsigned weights until the zero point's share is taken off, so that
it must not grow large beside the result."""
_MANY = 16
"""Positions for which weights are decoded once, in scratch that is then no larger than the input."""


# ---- linear ----------------------------------------------------------------------------------------------------------


def _infer_linear(node: Node) -> tuple[InferredSpec, ...]:
    x, bias = node["input"].spec, node["bias"]
    outputs, inputs, _ = stored.rows_of(node)
    if not x.shape or x.shape[-1] != inputs or (bias is not None and bias.spec.shape != (outputs,)):
        raise node.error(f"linear of {x} with weights {node['weight'].spec}")
    return ((x.dtype, (*x.shape[:-1], outputs)),)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the kernels of linear layers have in common. `zero` is what stands for 0 where no zero points are."""

    node: Node
    geometry: dict[str, GeometryField]
    constants: tuple[Const, Const, Const]
    groups: int
    zero: int

    def call(
        self, function: str, header: str, more: dict[str, GeometryField], constants: tuple[Const, ...],
        scratch: tuple[Scratch, ...], variant: str, kind: str = "",
    ) -> Call:  # fmt: skip
        node, bias = self.node, self.node["bias"]
        operands: list[Operand] = [Write(node.out.id), Read(node["input"].id), *constants]
        operands.append(Const("bias", None if bias is None else bias.data))
        operands.append(Const("residual", None) if node.residual is None else Read(node.residual.id))
        macs = node.out.spec.numel * node["weight"].spec.shape[1]
        function = f"{function}{kind or stored.kind(node)}>"
        return Call(function, header, {**self.geometry, **more}, (*operands, *scratch), None, macs, variant)


def _layer(node: Node) -> _Layer:
    outputs, inputs, groups = stored.rows_of(node)
    epilogue = node.instruction.epilogue
    low, high = (epilogue.low, epilogue.high) if epilogue is not None else (-_INF, _INF)
    geometry: dict[str, GeometryField] = {
        "positions": node.out.spec.numel // max(outputs, 1), "inputs": inputs, "outputs": outputs, "low": low,
        "high": high,
    }  # fmt: skip
    return _Layer(node, geometry, stored.row_constants(node), groups, stored.zero_of(node))


def _lower_linear(node: Node, target: Target) -> Call:
    if node.out.spec.numel >= _MANY * node["weight"].spec.shape[0] > 0:
        return convolution.linear(node, target)
    layer, inputs, halves = _layer(node), node["weight"].spec.shape[1], node["bits"] == 16
    if target.features >= {"arm", "dsp", "fpu"}:
        call = _fixed(layer, "few_bits_linear_fixed", "few_bits/fixed_m4f.h")
        if call is not None:
            return call
    weight, scales, zeros = layer.constants
    block = inputs if halves and inputs % 8 == 0 else _block(inputs, layer.groups)
    if target.features >= {"arm", "dsp", "fpu"} and block and zeros.data is None:
        blocks, kind = inputs // block, stored.kind(node)
        more: dict[str, GeometryField] = {
            "blocks": blocks, "eights": block // 8, "step": 4 if layer.groups > 1 else 0,
            "scales": 0 if halves else layer.groups, "zero": -layer.zero * 2.0**-24,
        }  # fmt: skip
        if halves:
            found = stored.as_float16(node["weight"].data)
            scales = Const("scales", np.full(1, 1.0 if found is None else found[1], np.float32))
            if found is not None:
                weight, kind = stored.in_rows(found[0], None, None, 16)[0], "Float16"
        sums = Scratch(DType.FLOAT32, 2 * blocks)
        return layer.call("few_bits_linear_m4f<et::M4f", "few_bits/m4f.h", more, (weight, scales), (sums,), "m4f", kind)
    more = {"group": inputs // layer.groups, "zero": layer.zero}
    return layer.call("few_bits_linear<et::", "few_bits/few_bits.h", more, layer.constants, (), "portable")


def _fixed(layer: _Layer, function: str, header: str) -> Call | None:
    node = layer.node
    laid = fixed.blocks_of(node)
    if laid is None:
        return None
    (groups, words), weight, bits = laid, node["weight"].data, node["bits"]
    rows = fixed.whole(len(weight), bits)
    apart = node.residual is not None or rows != len(weight)
    more: dict[str, GeometryField] = {
        "groups": groups.count, "group": groups.size, "eights": groups.eights, "apart": int(apart),
    }  # fmt: skip
    floats = Scratch(DType.FLOAT32, groups.count + (rows if apart else 0))
    scratch = (Scratch(DType.INT32, groups.count * groups.eights * 8), floats)
    return layer.call(f"{function}<et::Fixed", header, more, (words,), scratch, "fixed")


def _lower_dynamic(node: Node, target: Target) -> Call:
    layer, inputs = _layer(node), node["weight"].spec.shape[1]
    group, row = inputs // layer.groups, Scratch(DType.INT16, inputs)
    if target.features >= {"arm", "dsp", "fpu"} and node["bits"] == 4:
        call = _fixed(layer, "few_bits_dynamic_fixed", "few_bits/dynamic_m4f.h")
        if call is not None:
            return call
    more: dict[str, GeometryField] = {"group": group, "zero": layer.zero}
    if target.features >= {"arm", "dsp"} and group % 8 == 0:
        more |= {"eights": group // 8}
        scratch = (row, Scratch(DType.INT32, layer.groups))
        header = "few_bits/dynamic_dsp.h"
        return layer.call("few_bits_dynamic_dsp<et::Dsp", header, more, layer.constants, scratch, "dsp")
    return layer.call("few_bits_dynamic<et::", "few_bits/dynamic.h", more, layer.constants, (row,), "portable")


def _infer_dynamic(node: Node) -> tuple[InferredSpec, ...]:
    if node["scales"] is None:
        raise node.error("rows of integers times floats")
    infer_rows(node)
    return _infer_linear(node)


def _reference_dynamic(
    x: Array, weight: Array, scales: Array, zero_points: Array | None, bias: Array | None, bits: int
) -> Array:
    integers, scale = rounded(x)
    product = _reference_linear(integers.astype(np.float64), weight, scales, zero_points, None, bits) * scale
    return np.asarray(product if bias is None else product + bias).astype(x.dtype)


def _block(inputs: int, groups: int) -> int:
    """How many elements the M4's kernel adds up before it multiplies by a scale; 0 where it cannot. Where a row has one
    scale, that is taken several times."""
    sizes = (inputs // groups,) if groups > 1 else range(8, _LONGEST + 1, 8)
    return max((size for size in sizes if size % 8 == 0 and size <= _LONGEST and inputs % size == 0), default=0)


def _reference_linear(
    x: Array, weight: Array, scales: Array | None, zero_points: Array | None, bias: Array | None, bits: int
) -> Array:
    wide = None if scales is None else scales.astype(np.float64)
    product: Array = np.matmul(x.astype(np.float64), stored.real(weight, wide, zero_points).T)
    if bias is not None:
        product = product + bias
    return product.astype(x.dtype)


def _keep_linear(node: Node, kept: Kept, before: Rounded) -> Fused | str:
    return _fused(node["input"], kept, node["bias"], before)


def _keep_mm(node: Node, kept: Kept, before: Rounded) -> Fused | str:
    return _fused(node["self"], kept.transposed(), None, before)


def _keep_addmm(node: Node, kept: Kept, before: Rounded) -> Fused | str:
    bias = node["self"]
    outputs = node.out.spec.shape[1]
    if (node["alpha"], node["beta"]) != (1, 1) or bias.data is None or bias.spec.numel not in (1, outputs):
        return "its bias is no constant, or it is multiplied"
    return _fused(node["mat1"], kept.transposed(), np.broadcast_to(bias.data.reshape(-1), (outputs,)), before)


def _fused(x: Value, kept: Kept, bias: Any, before: Rounded) -> Fused | str:
    if bias is not None and not isinstance(bias, np.ndarray) and bias.data is None:
        return "its bias is no constant"
    rows = kept.in_rows()
    if rows is None:
        return NO_ROWS
    row = before(x)
    weights = (rows.stored, rows.scales, rows.zero_points, bias, kept.bits)
    if row is not None and rows.scales is not None and rows.stored.shape[1] // rows.scales.shape[1] < LONGEST:
        return Fused("etexport::few_bits_dynamic.out", (row, *weights))
    return Fused("etexport::few_bits_linear.out", (x, *weights))


# ---- cases -----------------------------------------------------------------------------------------------------------


def _linear(
    x: tuple[int, ...],
    outputs: int,
    groups: int,
    bits: int,
    note: str = "",
    *,
    zeros: bool = False,
    bias: bool = True,
    half: DType = DType.BFLOAT16,
    largest: float = 2.0,
) -> Case:
    added = T((outputs,), constant=True) if bias else None
    return Case(
        (
            T(x, low=-largest, high=largest),
            *stored.of_case((outputs, x[-1]), outputs, groups, bits, zeros=zeros, half=half),
            added,
            bits,
        ),
        note,
    )


def _draw_linear(draw: Draw) -> Case:
    groups, size = stored.draw_sizes(draw)
    batch = tuple(draw.integer(1, 3) for _ in range(draw.integer(0, 2)))
    zeros, bias, bits, half = draw.integer(0, 3) == 0, draw.flag(), draw.choice((4, 8, 16)), draw.choice(HALVES)
    return _linear((*batch, groups * size), draw.integer(1, 12), groups, bits, zeros=zeros, bias=bias, half=half)


def _draw_dynamic(draw: Draw) -> Case:
    groups, size = stored.draw_sizes(draw)
    zeros, bits, rows = draw.flag(), draw.choice((4, 8)), draw.integer(1, 3)
    return _linear((rows, groups * size), draw.integer(1, 12), groups, bits, zeros=zeros, bias=draw.flag())


def _linear_op(name: str, infer: Any, lower: Any, reference: Any, draw: Any, cases: tuple[Case, ...]) -> Op:
    return Op(
        f"etexport::{name}.out(Tensor input, {stored.OF_WEIGHTS}, Tensor? bias, int bits, *, Tensor(a!) out) -> "
        "Tensor(a!)",
        infer=infer,
        lower=lower,
        reference=reference,
        layout=Layout.CONTIGUOUS,
        absorbs=frozenset({"clamp", "residual"}),
        sum_length=lambda node: int(node["weight"].spec.shape[1]) + 1,
        cases=cases,
        draw=draw,
    )


_FAR = tuple(2.0**at for at in (*range(20, 28), *range(-28, -20)))
_CASES = (
    _linear((1, 64), 5, 1, 8, "a scale for each row"),
    _linear((1, 64), 5, 2, 4, "groups of 32"),
    _linear((3, 256), 4, 1, 8, "rows of several blocks, an odd number of positions"),
    _linear((2, 17), 3, 1, 4, "an odd number of inputs"),
    _linear((1, 64), 3, 2, 4, "zero points", zeros=True),
    _linear((3, 40), 4, 1, 16, "bfloat16"),
    _linear((3, 40), 4, 1, 16, "float16", half=DType.FLOAT16),
    _linear((1, 24), 7, 1, 16, "rows of four and three more"),
    Case(
        (T((3, 8)), T((2, 8), DType.BFLOAT16, values=_FAR, constant=True), None, None, T((2,), constant=True), 16),
        "bfloat16 that reaches further than float16 can",
    ),
    _linear((2, 3, 16), 4, 2, 8, "more than two dimensions, no bias", bias=False),
    _linear((2, 600), 12, 1, 8, "blocks of four rows, the last group filled up"),
    _linear((2, 96), 16, 3, 4, "blocks of eight rows"),
    _linear((1, 300), 7, 1, 4, "blocks of eight rows, the last one filled up", bias=False),
    _linear((1, 64), 8, 2, 4, "next to nothing", bias=False, largest=1e-30),
    _linear((1, 64), 4, 1, 8, "next to nothing", bias=False, largest=1e-30),
    _linear((1, 24), 8, 1, 8, "nothing", largest=0.0),
    _linear((16, 32), 13, 2, 4, "many positions, zero points", zeros=True),
    _linear((3, 6, 17), 5, 1, 16, "many positions, bfloat16"),
)
_DYNAMIC_CASES = (
    _linear((1, 64), 5, 2, 4, "groups of 32"),
    _linear((3, 64), 5, 1, 8, "a scale for each row of weights"),
    _linear((2, 96), 16, 3, 4, "blocks of eight rows"),
    _linear((1, 150), 7, 1, 4, "blocks of eight rows, the last one filled up"),
    _linear((2, 3, 20), 3, 2, 4, "zero points, groups of no whole eights", zeros=True, bias=False),
)

OPS = [
    _linear_op("few_bits_linear", _infer_linear, _lower_linear, _reference_linear, _draw_linear, _CASES),
    _linear_op("few_bits_dynamic", _infer_dynamic, _lower_dynamic, _reference_dynamic, _draw_dynamic, _DYNAMIC_CASES),
    ROWS,
    convolution.OP,
    *embedding.OPS,
]

WEIGHTS = [
    Weights("aten::linear.out", "weight", _keep_linear),
    Weights("aten::mm.out", "mat2", _keep_mm),
    Weights("aten::addmm.out", "mat2", _keep_addmm),
    convolution.WEIGHTS,
    embedding.WEIGHTS,
]
