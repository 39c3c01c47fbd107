"""The bytes that stay in flash: weights, packed weights, tables, initial states, rows of padding; equal bytes are
stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from etexport.emit.arenas import arenas
from etexport.emit.names import comment, identifier, layout_note, unique
from etexport.kernel.call import Const, Read, RowRead, Window
from etexport.program.model import Array, DType, Method, Role, Value
from etexport.specialise.model import Placed
from etexport.specialise.schedule import CallStep, JumpStep, Step

ALIGN = 16
"""Every constant starts at a multiple of this: the widest vector load of any core."""
FUNCTIONS = ("init", "reset", "run", "between")
"""What the functions of C are called, behind the model's name."""


@dataclass(frozen=True)
class Constant:
    """One symbol of `constants.S`: `offset` and `size` in `constants.bin`, in bytes. Symbols with equal content share
    their bytes, and one whose content another begins with lies there."""

    symbol: str
    dtype: DType
    count: int
    offset: int
    size: int
    note: str


@dataclass(frozen=True)
class Stretch:
    """Bytes of `constants.bin` and every symbol that begins there, the longest first."""

    offset: int
    content: bytes
    constants: tuple[Constant, ...]


@dataclass(frozen=True)
class Flash:
    """`of_value` by value id, `of_operand` by (step, operand), `of_pad` by (dtype, value), `of_state` by value id,
    `of_firsts` by step (see `etexport.kernel.call.Window`)."""

    constants: tuple[Constant, ...]
    content: bytes
    of_value: Mapping[int, Constant]
    of_operand: Mapping[tuple[int, int], Constant]
    of_pad: Mapping[tuple[DType, float], Constant]
    of_state: Mapping[int, Constant]
    of_firsts: Mapping[int, Constant]
    bytes_of_step: tuple[int, ...]
    """Bytes of constants that each step reads, shared ones counted at each reader."""

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """All constants in the order in which they lie."""
        by_offset: dict[int, list[Constant]] = {}
        for constant in sorted(self.constants, key=lambda one: (one.offset, -one.size)):
            by_offset.setdefault(constant.offset, []).append(constant)
        return tuple(
            Stretch(at, self.content[at : at + group[0].size], tuple(group)) for at, group in by_offset.items()
        )


@dataclass(frozen=True)
class _Named:
    """A constant before it has a place."""

    symbol: str
    dtype: DType
    content: bytes
    note: str

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass
class _Writer:
    """Collects constants in the order in which the program reads them."""

    prefix: str
    taken: set[str] = field(default_factory=set)
    named: list[_Named] = field(default_factory=list)
    known: dict[tuple[str, DType, bytes], _Named] = field(default_factory=dict)

    def add(self, name: str, dtype: DType, content: bytes, note: str) -> _Named:
        """A new symbol; the one of that name and content where another method has it."""
        if (name, dtype, content) in self.known:
            return self.known[name, dtype, content]
        made = self.known[name, dtype, content] = _Named(
            unique(f"{self.prefix}_{name}", self.taken), dtype, content, comment(note)
        )
        self.named.append(made)
        return made

    def placed(self) -> tuple[tuple[Constant, ...], bytes]:
        """Every constant with its place, and all bytes. What another one begins with (rows of padding) lies there."""
        contents = list(dict.fromkeys(one.content for one in self.named))
        stored, offsets = bytearray(), {}
        for content in contents:
            if not any(len(other) > len(content) and other.startswith(content) for other in contents):
                stored.extend(bytes(-len(stored) % ALIGN))
                offsets[content] = len(stored)
                stored.extend(content)
        for content in contents:
            if content not in offsets:
                offsets[content] = next(at for other, at in offsets.items() if other.startswith(content))
        constants = (
            Constant(one.symbol, one.dtype, one.size // one.dtype.itemsize, offsets[one.content], one.size, one.note)
            for one in self.named
        )
        return tuple(constants), bytes(stored)


def collect(methods: Sequence[Placed], prefix: str) -> tuple[Flash, ...]:
    """Every constant of the program, in order of first use, with `prefix` before each symbol: one `Flash` a method, all
    with the same `constants` and `content`."""
    functions = {f"{prefix}_{name}" for name in FUNCTIONS}
    writer = _Writer(prefix, functions | {arena.symbol for arena in arenas(methods[0], prefix).values()})
    used = [_used(placed, writer) for placed in methods]
    constants, content = writer.placed()
    stored = {constant.symbol: constant for constant in constants}
    return tuple(
        Flash(
            constants,
            content,
            {id: stored[constant.symbol] for id, constant in one.of_value.items()},
            {key: stored[constant.symbol] for key, constant in one.of_operand.items()},
            {key: stored[constant.symbol] for key, constant in one.of_pad.items()},
            {id: stored[constant.symbol] for id, constant in one.of_state.items()},
            {index: stored[constant.symbol] for index, constant in one.of_firsts.items()},
            one.bytes_of_step,
        )
        for one in used
    )


@dataclass(frozen=True)
class _Used:
    """What `Flash` has of one method, before the constants have places."""

    of_value: Mapping[int, _Named]
    of_operand: Mapping[tuple[int, int], _Named]
    of_pad: Mapping[tuple[DType, float], _Named]
    of_state: Mapping[int, _Named]
    of_firsts: Mapping[int, _Named]
    bytes_of_step: tuple[int, ...]


def _used(placed: Placed, writer: _Writer) -> _Used:
    method = placed.specialised.method
    steps, calls = placed.specialised.schedule.steps, placed.specialised.calls
    of_value: dict[int, _Named] = {}
    of_operand: dict[tuple[int, int], _Named] = {}
    of_firsts: dict[int, _Named] = {}
    for index, step in enumerate(steps, placed.first):
        if isinstance(step, CallStep):
            for position, operand in enumerate(step.call.operands):
                if isinstance(operand, Const) and operand.data is not None:
                    of_operand[index, position] = _operand(writer, step, operand.name, operand.data)
            if step.call.window is not None and step.call.window.firsts:
                of_firsts[index] = _operand(writer, step, "rows", _narrow(step.call.window.firsts))
        for value in (method.values[id] for id in _read_ids(step)):
            if value.role is Role.CONSTANT and value.id not in of_value:
                of_value[value.id] = _value(writer, value)
    for value in (method.values[id] for id in method.outputs):
        if value.role is Role.CONSTANT and value.id not in of_value:
            of_value[value.id] = _value(writer, value)
    of_pad = {
        key: _pad(writer, *key, elements)
        for key, elements in sorted(_pads(method, calls).items(), key=lambda item: str(item[0]))
    }
    of_state = {
        value.id: _value(writer, value, "initial")
        for value in method.values.values()
        if value.role is Role.STATE and value.data is not None and value.data.any()
    }
    return _Used(
        of_value,
        of_operand,
        of_pad,
        of_state,
        of_firsts,
        tuple(
            sum(constant.size for (step_index, _), constant in of_operand.items() if step_index == index)
            + sum(of_value[id].size for id in _read_ids(step) if id in of_value)
            + (of_firsts[index].size if index in of_firsts else 0)
            for index, step in enumerate(steps, placed.first)
        ),
    )


def _read_ids(step: Step) -> tuple[int, ...]:
    if isinstance(step, JumpStep):
        return () if step.condition is None else (step.condition,)
    if not isinstance(step, CallStep):
        return ()
    window = (step.call.window.input,) if step.call.window else ()
    return tuple(
        dict.fromkeys(
            (*window, *(operand.value for operand in step.call.operands if isinstance(operand, (Read, RowRead))))
        )
    )


def _operand(writer: _Writer, step: CallStep, name: str, data: Array) -> _Named:
    dtype = DType.of_numpy(data.dtype)
    content = np.ascontiguousarray(data, dtype=dtype.numpy.newbyteorder("<")).tobytes()
    note = f"{dtype.numpy} {list(data.shape)}" + (f"  {step.instruction.source}" if step.instruction.source else "")
    return writer.add(f"{identifier(step.instruction.name)}_{name}", dtype, content, note)


def _narrow(values: tuple[int, ...]) -> Array:
    """With the narrowest elements that hold them all."""
    return np.array(
        values,
        next(
            dtype
            for dtype in (np.int8, np.int16, np.int32)
            if np.iinfo(dtype).min <= min(values) <= max(values) <= np.iinfo(dtype).max
        ),
    )


def _value(writer: _Writer, value: Value, suffix: str = "") -> _Named:
    name = f"{value.name}_{suffix}" if suffix else value.name
    return writer.add(name, value.spec.dtype, value.physical_bytes, layout_note(value.spec))


def _pad(writer: _Writer, dtype: DType, value: float, elements: int) -> _Named:
    word = identifier(f"{value:g}".replace("-", "minus_").replace("+", "").replace(".", "_point_"))
    content = np.full(elements, value, dtype=dtype.numpy.newbyteorder("<")).tobytes()
    name = f"pad_{dtype.name.lower()}_{word.removeprefix('n')}"
    return writer.add(name, dtype, content, f"{elements} x {value:g}: a row outside an image")


def _pads(method: Method, calls: Mapping[int, CallStep]) -> dict[tuple[DType, float], int]:
    """The longest row of padding that any step needs, by element type and value."""
    pads: dict[tuple[DType, float], int] = {}
    for step in calls.values():
        window = step.call.window
        if window is not None and window.padded:
            key = pad_key(method, window)
            pads[key] = max(pads.get(key, 0), window.pad_elements)
    return pads


def pad_key(method: Method, window: Window) -> tuple[DType, float]:
    return method.values[window.input].spec.dtype, float(window.pad_value)
