"""A method while integers take the place of floats: what is known of its values, and how new ones are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.kernel.op import Op, carried
from etexport.kernel.quantized import Quantized, QuantizedOutput
from etexport.program.draft import Draft
from etexport.program.model import Array, Instruction, Method, QParams, Ref, Role, TensorSpec, Value
from etexport.program.operators import DEQUANTIZE, DEQUANTIZE_CHANNELS


class Graph(Draft):
    """`values` and `made_by` grow as the instructions are gone through; `same` names values that stand for others,
    `reasons` says by handle why an instruction stayed in float, `read` how often each value was read at the start."""

    def __init__(self, method: Method, library: Library) -> None:
        super().__init__(method)
        self.library = library
        self.made_by: dict[int, Instruction] = {}
        self.same: dict[int, int] = {}
        self.reasons: dict[int, str] = {}
        self.read = method.uses()

    def op(self, instruction: Instruction) -> Op | None:
        return self.library.find(instruction.op)

    def node(self, instruction: Instruction) -> Node:
        op = self.op(instruction)
        assert op is not None
        return node_of(replace(self.method, values=self.values), instruction, op)

    def spec(self, ref: Ref) -> TensorSpec:
        return self.values[ref.id].spec

    def quantized(self, ref: Ref) -> Quantized | None:
        """The integer value behind a float one, if it is a dequantisation."""
        made = self.made_by.get(ref.id)
        if made is None or made.op not in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
            return None
        source = made.args[0]
        assert isinstance(source, Ref)
        value = self.values[source.id]
        if value.role is not Role.CONSTANT:
            value = replace(value, data=None)  # of a state: what it begins with
        if made.op == DEQUANTIZE:
            return Quantized(value, np.float64(np.float32(made.args[1])), np.int64(made.args[2]), None)  # type: ignore[arg-type]
        scales, zeros, axis = made.args[1], made.args[2], made.args[3]
        assert isinstance(scales, Ref) and isinstance(axis, int)
        found = self.values[scales.id].data
        zero_points = self.values[zeros.id].data if isinstance(zeros, Ref) else None
        if found is None or (isinstance(zeros, Ref) and zero_points is None):
            return None
        count = np.zeros(found.shape, np.int64) if zero_points is None else zero_points.astype(np.int64)
        return Quantized(value, found.astype(np.float64), count, axis % len(value.spec.shape))

    def known(self, operand: Any) -> Any:
        """For an operand as a Node has it: what is dequantised, a tuple for a list, else None."""
        if isinstance(operand, tuple):
            return tuple(self.known(item) for item in operand)
        return self.quantized(Ref(operand.id)) if isinstance(operand, Value) else None

    def content(self, value: int) -> Array | None:
        """The real content of a constant, dequantised where it is stored as integers."""
        known = self.quantized(Ref(value))
        if known is not None and known.axis is None and known.value.data is not None:
            real = (known.value.data.astype(np.float32) - np.float32(known.zero_point)) * np.float32(known.scale)
            return np.asarray(real, np.float32)  # arithmetic makes numbers of arrays without dimensions
        return self.constant(Ref(value))

    def clamp(self, instruction: Instruction) -> tuple[float, float] | None:
        """The bounds of an instruction that is nothing but a clamp, if they are in order."""
        op = self.op(instruction)
        bounds = op.clamp(self.node(instruction)) if op is not None and op.clamp is not None else None
        return bounds if bounds is not None and bounds[0] <= bounds[1] else None

    def carried(self, instruction: Instruction) -> tuple[Ref, ...]:
        """As `op.carried`; none for an operator that nobody declares."""
        op = self.op(instruction)
        return () if op is None else carried(op, instruction)

    def output(self, quantise: Instruction) -> QuantizedOutput:
        """What a quantise gives."""
        scale, zero_point, low, high = (quantise.args[at] for at in (1, 2, 3, 4))
        assert (
            isinstance(scale, (int, float))
            and isinstance(zero_point, int)
            and isinstance(low, int)
            and isinstance(high, int)
        )
        spec = self.values[quantise.outs[0]].spec
        single = float(np.float32(scale))  # as the scales of operands are
        qparams = QParams((single,), (zero_point,), low, high)
        return QuantizedOutput(replace(spec, qparams=qparams), single, zero_point, low, high)


def quantise_array(real: Array, out: QuantizedOutput) -> Array:
    """Stored values: clamp(zero_point + rint(real / scale)), the reciprocal in float32 as PyTorch takes it; NaN is
    stored as 0."""
    with np.errstate(all="ignore"):
        scaled = np.rint(np.asarray(real, np.float32) * np.float32(1.0 / np.float32(out.scale)))
    stored = np.clip(np.nan_to_num(scaled.astype(np.float64), nan=0.0) + out.zero_point, out.low, out.high)
    return np.where(np.isnan(scaled), 0, stored).astype(np.int64)
