"""Operators with a list of results: each piece that is read becomes a slice or a select of its own."""

from __future__ import annotations

from dataclasses import replace

from etexport.kernel.library import Library
from etexport.passes.draft import Draft
from etexport.program.model import Instruction, Method
from etexport.program.operators import SELECT, SLICE, SPLIT, SPLIT_WITH_SIZES, UNBIND

SIZES = frozenset({SPLIT_WITH_SIZES, SPLIT})


def split_into_slices(method: Method, library: Library) -> Method:
    """split, chunk and unbind as slices and selects, which may be addresses instead of copies."""
    draft = Draft(method)
    instructions: list[Instruction] = []
    next_handle = max((instruction.handle for instruction in method.instructions), default=-1) + 1
    for instruction in method.instructions:
        if not _is_split(draft, instruction):
            instructions.append(instruction)
            continue
        operand, dim = draft.value(instruction.args[0]), instruction.args[-1]
        assert operand is not None and isinstance(dim, int), instruction.where
        dim %= len(operand.spec.shape)
        start = 0
        for number, out in enumerate(instruction.outs):
            # the first piece keeps the handle, which jumps may aim at
            handle = instruction.handle if number == 0 else next_handle + number
            name = f"{instruction.name}_{number}" if instruction.name else ""
            piece = replace(instruction, outs=(out,), handle=handle, name=name)
            if instruction.op == UNBIND:
                instructions.append(replace(piece, op=SELECT, args=(instruction.args[0], dim, number)))
            else:
                size = draft.values[out].spec.shape[dim]
                instructions.append(replace(piece, op=SLICE, args=(instruction.args[0], dim, start, start + size, 1)))
                start += size
        next_handle += len(instruction.outs)
        draft.changed = True
    draft.instructions = instructions
    return draft.done()


def _is_split(draft: Draft, instruction: Instruction) -> bool:
    """Whether it is one of these operators, and its results are the operand's pieces in order; in a damaged file they
    may not be."""
    if (instruction.op not in SIZES and instruction.op != UNBIND) or len(instruction.args) < 2:
        return False
    operand, dim = draft.value(instruction.args[0]), instruction.args[-1]
    if operand is None or not isinstance(dim, int) or not -len(operand.spec.shape) <= dim < len(operand.spec.shape):
        return False
    dim %= len(operand.spec.shape)
    specs = [draft.values[out].spec for out in instruction.outs]
    shape = operand.spec.shape
    around = shape[:dim], shape[dim + 1 :]
    if any(spec.dtype is not operand.spec.dtype for spec in specs):
        return False
    if instruction.op == UNBIND:
        return len(specs) == shape[dim] and all(spec.shape == around[0] + around[1] for spec in specs)
    if any(len(spec.shape) != len(shape) for spec in specs):
        return False
    pieces = [spec.shape[dim] for spec in specs if (spec.shape[:dim], spec.shape[dim + 1 :]) == around]
    return len(pieces) == len(specs) and sum(pieces) == shape[dim]
