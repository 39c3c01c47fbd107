"""A method while a stage changes it: the one way to edit a method, in the front end, the passes and the target side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from etexport.program.model import JUMPS, MOVE, Array, DType, Instruction, Method, Ref, Role, TensorSpec, Value


class Draft:
    """The parts of a method, open for change; `done()` gives the original object back where nothing was changed.

    New values take the place of old ones; arrays are never touched, for others may share them.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.values = dict(method.values)
        self.instructions = list(method.instructions)
        self.outputs = method.outputs
        self.changed = False
        self._wished: dict[int, str] = {}
        self._next_id = method.next_id()
        self._next_handle = method.next_handle()

    # ---- what is known -----------------------------------------------------------------------------------------------

    def value(self, ref: object) -> Value | None:
        """The value that an operand refers to; None for literals."""
        return self.values[ref.id] if isinstance(ref, Ref) else None

    def constant(self, ref: object) -> Array | None:
        """The content of an operand that is a constant, else None."""
        value = self.value(ref)
        return value.data if value is not None and value.role is Role.CONSTANT else None

    def uses(self) -> Counter[int]:
        """As `Method.uses`, of the draft as it is now."""
        return self.as_it_is().uses()

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

    def as_it_is(self) -> Method:
        """The method so far, for what asks about one."""
        return replace(self.method, values=self.values, instructions=tuple(self.instructions), outputs=self.outputs)

    # ---- what is new -------------------------------------------------------------------------------------------------

    def handle(self) -> int:
        """One that no instruction bears."""
        self._next_handle += 1
        return self._next_handle - 1

    def add_value(self, name: str, spec: TensorSpec) -> Value:
        """A new result of an instruction. It gets the name if nobody bears it when the draft is done, else the name
        with a number."""
        return self._add(name, spec, Role.ACTIVATION, None)

    def add_constant(self, name: str, data: Array) -> Ref:
        """A new constant with this content; its name as that of `add_value`."""
        data = np.array(data, order="C", copy=True)
        data.flags.writeable = False
        return Ref(self._add(name, TensorSpec(DType.of_numpy(data.dtype), data.shape), Role.CONSTANT, data).id)

    def _add(self, name: str, spec: TensorSpec, role: Role, data: Array | None) -> Value:
        value = Value(self._next_id, name, spec, role, data)
        self.values[value.id] = value
        self._wished[value.id] = name
        self._next_id += 1
        self.changed = True
        return value

    # ---- change ------------------------------------------------------------------------------------------------------

    def put(self, at: int, instruction: Instruction) -> None:
        """`instruction` in place of the one at this position; jumps to that one lead to it."""
        there = iter(range(len(self.instructions)))
        self.rewrite(lambda old: (instruction if next(there) == at else old,))

    def revise(self, value: Value) -> None:
        """`value` in place of the one with its id."""
        self.values[value.id] = value
        self.changed = True

    def name(self, value_id: int, name: str) -> None:
        """The value gets this name, as `add_value` gives it."""
        self.revise(replace(self.values[value_id], name=name))
        self._wished[value_id] = name

    def drop(self, gone: Iterable[int]) -> None:
        """Remove the instructions at these positions; a jump to one of them goes to the next that stays."""
        positions: Collection[int] = set(gone)
        at = iter(range(len(self.instructions)))
        self.rewrite(lambda instruction: () if next(at) in positions else (instruction,))

    def rewrite(self, by: Callable[[Instruction], Iterable[Instruction]]) -> None:
        """What `by` makes of each instruction, in order, stands in its place: itself, others, or none. A jump to it
        leads to the first of them, or to what follows."""
        made = [(instruction, tuple(by(instruction))) for instruction in self.instructions]
        if all(len(new) == 1 and new[0] is old for old, new in made):
            return
        self.changed = True
        target: dict[int, int] = {}
        following = -1
        for old, new in reversed(made):
            following = new[0].handle if new else following
            target[old.handle] = following
        self.instructions = [_retargeted(instruction, target) for _, new in made for instruction in new]

    def drop_dead(self) -> None:
        """Remove what reaches neither an output nor a jump, nor a state that another method reads, and values that
        nobody uses."""
        live = {*self.outputs, *self.method.shared}
        size = -1
        # until nothing is added: with jumps, a value may be read before the place where it is written
        while size != len(live):
            size = len(live)
            for instruction in reversed(self.instructions):
                if instruction.op in JUMPS or not instruction.outs or not live.isdisjoint(instruction.outs):
                    live.update(instruction.reads)
                    live.update(instruction.outs)
        self.rewrite(lambda one: () if one.outs and live.isdisjoint(one.outs) else (one,))
        self.changed = self.changed or self._used() != self.values.keys()

    def rename(self, new: Mapping[int, int]) -> None:
        """Read value `new[id]` wherever `id` was read or given out."""
        self.rewrite(lambda instruction: (instruction.renamed(new),))
        if not new.keys().isdisjoint(self.outputs):
            self.outputs = tuple(new.get(out, out) for out in self.outputs)
            self.changed = True

    def done(self) -> Method:
        """The method as it now is, without values that nobody uses, names unique, and with roles that fit the
        outputs."""
        if not self.changed:
            return self.method
        used, outputs = self._used(), set(self.outputs)
        kept = {id_: _with_role(value, id_ in outputs) for id_, value in self.values.items() if id_ in used}
        taken = {value.name for value in kept.values() if value.id not in self._wished}
        for value_id, name in self._wished.items():
            if value_id in kept:
                name = _free(name, taken)
                taken.add(name)
                kept[value_id] = replace(kept[value_id], name=name)
        return replace(self.as_it_is(), values=kept)

    def _used(self) -> set[int]:
        """Inputs, outputs, what instructions read or write, what other methods read, and what these lie in."""
        used = {*self.method.inputs, *self.outputs, *self.method.shared}
        for instruction in self.instructions:
            used.update(instruction.reads, instruction.outs)
        return used | {self.values[value].base for value in used}


def _free(name: str, taken: Collection[str]) -> str:
    """`name`, or with the lowest number at its end that makes it unique."""
    base, number, free = re.sub(r"_\d+$", "", name), 1, name
    while free in taken:
        free, number = f"{base}_{number}", number + 1
    return free


def _with_role(value: Value, is_output: bool) -> Value:
    if value.role not in (Role.ACTIVATION, Role.OUTPUT):
        return value
    role = Role.OUTPUT if is_output else Role.ACTIVATION
    return value if value.role is role else replace(value, role=role)


def _retargeted(instruction: Instruction, target: Mapping[int, int]) -> Instruction:
    """The instruction; a jump to a handle in `target` leads to the one that stands there."""
    if instruction.op not in JUMPS:
        return instruction
    return instruction.leading_to(target.get(instruction.destination, instruction.destination))
