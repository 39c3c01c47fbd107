"""Operators with a list of results: each piece that is read becomes a slice or a select of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.model import Instruction, Method
from etexport.program.operators import SELECT, SLICE, SPLIT, SPLIT_WITH_SIZES, UNBIND

SIZES = frozenset({SPLIT_WITH_SIZES, SPLIT})


def split_into_slices(method: Method, library: Library) -> Method:
    """split, chunk and unbind as slices and selects, which may be addresses instead of copies."""
    draft = Draft(method)
    draft.rewrite(lambda one: _pieces(draft, one) if _is_split(draft, one) else (one,))
    return draft.done()


def _pieces(draft: Draft, split: Instruction) -> Iterator[Instruction]:
    operand, dim = draft.value(split.args[0]), split.args[-1]
    assert operand is not None and isinstance(dim, int), split.where
    dim %= len(operand.spec.shape)
    start = 0
    for number, out in enumerate(split.outs):
        name = f"{split.name}_{number}" if split.name else ""
        piece = replace(split, outs=(out,), handle=draft.handle() if number else split.handle, name=name)
        if split.op == UNBIND:
            yield replace(piece, op=SELECT, args=(split.args[0], dim, number))
            continue
        size = draft.values[out].spec.shape[dim]
        yield replace(piece, op=SLICE, args=(split.args[0], dim, start, start + size, 1))
        start += size


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
