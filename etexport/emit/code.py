"""A placed program in numbers: what its tensors, steps and calls are and where everything lies. The templates write C++
from it, and a table of bytes could be written from it as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from etexport.emit.arenas import Arena, arenas
from etexport.emit.constants import Constant, Flash, pad_key
from etexport.emit.geometry import Geometry, Instance, Object, depends, text
from etexport.emit.names import comment, layout_note, unique
from etexport.kernel.call import Const, Operand, Read, RowRead, RowWrite, Scratch, Write
from etexport.kernel.library import Library
from etexport.plan.problem import Place
from etexport.program.model import SET_ROW, DType, Extent, Instruction, Method, QParams, Role, Symbol, TensorSpec, Value
from etexport.specialise.model import Placed
from etexport.specialise.schedule import BeginStep, CallStep, JumpStep, MoveStep, NextStep, Step

SCRATCH_ALIGN = 16
"""Several scratch operands of one instruction lie one after the other in its scratch buffer, each at a multiple of
this."""


@dataclass(frozen=True)
class InRam:
    """A tensor or scratch that steps touch: `name` is what run() calls it."""

    name: str
    dtype: DType
    place: Place
    note: str


@dataclass(frozen=True)
class InFlash:
    """Elements of `dtype`, `shift` bytes behind the start of a constant."""

    constant: Constant
    dtype: DType
    shift: int = 0

    @property
    def offset(self) -> int:
        """From the start of all constants."""
        return self.constant.offset + self.shift


Where = InRam | InFlash


@dataclass(frozen=True)
class Argument:
    """A pointer that a call is given, null where `at` is None. `by_row`: a swept call gets it at the row that it
    makes."""

    at: Where | None = None
    written: bool = False
    by_row: bool = False


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model, in RAM, or in flash where an output is a constant."""

    name: str
    title: str
    dtype: DType
    elements: int
    bytes: int
    sizes: tuple[int, ...]
    dim_order: tuple[int, ...]
    place: Place | None
    constant: InFlash | None
    note: str
    qparams: QParams | None = None
    classes: tuple[str, ...] = ()
    extents: tuple[str, ...] = ()
    """Expressions of its sizes, where any is known at run time; `sizes` are the largest then, `least` the least."""
    least: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Sweep:
    """The loop over output rows round a windowed call.

    `pad` is the row of padding, `firsts` the table of first rows where windows lie at no fixed distance. `row` is the
    number of elements of an output row. `given`: the numbers that the call is told besides, "row" and "count".
    """

    window: Object
    dtype: DType
    output: Argument
    input: Argument
    pad: Argument
    firsts: Argument | None
    row: int
    given: tuple[str, ...]

    @property
    def places(self) -> tuple[Argument, ...]:
        return (self.output, self.input, self.pad, *((self.firsts,) if self.firsts else ()))


@dataclass(frozen=True)
class Trace:
    """A result that a build with traces streams."""

    value: Where
    bytes: int


@dataclass(frozen=True)
class Jump:
    """On to step `target`: always, where the bool at `condition` is false, or where `count`, with one added, is below
    `rounds`."""

    target: int
    condition: Where | None = None
    count: Where | None = None
    rounds: int = 0


@dataclass(frozen=True)
class Statement:
    """One step: two lines of comment, and one call of `function` (in namespace et) with `geometry` and `arguments`; or
    a `jump`; or a `count` that begins at 0; or none of these, where a value only gets another name."""

    index: int
    handle: int
    title: str
    code: str
    function: str = ""
    geometry: Object | None = None
    arguments: tuple[Argument, ...] = ()
    sweep: Sweep | None = None
    traces: tuple[Trace, ...] = ()
    jump: Jump | None = None
    count: Where | None = None


@dataclass(frozen=True)
class State:
    """A buffer that lives for ever, and its first content (None: zeros)."""

    name: str
    place: Place
    bytes: int
    initial: Constant | None


@dataclass(frozen=True)
class Code:
    """All of a program that its C++ is written from, in numbers and names. `headers` are those of kernels, `pointers`
    what run() touches in RAM, in order of first use."""

    arenas: Mapping[str, Arena]
    pointers: tuple[InRam, ...]
    statements: tuple[Statement, ...]
    headers: tuple[str, ...]
    states: tuple[State, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    symbols: tuple[Symbol, ...] = ()
    """Sizes that run() is given."""
    asked: tuple[Extent, ...] = ()
    """Where each is found in the inputs' sizes."""
    varying: tuple[Instance, ...] = ()
    """Geometry that it makes of them."""

    @property
    def parameters(self) -> str:
        """Of run(), in C too."""
        return ", ".join(f"int32_t {symbol.name}" for symbol in self.symbols)


def traced_results(placed: Placed, instruction: Instruction) -> list[Value]:
    """The results that lie in the arena: those that a build with traces streams, numbered in this order. What a round
    writes a row of is none: the row is one."""
    if instruction.op == SET_ROW:
        return []
    method = placed.specialised.method
    return [
        method.values[id]
        for id in instruction.outs
        if method.values[method.values[id].base].name in placed.solution.places
    ]


def in_flash(method: Method, value: Value) -> bool:
    return method.values[value.base].role is Role.CONSTANT


def prepare(placed: Placed, library: Library, flash: Flash, geometry: Geometry, space: str) -> Code:
    """Names, places and calls of a placed program whose symbols begin with `space`."""
    method = placed.specialised.method
    found = arenas(placed, space)
    own = {name for arena in found.values() for name in (arena.name, arena.symbol)}
    own |= {symbol.name for symbol in method.symbols}
    names = _Names(
        placed, flash, own | {one.name for one in geometry.structs} | {one.name for one in geometry.instances}
    )
    statements = tuple(
        _statement(index, step, placed, names, geometry, flash)
        for index, step in enumerate(placed.specialised.schedule.steps, placed.first)
    )
    headers = sorted({header_of(step, library) for step in placed.specialised.calls.values()})
    states = tuple(
        State(comment(value.name), placed.place(value), value.spec.nbytes, flash.of_state.get(value.id))
        for value in sorted(method.values.values(), key=lambda value: value.id)
        if value.role is Role.STATE and value.storage is None
    )
    said = placed.interface
    inputs = _tensors(placed, flash, method.inputs, set(own), said.inputs)
    outputs = _tensors(placed, flash, method.outputs, set(own), said.outputs)
    if said.classes:
        outputs = (replace(outputs[0], classes=said.classes), *outputs[1:])
    used = {one.geometry.instance for one in statements if one.geometry is not None}
    used |= {one.sweep.window.instance for one in statements if one.sweep is not None}
    asked = tuple(next(one for one in method.extents if one.symbol == symbol) for symbol in range(len(method.symbols)))
    varying = tuple(one for one in geometry.instances if one.varies and one.name in used)
    return Code(
        found,
        tuple(names.given.values()),
        statements,
        tuple(headers),
        states,
        inputs,
        outputs,
        method.symbols,
        asked,
        varying,
    )


def header_of(step: CallStep, library: Library) -> str:
    """`family/header.h`; a bare header name belongs to the family of the instruction's operator."""
    if "/" in step.call.header:
        return step.call.header
    op = library.find(step.instruction.op)
    assert op is not None, f"{step.instruction.op} is in no kernel folder"
    return f"{op.family}/{step.call.header}"


class _Names:
    """Names for what the steps touch, given out in order of first use."""

    def __init__(self, placed: Placed, flash: Flash, taken: set[str]) -> None:
        self.placed = placed
        self.flash = flash
        self.given: dict[str, InRam] = {}
        # a pointer of that name would hide the constant
        self._taken = taken | {constant.symbol for constant in flash.constants}

    def value(self, id: int) -> Where:
        method = self.placed.specialised.method
        value = method.values[id]
        if in_flash(method, value):
            return _constant(method, self.flash, value)
        return self._in_ram(
            f"value {id}", value.name, value.spec.dtype, self.placed.place(value), layout_note(value.spec)
        )

    def scratch(self, step: CallStep, position: int) -> InRam:
        operands = step.call.operands
        operand = operands[position]
        assert isinstance(operand, Scratch)
        before = (other for other in operands[:position] if isinstance(other, Scratch))
        offset = sum(-(-other.elements * other.dtype.itemsize // SCRATCH_ALIGN) * SCRATCH_ALIGN for other in before)
        start = self.placed.scratch(step.instruction) + offset
        key = f"scratch {step.instruction.handle} {step.instruction.name} {position}"
        note = f"{operand.elements} x {operand.dtype.numpy}, scratch"
        return self._in_ram(key, f"{step.instruction.name}_scratch", operand.dtype, start, note)

    def _in_ram(self, key: str, name: str, dtype: DType, place: Place, note: str) -> InRam:
        if key not in self.given:
            self.given[key] = InRam(unique(name, self._taken), dtype, place, note)
        return self.given[key]


def _constant(method: Method, flash: Flash, value: Value) -> InFlash:
    if value.id in flash.of_value:
        return InFlash(flash.of_value[value.id], value.spec.dtype)
    assert value.storage is not None, f"{value.name} has no bytes"
    owner = flash.of_value[value.base]
    assert value.storage.offset % owner.dtype.itemsize == 0, f"{value.name} begins inside an element of {owner.symbol}"
    return InFlash(owner, value.spec.dtype, value.storage.offset)


def _statement(index: int, step: Step, placed: Placed, names: _Names, geometry: Geometry, flash: Flash) -> Statement:
    method = placed.specialised.method
    instruction = step.instruction
    code = comment(f"{instruction.source}  {instruction.source.code}") if instruction.source else ""
    if isinstance(step, BeginStep):
        title = comment(f"{instruction.name}: {text(step.rounds)} rounds, counted in {method.values[step.count].name}")
        return Statement(index, instruction.handle, title, code, count=names.value(step.count))
    if isinstance(step, NextStep):
        to, rounds = placed.first + step.target, text(step.rounds)
        title = comment(f"{instruction.name}: on at step {to}, {rounds} times in all")
        return Statement(
            index,
            instruction.handle,
            title,
            code,
            jump=Jump(to, None, names.value(step.count), step.rounds),
        )
    if isinstance(step, JumpStep):
        condition = None if step.condition is None else names.value(step.condition)
        when = "" if step.condition is None else f" unless {method.values[step.condition].name}"
        title = comment(f"{instruction.name}: on at step {placed.first + step.target}{when}")
        return Statement(index, instruction.handle, title, code, jump=Jump(placed.first + step.target, condition))
    if isinstance(step, MoveStep):
        title = comment(f"{instruction.name}: {method.values[step.source].name} is now {method.values[step.out].name}")
        return Statement(index, instruction.handle, title, code)
    assert isinstance(step, CallStep), step
    arguments = tuple(_argument(index, position, step, names, flash) for position in range(len(step.call.operands)))
    read = [method.values[id].spec for id in instruction.reads]
    written = [method.values[id].spec for id in instruction.outs]
    title = f"{instruction.name}: {instruction.op}  {_shapes(read)} -> {_shapes(written)}"
    traced = traced_results(placed, instruction)
    return Statement(
        index,
        instruction.handle,
        comment(title),
        code,
        step.call.function,
        geometry.of_step[index],
        arguments,
        _sweep(index, step, method, names, geometry, flash),
        tuple(Trace(names.value(value.id), value.spec.nbytes) for value in traced),
    )


def _shapes(specs: list[TensorSpec]) -> str:
    return ", ".join(layout_note(spec) for spec in specs)


def _argument(index: int, position: int, step: CallStep, names: _Names, flash: Flash) -> Argument:
    operand: Operand = step.call.operands[position]
    if isinstance(operand, (Read, Write)):
        return Argument(names.value(operand.value), isinstance(operand, Write))
    if isinstance(operand, (RowRead, RowWrite)):
        assert step.call.window is not None, f"{step.instruction.name} has a row without a window"
        return Argument(names.value(operand.value), isinstance(operand, RowWrite), by_row=True)
    if isinstance(operand, Const):
        return Argument() if operand.data is None else _stored(flash.of_operand[index, position])
    return Argument(names.scratch(step, position), written=True)


def _stored(constant: Constant) -> Argument:
    return Argument(InFlash(constant, constant.dtype))


def _sweep(index: int, step: CallStep, method: Method, names: _Names, geometry: Geometry, flash: Flash) -> Sweep | None:
    window = step.call.window
    if window is None:
        return None
    return Sweep(
        geometry.of_window[index],
        method.values[window.input].spec.dtype,
        Argument(names.value(window.output), written=True),
        Argument(names.value(window.input)),
        _stored(flash.of_pad[pad_key(method, window)]) if window.padded else Argument(),
        _stored(flash.of_firsts[index]) if index in flash.of_firsts else None,
        window.out_row,
        tuple(name for name, told in (("row", window.numbered), ("count", window.counted)) if told),
    )


FACTS = (
    "elements",
    "bytes",
    "sizes",
    "sizes_of",
    "dim_order",
    "scale",
    "zero_point",
    "quantize",
    "dequantize",
    "classes",
)
"""What the headers say of a tensor, in names behind its own."""


def _tensors(
    placed: Placed, flash: Flash, ids: tuple[int, ...], taken: set[str], qparams: tuple[QParams | None, ...]
) -> tuple[Tensor, ...]:
    method = placed.specialised.method
    known = qparams or (None,) * len(ids)
    return tuple(_tensor(placed, flash, method.values[id], taken, one) for id, one in zip(ids, known, strict=True))


def _tensor(placed: Placed, flash: Flash, value: Value, taken: set[str], qparams: QParams | None) -> Tensor:
    spec, method = value.spec, placed.specialised.method
    name = unique(value.name, taken)
    while not taken.isdisjoint(facts := {f"{name}_{fact}" for fact in FACTS}):
        name = unique(value.name, taken)
    taken |= facts
    constant = _constant(method, flash, value) if in_flash(method, value) else None
    place = None if constant else placed.place(value)
    return Tensor(
        name, value.name, spec.dtype, spec.numel, spec.nbytes, spec.shape, spec.dim_order, place, constant,
        order_note(spec), qparams, **_extents(placed, value.id),
    )  # fmt: skip


def _extents(placed: Placed, id: int) -> dict[str, Any]:
    shape = placed.specialised.shapes.get(id, ())
    if not any(map(depends, shape)):
        return {}
    return {
        "extents": tuple(str(getattr(size, "text", size)) for size in shape),
        "least": placed.specialised.least[id],
    }


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
            found.setdefault(value.base, []).append(value)
    return {id: tuple(values) for id, values in found.items()}
