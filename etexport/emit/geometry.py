"""A call's geometry as C++: members that are compile-time constants (speed) or fields of one type a kernel (size)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from etexport.emit.names import identifier, unique
from etexport.op import GeometryField, Window
from etexport.target.model import Step

WINDOW_TYPE_FIELDS = ("kernel", "stride", "rows_per_call")
"""Members of a window that `et::sweep` uses as constants, so they belong to the type in both forms."""


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
    names = ("batch", "in_rows", "in_row", "out_rows", "out_row", "kernel", "stride", "pad", "dilation", "rows_per_call")
    return {name: getattr(window, name) for name in names}


def geometry(steps: tuple[Step, ...], optimize: str) -> Geometry:
    """The types and objects of all steps; steps with the same geometry share them, and with them the compiled kernel."""
    return _fixed(steps) if optimize == "speed" else _shared(steps)


def _fixed(steps: tuple[Step, ...]) -> Geometry:
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

    for index, step in enumerate(steps):
        name = step.instruction.name or f"step{index}"
        of_step[index] = type_of(step.call.function, f"{name}_geometry", members(step.call.geometry)) + "{}"
        if step.call.window is not None:
            of_window[index] = type_of("window", f"{name}_window", members(window_fields(step.call.window))) + "{}"
    return Geometry(tuple(structs), (), of_step, of_window)


def _shared(steps: tuple[Step, ...]) -> Geometry:
    taken: set[str] = set()
    types: dict[tuple[str, tuple[Member, ...], tuple[tuple[str, str, int | None], ...]], str] = {}
    objects: dict[tuple[str, tuple[Member, ...]], str] = {}
    structs: list[Struct] = []
    instances: list[Instance] = []
    of_step: dict[int, str] = {}
    of_window: dict[int, str] = {}

    def object_of(key: str, name: str, constants: tuple[Member, ...], fields: tuple[Member, ...]) -> str:
        shape = tuple((member.type, member.name, member.count) for member in fields)
        if (key, constants, shape) not in types:
            types[key, constants, shape] = unique(key, taken)
            structs.append(Struct(types[key, constants, shape], constants, fields))
        type = types[key, constants, shape]
        if (type, fields) not in objects:
            objects[type, fields] = unique(name, taken)
            instances.append(Instance(type, objects[type, fields], fields))
        return objects[type, fields]

    for index, step in enumerate(steps):
        name = step.instruction.name or f"step{index}"
        key = identifier(step.call.function.replace("::", "_"))
        of_step[index] = object_of(f"{key}_geometry", f"{name}_geometry", (), members(step.call.geometry))
        if step.call.window is not None:
            every = members(window_fields(step.call.window))
            constants = tuple(member for member in every if member.name in WINDOW_TYPE_FIELDS)
            fields = tuple(member for member in every if member.name not in WINDOW_TYPE_FIELDS)
            of_window[index] = object_of("sweep_window", f"{name}_window", constants, fields)
    return Geometry(tuple(structs), tuple(instances), of_step, of_window)
