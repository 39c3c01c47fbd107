"""Weights stay in few bits: an operator that reads a dequantised constant becomes one that reads it as it is stored,
where a kernel folder has such an instruction (`WEIGHTS` in its `op.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from etexport.errors import doing
from etexport.kernel.kept import kept_of, weights_alone
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.quantized import Fused
from etexport.kernel.weights import Kept
from etexport.program.draft import Draft
from etexport.program.model import Arg, Instruction, Method, Ref, Role, Value
from etexport.program.operators import ROUND_ROWS
from etexport.specialise.model import InFloat


def keep_weights(method: Method, library: Library) -> tuple[Method, tuple[InFloat, ...], str]:
    """The method, what reads float32 weights though the program has them in few bits, with the reason, and in what the
    others lie (`Specialised.weights`). The very same method where activations are quantised too: those are
    `fuse_integers`' to read."""
    if not weights_alone(method):
        return method, (), ""
    weights, read = _Weights(Draft(method), library), {one.op for one in method.instructions}
    weights.draft.rewrite(weights.of)
    uses = weights.draft.uses()
    rounds = [at for at, one in enumerate(weights.draft.instructions) if one.op == ROUND_ROWS]
    weights.draft.drop(at for at in rounds if not uses[weights.draft.instructions[at].outs[0]])
    words = {word for rule in library.weights.values() for word in map(rule.files.get, read) if word}
    return weights.draft.done(), tuple(weights.floats), min(weights.stored | words, default="")


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
            made = kept_of(self.draft, instruction, self.kept)
            if made is not None and instruction.outs[0] not in self.draft.outputs:
                self.kept[instruction.outs[0]] = made
                return
            if instruction.op == ROUND_ROWS and (source := self.draft.value(instruction.args[0])) is not None:
                self.rounded[instruction.outs[0]] = source
            known = [read for read in instruction.reads if read in self.kept]
            yield self._reader(instruction, known) if known else instruction

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
