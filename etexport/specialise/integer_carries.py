"""What a loop carries, or a branch gives, in int8: read where it is dequantised, though what computes with it may be
one integer instruction in the end that stands later.

Fusion has such an instruction read what is stored in the place of the quantise at its end. Where a round has written
the value again by then, the instruction reads a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from etexport.kernel.library import Library
from etexport.kernel.op import carried
from etexport.program.draft import Draft
from etexport.program.flow import changing, steadiness
from etexport.program.model import MOVE, ROW, SET_ROW, Instruction, Method, Ref, Role, TensorSpec
from etexport.program.operators import CLONE, DEQUANTIZE, QUANTIZE


def kept_apart(method: Method, library: Library) -> Method:
    """The method in which each dequantise of a value that is written several times reads a copy of it, where what is
    fused with it would read another content. The same one where nothing jumps."""
    several = {one for one in changing(method) if method.values[one].role is not Role.STATE}
    dequantises = [one for one in method.instructions if one.op == DEQUANTIZE and not several.isdisjoint(one.reads)]
    if not dequantises:
        return method
    stays = steadiness(method)
    at = {one.handle: position for position, one in enumerate(method.instructions)}
    readers = _readers(method)
    moved = {
        one.handle
        for one in dequantises
        if any(not stays(one.reads[0], at[one.handle], at[last.handle]) for last in _reached(one, readers, library))
    }
    draft = Draft(method)

    def with_copy(one: Instruction) -> Iterator[Instruction]:
        if one.handle in moved:
            value = method.values[one.reads[0]]
            spec = TensorSpec(value.spec.dtype, value.spec.shape, value.spec.dim_order, value.spec.qparams)
            copy = draft.add_value(f"{value.name}_before", spec)
            args = (Ref(value.id), False, spec.dim_order)
            yield Instruction(CLONE, args, (copy.id,), draft.handle(), copy.name, one.source)
            one = replace(one, args=(Ref(copy.id), *one.args[1:]))
        yield one

    draft.rewrite(with_copy)
    return draft.done()


def _readers(method: Method) -> dict[int, list[Instruction]]:
    found: dict[int, list[Instruction]] = {}
    for one in method.instructions:
        for number in one.reads:
            found.setdefault(number, []).append(one)
    return found


def _reached(start: Instruction, readers: dict[int, list[Instruction]], library: Library) -> list[Instruction]:
    """The instructions in whose place what is stored may be read: all up to the quantises that end what is fused, and
    behind these where nothing is computed between, for then their results are what is stored."""
    found: dict[int, Instruction] = {}
    todo = [(out, True) for out in start.outs]
    seen = set(todo)
    while todo:
        number, same = todo.pop()
        for one in readers.get(number, ()):
            found[one.handle] = one
            if one.op in (MOVE, ROW, SET_ROW) or (one.op == QUANTIZE and not same):
                continue
            goes_on = same and (one.op in (QUANTIZE, DEQUANTIZE, CLONE) or _moves(one, library))
            new = {(out, goes_on) for out in one.outs} - seen
            seen |= new
            todo += new
    return list(found.values())


def _moves(one: Instruction, library: Library) -> bool:
    op = library.find(one.op)
    return op is not None and bool(carried(op, one))
