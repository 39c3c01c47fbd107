"""An independent check of addressing and of kernel choice: every step finds in memory what the program says it reads.

The steps are walked, over jumps on every way, and each byte remembers which values may have been written there last.
Where a step reads a value, every byte of it has been written, and by that value or by what addressing says it consists
of: a second result that no kernel writes, a view that outlives its operand and a part of a concatenation in the wrong
place are all caught here, in every build.
"""

from __future__ import annotations

from collections.abc import Mapping

from etexport.errors import ProgramError
from etexport.kernel.call import Call, Read, RowRead, RowWrite, Write
from etexport.program.flow import forward
from etexport.program.model import Method, Role, Value
from etexport.specialise.schedule import CallStep, MoveStep, Schedule

_Stretch = tuple[int, int, frozenset[int]]
"""First byte, one past the last, and the ids of the values of which one was written there, by the way taken."""

_Memory = dict[int, list[_Stretch]]
"""What has been written in each value that has memory of its own, in order."""


def check_contents(laid_out: Method, method: Method, schedule: Schedule) -> None:
    """ProgramError names the instruction and the value. `laid_out` is the method before addressing, when views, slices
    and concatenations were instructions."""
    origins = _origins(laid_out, method)
    there = {value.id for value in method.values.values() if value.role in (Role.INPUT, Role.CONSTANT, Role.STATE)}
    start: _Memory = {}

    def write(memory: _Memory, id_: int) -> None:
        base, first = _place(method.values[id_])
        memory[base] = _written(
            memory.get(base, []), (first, first + method.values[id_].spec.nbytes, frozenset((id_,)))
        )

    def find(memory: _Memory, id_: int, where: str) -> None:
        value = method.values[id_]
        base, start = _place(value)
        end = start + value.spec.nbytes
        inside = [stretch for stretch in memory.get(base, []) if stretch[0] < end and stretch[1] > start]
        if sum(min(last, end) - max(first, start) for first, last, _ in inside) < end - start:
            raise ProgramError(
                f"{value.name}, {value.spec}, is read there and no kernel has written all of it", where=where
            )
        for owner in sorted(frozenset[int]().union(*(owners for _, _, owners in inside))):
            if owner != id_ and owner not in origins.get(id_, ()):  # itself: a permuted input is the input
                what = (
                    f"{value.name}, {value.spec}, is read there from memory that {method.values[owner].name} has "
                    "overwritten"
                )
                raise ProgramError(what, where=where)

    def step(position: int, memory: _Memory) -> None:
        one = schedule.steps[position]
        reads = _reads(one.call) if isinstance(one, CallStep) else one.instruction.reads
        for id_ in sorted(reads):
            find(memory, id_, one.instruction.where)
        if isinstance(one, MoveStep) and _place(method.values[one.source]) != _place(method.values[one.out]):
            raise ProgramError(
                f"{method.values[one.source].name} has another place than what it becomes", where=one.instruction.where
            )
        for id_ in _writes(one.call) if isinstance(one, CallStep) else one.instruction.outs:
            write(memory, id_)

    for id_ in sorted(there):
        write(start, id_)
    end = forward([one.instruction for one in schedule.steps], start, step, dict[int, list[_Stretch]].copy, _meet)
    assert end is not None  # `verify` has seen to it
    for position, id_ in enumerate(method.outputs):
        find(end, id_, f"output {position}")


def _place(value: Value) -> tuple[int, int]:
    return (value.id, 0) if value.storage is None else (value.storage.base, value.storage.offset)


def _reads(call: Call) -> set[int]:
    found = {operand.value for operand in call.operands if isinstance(operand, (Read, RowRead))}
    return found if call.window is None else found | {call.window.input}


def _writes(call: Call) -> list[int]:
    found = [operand.value for operand in call.operands if isinstance(operand, (Write, RowWrite))]
    return found if call.window is None else [call.window.output, *found]


def _origins(laid_out: Method, method: Method) -> Mapping[int, frozenset[int]]:
    """For each value that has become an address: the values that steps write for it."""
    kept = {instruction.handle for instruction in method.instructions}
    origins: dict[int, frozenset[int]] = {}
    for instruction in laid_out.instructions:
        if instruction.handle not in kept:
            parts = [origins.get(read, frozenset((read,))) for read in instruction.reads]
            for out in instruction.outs:
                origins[out] = frozenset().union(*parts)
    for value in method.values.values():
        # an operand under another shape, for a copy of it
        if value.id not in laid_out.values and value.storage is not None:
            origins[value.id] = origins.get(value.storage.base, frozenset((value.storage.base,)))
    return origins


def _meet(one: _Memory, other: _Memory) -> _Memory:
    """What has been written on both ways, by what was written on either."""
    found: _Memory = {}
    for base in one.keys() & other.keys():
        pairs = ((a, b) for a in one[base] for b in other[base] if max(a[0], b[0]) < min(a[1], b[1]))
        found[base] = [(max(a[0], b[0]), min(a[1], b[1]), a[2] | b[2]) for a, b in pairs]
    return found


def _written(stretches: list[_Stretch], new: _Stretch) -> list[_Stretch]:
    """The stretches of a value's memory, in order, once `new` is written."""
    start, end, _ = new
    if start == end:
        return stretches
    before = [(first, min(last, start), owner) for first, last, owner in stretches if first < start]
    behind = [(max(first, end), last, owner) for first, last, owner in stretches if last > end]
    return [*before, new, *behind]
