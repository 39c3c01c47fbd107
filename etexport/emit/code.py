"""What the templates of the C++ files loop over: tensors, steps and their calls, prepared from a placed program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etexport.emit.constants import Flash, pad_key, reads_outside
from etexport.emit.geometry import Geometry
from etexport.emit.names import comment, layout_note, unique
from etexport.op import Const, Library, Operand, Read, RowRead, Scratch, Write
from etexport.program.model import DType, Instruction, Method, Role, TensorSpec, Value
from etexport.target.model import Placed, Step

SCRATCH_ALIGN = 16
"""Several scratch operands of one instruction lie one after the other in its scratch buffer, each at a multiple of this."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model: in the arena at `offset`, or (a constant as output) in flash as `symbol`."""

    name: str
    title: str
    dtype: DType
    elements: int
    bytes: int
    sizes: tuple[int, ...]
    dim_order: tuple[int, ...]
    offset: int | None
    symbol: str
    note: str

    @property
    def rank(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Pointer:
    """A tensor or scratch of the arena that a step touches: `type* const name` at `offset`."""

    name: str
    type: str
    offset: int
    note: str


@dataclass(frozen=True)
class Sweep:
    """The loop over output rows round a windowed call."""

    window: str
    type: str
    output: str
    input: str
    pad: str
    uses_row: bool


@dataclass(frozen=True)
class Trace:
    pointer: str
    bytes: int


@dataclass(frozen=True)
class Statement:
    """One step: two lines of comment and one call of `function` (qualified) with `arguments`."""

    index: int
    handle: int
    title: str
    code: str
    function: str
    arguments: tuple[str, ...]
    sweep: Sweep | None
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class State:
    """A buffer that lives for ever, and its first content (`symbol` empty: zeros)."""

    name: str
    offset: int
    bytes: int
    symbol: str


@dataclass(frozen=True)
class Code:
    pointers: tuple[Pointer, ...]
    statements: tuple[Statement, ...]
    headers: tuple[str, ...]
    states: tuple[State, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def base(method: Method, value: Value) -> Value:
    """The value whose buffer holds this one."""
    return base(method, method.values[value.storage.base]) if value.storage is not None else value


def traced_results(placed: Placed, instruction: Instruction) -> list[Value]:
    """The results that lie in the arena: those that a build with traces streams, numbered in this order."""
    method = placed.specialised.method
    return [method.values[id] for id in instruction.outs if base(method, method.values[id]).name in placed.solution.offsets]


def in_flash(method: Method, value: Value) -> bool:
    return base(method, value).role is Role.CONSTANT


def prepare(placed: Placed, library: Library, flash: Flash, geometry: Geometry) -> Code:
    """Names, pointers and calls of a placed program."""
    method = placed.specialised.method
    names = _Pointers(placed, flash, geometry)
    statements = tuple(_statement(index, step, placed, names, geometry, flash) for index, step in enumerate(placed.specialised.steps))
    headers = sorted({header_of(step, library) for step in placed.specialised.steps})
    states = tuple(
        State(comment(value.name), placed.offset(value), value.spec.nbytes, flash.of_state.get(value.id, ""))
        for value in sorted(method.values.values(), key=lambda value: value.id)
        if value.role is Role.STATE and value.storage is None
    )
    inputs, outputs = (_tensors(placed, flash, ids) for ids in (method.inputs, method.outputs))
    return Code(tuple(names.pointers.values()), statements, tuple(headers), states, inputs, outputs)


def header_of(step: Step, library: Library) -> str:
    """`family/header.h`; a bare header name belongs to the family of the instruction's operator."""
    if "/" in step.call.header:
        return step.call.header
    op = library.find(step.instruction.op)
    assert op is not None, f"{step.instruction.op} is in no kernel folder"
    return f"{op.family}/{step.call.header}"


class _Pointers:
    """Names for what the steps touch, given out in order of first use."""

    def __init__(self, placed: Placed, flash: Flash, geometry: Geometry) -> None:
        self.placed = placed
        self.flash = flash
        self.pointers: dict[str, Pointer] = {}
        self._taken = {"arena", *(struct.name for struct in geometry.structs), *(instance.name for instance in geometry.instances)}

    def value(self, id: int) -> str:
        method = self.placed.specialised.method
        value = method.values[id]
        if in_flash(method, value):
            return _flash_expression(method, self.flash, value)
        return self._pointer(f"value {id}", value.name, value.spec.dtype, self.placed.offset(value), layout_note(value.spec))

    def scratch(self, step: Step, position: int) -> str:
        operands = step.call.operands
        operand = operands[position]
        assert isinstance(operand, Scratch)
        before = (other for other in operands[:position] if isinstance(other, Scratch))
        offset = sum(-(-other.elements * other.dtype.itemsize // SCRATCH_ALIGN) * SCRATCH_ALIGN for other in before)
        name = f"{step.instruction.name}_scratch"
        start = self.placed.scratch_offset(step.instruction) + offset
        key = f"scratch {step.instruction.handle} {step.instruction.name} {position}"
        return self._pointer(key, name, operand.dtype, start, f"{operand.elements} x {operand.dtype.numpy}, scratch")

    def _pointer(self, key: str, name: str, dtype: DType, offset: int, note: str) -> str:
        if key not in self.pointers:
            self.pointers[key] = Pointer(unique(name, self._taken), dtype.cpp, offset, note)
        return self.pointers[key].name


def _flash_expression(method: Method, flash: Flash, value: Value) -> str:
    if value.id in flash.of_value:
        return flash.of_value[value.id]
    assert value.storage is not None, f"{value.name} has no bytes"
    owner = flash.of_value[base(method, value).id]
    return f"reinterpret_cast<const {value.spec.dtype.cpp}*>(reinterpret_cast<const uint8_t*>({owner}) + {value.storage.offset})"


def _statement(index: int, step: Step, placed: Placed, names: _Pointers, geometry: Geometry, flash: Flash) -> Statement:
    method = placed.specialised.method
    instruction = step.instruction
    arguments = tuple(_argument(index, position, step, names, flash) for position in range(len(step.call.operands)))
    read = [method.values[id].spec for id in instruction.reads]
    written = [method.values[id].spec for id in instruction.outs]
    title = f"{instruction.name}: {instruction.op}  {_shapes(read)} -> {_shapes(written)}"
    traced = traced_results(placed, instruction)
    return Statement(
        index,
        instruction.handle,
        comment(title),
        comment(f"{instruction.source}  {instruction.source.code}") if instruction.source else "",
        f"et::{step.call.function}",
        (geometry.of_step[index], *arguments),
        _sweep(index, step, method, names, geometry, flash),
        tuple(Trace(names.value(value.id), value.spec.nbytes) for value in traced),
    )


def _shapes(specs: list[TensorSpec]) -> str:
    return ", ".join(layout_note(spec) for spec in specs)


def _argument(index: int, position: int, step: Step, names: _Pointers, flash: Flash) -> str:
    operand: Operand = step.call.operands[position]
    if isinstance(operand, (Read, Write)):
        return names.value(operand.value)
    if isinstance(operand, RowRead):
        assert step.call.window is not None, f"{step.instruction.name} reads a row without a window"
        return f"{names.value(operand.value)} + row * {step.call.window.out_row}"
    if isinstance(operand, Const):
        return "nullptr" if operand.data is None else flash.of_operand[index, position]
    return names.scratch(step, position)


def _sweep(index: int, step: Step, method: Method, names: _Pointers, geometry: Geometry, flash: Flash) -> Sweep | None:
    window = step.call.window
    if window is None:
        return None
    dtype = method.values[window.input].spec.dtype
    pad = flash.of_pad[pad_key(method, window)] if reads_outside(window) else f"static_cast<const {dtype.cpp}*>(nullptr)"
    uses_row = any(isinstance(operand, RowRead) for operand in step.call.operands)
    return Sweep(geometry.of_window[index], dtype.cpp, names.value(window.output), names.value(window.input), pad, uses_row)


def _tensors(placed: Placed, flash: Flash, ids: tuple[int, ...]) -> tuple[Tensor, ...]:
    method = placed.specialised.method
    taken: set[str] = set()
    return tuple(_tensor(placed, flash, method.values[id], taken) for id in ids)


def _tensor(placed: Placed, flash: Flash, value: Value, taken: set[str]) -> Tensor:
    spec = value.spec
    constant = in_flash(placed.specialised.method, value)
    return Tensor(
        unique(value.name, taken),
        value.name,
        spec.dtype,
        spec.numel,
        spec.nbytes,
        spec.shape,
        spec.dim_order,
        None if constant else placed.offset(value),
        _flash_expression(placed.specialised.method, flash, value) if constant else "",
        order_note(spec),
    )


def order_note(spec: TensorSpec) -> str:
    """How the elements follow each other, in words."""
    if spec.is_contiguous:
        return f"{spec}, in logical order"
    return f"{spec}, dimensions from outermost to innermost in memory: {', '.join(map(str, spec.dim_order))}"


def values_by_base(method: Method) -> Mapping[int, tuple[Value, ...]]:
    """The values that lie in the buffer of each value that has one, by the id of that value."""
    found: dict[int, list[Value]] = {}
    for value in sorted(method.values.values(), key=lambda value: value.id):
        if not in_flash(method, value):
            found.setdefault(base(method, value).id, []).append(value)
    return {id: tuple(values) for id, values in found.items()}
