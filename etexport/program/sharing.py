"""Finds the views that a file expresses by two values at one address, and what would read bytes that are no longer
there.

ExecuTorch writes no instruction for a static view: the viewed value and the view are two tensors with the same memory
and offset. Between instructions that address belongs to other values too, so a view can only be told from chance by
following who wrote each byte last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from etexport.errors import ProgramError
from etexport.program.flow import forward
from etexport.program.model import MOVE, Instruction

AT_START = -1
SEVERAL = -2


@dataclass(frozen=True)
class Place:
    """Bytes `start` to `end` of planned memory `memory`."""

    memory: int
    start: int
    end: int


@dataclass(frozen=True)
class View:
    """Value `value` shows the bytes of `base`, as written by the instruction at position `after` (or `AT_START`)."""

    value: int
    base: int
    after: int


@dataclass(frozen=True)
class _Written:
    end: int
    owner: int
    at: int


@dataclass
class _Arena:
    """Who wrote each byte of one planned memory last: intervals that do not overlap, by start."""

    starts: list[int] = field(default_factory=list)
    entries: dict[int, _Written] = field(default_factory=dict)

    def copy(self) -> _Arena:
        return _Arena(self.starts.copy(), self.entries.copy())

    def write(self, place: Place, owner: int, at: int) -> list[int]:
        """The owners whose bytes were overwritten."""
        first = bisect_left(self.starts, place.start)
        if first and self.entries[self.starts[first - 1]].end > place.start:
            first -= 1
        last = bisect_left(self.starts, place.end)
        lost = [self.entries.pop(start).owner for start in self.starts[first:last]]
        self.starts[first:last] = [place.start]
        self.entries[place.start] = _Written(place.end, owner, at)
        return lost

    def meet(self, other: _Arena) -> _Arena:
        """What holds in both; bytes that the same value wrote at two instructions are its bytes all the same."""
        entries: dict[int, _Written] = {}
        for start, mine in self.entries.items():
            theirs = other.entries.get(start)
            if theirs is not None and (mine.owner, mine.end) == (theirs.owner, theirs.end):
                entries[start] = mine if mine.at == theirs.at else _Written(mine.end, mine.owner, SEVERAL)
        return _Arena(sorted(entries), entries)


_State = dict[int, _Arena]


def _copy(state: _State) -> _State:
    return {memory: arena.copy() for memory, arena in state.items()}


def _meet(first: _State, second: _State) -> _State:
    return {memory: arena.meet(second[memory]) for memory, arena in first.items()}


def find_views(
    instructions: Sequence[Instruction],
    places: Mapping[int, Place],
    inputs: Iterable[int],
    states: frozenset[int],
    outputs: Sequence[int],
) -> tuple[View, ...]:
    """Every view by sharing, in order of first use. `places` holds the planned values that have bytes.

    ProgramError where an instruction or output reads a value whose bytes another one has overwritten, where nothing has
    written them, or where a state does not have its bytes for itself.
    """
    moved = {out for instruction in instructions if instruction.op == MOVE for out in instruction.outs}
    written = {out for instruction in instructions for out in instruction.outs}
    at_start = (*states, *inputs)
    own = written | set(at_start)
    views: dict[int, View] = {}

    def look(state: _State, id_: int, where: str) -> None:
        place = places.get(id_)
        if place is None or id_ in moved:
            return  # a constant, or a pointer that another value's memory has been moved to
        entry = state[place.memory].entries.get(place.start)
        if entry is not None and entry.owner == id_:
            return
        if entry is None or entry.end != place.end:
            raise ProgramError(f"it reads value {id_}, whose bytes nothing has written by then", where=where)
        if id_ in own:
            raise ProgramError(f"it reads value {id_}, whose bytes value {entry.owner} has overwritten", where=where)
        view = View(id_, entry.owner, entry.at)
        if entry.at == SEVERAL or views.setdefault(id_, view) != view:
            raise ProgramError(
                f"it reads value {id_} as a view of value {entry.owner}, which changes between two uses", where=where
            )

    def put(state: _State, id_: int, at: int, where: str) -> None:
        place = places.get(id_)
        if place is None or id_ in moved:
            return
        for lost in state[place.memory].write(place, id_, at):
            if lost in states and lost != id_:
                raise ProgramError(f"writing value {id_} overwrites the state {lost}", where=where)

    def step(position: int, state: _State) -> None:
        instruction = instructions[position]
        if position == 0:
            views.clear()  # a further pass over loops sees less, and finds again what is still there
        for id_ in instruction.reads:
            look(state, id_, instruction.where)
        for id_ in instruction.outs:
            put(state, id_, position, instruction.where)

    start: _State = {place.memory: _Arena() for place in places.values()}
    for id_ in at_start:
        put(start, id_, AT_START, "the start")
    end = forward(instructions, start, step, _copy, _meet)
    if end is None:
        raise ProgramError("its end cannot be reached")
    for position, id_ in enumerate(outputs):
        look(end, id_, f"output {position}")
    return tuple(views.values())
