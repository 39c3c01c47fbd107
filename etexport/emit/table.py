"""A program as a table that a loop walks: what takes less flash than a call a step.

Steps that call one kernel with the same type of geometry share a case of the loop; what differs between them (geometry, addresses)
stands in the table, one word each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etexport.emit.code import NOTHING, Statement, parameters
from etexport.emit.geometry import Geometry


@dataclass(frozen=True)
class Case:
    """One call of the loop: `arguments` read the step's words `o[0]`, `o[1]`, ...; a windowed call is swept (`Statement.sweep`)."""

    function: str
    arguments: tuple[str, ...]
    sweep: Sweeping | None
    words: int


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


def table(statements: Sequence[Statement], geometry: Geometry) -> Table:
    """`geometry` as for OPTIMIZE=size: an object a step, a type a kernel."""
    types = {instance.name: instance.type for instance in geometry.instances}
    shapes = [_Shape.of(statement, types) for statement in statements]
    known = _types_of_nothing(shapes)
    completed = [shape.completed(known) for shape in shapes]
    cases = list(dict.fromkeys(completed))
    entries = (
        Entry(cases.index(shape), _words(statement, shape), statement.title) for statement, shape in zip(statements, completed, strict=True)
    )
    return Table(tuple(shape.case() for shape in cases), tuple(entries))


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
