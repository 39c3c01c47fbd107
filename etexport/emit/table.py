"""A program as a table that a loop walks: what takes less flash than a call a step.

Steps that call one kernel with the same type of geometry share a case of the loop; what differs between them (geometry, addresses)
stands in the table, one word each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etexport.emit.code import NOTHING, Statement, parameters
from etexport.emit.geometry import Geometry


@dataclass(frozen=True)
class Case:
    """One call of the loop: `arguments` read the step's words `o[0]`, `o[1]`, ...; a windowed call is swept (`Statement.sweep`). A `jump`
    has three words: where its condition lies, and where in the two tables it goes on. What is neither does nothing."""

    function: str
    arguments: tuple[str, ...]
    sweep: Sweeping | None
    words: int
    jump: bool = False


@dataclass(frozen=True)
class Sweeping:
    """`window` is an expression, `arguments` are those of `Sweep.places`."""

    window: str
    parameters: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One step: which case, and its words as constant expressions."""

    case: int
    words: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Table:
    cases: tuple[Case, ...]
    entries: tuple[Entry, ...]

    @property
    def index_type(self) -> str:
        return "uint8_t" if len(self.cases) <= 2**8 else "uint16_t"

    @property
    def jumps(self) -> bool:
        return any(case.jump for case in self.cases)

    @property
    def words(self) -> int:
        return sum(len(entry.words) for entry in self.entries)


def table(statements: Sequence[Statement], geometry: Geometry) -> Table:
    """`geometry` as for OPTIMIZE=size: an object a step, a type a kernel."""
    types = {instance.name: instance.type for instance in geometry.instances}
    calls = [statement for statement in statements if statement.function]
    shapes = [_Shape.of(statement, types) for statement in calls]
    known = _types_of_nothing(shapes)
    of_call = {statement.index: shape.completed(known) for statement, shape in zip(calls, shapes, strict=True)}
    kinds = [of_call.get(statement.index, _JUMP if statement.jump else _NOTHING) for statement in statements]
    cases = list(dict.fromkeys(kinds))
    words = [_words(statement, of_call[statement.index]) if statement.function else () for statement in statements]
    starts = list(
        itertools.accumulate((JUMP_WORDS if one.jump else len(own) for one, own in zip(statements, words, strict=True)), initial=0)
    )
    for at, statement in enumerate(statements):
        if statement.jump:
            to = statement.jump.target
            words[at] = (statement.jump.condition.place, f"kCalls + {to}", f"kOperands + {starts[to]}")
    entries = (Entry(cases.index(kind), own, statement.title) for statement, kind, own in zip(statements, kinds, words, strict=True))
    return Table(tuple(kind.case() for kind in cases), tuple(entries))


@dataclass(frozen=True)
class _Shape:
    """What steps of one case have in common. `operands`: type and whether it goes by rows; no type where every step passes nothing."""

    function: str
    geometry: str
    window: str
    swept: tuple[str, ...]
    given: tuple[str, ...]
    operands: tuple[tuple[str, bool], ...]

    @staticmethod
    def of(statement: Statement, types: Mapping[str, str]) -> _Shape:
        sweep = statement.sweep
        return _Shape(
            statement.function,
            types.get(statement.geometry, statement.geometry),
            types.get(sweep.window, sweep.window) if sweep else "",
            tuple(place.type for place in sweep.places) if sweep else (),
            sweep.given if sweep else (),
            tuple((argument.type, argument.by_row) for argument in statement.arguments),
        )

    @property
    def call(self) -> tuple[str, str, str, tuple[str, ...], int]:
        return self.function, self.geometry, self.window, self.swept, len(self.operands)

    def completed(self, known: Mapping[tuple[object, int], tuple[str, bool]]) -> _Shape:
        """With the types of what other steps pass where this one passes nothing."""
        operands = tuple(known.get((self.call, at), operand) if not operand[0] else operand for at, operand in enumerate(self.operands))
        return _Shape(self.function, self.geometry, self.window, self.swept, self.given, operands)

    def case(self) -> Case:
        if not self.function:
            return Case("", (), None, JUMP_WORDS if self == _JUMP else 0, self == _JUMP)
        words = iter(range(2**16))
        window = _object(self.window, words) if self.window else ""
        row = "index * window.out_row" if self.window else ""
        places = tuple(f"et::as<{type}>(o[{next(words)}])" for type in self.swept)
        geometry = _object(self.geometry, words)
        operands = tuple(_operand(type, row if by_row else "", words) for type, by_row in self.operands)
        if not self.window:
            return Case(self.function, (geometry, *operands), None, next(words))
        used = (*(("index",) if any(by_row for _, by_row in self.operands) else ()), *self.given)
        sweep = Sweeping(window, parameters(self.swept[0], used), places)
        return Case(self.function, (geometry, "out", "rows", *self.given, *operands), sweep, next(words))


JUMP_WORDS = 3
_JUMP = _Shape("", "jump", "", (), (), ())
_NOTHING = _Shape("", "", "", (), (), ())


def _object(type: str, words: Iterator[int]) -> str:
    """A geometry as an expression: `type{}` is the only one of its type, others stand in the table."""
    return type if type.endswith("{}") else f"*et::as<const {type}>(o[{next(words)}])"


def _operand(type: str, row: str, words: Iterator[int]) -> str:
    if not type:
        return NOTHING.text
    place = f"et::as<{type}>(o[{next(words)}])"
    return f"et::row_of({place}, {row})" if row else place


def _types_of_nothing(shapes: Sequence[_Shape]) -> dict[tuple[object, int], tuple[str, bool]]:
    """By call and position: the type that steps with an operand there agree on."""
    found: dict[tuple[object, int], set[tuple[str, bool]]] = {}
    for shape in shapes:
        for at, operand in enumerate(shape.operands):
            if operand[0]:
                found.setdefault((shape.call, at), set()).add(operand)
    return {key: next(iter(operands)) for key, operands in found.items() if len(operands) == 1}


def _words(statement: Statement, shape: _Shape) -> tuple[str, ...]:
    sweep = statement.sweep
    swept = tuple(place.place for place in sweep.places) if sweep is not None else ()
    objects = [f"&{name}" if name and not name.endswith("{}") else "" for name in (sweep.window if sweep else "", statement.geometry)]
    passed = (argument.place for argument, (type, _) in zip(statement.arguments, shape.operands, strict=True) if type)
    return tuple(word for word in (objects[0], *swept, objects[1], *passed) if word)
