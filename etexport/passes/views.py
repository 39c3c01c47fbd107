"""Views in one form. Whatever only gives the same elements another shape is `aten::view_copy.out` with the full shape;
views of views and permutes of permutes are one; those that change nothing are none."""

from __future__ import annotations

from dataclasses import replace

from etexport.kernel.library import Library
from etexport.kernel.supported import legal
from etexport.program.draft import Draft
from etexport.program.model import Instruction, Method, Ref, Role, Value
from etexport.program.operators import ET_VIEW, PERMUTE, SELECT, SLICE, TRANSPOSE, VIEW

PERMUTES = frozenset({PERMUTE, TRANSPOSE})

RESHAPES = frozenset(
    {
        VIEW,
        "aten::_unsafe_view.out",
        "aten::reshape_copy.out",
        "aten::_reshape_alias_copy.out",
        "aten::squeeze_copy.out",
        "aten::squeeze_copy.dim_out",
        "aten::squeeze_copy.dims_out",
        "aten::unsqueeze_copy.out",
        ET_VIEW,
    }
)
"""Always a reshape."""

SOMETIMES = frozenset({SELECT, "aten::expand_copy.out", SLICE})
"""A reshape where the number of elements stays: then nothing is left out, repeated or moved."""


def simplify_views(method: Method, library: Library) -> Method:
    """Bring views and permutes to one form, merge chains of them, remove those without effect.

    A view of a state is left alone: it is a copy of what the state was then.
    """
    draft = Draft(method)
    writers = draft.writers()
    made_by: dict[int, Instruction] = {}
    for at, instruction in enumerate(method.instructions):
        current = _canonical(draft, instruction, library)
        if current is not None:
            current = _merged(draft, current, made_by, writers)
            if current != instruction:
                draft.put(at, current)
            if draft.unchanging(current.outs[0], writers):
                made_by[current.outs[0]] = current
    return draft.done()


def _canonical(draft: Draft, instruction: Instruction, library: Library) -> Instruction | None:
    """The instruction as a view or a permute in the one form; None where it is neither."""
    if not instruction.args or len(instruction.outs) != 1:
        return None
    operand, out = draft.value(instruction.args[0]), draft.values[instruction.outs[0]]
    if (
        operand is None
        or operand.spec.dtype is not out.spec.dtype
        or not (operand.spec.is_contiguous and out.spec.is_contiguous)
    ):
        return None
    if instruction.op in PERMUTES:
        if not legal(draft, instruction, library):
            return None
        dims = _permutation(instruction, operand)
        moved = [dim for dim in dims if operand.spec.shape[dim] != 1]
        if moved != sorted(moved):
            return replace(instruction, op=PERMUTE, args=(instruction.args[0], dims))
    else:
        reshapes = instruction.op in RESHAPES or (instruction.op in SOMETIMES and legal(draft, instruction, library))
        if not reshapes or operand.spec.numel != out.spec.numel:
            return None
    return replace(instruction, op=VIEW, args=(instruction.args[0], out.spec.shape))


def _permutation(instruction: Instruction, operand: Value) -> tuple[int, ...]:
    """For each dimension of the result, the one of the operand."""
    rank = len(operand.spec.shape)
    if instruction.op == PERMUTE:
        dims = instruction.args[1]
        assert isinstance(dims, tuple), instruction.where
        return tuple(int(dim) % rank for dim in dims)
    order = list(range(rank))
    if rank:
        first, second = (int(str(dim)) % rank for dim in instruction.args[1:3])
        order[first], order[second] = order[second], order[first]
    return tuple(order)


def _merged(
    draft: Draft, instruction: Instruction, made_by: dict[int, Instruction], writers: dict[int, list[Instruction]]
) -> Instruction:
    """The instruction reading what the view or permute before it reads."""
    first = instruction.args[0]
    assert isinstance(first, Ref)
    before = made_by.get(first.id)
    if before is None or before.op != instruction.op:
        return instruction
    source = before.args[0]
    assert isinstance(source, Ref)
    if not draft.unchanging(source.id, writers):
        return instruction
    if instruction.op == VIEW:
        return replace(instruction, args=(source, *instruction.args[1:]))
    outer, inner = instruction.args[1], before.args[1]
    assert isinstance(outer, tuple) and isinstance(inner, tuple)
    return replace(instruction, args=(source, tuple(inner[dim] for dim in outer)))


def is_identity_view(instruction: Instruction, operand: Value, out: Value) -> bool:
    """A canonical view or permute whose result is its operand."""
    if instruction.op == VIEW:
        return operand.spec.shape == out.spec.shape
    dims = instruction.args[1] if instruction.op == PERMUTE and len(instruction.args) == 2 else None
    return isinstance(dims, tuple) and dims == tuple(range(len(dims))) and operand.role is not Role.STATE
