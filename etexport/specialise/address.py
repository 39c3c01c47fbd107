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
from etexport.program.flow import Life, lives
from etexport.program.model import Instruction, Method, Ref, Role, Storage, Value
from etexport.program.operators import CONVERT
from etexport.specialise.branches import NO_OPERATORS, coalesce
from etexport.specialise.in_place import takes_over


def address(method: Method, library: Library) -> Method:
    """The method without instructions that only name memory; their results have a `storage`."""
    return take_over(join_parts(coalesce(alias_views(method, library), library), library), library)


def alias_views(method: Method, library: Library) -> Method:
    """Views, permutes and dense slices become storage of their first operand."""
    values = dict(method.values)
    known = lives(method)
    writes: dict[int, set[int]] = {}
    for at, instruction in enumerate(method.instructions):
        for written in instruction.outs:
            writes.setdefault(written, set()).add(at)
    instructions: list[Instruction] = []
    for instruction in method.instructions:
        if instruction.op in NO_OPERATORS:
            instructions.append(instruction)
            continue
        op = _op(library, instruction)
        offset = _alias_offset(method, values, instruction, op)
        if offset is None:
            instructions.append(instruction)
            continue
        operand = values[next(iter(instruction.reads))]
        out = values[instruction.outs[0]]
        if operand.role is Role.CONSTANT:
            values[out.id] = _constant_view(operand, out, offset)
        elif (
            out.role is Role.STATE or writes.get(operand.base, set()) & known.get(out.id, Life()).after
        ):  # overwritten before it was read
            if op.lower is None:
                view = _as_shaped(values, operand, out)
                values[view.id] = view
                instruction = replace(instruction, op=CONVERT, args=(Ref(view.id), False, None))
            instructions.append(instruction)
        else:
            values[out.id] = replace(out, storage=_storage_in(operand, offset))
    return replace(method, values=values, instructions=tuple(instructions))


def _alias_offset(method: Method, values: dict[int, Value], instruction: Instruction, op: Op) -> int | None:
    if op.layout in (Layout.VIEW, Layout.PERMUTE):
        return 0
    if op.alias is None:
        return None
    return op.alias(node_of(replace(method, values=values), instruction, op))


def _storage_in(operand: Value, offset: int) -> Storage:
    base = operand.storage or Storage(operand.id)
    return Storage(base.base, base.offset + offset)


def _constant_view(operand: Value, out: Value, offset: int) -> Value:
    """A constant of its own with the bytes that the view shows: several values may share the operand's."""
    raw = np.frombuffer(operand.physical_bytes[offset : offset + out.spec.nbytes], dtype=out.spec.dtype.numpy)
    laid_out = raw.reshape([out.spec.shape[dim] for dim in out.spec.dim_order])
    inverse = [out.spec.dim_order.index(dim) for dim in range(len(out.spec.shape))]
    return replace(out, role=Role.CONSTANT, data=np.ascontiguousarray(np.transpose(laid_out, inverse)))


def _as_shaped(values: dict[int, Value], operand: Value, out: Value) -> Value:
    """The operand's memory under the result's shape and order: what the copy kernel reads."""
    name = f"{out.name}_before"
    return replace(out, id=max(values) + 1, name=name, role=Role.ACTIVATION, data=None, storage=_storage_in(operand, 0))


def join_parts(method: Method, library: Library) -> Method:
    """A concatenation is gone when each operand can be made where it belongs in the result."""
    values = dict(method.values)
    instructions: list[Instruction] = []
    for instruction in method.instructions:
        if instruction.op in NO_OPERATORS:
            instructions.append(instruction)
            continue
        op = _op(library, instruction)
        offsets = op.parts(node_of(replace(method, values=values), instruction, op)) if op.parts is not None else None
        operands = [values[operand] for operand in _listed(instruction)]
        out = values[instruction.outs[0]] if instruction.outs else None
        if offsets is None or out is None or not _can_move(values, operands, out, method):
            instructions.append(instruction)
            continue
        base = out.storage or Storage(out.id)
        for operand, offset in zip(operands, offsets, strict=True):
            values = _moved(values, operand, Storage(base.base, base.offset + offset))
    return replace(method, values=values, instructions=tuple(instructions))


def _listed(instruction: Instruction) -> Iterable[int]:
    """The tensor operands, each as often as it is listed."""
    for arg in instruction.args:
        for item in arg if isinstance(arg, tuple) else (arg,):
            if isinstance(item, Ref):
                yield item.id


def _can_move(values: dict[int, Value], operands: list[Value], out: Value, method: Method) -> bool:
    ids = [operand.id for operand in operands]
    made = {result for instruction in method.instructions for result in instruction.outs}
    return len(set(ids)) == len(ids) and all(
        operand.role in (Role.ACTIVATION, Role.OUTPUT)
        and operand.storage is None
        and operand.id in made
        and operand.spec.dtype is out.spec.dtype
        for operand in operands
    )


def _moved(values: dict[int, Value], moved: Value, to: Storage) -> dict[int, Value]:
    """The values with `moved`, and all that lies in it, at a place inside another value."""
    new = dict(values)
    new[moved.id] = replace(moved, storage=to)
    for value in values.values():
        if value.storage is not None and value.storage.base == moved.id:
            new[value.id] = replace(value, storage=Storage(to.base, to.offset + value.storage.offset))
    return new


def take_over(method: Method, library: Library) -> Method:
    """An elementwise result (or one with a residual) lies on an operand that has its size and dim order and dies
    there."""
    values = dict(method.values)
    known = lives(method)
    for at, instruction in enumerate(method.instructions):
        if instruction.op in NO_OPERATORS:
            continue
        out = values[instruction.outs[0]]
        if out.storage is not None or out.role is Role.STATE:
            continue
        for operand in takes_over(replace(method, values=values), instruction, library):
            base = operand.base
            lives_in_arena = values[base].role in (Role.INPUT, Role.ACTIVATION, Role.OUTPUT)
            if lives_in_arena and ends_where_begins(known[base], known[out.id], at):
                values = _moved(values, out, Storage(base))
                known[base] |= known.pop(out.id)
                break
    return replace(method, values=values)


def ends_where_begins(operand: Life, result: Life, at: int) -> bool:
    """Is the operand not needed behind position `at`, nor the result before it, and nowhere else are both there?"""
    return at not in operand.after and at not in result.before and operand.taken & result.taken == {at}


def _op(library: Library, instruction: Instruction) -> Op:
    op = library.find(instruction.op)
    assert op is not None, instruction.where  # missing operators were reported before
    return op
