"""Addressing: what need not be moved becomes an address.

Views and permutes lie on their operand, slices inside it, the operands of a concatenation inside its result, and the
result of an elementwise kernel on an operand that nobody needs any more. What is left of the instructions runs code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.op import Layout, Op
from etexport.program.draft import Draft
from etexport.program.flow import Life, lives
from etexport.program.model import Instruction, Method, Ref, Role, Storage, Value
from etexport.program.operators import CONVERT
from etexport.specialise.branches import NO_OPERATORS, coalesce, lay_into
from etexport.specialise.in_place import takes_over
from etexport.specialise.states import write_in_place


def address(method: Method, library: Library, moved: frozenset[int] = frozenset()) -> Method:
    """The method without instructions that only name memory; their results have a `storage`. Slices and concatenations
    with these handles stay."""
    joined = join_parts(coalesce(alias_views(method, library, moved), library), library, moved)
    return take_over(write_in_place(joined, library), library)


def alias_views(method: Method, library: Library, moved: frozenset[int] = frozenset()) -> Method:
    """Views, permutes and dense slices become storage of their first operand."""
    draft = Draft(method)
    known = lives(method)
    writes: dict[int, set[int]] = {}
    for at, instruction in enumerate(method.instructions):
        for written in instruction.outs:
            writes.setdefault(written, set()).add(at)

    def addressed(instruction: Instruction) -> tuple[Instruction, ...]:
        op = None if instruction.op in NO_OPERATORS else _op(library, instruction)
        stays = op is None or (op.lower is not None and instruction.handle in moved)
        offset = None if op is None or stays else _alias_offset(draft, instruction, op)
        if op is None or offset is None:
            return (instruction,)
        operand, out = draft.values[instruction.reads[0]], draft.values[instruction.outs[0]]
        overwritten = writes.get(operand.base, set()) & known.get(out.id, Life()).after  # before it was read
        if operand.role is Role.CONSTANT:
            draft.revise(_constant_view(operand, out, offset))
        elif out.role is not Role.STATE and not overwritten:
            draft.revise(replace(out, storage=_storage_in(operand, offset)))
        elif op.lower is None:
            view = _as_shaped(draft, operand, out)
            return (replace(instruction, op=CONVERT, args=(Ref(view.id), False, None)),)
        else:
            return (instruction,)
        return ()

    draft.rewrite(addressed)
    return draft.done()


def _alias_offset(draft: Draft, instruction: Instruction, op: Op) -> int | None:
    if op.layout in (Layout.VIEW, Layout.PERMUTE):
        return 0
    if op.alias is None:
        return None
    return op.alias(node_of(draft.as_it_is(), instruction, op))


def _storage_in(operand: Value, offset: int) -> Storage:
    base = operand.storage or Storage(operand.id)
    return Storage(base.base, base.offset + offset)


def _constant_view(operand: Value, out: Value, offset: int) -> Value:
    """A constant of its own with the bytes that the view shows: several values may share the operand's."""
    raw = np.frombuffer(operand.physical_bytes[offset : offset + out.spec.nbytes], dtype=out.spec.dtype.numpy)
    laid_out = raw.reshape([out.spec.shape[dim] for dim in out.spec.dim_order])
    inverse = [out.spec.dim_order.index(dim) for dim in range(len(out.spec.shape))]
    return replace(out, role=Role.CONSTANT, data=np.ascontiguousarray(np.transpose(laid_out, inverse)))


def _as_shaped(draft: Draft, operand: Value, out: Value) -> Value:
    """The operand's memory under the result's shape and order: what the copy kernel reads."""
    view = replace(draft.add_value(f"{out.name}_before", out.spec), storage=_storage_in(operand, 0))
    draft.revise(view)
    return view


def join_parts(method: Method, library: Library, moved: frozenset[int] = frozenset()) -> Method:
    """A concatenation is gone when each operand can be made where it belongs in the result."""
    draft = Draft(method)

    def joined(instruction: Instruction) -> tuple[Instruction, ...]:
        op = None if instruction.op in NO_OPERATORS else _op(library, instruction)
        parts = None if op is None or instruction.handle in moved else op.parts
        offsets = None if op is None or parts is None else parts(node_of(draft.as_it_is(), instruction, op))
        if offsets is None or not instruction.outs:
            return (instruction,)
        out = draft.values[instruction.outs[0]]
        operands = [draft.values[operand] for operand in _listed(instruction)]
        if not _can_move(operands, out, method):
            return (instruction,)
        base = out.storage or Storage(out.id)
        for operand, offset in zip(operands, offsets, strict=True):
            lay_into(draft, operand.id, Storage(base.base, base.offset + offset))
        return ()

    draft.rewrite(joined)
    return draft.done()


def _listed(instruction: Instruction) -> Iterable[int]:
    """The tensor operands, each as often as it is listed."""
    for arg in instruction.args:
        for item in arg if isinstance(arg, tuple) else (arg,):
            if isinstance(item, Ref):
                yield item.id


def _can_move(operands: list[Value], out: Value, method: Method) -> bool:
    ids = [operand.id for operand in operands]
    made = {result for instruction in method.instructions for result in instruction.outs}
    return len(set(ids)) == len(ids) and all(
        operand.role in (Role.ACTIVATION, Role.OUTPUT)
        and operand.storage is None
        and operand.id in made
        and operand.spec.dtype is out.spec.dtype
        for operand in operands
    )


def take_over(method: Method, library: Library) -> Method:
    """An elementwise result (or one with a residual) lies on an operand that has its size and dim order and dies
    there."""
    draft = Draft(method)
    known = lives(method)
    for at, instruction in enumerate(method.instructions):
        if instruction.op in NO_OPERATORS:
            continue
        out = draft.values[instruction.outs[0]]
        if out.storage is not None or out.role is Role.STATE:
            continue
        for operand in takes_over(draft.as_it_is(), instruction, library):
            base = operand.base
            lives_in_arena = draft.values[base].role in (Role.INPUT, Role.ACTIVATION, Role.OUTPUT)
            if lives_in_arena and ends_where_begins(known[base], known[out.id], at):
                lay_into(draft, out.id, Storage(base))
                known[base] |= known.pop(out.id)
                break
    return draft.done()


def ends_where_begins(operand: Life, result: Life, at: int) -> bool:
    """Is the operand not needed behind position `at`, nor the result before it, and nowhere else are both there?"""
    return at not in operand.after and at not in result.before and operand.taken & result.taken == {at}


def _op(library: Library, instruction: Instruction) -> Op:
    op = library.find(instruction.op)
    assert op is not None, instruction.where  # missing operators were reported before
    return op
