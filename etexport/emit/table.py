"""A program as a table that a loop walks: what takes less flash than a call a step.

Steps that call one kernel with the same type of geometry share a case of the loop; what differs between them (geometry,
addresses) stands in the table, one word each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from etexport.emit.code import Argument, Statement, Where
from etexport.emit.geometry import Object
from etexport.program.model import DType


@dataclass(frozen=True)
class Slot:
    """A pointer of a case: `word` of the step's words (None: a null pointer in every step) to elements of `dtype`, at
    the row that is made where it goes `by_row`."""

    word: int | None = None
    dtype: DType | None = None
    written: bool = False
    by_row: bool = False


@dataclass(frozen=True)
class Record:
    """A geometry or window of a case: `word` of the step's words points to it; None where its type has one value."""

    type: str
    word: int | None = None


@dataclass(frozen=True)
class Case:
    """One call of the loop, which takes `words` words; windowed where there is a `window`, and `swept` (see
    `Sweep.places`). `kind` says what there is where there is no call: a "jump" has three words, where its condition
    lies, and where in the two tables it goes on; a "begin" has one, where the count lies that becomes 0; a "next" has
    four, its count, how many rounds there are, and where it goes on. What is none of these does nothing."""

    function: str = ""
    geometry: Record | None = None
    operands: tuple[Slot, ...] = ()
    window: Record | None = None
    swept: tuple[Slot, ...] = ()
    given: tuple[str, ...] = ()
    words: int = 0
    kind: str = ""


@dataclass(frozen=True)
class Target:
    """Where a jump goes on: the step, and the first of its words."""

    step: int
    word: int


@dataclass(frozen=True)
class Rounds:
    """How many rounds a loop makes: this one of `Table.rounds`."""

    at: int


Word = Where | Object | Target | Rounds | None
"""A word of the table: an address, an instance of a geometry, a number of rounds, or (as two words) where a jump goes
on."""


@dataclass(frozen=True)
class Entry:
    """One step: which case, and its words."""

    case: int
    words: tuple[Word, ...]
    title: str
    code: str


@dataclass(frozen=True)
class Table:
    cases: tuple[Case, ...]
    entries: tuple[Entry, ...]
    rounds: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    """The first word of each step, and of the end."""

    @property
    def narrow(self) -> bool:
        """Whether a byte says which case it is."""
        return len(self.cases) <= 2**8

    @property
    def jumps(self) -> bool:
        return any(case.kind in ("jump", "next") for case in self.cases)

    @property
    def words(self) -> int:
        return sum(self.cases[entry.case].words for entry in self.entries)


def table(statements: Sequence[Statement]) -> Table:
    """Statements whose geometry is that of OPTIMIZE=size: an object a step, a type a kernel."""
    known = _types_of_nothing(statement for statement in statements if statement.function)
    kinds = [_case(statement, known) for statement in statements]
    cases = list(dict.fromkeys(kinds))
    starts = list(itertools.accumulate((kind.words for kind in kinds), initial=0))
    rounds = tuple(dict.fromkeys(one.jump.rounds for one in statements if one.jump and one.jump.count))
    entries = (
        Entry(cases.index(kind), _words(statement, kind, starts, rounds), statement.title, statement.code)
        for statement, kind in zip(statements, kinds, strict=True)
    )
    return Table(tuple(cases), tuple(entries), rounds, tuple(starts))


_JUMP = Case(words=3, kind="jump")
_BEGIN = Case(words=1, kind="begin")
_NEXT = Case(words=4, kind="next")


def _case(statement: Statement, known: Mapping[tuple[object, int], Slot]) -> Case:
    """What steps of one case have in common; the words are numbered in the order in which they stand."""
    if statement.geometry is None:
        if statement.jump:
            return _NEXT if statement.jump.count else _JUMP
        return _BEGIN if statement.count else Case()
    count = itertools.count()
    sweep, call = statement.sweep, _call(statement)

    def record(one: Object) -> Record:
        return Record(one.type, next(count) if one.instance else None)

    def slot(one: Slot) -> Slot:
        return replace(one, word=next(count)) if one.dtype else one

    window = record(sweep.window) if sweep else None
    swept = tuple(slot(one) for one in _swept(statement))
    geometry = record(statement.geometry)
    operands = tuple(
        slot(_slot(one) if one.at else known.get((call, at), Slot())) for at, one in enumerate(statement.arguments)
    )
    return Case(statement.function, geometry, operands, window, swept, sweep.given if sweep else (), next(count))


def _slot(argument: Argument) -> Slot:
    return Slot(None, argument.at.dtype, argument.written, argument.by_row) if argument.at else Slot()


def _swept(statement: Statement) -> tuple[Slot, ...]:
    """What is nowhere has a word too: the row of padding of a window that never leaves its image."""
    sweep = statement.sweep
    return tuple(_slot(one) if one.at else Slot(None, sweep.dtype) for one in sweep.places) if sweep else ()


def _call(statement: Statement) -> object:
    """Steps for which this is the same can share a case, whether or not one passes nothing where another passes
    something."""
    objects = (statement.geometry, statement.sweep.window if statement.sweep else None)
    return statement.function, tuple(one.type for one in objects if one), _swept(statement), len(statement.arguments)


def _types_of_nothing(calls: Iterable[Statement]) -> dict[tuple[object, int], Slot]:
    """By call and position: the type that steps with an operand there agree on."""
    found: dict[tuple[object, int], set[Slot]] = {}
    for statement in calls:
        call = _call(statement)
        for at, argument in enumerate(statement.arguments):
            if argument.at:
                found.setdefault((call, at), set()).add(_slot(argument))
    return {key: next(iter(slots)) for key, slots in found.items() if len(slots) == 1}


def _words(statement: Statement, case: Case, starts: Sequence[int], rounds: Sequence[int]) -> tuple[Word, ...]:
    if statement.jump:
        jump, target = statement.jump, Target(statement.jump.target, starts[statement.jump.target])
        return (jump.count, Rounds(rounds.index(jump.rounds)), target) if jump.count else (jump.condition, target)
    if statement.geometry is None:
        return (statement.count,) if statement.count else ()
    sweep = statement.sweep
    objects = [(one,) if one and one.instance else () for one in (sweep.window if sweep else None, statement.geometry)]
    swept = (place.at for place in sweep.places) if sweep else ()
    passed = (argument.at for argument, slot in zip(statement.arguments, case.operands, strict=True) if slot.dtype)
    return (*objects[0], *swept, *objects[1], *passed)
