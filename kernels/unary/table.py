"""A table of 256 entries: every chain of elementwise operators over one int8 tensor, and requantisation."""

from __future__ import annotations

import numpy as np

from etexport.kernel.call import Call, Const, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import DType


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec, lut = node["self"].spec, node["lut"].spec
    if (lut.dtype, lut.shape) != (DType.INT8, (256,)):
        raise node.error(f"the table is {lut}; it must be int8 [256]")
    return ((DType.INT8, spec.shape),)


def _lower(node: Node, target: Target) -> Call:
    if node["lut"].data is None:
        raise node.error("the table is not a constant of the model")
    loops = nest(node.out.spec.shape, node.out.spec.strides, node["self"].spec.strides)
    geometry = {"sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1]}
    operands = (Write(node.out.id), Read(node["self"].id), Const("table", node["lut"].data))
    return Call("table", "unary/table.h", geometry, operands)


_TABLE = T((256,), DType.INT8, -128, 128, constant=True)


def _draw(draw: Draw) -> Case:
    return Case((T(tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4))), DType.INT8, -128, 128), _TABLE))


OPS = [
    Op(
        "cortex_m::quantized_activation.out(Tensor self, Tensor lut, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        dtypes=(DType.INT8,),
        reference=lambda x, lut: lut[x.astype(np.int32) + 128],
        inplace=("self",),
        exact=True,
        cases=(
            Case((T((1, 3, 4, 5), DType.INT8, -128, 128), _TABLE)),
            Case((T((1, 3, 4, 5), DType.INT8, -128, 128, dim_order=(0, 2, 3, 1)), _TABLE), "channels last"),
        ),
        draw=_draw,
    ),
]
