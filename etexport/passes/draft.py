"""A method while a pass changes it. Passes make new values and never touch the arrays of old ones, which others may
share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from etexport.errors import ModelError
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.op import spec_of
from etexport.program.model import (
    JUMPS,
    MOVE,
    Array,
    DType,
    Instruction,
    Method,
    Ref,
    Role,
    TensorSpec,
    Value,
    substitute,
)


class Draft:
    """The parts of a method, open for change; `done()` gives the original object back where nothing was changed."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.values = dict(method.values)
        self.instructions = list(method.instructions)
        self.outputs = method.outputs
        self.changed = False
        self._wished: dict[int, str] = {}

    def value(self, ref: object) -> Value | None:
        """The value that an operand refers to; None for literals."""
        return self.values[ref.id] if isinstance(ref, Ref) else None

    def constant(self, ref: object) -> Array | None:
        """The content of an operand that is a constant, else None."""
        value = self.value(ref)
        return value.data if value is not None and value.role is Role.CONSTANT else None

    def legal(self, instruction: Instruction, library: Library) -> bool:
        """Whether the operator is known, allows these operands and gives these results. What it does not allow, as in a
        damaged file, is not touched: it is reported after the passes, with all the rest.
        """
        op = library.find(instruction.op)
        if op is None:
            return False
        method = replace(self.method, values=self.values, instructions=tuple(self.instructions), outputs=self.outputs)
        try:
            node = node_of(method, instruction, op)
            return [(dtype, tuple(shape)) for dtype, shape in op.infer(node)] == [
                spec_of(out.spec) for out in node.outs
            ]
        except ModelError:
            return False

    def uses(self) -> Counter[int]:
        """How often each value is read, each place counted; being an output of the method is one place."""
        uses = Counter(self.outputs)
        for instruction in self.instructions:
            uses.update(instruction.reads)
        return uses

    def writers(self) -> dict[int, list[Instruction]]:
        """The instructions that write each value: several where branches join, or a state is written back."""
        writers: dict[int, list[Instruction]] = {}
        for instruction in self.instructions:
            for out in instruction.outs:
                writers.setdefault(out, []).append(instruction)
        return writers

    def unchanging(self, value_id: int, writers: Mapping[int, list[Instruction]]) -> bool:
        """Whether the value has the same content wherever it is read: no state, and written at most once and not by a
        move."""
        made = writers.get(value_id, [])
        return (
            self.values[value_id].role is not Role.STATE
            and len(made) <= 1
            and all(instruction.op != MOVE for instruction in made)
        )

    def put(self, at: int, instruction: Instruction) -> None:
        self.instructions[at] = instruction
        self.changed = True

    def drop(self, gone: Iterable[int]) -> None:
        """Remove the instructions at these positions; a jump to one of them goes to the next that stays."""
        gone = set(gone)
        if not gone:
            return
        self.changed = True
        target: dict[int, int] = {}
        following = -1
        for at in reversed(range(len(self.instructions))):
            if at not in gone:
                following = self.instructions[at].handle
            target[self.instructions[at].handle] = following
        kept = [instruction for at, instruction in enumerate(self.instructions) if at not in gone]
        self.instructions = [retargeted(instruction, target) for instruction in kept]

    def rename(self, new: Mapping[int, int]) -> None:
        """Read value `new[id]` wherever `id` was read or given out."""
        if not any(
            read in new for instruction in self.instructions for read in instruction.reads
        ) and new.keys().isdisjoint(self.outputs):
            return
        self.changed = True
        self.instructions = [
            instruction
            if not any(read in new for read in instruction.reads)
            else replace(instruction, args=tuple(substitute(arg, new) for arg in instruction.args))
            for instruction in self.instructions
        ]
        self.outputs = tuple(new.get(out, out) for out in self.outputs)

    def add_constant(self, name: str, data: Array) -> Ref:
        """A new constant with this content. It gets the name if nobody bears it when the pass is done, else the name
        with a number."""
        data = np.array(data, order="C", copy=True)
        data.flags.writeable = False
        spec = TensorSpec(DType.of_numpy(data.dtype), data.shape)
        value = Value(max(self.values, default=-1) + 1, self._free_name(name), spec, Role.CONSTANT, data)
        self.values[value.id] = value
        self._wished[value.id] = name
        self.changed = True
        return Ref(value.id)

    def add_value(self, name: str, spec: TensorSpec) -> Value:
        """A new result of an instruction."""
        value = Value(max(self.values, default=-1) + 1, self._free_name(name), spec, Role.ACTIVATION)
        self.values[value.id] = value
        self.changed = True
        return value

    def _free_name(self, name: str) -> str:
        """`name`, or with the lowest number at its end that makes it unique."""
        taken = {value.name for value in self.values.values()}
        base, number = re.sub(r"_\d+$", "", name) if name in taken else name, 1
        free = name
        while free in taken:
            free, number = f"{base}_{number}", number + 1
        return free

    def done(self) -> Method:
        """The method as it now is, without constants that nobody reads, and with roles that fit the outputs."""
        if not self.changed:
            return self.method
        uses = self.uses()
        self.values = {
            value.id: value
            for value in self.values.values()
            if value.role is not Role.CONSTANT or uses[value.id] or value.storage is not None
        }
        taken = {value.name for value in self.values.values()}
        for value_id, name in self._wished.items():
            if value_id in self.values and name not in taken:
                taken.add(name)
                self.values[value_id] = replace(self.values[value_id], name=name)
        values = {
            value.id: replace(value, role=_role(value, value.id in self.outputs)) for value in self.values.values()
        }
        return replace(self.method, values=values, instructions=tuple(self.instructions), outputs=self.outputs)


def _role(value: Value, is_output: bool) -> Role:
    if value.role in (Role.ACTIVATION, Role.OUTPUT):
        return Role.OUTPUT if is_output else Role.ACTIVATION
    return value.role


def retargeted(instruction: Instruction, target: Mapping[int, int]) -> Instruction:
    """The instruction; a jump to a handle in `target` leads to the one that stands there."""
    if instruction.op not in JUMPS:
        return instruction
    return instruction.leading_to(target.get(instruction.destination, instruction.destination))
