"""A part of a concatenation that is written over at once is never made: a window that is rolled, and of which the last
row is then written, is a slice and the new row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from etexport.kernel.library import Library
from etexport.kernel.supported import legal
from etexport.program.draft import Draft
from etexport.program.model import Instruction, Method, Ref, TensorSpec
from etexport.program.operators import CAT, VIEW

SLICE_SCATTER = "aten::slice_scatter.out"
SELECT_SCATTER = "aten::select_scatter.out"


def join_what_stays(method: Method, library: Library) -> Method:
    """slice_scatter and select_scatter over whole parts of a concatenation are a concatenation with the new part."""
    draft = Draft(method)
    writers = draft.writers()
    made_by = {
        one.outs[0]: one
        for one in method.instructions
        if one.op == CAT and draft.unchanging(one.outs[0], writers) and legal(draft, one, library)
    }

    def joined(instruction: Instruction) -> Sequence[Instruction]:
        if instruction.op not in (SLICE_SCATTER, SELECT_SCATTER) or not legal(draft, instruction, library):
            return (instruction,)
        first = instruction.args[0]
        before = made_by.get(first.id) if isinstance(first, Ref) else None
        return (instruction,) if before is None else _joined(draft, instruction, before, writers)

    draft.rewrite(joined)
    return draft.done()


def _joined(
    draft: Draft, scatter: Instruction, cat: Instruction, writers: Mapping[int, list[Instruction]]
) -> Sequence[Instruction]:
    out = draft.values[scatter.outs[0]].spec
    parts, cat_dim = cat.args
    src, dim = scatter.args[1:3]
    assert isinstance(parts, tuple) and isinstance(cat_dim, int) and isinstance(dim, int) and isinstance(src, Ref)
    dim %= len(out.shape)
    taken = _taken(scatter, out.shape[dim])
    whole = all(isinstance(part, Ref) and draft.unchanging(part.id, writers) for part in parts)
    if dim != cat_dim % len(out.shape) or taken.step != 1 or not taken or not whole:
        return (scatter,)
    ends = [0]
    for part in parts:
        shape = draft.values[part.id].spec.shape
        if len(shape) != len(out.shape):  # PyTorch skips tensors of shape [0]
            return (scatter,)
        ends.append(ends[-1] + shape[dim])
    if taken.start not in ends or taken.stop not in ends:
        return (scatter,)
    first, last = ends.index(taken.start), len(ends) - 1 - ends[::-1].index(taken.stop)
    made: list[Instruction] = []
    if scatter.op == SELECT_SCATTER:
        row = (*out.shape[:dim], 1, *out.shape[dim + 1 :])
        view = draft.add_value(f"{draft.values[src.id].name}_row", TensorSpec(out.dtype, row))
        made.append(replace(scatter, op=VIEW, args=(src, row), outs=(view.id,), handle=draft.handle(), name=view.name))
        src = Ref(view.id)
    return (*made, replace(scatter, op=CAT, args=((*parts[:first], src, *parts[last:]), dim)))


def _taken(scatter: Instruction, size: int) -> range:
    """The indices along the dimension that are overwritten."""
    if scatter.op == SELECT_SCATTER:
        at = int(str(scatter.args[3])) % size
        return range(at, at + 1)
    start, end, step = (None if arg is None else int(str(arg)) for arg in scatter.args[3:])
    return range(size)[slice(start, end, step)]
