"""The expressions of C++ that the templates put together: numbers, addresses and operands as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from etexport.emit.arenas import Arena
from etexport.emit.code import Argument, InFlash, InRam, Statement, Sweep, Where
from etexport.emit.geometry import Member, Object, depends
from etexport.emit.table import Case, Record, Rounds, Slot, Target, Word
from etexport.plan.problem import Place
from etexport.program.model import DType, QParams

NULL = "nullptr"


def literal(member: Member) -> str:
    texts = list(member.texts) or [_number(value) for value in member.values]
    return texts[0] if member.count is None else f"{{{', '.join(texts)}}}"


def declared(member: Member) -> str:
    """`type name[count]`."""
    type = {"b": "bool", "f": "float"}.get(member.type.kind, f"{member.type.name}_t")
    return f"{type} {member.name}" + (f"[{member.count}]" if member.count is not None else "")


def _number(value: Any) -> str:
    if isinstance(value, np.bool_):
        return "true" if value else "false"
    if isinstance(value, np.floating):
        return float_literal(float(value))
    return "-2147483647 - 1" if value == -(2**31) else str(value)


def float_literal(value: float) -> str:
    """The shortest decimal that reads back as this float32."""
    with np.errstate(over="ignore"):
        number = np.float32(value)
    if math.isnan(number):
        return '__builtin_nanf("")'
    if math.isinf(number):
        return "__builtin_inff()" if number > 0 else "-__builtin_inff()"
    return f"{number!s}f"


def inverse(qparams: QParams) -> str:
    """By what quantize_per_tensor multiplies: the reciprocal of the scale in float32."""
    return float_literal(float(1.0 / np.float32(qparams.scales[0])))


def inside(space: str, outer: str) -> str:
    """What stands before a name of `space` in the namespace `outer`."""
    return f"{space.removeprefix(outer).removeprefix('::')}::" if space != outer else ""


def address(place: Place, arenas: Mapping[str, Arena]) -> str:
    """A constant expression."""
    return f"{arenas[place.region].symbol} + {place.offset}"


def constant(at: InFlash) -> str:
    """A constant expression where the elements are those of the constant."""
    if at.dtype is not at.constant.dtype:
        return (
            f"reinterpret_cast<const {at.dtype.cpp}*>(reinterpret_cast<const uint8_t*>({at.constant.symbol}) + "
            f"{at.shift})"
        )
    return at.constant.symbol + (f" + {at.shift // at.dtype.itemsize}" if at.shift else "")


def named(at: Where) -> str:
    """Inside a run() that has a pointer for everything in RAM."""
    return at.name if isinstance(at, InRam) else constant(at)


def call(statement: Statement) -> tuple[str, ...]:
    """The function and what it is given, as they stand inside the run() that calls it by name."""
    assert statement.geometry is not None
    sweep = statement.sweep
    row = f" + index * {_row_of(sweep)}" if sweep else ""
    own = ("out", "rows", *sweep.given) if sweep else ()
    given = (_argument(argument) + (row if argument.by_row else "") for argument in statement.arguments)
    return (f"et::{statement.function}", made(statement.geometry), *own, *given)


def _row_of(sweep: Sweep) -> str:
    return f"{sweep.window.instance}.out_row" if depends(sweep.row) else str(sweep.row)


def swept(statement: Statement) -> tuple[str, ...]:
    """What et::sweep is given before the kernel."""
    sweep = statement.sweep
    assert sweep is not None
    none = f"static_cast<const {sweep.dtype.cpp}*>({NULL})"
    return (made(sweep.window), *(named(place.at) if place.at else none for place in sweep.places))


def _argument(argument: Argument) -> str:
    return named(argument.at) if argument.at else NULL


def made(one: Object) -> str:
    return one.instance or f"{one.type}{{}}"


def parameters(dtype: DType, given: tuple[str, ...], operands: tuple[Argument | Slot, ...]) -> str:
    """Of the function that et::sweep calls: those that it does not use have no name."""
    used = {*given, *(["index"] if any(one.by_row for one in operands) else [])}
    numbers = (f"int32_t {name}" if name in used else "int32_t" for name in ("index", "row", "count"))
    return ", ".join((f"{dtype.cpp}* out", f"const {dtype.cpp}* const* rows", *numbers))


def case_call(case: Case) -> tuple[str, ...]:
    """As `call`, of words of the table."""
    assert case.geometry is not None
    own = ("out", "rows", *case.given) if case.window else ()
    return (f"et::{case.function}", record(case.geometry), *own, *map(_slot, case.operands))


def case_swept(case: Case) -> tuple[str, ...]:
    return tuple(map(_slot, case.swept))


def record(one: Record) -> str:
    return f"*et::as<const {one.type}>(o[{one.word}])" if one.word is not None else f"{one.type}{{}}"


def _slot(slot: Slot) -> str:
    if slot.dtype is None:
        return NULL
    place = f"et::as<{'' if slot.written else 'const '}{slot.dtype.cpp}>(o[{slot.word}])"
    return f"et::row_of({place}, index * window.out_row)" if slot.by_row else place


def word(one: Word, arenas: Mapping[str, Arena]) -> str:
    """A constant expression; two where a jump goes on."""
    if one is None:
        return NULL
    if isinstance(one, Object):
        return f"&{one.instance}"
    if isinstance(one, Rounds):
        return f"kRounds + {one.at}"
    if isinstance(one, Target):
        return f"kCalls + {one.step}, kOperands + {one.word}"
    return address(one.place, arenas) if isinstance(one, InRam) else constant(one)
