"""An independent check of addressing and of kernel choice: every step finds in memory what the program says it reads.

The steps are walked in order and each byte remembers which value was written there last. Where a step reads a value, every byte of it has
been written, and by that value or by what addressing says it consists of: a second result that no kernel writes, a view that outlives its
operand and a part of a concatenation in the wrong place are all caught here, in every build.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from etexport.errors import ProgramError
from etexport.kernel.call import Call, Read, RowRead, RowWrite, Write
from etexport.program.model import Method, Role, Value
from etexport.specialise.model import Step

_Stretch = tuple[int, int, int]
"""First byte, one past the last, and the id of the value that was written there."""


def check_contents(laid_out: Method, method: Method, steps: Iterable[Step]) -> None:
    """ProgramError names the instruction and the value. `laid_out` is the method before addressing, when views, slices and concatenations
    were instructions."""
    origins = _origins(laid_out, method)
    there = {value.id for value in method.values.values() if value.role in (Role.INPUT, Role.CONSTANT, Role.STATE)}
    memory: dict[int, list[_Stretch]] = {}
    for id_ in there:
        value = method.values[id_]
        base, start = _place(value)
        memory[base] = _written(memory.get(base, []), (start, start + value.spec.nbytes, id_))

    def find(id_: int, where: str) -> None:
        value = method.values[id_]
        base, start = _place(value)
        end = start + value.spec.nbytes
        inside = [(first, last, owner) for first, last, owner in memory.get(base, []) if first < end and last > start]
        if sum(min(last, end) - max(first, start) for first, last, owner in inside) < end - start:
            raise ProgramError(f"{value.name}, {value.spec}, is read there and no kernel has written all of it", where=where)
        for _, _, owner in inside:
            if owner != id_ and owner not in origins.get(id_, ()):  # itself: a permuted input is the input
                what = f"{value.name}, {value.spec}, is read there from memory that {method.values[owner].name} has overwritten"
                raise ProgramError(what, where=where)

    for step in steps:
        for id_ in _reads(step.call):
            find(id_, step.instruction.where)
        for id_ in _writes(step.call):
            base, start = _place(method.values[id_])
            memory[base] = _written(memory.get(base, []), (start, start + method.values[id_].spec.nbytes, id_))
    for position, id_ in enumerate(method.outputs):
        find(id_, f"output {position}")


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
        if value.id not in laid_out.values and value.storage is not None:  # an operand under another shape, for a copy of it
            origins[value.id] = origins.get(value.storage.base, frozenset((value.storage.base,)))
    return origins


def _written(stretches: list[_Stretch], new: _Stretch) -> list[_Stretch]:
    """The stretches of a value's memory, in order, once `new` is written."""
    start, end, _ = new
    if start == end:
        return stretches
    before = [(first, min(last, start), owner) for first, last, owner in stretches if first < start]
    behind = [(max(first, end), last, owner) for first, last, owner in stretches if last > end]
    return [*before, new, *behind]
