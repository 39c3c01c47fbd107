"""Which step reads what another one made: the network as a graph, of a program that has addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from etexport.program.flow import forward
from etexport.program.model import Role
from etexport.specialise.model import Placed

End = int | str
"""A step, by its number in the program; an input, output or state, by its name."""

_Written = dict[tuple[int, int, int], frozenset[End]]
"""Who may have written last, by stretch: the value that has the memory, first byte, one past the last."""


def wires(placed: Placed) -> tuple[tuple[End, End], ...]:
    """(who made it, who reads it), over every way that jumps allow, each pair once: inputs and states first, then steps
    in order. A state that is written is read by its own name: in the next run."""
    method, first = placed.specialised.method, placed.first
    steps = placed.specialised.schedule.steps
    states = [value.id for value in method.values.values() if value.role is Role.STATE]
    found: dict[tuple[End, End], None] = {}

    def stretch(id_: int) -> tuple[int, int, int]:
        value = method.values[id_]
        base, start = (id_, 0) if value.storage is None else (value.storage.base, value.storage.offset)
        return base, start, start + value.spec.nbytes

    def write(written: _Written, id_: int, by: End) -> None:
        base, start, end = stretch(id_)
        for other in [one for one in written if one[0] == base and start <= one[1] and one[2] <= end]:
            del written[other]
        written[base, start, end] = frozenset((by,))

    def makers(written: _Written, id_: int) -> Iterator[End]:
        base, start, end = stretch(id_)
        for other, by in written.items():
            if other[0] == base and other[1] < end and start < other[2]:
                yield from by

    def join(made: Iterable[End], reader: End) -> None:
        found.update(((maker, reader), None) for maker in made if maker != reader)

    def step(at: int, written: _Written) -> None:
        instruction = steps[at].instruction
        for id_ in instruction.reads:
            join(makers(written, id_), first + at)
        for id_ in instruction.outs:
            write(written, id_, first + at)

    start: _Written = {}
    for id_ in (*method.inputs, *states):
        write(start, id_, method.values[id_].name)
    instructions = [one.instruction for one in steps]
    end = forward(instructions, start, step, dict[tuple[int, int, int], frozenset[End]].copy, _either)
    for id_ in (*method.outputs, *states) if end is not None else ():
        join(makers(end or {}, id_), method.values[id_].name)
    return tuple(sorted(found, key=lambda pair: tuple((isinstance(one, int), str(one).rjust(9)) for one in pair)))


def _either(one: _Written, other: _Written) -> _Written:
    """By what was written on either way."""
    return {key: one.get(key, frozenset()) | other.get(key, frozenset()) for key in (*one, *other)}
