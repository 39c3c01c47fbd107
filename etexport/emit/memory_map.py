"""`memory.json`: where every byte of the arena is during every step, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from etexport.emit.code import base, in_flash, traced_results, values_by_base
from etexport.emit.constants import Flash
from etexport.op import Library, Read, RowRead
from etexport.plan.problem import Buffer
from etexport.program.model import Method, Role, Value
from etexport.target.model import Placed, scratch_name

Json = dict[str, Any]


def memory_map(placed: Placed, library: Library, flash: Flash, *, model: str, board: str, program_hash: int, arena_bytes: int) -> Json:
    """The content of `memory.json`; sizes and offsets in bytes, times in steps."""
    method = placed.specialised.method
    solution = placed.solution
    bound = sum(solution.bound.values())
    buffers = [_buffer(placed, buffer) for buffer in _by_offset(placed)]
    uses = _uses(placed)
    return {
        "model": model,
        "board": board,
        "program_hash": f"{program_hash:016x}",
        "optimize": placed.specialised.target.optimize,
        "rounding": placed.specialised.target.rounding,
        "arena": {
            "size": arena_bytes,
            "bound": bound,
            "gap": sum(solution.size.values()) - bound,
            "optimal": solution.optimal,
            "proof": solution.proof,
            "io": _covered(_io_extents(placed)),
            "state": _covered(_extent(placed, value) for value in method.values.values() if value.role is Role.STATE),
            "scratch": _covered(_scratch_extents(placed)),
        },
        "inputs": [_tensor(placed, value) for value in (method.values[id] for id in method.inputs)],
        "outputs": [_tensor(placed, value) for value in (method.values[id] for id in method.outputs)],
        "buffers": buffers,
        "steps": [_step(placed, library, flash, index, uses) for index in range(len(placed.specialised.steps))],
        "in_float": [
            {
                "handle": one.instruction.handle,
                "name": one.instruction.name,
                "op": one.instruction.op,
                "source": str(one.instruction.source or ""),
                "reason": one.reason,
            }
            for one in placed.specialised.in_float
        ],
        "constants": {
            "size": len(flash.content),
            "symbols": [
                {"symbol": constant.symbol, "offset": constant.offset, "size": constant.size, "dtype": str(constant.dtype.numpy)}
                for constant in flash.constants
            ],
        },
    }


def _by_offset(placed: Placed) -> list[Buffer]:
    return sorted(placed.problem.buffers, key=lambda buffer: (placed.solution.offsets[buffer.name], buffer.name))


def _owners(placed: Placed) -> dict[str, Value]:
    return {value.name: value for value in placed.specialised.method.values.values() if value.storage is None}


def _buffer(placed: Placed, buffer: Buffer) -> Json:
    method = placed.specialised.method
    owner = _owners(placed).get(buffer.name)
    found: Json = {
        "name": buffer.name,
        "offset": placed.solution.offsets[buffer.name],
        "size": buffer.size,
        "live": [list(span) for span in buffer.live],
        "role": Role.SCRATCH.value,
        "values": [],
        "source": "",
    }
    if owner is None:
        users = [step.instruction for step in placed.specialised.steps if scratch_name(step.instruction) == buffer.name]
        found["source"] = str(users[0].source or "") if users else ""
        return found
    values = values_by_base(method).get(owner.id, (owner,))
    found["role"] = _role(method, owner)
    found["values"] = [
        {
            "name": value.name,
            "offset": placed.offset(value),
            "dtype": str(value.spec.dtype.numpy),
            "shape": list(value.spec.shape),
            "dim_order": list(value.spec.dim_order),
        }
        for value in values
    ]
    ids = {value.id for value in values}
    writers = [step.instruction for step in placed.specialised.steps if ids & set(step.instruction.outs)]
    found["source"] = str(writers[0].source or "") if writers else ""
    return found


def _role(method: Method, value: Value) -> str:
    if value.id in method.inputs:
        return Role.INPUT.value
    if any(base(method, method.values[id]).id == value.id for id in method.outputs):
        return Role.OUTPUT.value
    return value.role.value


def _typed(value: Value) -> Json:
    spec = value.spec
    return {"name": value.name, "dtype": str(spec.dtype.numpy), "shape": list(spec.shape), "dim_order": list(spec.dim_order)}


def _step(placed: Placed, library: Library, flash: Flash, index: int, uses: dict[str, _Uses]) -> Json:
    step = placed.specialised.steps[index]
    instruction = step.instruction
    source = instruction.source
    op = library.find(instruction.op)
    live = [buffer for buffer in _by_offset(placed) if any(first <= index < last for first, last in buffer.live)]
    return {
        "step": index,
        "handle": instruction.handle,
        "name": instruction.name,
        "op": instruction.op,
        "family": op.family if op is not None else "",
        "kernel": step.call.function,
        "variant": step.call.variant,
        "source": str(source) if source else "",
        "code": source.code if source else "",
        "macs": step.call.macs,
        "bytes_constants": flash.bytes_of_step[index],
        "results": [_typed(value) for value in traced_results(placed, instruction)],
        "bytes_live": _covered(
            (placed.solution.offsets[buffer.name], placed.solution.offsets[buffer.name] + buffer.size) for buffer in live
        ),
        "live": [
            {
                "name": buffer.name,
                "offset": placed.solution.offsets[buffer.name],
                "size": buffer.size,
                "why": _why(placed, uses.get(buffer.name), index),
            }
            for buffer in live
        ],
    }


@dataclass(frozen=True, eq=False)
class _Uses:
    """The value that has a buffer, the values in it, and the steps that read and write any of them."""

    owner: Value
    ids: frozenset[int]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


def _uses(placed: Placed) -> dict[str, _Uses]:
    """For every buffer that is no scratch."""
    method = placed.specialised.method
    reads = [_read_ids(placed, at) for at in range(len(placed.specialised.steps))]
    writes = [set(step.instruction.outs) for step in placed.specialised.steps]
    inside = values_by_base(method)
    found = {}
    for name, owner in _owners(placed).items():
        ids = frozenset(value.id for value in inside.get(owner.id, (owner,)))
        found[name] = _Uses(
            owner, ids, tuple(at for at, used in enumerate(reads) if ids & used), tuple(at for at, made in enumerate(writes) if ids & made)
        )
    return found


def _why(placed: Placed, uses: _Uses | None, index: int) -> str:
    """`read here, made by conv1; kept for add (step 7)`: where the content comes from, and what still needs it."""
    method = placed.specialised.method
    steps = placed.specialised.steps
    if uses is None:
        return "scratch of this step"
    here = [word for word, touched in (("read", uses.reads), ("written", uses.writes)) if index in touched]
    parts = [f"{' and '.join(here)} here"] if here else []
    makers = [at for at in uses.writes if at < index]
    if makers:
        parts.append(f"made by {steps[makers[-1]].instruction.name} (step {makers[-1]})")
    elif uses.owner.id in method.inputs:
        parts.append("an input of the model")
    elif uses.owner.role is Role.STATE:
        parts.append("state, kept for ever")
    later = [at for at in uses.reads if at > index]
    if any(id in uses.ids for id in method.outputs):
        parts.append("kept as an output of the model")
    elif later:
        parts.append(f"kept for {steps[later[-1]].instruction.name} (step {later[-1]})")
    return "; ".join(parts) or "reserved"


def _read_ids(placed: Placed, index: int) -> set[int]:
    step = placed.specialised.steps[index]
    window = {step.call.window.input} if step.call.window else set()
    operands = {operand.value for operand in step.call.operands if isinstance(operand, (Read, RowRead))}
    return set(step.instruction.reads) | window | operands


def _extent(placed: Placed, value: Value) -> tuple[int, int]:
    return placed.offset(value), placed.offset(value) + value.spec.nbytes


def _io_extents(placed: Placed) -> Iterable[tuple[int, int]]:
    method = placed.specialised.method
    for id in (*method.inputs, *method.outputs):
        if not in_flash(method, method.values[id]):
            yield _extent(placed, method.values[id])


def _scratch_extents(placed: Placed) -> Iterable[tuple[int, int]]:
    names = {scratch_name(step.instruction) for step in placed.specialised.steps}
    for buffer in placed.problem.buffers:
        if buffer.name in names:
            yield placed.solution.offsets[buffer.name], placed.solution.offsets[buffer.name] + buffer.size


def _covered(extents: Iterable[tuple[int, int]]) -> int:
    """Bytes of the arena that at least one extent covers."""
    total = end = 0
    for first, last in sorted(extents):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def _tensor(placed: Placed, value: Value) -> Json:
    constant = in_flash(placed.specialised.method, value)
    return {
        "name": value.name,
        "dtype": str(value.spec.dtype.numpy),
        "shape": list(value.spec.shape),
        "dim_order": list(value.spec.dim_order),
        "bytes": value.spec.nbytes,
        "offset": None if constant else placed.offset(value),
    }
