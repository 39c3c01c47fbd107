"""A call's geometry as C++: members that are compile-time constants (speed), or of which those that differ between the steps of a kernel
are fields of one type (size)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from etexport.emit.names import identifier, unique
from etexport.kernel.call import GeometryField, Window
from etexport.specialise.schedule import CallStep

MOST_ROWS = "most_rows"
"""How many pointers to input rows `et::sweep` keeps: a constant in both forms, in the shared one that of the largest window."""


@dataclass(frozen=True)
class Member:
    """`type name[count]` with its value; count None where it is no array."""

    type: str
    name: str
    count: int | None
    value: str


@dataclass(frozen=True)
class Struct:
    """A type: `constants` are static constexpr members, `fields` (values ignored) are members of each instance."""

    name: str
    constants: tuple[Member, ...]
    fields: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Instance:
    """An object of a type with fields."""

    type: str
    name: str
    fields: tuple[Member, ...]


@dataclass(frozen=True)
class Geometry:
    """`of_step` and `of_window` by step: the expression that stands in the call, and the window's type."""

    structs: tuple[Struct, ...]
    instances: tuple[Instance, ...]
    of_step: Mapping[int, str]
    of_window: Mapping[int, str]


def members(fields: Mapping[str, GeometryField]) -> tuple[Member, ...]:
    """Geometry fields in their order. An empty tuple has one element, for C++ has no array without any."""
    return tuple(_member(name, value) for name, value in fields.items())


def _member(name: str, value: GeometryField) -> Member:
    if isinstance(value, tuple):
        is_float = any(isinstance(item, float) for item in value)
        items = [float_literal(item) if is_float else int_literal(item) for item in value] or ["0"]
        return Member("float" if is_float else "int32_t", name, len(items), "{" + ", ".join(items) + "}")
    if isinstance(value, (bool, np.bool_)):
        return Member("bool", name, None, "true" if value else "false")
    if isinstance(value, (float, np.floating)):
        return Member("float", name, None, float_literal(value))
    return Member("int32_t", name, None, int_literal(value))


def int_literal(value: float) -> str:
    number = int(value)
    assert number == value and -(2**31) <= number < 2**31, f"{value} is no int32_t"
    return "-2147483647 - 1" if number == -(2**31) else str(number)


def float_literal(value: float) -> str:
    """The shortest decimal that reads back as this float32."""
    with np.errstate(over="ignore"):
        number = np.float32(value)
    if math.isnan(number):
        return '__builtin_nanf("")'
    if math.isinf(number):
        return "__builtin_inff()" if number > 0 else "-__builtin_inff()"
    return f"{number!s}f"


def window_fields(window: Window) -> dict[str, GeometryField]:
    names = ("batch", "in_rows", "in_row", "out_rows", "out_row", "kernel", "stride", "pad", "dilation")
    return {
        **{name: getattr(window, name) for name in names},
        "begin_row": window.calls[-1] if window.upward else 0,
        "row_step": -window.rows_per_call if window.upward else window.rows_per_call,
    }


MOST_FIXED = 16
"""Words of a geometry that only one step has: as constants they cost less than as an object, but gcc copies more by a call of memcpy."""


def geometry(calls: Mapping[int, CallStep], optimize: str) -> Geometry:
    """The types and objects of all calls, by step; calls with the same geometry share them, and with them the compiled kernel."""
    return _fixed(calls) if optimize == "speed" else _shared(calls)


def _fixed(calls: Mapping[int, CallStep]) -> Geometry:
    taken: set[str] = set()
    known: dict[tuple[str, tuple[Member, ...]], str] = {}
    structs: list[Struct] = []
    of_step: dict[int, str] = {}
    of_window: dict[int, str] = {}

    def type_of(key: str, name: str, fields: tuple[Member, ...]) -> str:
        if (key, fields) not in known:
            known[key, fields] = unique(name, taken)
            structs.append(Struct(known[key, fields], fields))
        return known[key, fields]

    for index, step in calls.items():
        name = step.instruction.name or f"step{index}"
        of_step[index] = type_of(step.call.function, f"{name}_geometry", members(step.call.geometry)) + "{}"
        if step.call.window is not None:
            fields = {**window_fields(step.call.window), MOST_ROWS: step.call.window.seen}
            of_window[index] = type_of("window", f"{name}_window", members(fields)) + "{}"
    return Geometry(tuple(structs), (), of_step, of_window)


_NARROW = (("uint8_t", 0, 2**8), ("int8_t", -(2**7), 2**7), ("uint16_t", 0, 2**16), ("int16_t", -(2**15), 2**15))


@dataclass(frozen=True)
class _Object:
    """What one step passes, before its type's fields are made as narrow as the values of all such objects allow."""

    name: str
    fields: tuple[Member, ...]

    @property
    def form(self) -> tuple[tuple[str, str, int | None], ...]:
        return tuple((member.type, member.name, member.count) for member in self.fields)


def _shared(calls: Mapping[int, CallStep]) -> Geometry:
    taken: set[str] = set()
    kinds: dict[tuple[str, object], list[_Object]] = {}
    most_rows = members({MOST_ROWS: max((step.call.window.seen for step in calls.values() if step.call.window is not None), default=0)})
    of_step: dict[int, str] = {}
    of_window: dict[int, str] = {}

    def object_of(key: str, name: str, fields: tuple[Member, ...]) -> str:
        made = _Object(name, fields)
        same = kinds.setdefault((key, made.form), [])
        known = next((other for other in same if other.fields == fields), None)
        if known is None:
            known = _Object(unique(name, taken), fields)
            same.append(known)
        return known.name

    for index, step in calls.items():
        name = step.instruction.name or f"step{index}"
        key = identifier(step.call.function.replace("::", "_"))
        of_step[index] = object_of(f"{key}_geometry", f"{name}_geometry", members(step.call.geometry))
        if step.call.window is not None:
            of_window[index] = object_of("sweep_window", f"{name}_window", members(window_fields(step.call.window)))
    structs, instances = [], []
    fixed: dict[str, str] = {}
    for (key, _), objects in kinds.items():
        type = unique(key, taken)
        columns = [[made.fields[at] for made in objects] for at in range(len(objects[0].fields))]
        alone = len(objects) == 1 and len(columns) > 0 and sum(member.count or 1 for member in objects[0].fields) > MOST_FIXED
        varies = [alone or len({member.value for member in column}) > 1 for column in columns]
        constants = tuple(column[0] for column, differs in zip(columns, varies, strict=True) if not differs)
        fields = tuple(_narrowed(column) for column, differs in zip(columns, varies, strict=True) if differs)
        structs.append(Struct(type, (*(most_rows if key == "sweep_window" else ()), *constants), fields))
        for made in objects:
            if fields:
                own = tuple(member for member, differs in zip(made.fields, varies, strict=True) if differs)
                instances.append(Instance(type, made.name, own))
            else:
                fixed[made.name] = f"{type}{{}}"
    of_step, of_window = ({step: fixed.get(name, name) for step, name in names.items()} for names in (of_step, of_window))
    return Geometry(tuple(structs), tuple(instances), of_step, of_window)


def _narrowed(values: list[Member]) -> Member:
    """The member with the narrowest integer type that holds all of its values. Arrays stay as they are: kernels take their address."""
    first = values[0]
    if first.type != "int32_t" or first.count is not None:
        return first
    numbers = [-(2**31) if "-" in member.value[1:] else int(member.value) for member in values]
    fits = (type for type, low, end in _NARROW if all(low <= number < end for number in numbers))
    return Member(next(fits, first.type), first.name, None, first.value)
