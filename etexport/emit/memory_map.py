"""`memory.json`: where every byte of the arena is during every step, and why."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from etexport.artifacts.memory import (
    Arena,
    BufferUse,
    Constants,
    HeldTensor,
    InFloat,
    Linked,
    LiveBuffer,
    MemoryMap,
    MethodUse,
    PlacedTensor,
    RegionUse,
    Step,
    Symbol,
    TensorType,
)
from etexport.emit.code import header_of, in_flash, traced_results, values_by_base
from etexport.emit.constants import Flash
from etexport.emit.wires import wires
from etexport.errors import ModelError
from etexport.kernel.call import Read, RowRead
from etexport.kernel.library import Library
from etexport.plan.problem import Buffer
from etexport.program.model import Instruction, Method, Role, Value
from etexport.sources import Sources, together
from etexport.specialise.model import Placed, Specialised, scratch_name
from etexport.specialise.schedule import BeginStep, CallStep, JumpStep, MoveStep, NextStep
from etexport.specialise.schedule import Step as ScheduledStep

KINDS = {"call": CallStep, "begin": BeginStep, "next": NextStep, "jump": JumpStep, "move": MoveStep}


def memory_map(
    methods: Sequence[Placed],
    library: Library,
    flashes: Sequence[Flash],
    *,
    model: str,
    board: str,
    program_hash: int,
    arena_bytes: int,
    out: Path,
) -> MemoryMap:
    """The content of `memory.json` in the folder `out`."""
    solution, regions, target = methods[0].solution, methods[0].problem.regions, methods[0].specialised.target
    bound = sum(solution.bound.values())
    parts = [_part(placed, library, flash) for placed, flash in zip(methods, flashes, strict=True)]
    states = (value for value in methods[0].specialised.method.values.values() if value.role is Role.STATE)
    words = [_quantization(placed.specialised) for placed in methods]
    return MemoryMap(
        model=model,
        board=board,
        program_hash=f"{program_hash:016x}",
        quantization=next((word for word in words if word != "float32"), "float32"),
        optimize=target.optimize,
        rounding=target.rounding,
        arena=Arena(
            size=arena_bytes,
            bound=bound,
            gap=sum(solution.size.values()) - bound,
            optimal=solution.optimal,
            proof=solution.proof,
            io=_covered(extent for placed in methods for extent in _io_extents(placed)),
            state=_covered(_extent(methods[0], value) for value in states),
            scratch=_covered(extent for placed in methods for extent in _scratch_extents(placed)),
        ),
        regions=tuple(
            RegionUse(
                region.name, region.capacity, region.cost, solution.size[region.name], solution.bound[region.name]
            )
            for region in regions
        ),
        methods=tuple(
            MethodUse(
                name=placed.specialised.method.name,
                first=placed.first,
                steps=len(part.steps),
                inputs=len(part.inputs),
                outputs=len(part.outputs),
                wires=wires(placed),
            )
            for placed, part in zip(methods, parts, strict=True)
        ),
        inputs=tuple(one for part in parts for one in part.inputs),
        outputs=tuple(one for part in parts for one in part.outputs),
        buffers=tuple(one for part in parts for one in part.buffers),
        steps=tuple(one for part in parts for one in part.steps),
        in_float=tuple(
            InFloat(
                one.instruction.handle,
                one.instruction.name,
                one.instruction.op,
                str(one.instruction.source or ""),
                one.reason,
            )
            for placed in methods
            for one in placed.specialised.in_float
        ),
        constants=Constants(
            len(flashes[0].content),
            tuple(Symbol(one.symbol, one.offset, one.size, str(one.dtype.numpy)) for one in flashes[0].constants),
        ),
        sources=linked(methods, library),
        project=library.project.relative_to(out),
    )


@dataclass(frozen=True)
class _Part:
    """What one method adds to the lists."""

    inputs: tuple[PlacedTensor, ...]
    outputs: tuple[PlacedTensor, ...]
    buffers: tuple[BufferUse, ...]
    steps: tuple[Step, ...]


def _part(placed: Placed, library: Library, flash: Flash) -> _Part:
    method, solution = placed.specialised.method, placed.solution
    order = [region.name for region in placed.problem.regions]
    at = {name: (order.index(place.region), place.offset) for name, place in solution.places.items()}
    buffers = sorted(placed.problem.buffers, key=lambda buffer: (at[buffer.name], buffer.name))
    uses = _uses(placed)
    scratch = {scratch_name(step.instruction): step.instruction for step in placed.specialised.calls.values()}
    return _Part(
        inputs=tuple(_tensor(placed, method.values[id]) for id in method.inputs),
        outputs=tuple(_tensor(placed, method.values[id]) for id in method.outputs),
        buffers=tuple(_buffer(placed, buffer, uses.get(buffer.name), scratch.get(buffer.name)) for buffer in buffers),
        steps=tuple(
            _step(placed, library, flash, index, buffers, uses)
            for index in range(len(placed.specialised.schedule.steps))
        ),
    )


def _quantization(specialised: Specialised) -> str:
    """A program of ExecuTorch's Cortex-M operators has its scales in their arguments, any other one on its values."""
    method = specialised.method
    scaled = any(value.spec.qparams is not None for value in method.values.values())
    if scaled or any(one.op.startswith("cortex_m::") for one in method.instructions):
        return "int8"
    return f"{specialised.weights}-weights" if specialised.weights else "float32"


def _buffer(placed: Placed, buffer: Buffer, uses: _Uses | None, user: Instruction | None) -> BufferUse:
    """`uses` says which values it has, `user` whose scratch it is."""
    place = placed.solution.places[buffer.name]
    live = tuple((placed.first + first, placed.first + last) for first, last in buffer.live)
    role = Role.SCRATCH.value
    values: tuple[HeldTensor, ...] = ()
    if uses is not None:
        role = _role(placed.specialised.method, uses)
        values = tuple(HeldTensor(*_typed(value), placed.place(value).offset) for value in uses.values)
        user = placed.specialised.schedule.steps[uses.writes[0]].instruction if uses.writes else None
    source = str(user.source or "") if user is not None else ""
    return BufferUse(buffer.name, place.region, place.offset, buffer.size, buffer.touched, live, role, values, source)


def _role(method: Method, uses: _Uses) -> str:
    if uses.owner.id in method.inputs:
        return Role.INPUT.value
    return Role.OUTPUT.value if uses.is_output else uses.owner.role.value


def _typed(value: Value) -> tuple[str, str, tuple[int, ...], tuple[int, ...]]:
    """The fields of a `TensorType`."""
    return value.name, str(value.spec.dtype.numpy), value.spec.shape, value.spec.dim_order


def _step(
    placed: Placed, library: Library, flash: Flash, index: int, buffers: Sequence[Buffer], uses: dict[str, _Uses]
) -> Step:
    step = placed.specialised.schedule.steps[index]
    instruction, values = step.instruction, placed.specialised.method.values
    source = instruction.source
    call = step.call if isinstance(step, CallStep) else None
    live = [buffer for buffer in buffers if any(first <= index < last for first, last in buffer.live)]
    return Step(
        step=placed.first + index,
        handle=instruction.handle,
        name=instruction.name,
        op=instruction.op,
        kind=next(kind for kind, type in KINDS.items() if isinstance(step, type)),
        family=_family(step, library),
        kernel=call.function if call else "",
        variant=call.variant if call else "",
        source=str(source) if source else "",
        code=source.code if source else "",
        macs=call.macs if call else 0,
        bytes_constants=flash.bytes_of_step[index],
        results=tuple(TensorType(*_typed(one)) for one in traced_results(placed, instruction)) if call else (),
        bytes_live=_covered(_buffer_extent(placed, buffer) for buffer in live),
        live=tuple(_live(placed, buffer, uses, index) for buffer in live),
        target=step.target if isinstance(step, JumpStep) else None,
        condition=values[step.condition].name if isinstance(step, JumpStep) and step.condition is not None else "",
    )


def linked(methods: Sequence[Placed], library: Library) -> tuple[Linked, ...]:
    """The C and C++ that the calls of a program bring. ModelError for a file that is not in its folder."""
    found: dict[str, list[Sources]] = {}
    for step in (step for placed in methods for step in placed.specialised.calls.values()):
        if step.call.sources is not None:
            found.setdefault(_family(step, library), []).append(step.call.sources)
    return tuple(_linked(family, together(found[family]), library) for family in sorted(found))


def _linked(family: str, sources: Sources, library: Library) -> Linked:
    folder = next(folder / family for folder in library.include_dirs if (folder / family).is_dir())
    for name in (*sources.files, *sources.include):
        if not (folder / name).exists():
            raise ModelError(f"brings the source {name}, which is not there", where=str(folder))
    content = b"".join((folder / name).read_bytes() for name in sources.files)
    return Linked(family, sources, hashlib.sha256(content).hexdigest())


def _family(step: ScheduledStep, library: Library) -> str:
    """The folder of the kernel that is called, else of what the operator is declared in."""
    if isinstance(step, CallStep):
        return header_of(step, library).partition("/")[0]
    op = library.find(step.instruction.op)
    return op.family if op is not None else ""


def _live(placed: Placed, buffer: Buffer, uses: dict[str, _Uses], index: int) -> LiveBuffer:
    place = placed.solution.places[buffer.name]
    return LiveBuffer(buffer.name, place.region, place.offset, buffer.size, _why(placed, uses.get(buffer.name), index))


@dataclass(frozen=True, eq=False)
class _Uses:
    """The value that has a buffer, all values in it, and the steps that read and write any of them, in order."""

    owner: Value
    values: tuple[Value, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    is_output: bool


def _uses(placed: Placed) -> dict[str, _Uses]:
    """For every buffer that is no scratch."""
    method = placed.specialised.method
    reads: dict[int, list[int]] = {}
    writes: dict[int, list[int]] = {}
    for at, step in enumerate(placed.specialised.schedule.steps):
        for id in _read_ids(placed, at):
            reads.setdefault(id, []).append(at)
        for id in step.instruction.outs:
            writes.setdefault(id, []).append(at)
    inside = values_by_base(method)
    outputs = set(method.outputs)
    found = {}
    for owner in method.values.values():
        if owner.storage is not None:
            continue
        values = tuple(inside.get(owner.id, (owner,)))
        read, written = (
            tuple(sorted({at for value in values for at in steps.get(value.id, ())})) for steps in (reads, writes)
        )
        found[owner.name] = _Uses(owner, values, read, written, any(value.id in outputs for value in values))
    return found


def _why(placed: Placed, uses: _Uses | None, index: int) -> str:
    """`read here, made by conv1; kept for add (step 7)`: where the content comes from, and what still needs it."""
    method = placed.specialised.method
    steps = placed.specialised.schedule.steps
    if uses is None:
        return "scratch of this step"
    here = [word for word, touched in (("read", uses.reads), ("written", uses.writes)) if index in touched]
    parts = [f"{' and '.join(here)} here"] if here else []
    made_before = bisect.bisect_left(uses.writes, index)
    if made_before:
        maker = uses.writes[made_before - 1]
        parts.append(f"made by {steps[maker].instruction.name} (step {placed.first + maker})")
    elif uses.owner.id in method.inputs:
        parts.append("an input of the model")
    elif uses.owner.role is Role.STATE:
        parts.append("state, kept for ever")
    if uses.is_output:
        parts.append("kept as an output of the model")
    elif uses.reads and uses.reads[-1] > index:
        parts.append(f"kept for {steps[uses.reads[-1]].instruction.name} (step {placed.first + uses.reads[-1]})")
    return "; ".join(parts) or "reserved"


def _read_ids(placed: Placed, index: int) -> set[int]:
    step = placed.specialised.schedule.steps[index]
    if not isinstance(step, CallStep):
        return set(step.instruction.reads)
    window = {step.call.window.input} if step.call.window else set()
    operands = {operand.value for operand in step.call.operands if isinstance(operand, (Read, RowRead))}
    return set(step.instruction.reads) | window | operands


Extent = tuple[str, int, int]
"""Region, first byte, and the one past the last."""


def _extent(placed: Placed, value: Value) -> Extent:
    place = placed.place(value)
    return place.region, place.offset, place.offset + value.spec.nbytes


def _buffer_extent(placed: Placed, buffer: Buffer) -> Extent:
    place = placed.solution.places[buffer.name]
    return place.region, place.offset, place.offset + buffer.size


def _io_extents(placed: Placed) -> Iterable[Extent]:
    method = placed.specialised.method
    for id in (*method.inputs, *method.outputs):
        if not in_flash(method, method.values[id]):
            yield _extent(placed, method.values[id])


def _scratch_extents(placed: Placed) -> Iterable[Extent]:
    names = {scratch_name(step.instruction) for step in placed.specialised.calls.values()}
    for buffer in placed.problem.buffers:
        if buffer.name in names:
            yield _buffer_extent(placed, buffer)


def _covered(extents: Iterable[Extent]) -> int:
    """Bytes that at least one extent covers."""
    total = end = 0
    here = ""
    for region, first, last in sorted(extents):
        end = end if region == here else 0
        total += max(0, last - max(first, end))
        here, end = region, max(end, last)
    return total


def _tensor(placed: Placed, value: Value) -> PlacedTensor:
    if in_flash(placed.specialised.method, value):
        return PlacedTensor(*_typed(value), value.spec.nbytes, None, None)
    place = placed.place(value)
    return PlacedTensor(*_typed(value), value.spec.nbytes, place.region, place.offset)
