"""1x1 convolutions and linear layers of floats: (positions, inputs) times packed weights."""

from __future__ import annotations

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, RowRead, Target, Window, Write, swept_call
from etexport.kernel.node import Node
from etexport.program.model import Array, Value
from etexport_kernels.convolution.packing import pack_layer, tiles_for

_INF = float("inf")
_RUN = 24
"""Positions of a run: whole tiles on every core (2 or 6 positions)."""
_LEAST = 512
"""Inputs of a run, so that entering it is little beside its products."""


def pointwise(node: Node, x: Value, target: Target, weight: Array, bias: Array) -> Call:
    """The call for `weight` (outputs, inputs) and `bias` (outputs), over the innermost elements of `x`.

    Many positions are taken run by run, in either direction, so that the output may lie over `x` but for a run.
    """
    outputs, inputs = weight.shape
    positions = node.out.spec.numel // max(outputs, 1)
    variant, core, lanes = tiles_for(target, weight, bias)
    weights, biases = pack_layer(weight[None], bias[None], variant, lanes)
    epilogue = node.instruction.epilogue
    low, high = (epilogue.low, epilogue.high) if epilogue is not None else (-_INF, _INF)
    geometry: dict[str, GeometryField] = {
        "positions": positions,
        "inputs": inputs,
        "outputs": outputs,
        "low": low,
        "high": high,
    }
    constants = (Const("weight", weights), Const("bias", biases))
    header = "convolution/convolution.h" if variant == "portable" else f"convolution/{variant}.h"
    macs = positions * inputs * outputs
    run = -(-_LEAST // (max(inputs, 1) * _RUN)) * _RUN

    def residual(read: type[Read] | type[RowRead]) -> Operand:
        return Const("residual", None) if node.residual is None else read(node.residual.id)

    if positions <= run:
        whole = (Write(node.out.id), Read(x.id), *constants, residual(Read))
        return Call(f"pointwise<et::{core}>", header, geometry, whole, None, macs, variant)
    runs = -(-positions // run)
    window = Window(
        input=x.id, output=node.out.id, batch=1, in_rows=runs, in_row=run * inputs, out_rows=runs,
        out_row=run * outputs, kernel=1, stride=1, pad=0, dilation=1, pad_value=0.0, pad_elements=0, numbered=True,
    )  # fmt: skip
    swept = (*constants, residual(RowRead))
    return swept_call(
        node, f"pointwise_run<et::{core}>", header, {**geometry, "run": run}, window, swept, macs, variant
    )
