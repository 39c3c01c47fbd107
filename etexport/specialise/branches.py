"""Branches on the target side: labels while stages edit instructions, and results of branches on one memory.

A jump names the instruction that it leads to. Stages fuse, drop and insert instructions, so from the first of them to the last a label
stands there, which none of them touches.

What a branch makes and what it is called behind the branch are one buffer (`coalesce`): a move then costs nothing. Where that cannot be,
because the branch gives an operand, a constant or a state, or one value twice, the move becomes a copy that is counted like any kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from etexport.errors import EtError, ModelError
from etexport.program.flow import Life, jump_targets, lives
from etexport.program.model import JUMP_FALSE, MOVE, Instruction, Method, Ref, Role, Storage, Value
from etexport.program.operators import CONVERT

LABEL = "etexport::label"
NO_OPERATORS = (JUMP_FALSE, MOVE, LABEL)


def unsupported(method: Method) -> Iterable[EtError]:
    """Jumps back."""
    for position, target in enumerate(jump_targets(method.instructions)):
        if target is not None and target <= position:
            yield ModelError("a loop cannot be built into firmware yet", where=method.instructions[position].where)


def with_labels(method: Method) -> Method:
    """Every jump leads to a label of its own kind: an instruction that does nothing. The same method where nothing jumps."""
    targets = jump_targets(method.instructions)
    wanted = sorted({target for target in targets if target is not None})
    if not wanted:
        return method
    first = max(instruction.handle for instruction in method.instructions) + 1
    labels = {target: Instruction(LABEL, (), (), first + number, f"label_{number}") for number, target in enumerate(wanted)}
    instructions: list[Instruction] = []
    for position, (instruction, target) in enumerate(zip(method.instructions, targets, strict=True)):
        if position in labels:
            instructions.append(labels[position])
        if target is not None:
            instruction = replace(instruction, args=(instruction.args[0], labels[target].handle))
        instructions.append(instruction)
    if len(method.instructions) in labels:
        instructions.append(labels[len(method.instructions)])
    return replace(method, instructions=tuple(instructions))


def without_labels(method: Method) -> Method:
    """Jumps lead to the instruction behind the label, or to the end."""
    following: dict[int, int] = {}
    behind = -1
    for instruction in reversed(method.instructions):
        behind = behind if instruction.op == LABEL else instruction.handle
        following[instruction.handle] = behind
    kept = (instruction for instruction in method.instructions if instruction.op != LABEL)
    return replace(
        method,
        instructions=tuple(
            replace(one, args=(one.args[0], following[int(str(one.args[1]))])) if one.op == JUMP_FALSE else one for one in kept
        ),
    )


def coalesce(method: Method) -> Method:
    """What is moved lies where it is moved to; where it may not, the move is a copy."""
    if not any(instruction.op == MOVE for instruction in method.instructions):
        return method
    values = dict(method.values)
    known = lives(method)
    instructions = list(method.instructions)
    for at, instruction in enumerate(instructions):
        if instruction.op != MOVE:
            continue
        source, out = values[instruction.reads[0]], values[instruction.outs[0]]
        base, to = (value.storage.base if value.storage is not None else value.id for value in (source, out))
        if base == to or not source.spec.nbytes:
            continue
        if _may_lie_there(values[base], source, out, values[to]) and _meet_only_here(known[base], known[to], at):
            for value in list(values.values()):
                if value.id == base or (value.storage is not None and value.storage.base == base):
                    values[value.id] = replace(value, storage=Storage(to, value.storage.offset if value.storage is not None else 0))
            known[to] |= known.pop(base)
        else:
            instructions[at] = replace(instruction, op=CONVERT, args=(Ref(source.id), False, None))
    return replace(method, values=values, instructions=tuple(instructions))


def _may_lie_there(base: Value, source: Value, out: Value, to: Value) -> bool:
    """Is it all of a buffer of its own, laid out as the result?"""
    return (
        base.role in (Role.ACTIVATION, Role.OUTPUT)
        and base.spec.nbytes == source.spec.nbytes == out.spec.nbytes == to.spec.nbytes
        and to.role in (Role.ACTIVATION, Role.OUTPUT)
        and source.spec.physical_dims == out.spec.physical_dims
    )


def _meet_only_here(source: Life, out: Life, at: int) -> bool:
    return at not in source.after and source.taken & out.taken == {at}
