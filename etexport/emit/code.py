"""What the templates of the C++ files loop over: tensors, steps and their calls, prepared from a placed program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etexport.emit.blocks import Form, forms
from etexport.emit.constants import Flash, pad_key
from etexport.emit.geometry import Geometry
from etexport.emit.names import comment, layout_note, unique
from etexport.kernel.call import Const, Operand, Read, RowRead, RowWrite, Scratch, Write
from etexport.kernel.library import Library
from etexport.plan.problem import Place
from etexport.program.model import DType, Instruction, Method, Role, TensorSpec, Value
from etexport.specialise.model import Placed
from etexport.specialise.schedule import CallStep, JumpStep, MoveStep, Step

SCRATCH_ALIGN = 16
"""Several scratch operands of one instruction lie one after the other in its scratch buffer, each at a multiple of this."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model: in RAM at `place`, a constant expression, or (a constant as output) in flash as `symbol`."""

    name: str
    title: str
    dtype: DType
    elements: int
    bytes: int
    sizes: tuple[int, ...]
    dim_order: tuple[int, ...]
    place: str | None
    symbol: str
    note: str

    @property
    def rank(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Pointer:
    """A tensor or scratch in RAM that a step touches: `type* const name` in the array `arena` at `offset`."""

    name: str
    type: str
    arena: str
    offset: int
    note: str

    @property
    def place(self) -> str:
        return f"detail::{self.arena} + {self.offset}"


@dataclass(frozen=True)
class Argument:
    """An operand of a call: `text` inside run(), and `place` as a constant expression, both "nullptr" where there is none.

    `type` is what it points to ("const float"; empty for none). `by_row`: a swept call gets it at the row that it makes.
    """

    type: str
    text: str
    place: str
    by_row: bool = False


NOTHING = Argument("", "nullptr", "nullptr")


@dataclass(frozen=True)
class Sweep:
    """The loop over output rows round a windowed call.

    `places`: output, input, the row of padding, and where there is one the table of first rows. `row` is the number of elements
    of an output row. `given`: the numbers that the call is told besides, "row" and "count".
    """

    window: str
    type: str
    places: tuple[Argument, ...]
    row: int
    uses_index: bool
    given: tuple[str, ...]

    @property
    def parameters(self) -> str:
        return parameters(self.type, (*(("index",) if self.uses_index else ()), *self.given))


@dataclass(frozen=True)
class Trace:
    value: Argument
    bytes: int


@dataclass(frozen=True)
class Jump:
    """On to step `target`: always, or where the bool at `condition` is false."""

    target: int
    condition: Argument = NOTHING


@dataclass(frozen=True)
class Statement:
    """One step: two lines of comment, and one call of `function` (qualified) with `geometry` and `arguments`; or a `jump`; or neither,
    where a value only gets another name. `form` says between which braces it stands."""

    index: int
    handle: int
    title: str
    code: str
    form: Form
    function: str = ""
    geometry: str = ""
    arguments: tuple[Argument, ...] = ()
    sweep: Sweep | None = None
    traces: tuple[Trace, ...] = ()
    jump: Jump | None = None

    @property
    def texts(self) -> list[str]:
        """The arguments behind the geometry as they stand in run()."""
        row = f" + index * {self.sweep.row}" if self.sweep else ""
        given = ("out", "rows", *self.sweep.given) if self.sweep else ()
        return [*given, *(argument.text + row if argument.by_row else argument.text for argument in self.arguments)]


@dataclass(frozen=True)
class State:
    """A buffer that lives for ever at `place`, a constant expression, and its first content (`symbol` empty: zeros)."""

    name: str
    place: str
    bytes: int
    symbol: str


@dataclass(frozen=True)
class Arena:
    """The array of a region: `name` in C++, the section that the linker script places, and its bytes (at least 1: C++ has none of none)."""

    name: str
    section: str
    region: str
    bytes: int


@dataclass(frozen=True)
class Code:
    arenas: tuple[Arena, ...]
    pointers: tuple[Pointer, ...]
    statements: tuple[Statement, ...]
    end: Form
    headers: tuple[str, ...]
    states: tuple[State, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def parameters(type: str, used: tuple[str, ...]) -> str:
    """Of the function that `et::sweep` calls: those that it does not use have no name."""
    numbers = (f"int32_t {name}" if name in used else "int32_t" for name in ("index", "row", "count"))
    return ", ".join((f"{type}* out", f"const {type}* const* rows", *numbers))


def base(method: Method, value: Value) -> Value:
    """The value whose buffer holds this one."""
    return base(method, method.values[value.storage.base]) if value.storage is not None else value


def traced_results(placed: Placed, instruction: Instruction) -> list[Value]:
    """The results that lie in the arena: those that a build with traces streams, numbered in this order."""
    method = placed.specialised.method
    return [method.values[id] for id in instruction.outs if base(method, method.values[id]).name in placed.solution.places]


def in_flash(method: Method, value: Value) -> bool:
    return base(method, value).role is Role.CONSTANT


def prepare(placed: Placed, library: Library, flash: Flash, geometry: Geometry) -> Code:
    """Names, pointers and calls of a placed program."""
    method = placed.specialised.method
    names = _Pointers(placed, flash, geometry)
    steps = placed.specialised.schedule.steps
    *shapes, end = forms(steps, lambda id: f"*{names.value(id).text}")
    statements = tuple(
        _statement(index, step, form, placed, names, geometry, flash) for index, (step, form) in enumerate(zip(steps, shapes, strict=True))
    )
    headers = sorted({header_of(step, library) for step in placed.specialised.calls.values()})
    states = tuple(
        State(comment(value.name), names.place(value), value.spec.nbytes, flash.of_state.get(value.id, ""))
        for value in sorted(method.values.values(), key=lambda value: value.id)
        if value.role is Role.STATE and value.storage is None
    )
    inputs, outputs = (_tensors(placed, flash, ids, names) for ids in (method.inputs, method.outputs))
    return Code(tuple(names.arenas.values()), tuple(names.pointers.values()), statements, end, tuple(headers), states, inputs, outputs)


def header_of(step: CallStep, library: Library) -> str:
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
        self.arenas = arenas(placed)
        self._taken = {arena.name for arena in self.arenas.values()}
        self._taken |= {*(struct.name for struct in geometry.structs), *(instance.name for instance in geometry.instances)}
        self._taken |= {constant.symbol for constant in flash.constants}  # a pointer of that name would hide the constant

    def value(self, id: int, qualifier: str = "const ", *, by_row: bool = False) -> Argument:
        method = self.placed.specialised.method
        value = method.values[id]
        if in_flash(method, value):
            dtype, place = value.spec.dtype, _flash_place(method, self.flash, value)
            return Argument(f"const {dtype.cpp}", _flash_expression(method, self.flash, value), place, by_row)
        pointer = self._pointer(f"value {id}", value.name, value.spec.dtype, self.placed.place(value), layout_note(value.spec))
        return Argument(f"{qualifier}{pointer.type}", pointer.name, pointer.place, by_row)

    def place(self, value: Value) -> str:
        """A constant expression."""
        place = self.placed.place(value)
        return f"detail::{self.arenas[place.region].name} + {place.offset}"

    def scratch(self, step: CallStep, position: int) -> Argument:
        operands = step.call.operands
        operand = operands[position]
        assert isinstance(operand, Scratch)
        before = (other for other in operands[:position] if isinstance(other, Scratch))
        offset = sum(-(-other.elements * other.dtype.itemsize // SCRATCH_ALIGN) * SCRATCH_ALIGN for other in before)
        name = f"{step.instruction.name}_scratch"
        start = self.placed.scratch(step.instruction) + offset
        key = f"scratch {step.instruction.handle} {step.instruction.name} {position}"
        pointer = self._pointer(key, name, operand.dtype, start, f"{operand.elements} x {operand.dtype.numpy}, scratch")
        return Argument(pointer.type, pointer.name, pointer.place)

    def _pointer(self, key: str, name: str, dtype: DType, place: Place, note: str) -> Pointer:
        if key not in self.pointers:
            arena = self.arenas[place.region].name
            self.pointers[key] = Pointer(unique(name, self._taken), dtype.cpp, arena, place.offset, note)
        return self.pointers[key]


def arenas(placed: Placed) -> dict[str, Arena]:
    """By region: of the first one `arena`, which an own firmware may put elsewhere, and of each further one that is used its own."""
    first, *others = placed.problem.regions
    size = placed.solution.size
    found = {first.name: Arena("arena", ".arena", first.name, max(size[first.name], 1))}
    for region in others:
        if size[region.name]:
            found[region.name] = Arena(f"arena_{region.name}", f".arena.{region.name}", region.name, size[region.name])
    return found


def _flash_expression(method: Method, flash: Flash, value: Value) -> str:
    if value.id in flash.of_value:
        return flash.of_value[value.id]
    assert value.storage is not None, f"{value.name} has no bytes"
    owner = flash.of_value[base(method, value).id]
    return f"reinterpret_cast<const {value.spec.dtype.cpp}*>(reinterpret_cast<const uint8_t*>({owner}) + {value.storage.offset})"


def _flash_place(method: Method, flash: Flash, value: Value) -> str:
    """Where it lies, without a cast: those are no constant expressions."""
    if value.id in flash.of_value:
        return flash.of_value[value.id]
    assert value.storage is not None, f"{value.name} has no bytes"
    owner = base(method, value)
    elements, rest = divmod(value.storage.offset, owner.spec.dtype.itemsize)
    assert rest == 0, f"{value.name} begins inside an element of {owner.name}"
    return f"{flash.of_value[owner.id]} + {elements}"


def _statement(index: int, step: Step, form: Form, placed: Placed, names: _Pointers, geometry: Geometry, flash: Flash) -> Statement:
    method = placed.specialised.method
    instruction = step.instruction
    code = comment(f"{instruction.source}  {instruction.source.code}") if instruction.source else ""
    if isinstance(step, JumpStep):
        condition = NOTHING if step.condition is None else names.value(step.condition)
        when = "" if step.condition is None else f" unless {method.values[step.condition].name}"
        title = comment(f"{instruction.name}: on at step {step.target}{when}")
        return Statement(index, instruction.handle, title, code, form, jump=Jump(step.target, condition))
    if isinstance(step, MoveStep):
        title = comment(f"{instruction.name}: {method.values[step.source].name} is now {method.values[step.out].name}")
        return Statement(index, instruction.handle, title, code, form)
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
        form,
        f"et::{step.call.function}",
        geometry.of_step[index],
        arguments,
        _sweep(index, step, method, names, geometry, flash),
        tuple(Trace(names.value(value.id), value.spec.nbytes) for value in traced),
    )


def _shapes(specs: list[TensorSpec]) -> str:
    return ", ".join(layout_note(spec) for spec in specs)


def _argument(index: int, position: int, step: CallStep, names: _Pointers, flash: Flash) -> Argument:
    operand: Operand = step.call.operands[position]
    if isinstance(operand, Read):
        return names.value(operand.value)
    if isinstance(operand, Write):
        return names.value(operand.value, "")
    if isinstance(operand, (RowRead, RowWrite)):
        assert step.call.window is not None, f"{step.instruction.name} has a row without a window"
        return names.value(operand.value, "const " if isinstance(operand, RowRead) else "", by_row=True)
    if isinstance(operand, Const):
        if operand.data is None:
            return NOTHING
        symbol = flash.of_operand[index, position]
        return Argument(f"const {DType.of_numpy(operand.data.dtype).cpp}", symbol, symbol)
    return names.scratch(step, position)


def _sweep(index: int, step: CallStep, method: Method, names: _Pointers, geometry: Geometry, flash: Flash) -> Sweep | None:
    window = step.call.window
    if window is None:
        return None
    type = method.values[window.input].spec.dtype.cpp
    output, input = names.value(window.output, ""), names.value(window.input)
    pad = Argument(f"const {type}", f"static_cast<const {type}*>(nullptr)", "nullptr")
    if window.padded:
        symbol = flash.of_pad[pad_key(method, window)]
        pad = Argument(f"const {type}", symbol, symbol)
    places: tuple[Argument, ...] = (output, input, pad)
    if index in flash.of_firsts:
        dtype, symbol = flash.of_firsts[index]
        places += (Argument(f"const {dtype.cpp}", symbol, symbol),)
    uses_index = any(isinstance(operand, (RowRead, RowWrite)) for operand in step.call.operands)
    given = tuple(name for name, told in (("row", window.numbered), ("count", window.counted)) if told)
    return Sweep(geometry.of_window[index], type, places, window.out_row, uses_index, given)


def _tensors(placed: Placed, flash: Flash, ids: tuple[int, ...], names: _Pointers) -> tuple[Tensor, ...]:
    method = placed.specialised.method
    taken: set[str] = set()
    return tuple(_tensor(placed, flash, method.values[id], taken, names) for id in ids)


def _tensor(placed: Placed, flash: Flash, value: Value, taken: set[str], names: _Pointers) -> Tensor:
    spec = value.spec
    name = unique(value.name, taken)
    while not taken.isdisjoint(facts := {f"{name}_{fact}" for fact in ("elements", "sizes", "dim_order")}):  # program.h says these of it
        name = unique(value.name, taken)
    taken |= facts
    constant = in_flash(placed.specialised.method, value)
    return Tensor(
        name,
        value.name,
        spec.dtype,
        spec.numel,
        spec.nbytes,
        spec.shape,
        spec.dim_order,
        None if constant else names.place(value),
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
