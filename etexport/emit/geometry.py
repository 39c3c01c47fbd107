"""A call's geometry: members that are compile-time constants (speed), or of which those that differ between the steps
of a kernel are fields of one type (size)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from etexport.emit.names import identifier, type_name, unique
from etexport.kernel.call import GeometryField, Window
from etexport.specialise.formulas import Varying, VaryingReal
from etexport.specialise.schedule import CallStep

MOST_ROWS = "most_rows"
"""How many pointers to input rows `et::sweep` keeps: a constant in both forms, in the shared one that of the largest
window."""


@dataclass(frozen=True)
class Member:
    """A number, or an array of `count` numbers: `content` is what it is in memory, little-endian."""

    name: str
    type: np.dtype[Any]
    count: int | None
    content: bytes
    texts: tuple[str, ...] = ()
    """Expressions of its numbers, where any depends on sizes."""

    @property
    def values(self) -> tuple[Any, ...]:
        """Numbers of numpy, as precise as they are stored."""
        return tuple(np.frombuffer(self.content, self.type))

    def stored_as(self, type: np.dtype[Any]) -> Member:
        return replace(self, type=type, content=np.frombuffer(self.content, self.type).astype(type).tobytes())


@dataclass(frozen=True)
class Struct:
    """A type: `constants` are static constexpr members, `fields` (contents ignored) are members of each instance."""

    name: str
    constants: tuple[Member, ...]
    fields: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Instance:
    """An object of a type with fields."""

    type: str
    name: str
    fields: tuple[Member, ...]
    varies: bool = False
    """It is made anew in each run, of the sizes of that."""


@dataclass(frozen=True)
class Object:
    """What a step passes: an instance by name, or, without one, the only value that its type has."""

    type: str
    instance: str = ""


@dataclass(frozen=True)
class Geometry:
    """`of_step` and `of_window` by step: the object of its kernel, and the one of its window."""

    structs: tuple[Struct, ...]
    instances: tuple[Instance, ...]
    of_step: Mapping[int, Object]
    of_window: Mapping[int, Object]


def members(fields: Mapping[str, GeometryField]) -> tuple[Member, ...]:
    """Geometry fields in their order. An empty tuple has one element, for C++ has no array without any."""
    return tuple(_member(name, value) for name, value in fields.items())


def _member(name: str, value: GeometryField) -> Member:
    count = max(len(value), 1) if isinstance(value, tuple) else None
    values = (value or (0,)) if isinstance(value, tuple) else (value,)
    real = any(isinstance(item, (float, np.floating)) for item in values)
    kind: np.dtype[Any] = np.dtype("<f4" if real else "bool" if isinstance(value, (bool, np.bool_)) else "<i4")
    with np.errstate(over="ignore"):
        stored = np.array(values).astype(kind)
    assert kind.kind == "f" or np.array_equal(stored, values), f"{name} = {value} is no int32_t"
    texts = tuple(map(text, values)) if any(map(depends, values)) else ()
    return Member(name, kind, count, stored.tobytes(), texts)


def depends(number: object) -> bool:
    """Whether the number is another one for other sizes."""
    return isinstance(number, (Varying, VaryingReal))


def text(number: object) -> str:
    """A number as C++ has it: an expression where it depends on sizes."""
    return str(getattr(number, "text", number))


def window_fields(window: Window) -> dict[str, GeometryField]:
    names = ("batch", "in_rows", "in_row", "out_rows", "out_row", "kernel", "stride", "pad", "dilation")
    return {
        **{name: getattr(window, name) for name in names},
        "begin_row": _last_call(window) if window.upward else 0,
        "row_step": -window.rows_per_call if window.upward else window.rows_per_call,
    }


def _last_call(window: Window) -> int:
    last, rows = window.calls[-1], window.out_rows
    return Varying(last, f"({rows.text} - 1) / {window.rows_per_call} * {window.rows_per_call}") if isinstance(
        rows, Varying
    ) else last  # fmt: skip


MOST_FIXED = 16
"""Words of a geometry that only one step has: as constants they cost less than as an object, but gcc copies more by a
call of memcpy."""


def geometry(calls: Mapping[int, CallStep], optimize: str) -> Geometry:
    """The types and objects of all calls, by step; calls with the same geometry share them, and with them the compiled
    kernel."""
    return _fixed(calls) if optimize == "speed" else _shared(calls)


def _fixed(calls: Mapping[int, CallStep]) -> Geometry:
    taken: set[str] = set()
    known: dict[tuple[str, tuple[Member, ...]], Object] = {}
    structs: list[Struct] = []
    instances: list[Instance] = []
    of_step: dict[int, Object] = {}
    of_window: dict[int, Object] = {}

    def object_of(key: str, name: str, fields: tuple[Member, ...]) -> Object:
        if (key, fields) not in known:
            varying = tuple(field for field in fields if field.texts)
            made = known[key, fields] = Object(unique(type_name(name), taken), unique(name, taken) if varying else "")
            structs.append(Struct(made.type, tuple(field for field in fields if not field.texts), varying))
            if varying:
                instances.append(Instance(made.type, made.instance, varying, varies=True))
        return known[key, fields]

    for index, step in calls.items():
        name = step.instruction.name or f"step{index}"
        of_step[index] = object_of(step.call.function, f"{name}_geometry", members(step.call.geometry))
        if step.call.window is not None:
            fields = {**window_fields(step.call.window), MOST_ROWS: step.call.window.seen}
            of_window[index] = object_of("window", f"{name}_window", members(fields))
    return Geometry(tuple(structs), tuple(instances), of_step, of_window)


_NARROW = tuple(map(np.dtype, ("<u1", "<i1", "<u2", "<i2")))


@dataclass(frozen=True)
class _Passed:
    """What one step passes, before its type's fields are made as narrow as the values of all such objects allow."""

    name: str
    fields: tuple[Member, ...]

    @property
    def form(self) -> tuple[tuple[np.dtype[Any], str, int | None], ...]:
        return tuple((member.type, member.name, member.count) for member in self.fields)


def _shared(calls: Mapping[int, CallStep]) -> Geometry:
    taken: set[str] = set()
    kinds: dict[tuple[str, object], list[_Passed]] = {}
    most_rows = members(
        {MOST_ROWS: max((step.call.window.seen for step in calls.values() if step.call.window is not None), default=0)}
    )
    of_step: dict[int, str] = {}
    of_window: dict[int, str] = {}

    def passed(key: str, name: str, fields: tuple[Member, ...]) -> str:
        same = kinds.setdefault((key, _Passed(name, fields).form), [])
        known = next((other for other in same if other.fields == fields), None)
        if known is None:
            known = _Passed(unique(f"k{type_name(name)}", taken), fields)
            same.append(known)
        return known.name

    for index, step in calls.items():
        name = step.instruction.name or f"step{index}"
        key = identifier(step.call.function.replace("::", "_"))
        of_step[index] = passed(f"{key}_geometry", f"{name}_geometry", members(step.call.geometry))
        if step.call.window is not None:
            of_window[index] = passed("sweep_window", f"{name}_window", members(window_fields(step.call.window)))
    structs, instances = [], []
    objects: dict[str, Object] = {}
    for (key, _), same in kinds.items():
        type = unique(type_name(key), taken)
        columns = [[one.fields[at] for one in same] for at in range(len(same[0].fields))]
        alone = len(same) == 1 and len(columns) > 0 and sum(member.count or 1 for member in same[0].fields) > MOST_FIXED
        varies = [alone or len({member.content for member in column}) > 1 for column in columns]
        constants = tuple(column[0] for column, differs in zip(columns, varies, strict=True) if not differs)
        fields = tuple(_narrowed(column) for column, differs in zip(columns, varies, strict=True) if differs)
        structs.append(Struct(type, (*(most_rows if key == "sweep_window" else ()), *constants), fields))
        for one in same:
            objects[one.name] = Object(type, one.name if fields else "")
            if fields:
                own = (member for member, differs in zip(one.fields, varies, strict=True) if differs)
                stored = tuple(member.stored_as(field.type) for member, field in zip(own, fields, strict=True))
                instances.append(Instance(type, one.name, stored))
    found = ({step: objects[name] for step, name in names.items()} for names in (of_step, of_window))
    return Geometry(tuple(structs), tuple(instances), *found)


def _narrowed(members: list[Member]) -> Member:
    """The member with the narrowest integer type that holds all of its values. Arrays stay as they are: kernels take
    their address."""
    first = members[0]
    if first.type.kind != "i" or first.count is not None:
        return first
    numbers = [int(member.values[0]) for member in members]
    limits = ((type, np.iinfo(type)) for type in _NARROW)
    fits = (type for type, limit in limits if all(limit.min <= number <= limit.max for number in numbers))
    return first.stored_as(next(fits, first.type))
