"""Operators that change nothing: clones, casts to the same type, dropout in eval (a clone), pads by nothing, a
concatenation of one."""

from __future__ import annotations

from etexport.kernel.library import Library
from etexport.kernel.supported import legal
from etexport.passes.views import is_identity_view
from etexport.program.draft import Draft
from etexport.program.model import Instruction, Method, Ref
from etexport.program.operators import CAT, CLONE, CONVERT, PAD

COPIES = frozenset(
    {
        "aten::clone.out",
        "aten::alias_copy.out",
        "aten::detach_copy.out",
        "aten::lift_fresh_copy.out",
        "aten::_to_copy.out",
        CLONE,
        CONVERT,
    }
)

COPY_OVER = "aten::copy.out"
"""(self, src, non_blocking): src with the type and, repeated, the shape of self."""


def remove_identities(method: Method, library: Library) -> Method:
    """Readers of the copy read the original. A copy of a state stays: the state changes, the copy does not."""
    draft = Draft(method)
    writers = draft.writers()
    gone: list[int] = []
    new: dict[int, int] = {}
    for at, instruction in enumerate(method.instructions):
        source = _identity_of(draft, instruction, library)
        if source is None:
            continue
        out = instruction.outs[0]
        source = new.get(source, source)
        if draft.unchanging(source, writers) and draft.unchanging(out, writers):
            gone.append(at)
            new[out] = source
    draft.drop(gone)
    draft.rename(new)
    return draft.done()


def _identity_of(draft: Draft, instruction: Instruction, library: Library) -> int | None:
    """Id of the operand that the only result is equal to, in type, shape, content and memory layout."""
    if len(instruction.outs) != 1 or not instruction.args:
        return None
    first = instruction.args[0]
    if instruction.op == CAT and isinstance(first, tuple) and len(first) == 1:
        first = first[0]
    elif instruction.op == PAD and legal(draft, instruction, library):
        if any(_pads(instruction)):
            return None
    elif instruction.op == COPY_OVER and len(instruction.args) == 3:
        first = instruction.args[1]  # what the other operand holds is not read
    elif instruction.op not in COPIES:
        operand = draft.value(first)
        if operand is None or not is_identity_view(instruction, operand, draft.values[instruction.outs[0]]):
            return None
    if not isinstance(first, Ref):
        return None
    source, out = draft.values[first.id].spec, draft.values[instruction.outs[0]].spec
    same = source.dtype is out.dtype and source.shape == out.shape and source.physical_dims == out.physical_dims
    return first.id if same else None


def _pads(instruction: Instruction) -> tuple[object, ...]:
    pads = instruction.args[1]
    assert isinstance(pads, tuple), instruction.where
    return pads
