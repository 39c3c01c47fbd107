"""Weights stay in few bits: an operator that reads a dequantised constant becomes one that reads it as it is stored,
where a kernel folder has such an instruction (`WEIGHTS` in its `op.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from etexport.errors import doing
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.quantized import Fused
from etexport.kernel.weights import Kept
from etexport.program.draft import Draft
from etexport.program.model import HALVES, Arg, DType, Instruction, Method, Ref, Role, Value
from etexport.program.operators import CONVERT, DEQUANTIZE, DEQUANTIZE_CHANNELS, PERMUTE, QUANTIZE, ROUND_ROWS, VIEW
from etexport.specialise.model import InFloat


def keep_weights(method: Method, library: Library) -> tuple[Method, tuple[InFloat, ...], str]:
    """The method, what reads float32 weights though the program has them in few bits, with the reason, and in what the
    others lie (`Specialised.weights`). The very same method where activations are quantised too: those are
    `fuse_integers`' to read."""
    if any(
        one.op == QUANTIZE or (one.op in (DEQUANTIZE, DEQUANTIZE_CHANNELS) and _constant(method, one.args[0]) is None)
        for one in method.instructions
    ):
        return method, (), ""
    weights = _Weights(Draft(method), library)
    weights.draft.rewrite(weights.of)
    uses = weights.draft.uses()
    rounds = [at for at, one in enumerate(weights.draft.instructions) if one.op == ROUND_ROWS]
    weights.draft.drop(at for at in rounds if not uses[weights.draft.instructions[at].outs[0]])
    return weights.draft.done(), tuple(weights.floats), min(weights.stored, default="")


class _Weights:
    """`kept` has what is dequantised so far, by the id of the value that has the reals."""

    def __init__(self, draft: Draft, library: Library) -> None:
        self.draft = draft
        self.library = library
        self.kept: dict[int, Kept] = {}
        self.rounded: dict[int, Value] = {}
        self.floats: list[InFloat] = []
        self.stored: set[str] = set()

    def of(self, instruction: Instruction) -> Iterator[Instruction]:
        """What stands in the instruction's place."""
        with doing(instruction.where):
            made = self._dequantised(instruction) or self._moved(instruction)
            if made is not None and instruction.outs[0] not in self.draft.outputs:
                self.kept[instruction.outs[0]] = made
                return
            if instruction.op == ROUND_ROWS and (source := self.draft.value(instruction.args[0])) is not None:
                self.rounded[instruction.outs[0]] = source
            known = [read for read in instruction.reads if read in self.kept]
            yield self._reader(instruction, known) if known else instruction

    def _dequantised(self, instruction: Instruction) -> Kept | None:
        if instruction.op == CONVERT:
            halves = self.draft.value(instruction.args[0])
            wide = self.draft.values[instruction.outs[0]].spec.dtype is DType.FLOAT32
            if not wide or halves is None or halves.data is None or halves.spec.dtype not in HALVES:
                return None
            return Kept.halves(halves.data)
        if instruction.op not in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
            return None
        stored = self.draft.constant(instruction.args[0])
        if stored is None or stored.dtype != np.int8:
            return None
        _, scale, zero, *axis, low, high = instruction.args[: 5 if instruction.op == DEQUANTIZE else 6]
        assert isinstance(low, int) and isinstance(high, int)
        shape = [-1 if [dim] == [one % stored.ndim for one in axis] else 1 for dim in range(stored.ndim)]  # type: ignore[operator]
        parts = []
        for one, dtype in ((scale, np.float32), (0 if zero is None else zero, np.int8)):
            content = self.draft.constant(one) if isinstance(one, Ref) else np.array(one)
            if content is None:
                return None
            full = content.reshape(shape if content.ndim else ()).astype(dtype)
            parts.append(np.broadcast_to(full, stored.shape))
        scales, zero_points = parts
        return Kept(stored, scales, zero_points, 4 if -8 <= low <= high <= 7 else 8)

    def _moved(self, instruction: Instruction) -> Kept | None:
        """A view or a permutation of what is known."""
        source = instruction.args[0] if instruction.op in (VIEW, PERMUTE) else None
        known = self.kept.get(source.id) if isinstance(source, Ref) else None
        if known is None:
            return None
        if instruction.op == VIEW:
            return known.moved(lambda one: one.reshape(self.draft.values[instruction.outs[0]].spec.shape))
        dims = instruction.args[1]
        assert isinstance(dims, tuple)
        return known.moved(lambda one: one.transpose(dims))

    def _reader(self, instruction: Instruction, known: list[int]) -> Instruction:
        """The instruction that reads the weights as they are stored; itself where there is none, and they are
        float32."""
        rule, op = self.library.weights.get(instruction.op), self.library.find(instruction.op)
        reason = "no kernel reads weights in few bits for it"
        if rule is not None and op is not None:
            node = node_of(self.draft.as_it_is(), instruction, op)
            operand = node[rule.operand]
            if isinstance(operand, Value) and known == [operand.id]:
                made = rule.build(node, self.kept[operand.id], lambda value: self.rounded.get(value.id))
                if isinstance(made, Fused):
                    self.stored.add(self.kept[operand.id].word)
                    args = tuple(self._argument(instruction, at, arg) for at, arg in enumerate(made.args))
                    return replace(instruction, op=made.op, args=args)
                reason = made
        for value in known:
            real = replace(self.draft.values[value], role=Role.CONSTANT, data=self.kept[value].real)
            self.draft.revise(real)
        self.floats.append(InFloat(instruction, f"its weights are float32: {reason}"))
        return instruction

    def _argument(self, instruction: Instruction, at: int, arg: object) -> Arg:
        if isinstance(arg, Value):
            return Ref(arg.id)
        return self.draft.add_constant(f"{instruction.name}_{at}", arg) if isinstance(arg, np.ndarray) else arg  # type: ignore[return-value]


def _constant(method: Method, arg: Arg) -> Value | None:
    value = method.values[arg.id] if isinstance(arg, Ref) else None
    return value if value is not None and value.role is Role.CONSTANT else None
