"""What branches and loops hand on is integers where all that is handed on has been dequantised in one scale.

A move of a dequantised value becomes a move of what is stored, with the dequantise behind it, where something reads the
result; so do the row of a table that a round takes, and the one that it writes. A quarter of the bytes move, and what
is quantised again in that scale is what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.flow import steadiness
from etexport.program.model import (
    BEGIN,
    MOVE,
    ROW,
    SET_ROW,
    Arg,
    Array,
    DType,
    Instruction,
    Method,
    Ref,
    Role,
    TensorSpec,
    Value,
)
from etexport.program.operators import CLONE, DEQUANTIZE

HANDED_ON = (MOVE, BEGIN, SET_ROW)


@dataclass(frozen=True)
class Kind:
    """What is stored, and the arguments of its dequantise behind the first: scale, zero point, lowest, highest."""

    dtype: DType
    args: tuple[Arg, ...]


def move_stored(method: Method, library: Library) -> Method:
    """The method with integers where moves, and the rounds of loops, hand on dequantised values."""
    if not any(one.op in (MOVE, ROW, SET_ROW) for one in method.instructions):
        return method
    if not any(one.op == DEQUANTIZE for one in method.instructions):
        return method
    return _rows(_moves(method))


def _moves(method: Method) -> Method:
    draft = Draft(method)
    writers = draft.writers()
    made = {
        out: (at, one)
        for at, one in enumerate(method.instructions)
        for out in one.outs
        if one.op == DEQUANTIZE and len(writers[out]) == 1
    }
    stays = steadiness(method)
    scales = {
        number: scale
        for number, every in writers.items()
        if (scale := _scale(method, method.values[number], every, made)) is not None
    }
    if not scales:
        return method
    copies: dict[int, int] = {}
    """By the handle of a dequantise, a copy of what it reads, which is written again before it is moved."""
    for number, kind in scales.items():
        value = draft.values[number]
        draft.revise(replace(value, spec=replace(value.spec, dtype=kind.dtype)))
    for at, one in enumerate(method.instructions):
        source = _moved(one)
        if one.op in (MOVE, SET_ROW) and one.outs[0] in scales and source is not None and source.id in made:
            where, dequantise = made[source.id]
            stored = draft.value(dequantise.args[0])
            assert stored is not None
            if not stays(stored.id, where, at) and dequantise.handle not in copies:
                spec = TensorSpec(stored.spec.dtype, stored.spec.shape, stored.spec.dim_order)
                copies[dequantise.handle] = draft.add_value(f"{stored.name}_before", spec).id

    def integers(one: Instruction) -> Iterator[Instruction]:
        if one.handle in copies:
            stored = one.args[0]
            out = copies[one.handle]
            order = draft.values[out].spec.dim_order
            name = draft.values[out].name
            yield Instruction(CLONE, (stored, False, order), (out,), draft.handle(), name, one.source)
        writes = one.outs[0] if one.op in (MOVE, SET_ROW) and one.outs[0] in scales else None
        read = [number for number in one.reads if number in scales]
        if writes is not None:
            source = _moved(one)
            assert source is not None
            if source.id in made:
                _, dequantise = made[source.id]
                stored = dequantise.args[0]
                assert isinstance(stored, Ref)
                new = Ref(copies.get(dequantise.handle, stored.id))
            else:
                content = draft.values[source.id].data
                assert content is not None
                integer = _exactly(content, scales[writes])
                assert integer is not None
                new = draft.add_constant(f"{draft.values[source.id].name}_q", integer)
            yield replace(one, args=(new,) if one.op == MOVE else (one.args[0], new, *one.args[2:]))
            return
        for number in read:
            real = draft.add_value(f"{draft.values[number].name}_real", method.values[number].spec)
            args = (Ref(number), *scales[number].args)
            yield Instruction(DEQUANTIZE, args, (real.id,), draft.handle(), real.name, one.source)
            one = one.renamed({number: real.id})
        yield one

    draft.rewrite(integers)
    return draft.done()


def _moved(one: Instruction) -> Ref | None:
    """What a move or the row of a table hands on."""
    arg = one.args[0] if one.op == MOVE else one.args[1] if one.op == SET_ROW else None
    return arg if isinstance(arg, Ref) else None


def _scale(
    method: Method, value: Value, writers: list[Instruction], made: Mapping[int, tuple[int, Instruction]]
) -> Kind | None:
    """What all that is handed on in this value is stored as; None where there is not one."""
    if value.role is not Role.ACTIVATION or value.id in method.outputs or value.id in method.shared:
        return None
    if value.spec.dtype is not DType.FLOAT32 or any(one.op not in HANDED_ON for one in writers):
        return None
    sources = [source for one in writers if (source := _moved(one)) is not None]
    dequantises = [made[source.id][1] for source in sources if source.id in made]
    kinds = {one.args[1:] for one in dequantises}
    if len(kinds) != 1 or value.id in [source.id for source in sources]:
        return None
    stored = dequantises[0].args[0]
    assert isinstance(stored, Ref)
    dtypes = {method.values[one.args[0].id].spec.dtype for one in dequantises if isinstance(one.args[0], Ref)}
    (scale,) = kinds
    kind = Kind(method.values[stored.id].spec.dtype, scale)
    for source in sources:
        content = method.values[source.id].data if method.values[source.id].role is Role.CONSTANT else None
        if source.id not in made and (content is None or _exactly(content, kind) is None):
            return None
    return kind if len(dtypes) == 1 else None


def _exactly(real: Array, kind: Kind) -> Array | None:
    """The stored values that these real ones are, if there are such."""
    scale, zero_point, low, high = kind.args[:4]
    assert isinstance(scale, (int, float)) and isinstance(zero_point, int)
    assert isinstance(low, int) and isinstance(high, int)
    if not np.all(np.isfinite(real)):
        return None
    single = np.float32(scale)
    stored = np.rint(real.astype(np.float64) / float(single)) + zero_point
    exact = (stored - zero_point).astype(np.float32) * single == real.astype(np.float32)
    return stored.astype(kind.dtype.numpy) if np.all(exact & (low <= stored) & (stored <= high)) else None


def _rows(method: Method) -> Method:
    """The row of a dequantised table is a row of what is stored, dequantised."""
    draft = Draft(method)
    writers = draft.writers()
    made = {
        out: (at, one)
        for at, one in enumerate(method.instructions)
        for out in one.outs
        if one.op == DEQUANTIZE and len(writers[out]) == 1
    }
    stays = steadiness(method)
    at = iter(range(len(method.instructions)))

    def integers(one: Instruction) -> Iterator[Instruction]:
        here = next(at)
        table = one.args[0] if one.op == ROW else None
        where, dequantise = made.get(table.id, (0, None)) if isinstance(table, Ref) else (0, None)
        stored = draft.value(dequantise.args[0]) if dequantise is not None else None
        if dequantise is None or stored is None or not stays(stored.id, where, here):
            yield one
            return
        out = draft.values[one.outs[0]]
        row = draft.add_value(f"{out.name}_q", TensorSpec(stored.spec.dtype, out.spec.shape, out.spec.dim_order))
        yield replace(one, args=(Ref(stored.id), *one.args[1:]), outs=(row.id,))
        yield replace(dequantise, args=(Ref(row.id), *dequantise.args[1:]), outs=one.outs, handle=draft.handle())

    draft.rewrite(integers)
    return draft.done()
