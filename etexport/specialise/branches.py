"""Branches on the target side: labels while stages edit instructions, and results of branches on one memory.

A jump names the instruction that it leads to. Stages fuse, drop and insert instructions, so from the first of them to
the last a label stands there, which none of them touches.

What a branch makes and what it is called behind the branch are one buffer (`coalesce`): a move then costs nothing.
Where that cannot be, because the branch gives an operand, a constant or a state, or one value twice, the move becomes a
copy that is counted like any kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.flow import Life, jump_targets, lives
from etexport.program.model import BEGIN, JUMPS, MOVE, Instruction, Method, Ref, Role, Storage, Value
from etexport.program.operators import CONVERT
from etexport.specialise.in_place import takes_over

LABEL = "etexport::label"
NO_OPERATORS = (*JUMPS, BEGIN, MOVE, LABEL)


def with_labels(method: Method) -> Method:
    """Every jump leads to a label of its own kind: an instruction that does nothing. The same method where nothing
    jumps."""
    targets = jump_targets(method.instructions)
    wanted = sorted({target for target in targets if target is not None})
    if not wanted:
        return method
    first = method.next_handle()
    labels = {
        target: Instruction(LABEL, (), (), first + number, f"label_{number}") for number, target in enumerate(wanted)
    }
    instructions: list[Instruction] = []
    for position, (instruction, target) in enumerate(zip(method.instructions, targets, strict=True)):
        if position in labels:
            instructions.append(labels[position])
        if target is not None:
            instruction = instruction.leading_to(labels[target].handle)
        instructions.append(instruction)
    if len(method.instructions) in labels:
        instructions.append(labels[len(method.instructions)])
    return replace(method, instructions=tuple(instructions))


def without_labels(method: Method) -> Method:
    """Jumps lead to the instruction behind the label, or to the end."""
    draft = Draft(method)
    draft.rewrite(lambda instruction: () if instruction.op == LABEL else (instruction,))
    return draft.done()


def coalesce(method: Method, library: Library) -> Method:
    """What is moved lies where it is moved to; where it may not, the move is a copy."""
    if not any(instruction.op == MOVE for instruction in method.instructions):
        return method
    draft = Draft(method)
    known = lives(method)
    for at, instruction in enumerate(method.instructions):
        if instruction.op != MOVE:
            continue
        source, out = draft.values[instruction.reads[0]], draft.values[instruction.outs[0]]
        base, to = source.base, out.base
        if base == to or not source.spec.nbytes:
            continue
        may_lie_there = _may_lie_there(draft.values[base], source, out, draft.values[to])
        if may_lie_there and never_both(draft.as_it_is(), base, to, known, at, library):
            lay_into(draft, base, Storage(to))
            known[to] |= known.pop(base)
        else:
            draft.put(at, replace(instruction, op=CONVERT, args=(Ref(source.id), False, None)))
    return draft.done()


def lay_into(draft: Draft, moved: int, to: Storage) -> None:
    """Value `moved`, and all that lies in it, has its place inside another value."""
    for value in tuple(draft.values.values()):
        if value.base == moved:
            offset = value.storage.offset if value.storage is not None else 0
            draft.revise(replace(value, storage=Storage(to.base, to.offset + offset)))


def _may_lie_there(base: Value, source: Value, out: Value, to: Value) -> bool:
    """Is it all of a buffer of its own, laid out as the result?"""
    return (
        base.role in (Role.ACTIVATION, Role.OUTPUT)
        and base.spec.nbytes == source.spec.nbytes == out.spec.nbytes == to.spec.nbytes
        and to.role in (Role.ACTIVATION, Role.OUTPUT)
        and source.spec.physical_dims == out.spec.physical_dims
    )


def never_both(method: Method, source: int, out: int, known: Mapping[int, Life], at: int, library: Library) -> bool:
    """Is at most one of the two there, but at position `at`, which moves the source, and where a kernel makes the
    source over what the result held before: a carry's next content."""

    def makes_over(place: int) -> bool:
        instruction = method.instructions[place] if place < len(method.instructions) else None
        if instruction is None or instruction.op in NO_OPERATORS or instruction.outs != (source,):
            return False
        operands = (operand.base for operand in takes_over(method, instruction, library))
        return out in operands and place not in known[out].after and place not in known[source].before

    return at not in known[source].after and all(
        place == at or makes_over(place) for place in known[source].taken & known[out].taken
    )
