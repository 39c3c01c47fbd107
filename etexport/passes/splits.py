"""Operators with a list of results: each piece that is read becomes a slice or a select of its own."""

from __future__ import annotations

from dataclasses import replace

from etexport.op import Library
from etexport.passes.draft import Draft
from etexport.program.model import Instruction, Method

SLICE = "aten::slice_copy.Tensor_out"
SELECT = "aten::select_copy.int_out"

SIZES = frozenset({"aten::split_with_sizes_copy.out", "aten::split_copy.Tensor_out"})
UNBIND = "aten::unbind_copy.int_out"


def split_into_slices(method: Method, library: Library) -> Method:
    """split, chunk and unbind as slices and selects, which may be addresses instead of copies."""
    draft = Draft(method)
    instructions: list[Instruction] = []
    next_handle = max((instruction.handle for instruction in method.instructions), default=-1) + 1
    for instruction in method.instructions:
        if instruction.op not in SIZES and instruction.op != UNBIND:
            instructions.append(instruction)
            continue
        operand = draft.value(instruction.args[0])
        assert operand is not None, instruction.where
        dim = instruction.args[-1]
        assert isinstance(dim, int), instruction.where
        dim %= max(len(operand.spec.shape), 1)
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
