"""Where a program has weights in few bits: constants that are dequantised, or made float32 of 16 bits, and what moves
their elements before they are read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from etexport.kernel.weights import Kept
from etexport.program.draft import Draft
from etexport.program.model import HALVES, Arg, DType, Instruction, Method, Ref, Role, Value
from etexport.program.operators import CONVERT, DEQUANTIZE, DEQUANTIZE_CHANNELS, PERMUTE, QUANTIZE, VIEW

DEQUANTISED = (DEQUANTIZE, DEQUANTIZE_CHANNELS)
MOVES = (VIEW, PERMUTE)


def weights_alone(method: Method) -> bool:
    """Whether nothing but constants is quantised."""
    return not any(
        one.op == QUANTIZE or (one.op in DEQUANTISED and _constant(method, one.args[0]) is None)
        for one in method.instructions
    )


def kept_of(draft: Draft, instruction: Instruction, known: Mapping[int, Kept]) -> Kept | None:
    """What the instruction's result is, where that is a constant in few bits or a view or permutation of one that is
    `known` by its value's id."""
    return _dequantised(draft, instruction) or _moved(draft, instruction, known)


def _dequantised(draft: Draft, instruction: Instruction) -> Kept | None:
    if instruction.op == CONVERT:
        halves = draft.value(instruction.args[0])
        wide = draft.values[instruction.outs[0]].spec.dtype is DType.FLOAT32
        if not wide or halves is None or halves.data is None or halves.spec.dtype not in HALVES:
            return None
        return Kept.halves(halves.data)
    if instruction.op not in DEQUANTISED:
        return None
    stored = draft.constant(instruction.args[0])
    if stored is None or stored.dtype != np.int8:
        return None
    _, scale, zero, *axis, low, high = instruction.args[: 5 if instruction.op == DEQUANTIZE else 6]
    assert isinstance(low, int) and isinstance(high, int)
    shape = [-1 if [dim] == [one % stored.ndim for one in axis] else 1 for dim in range(stored.ndim)]  # type: ignore[operator]
    parts = []
    for one, dtype in ((scale, np.float32), (0 if zero is None else zero, np.int8)):
        content = draft.constant(one) if isinstance(one, Ref) else np.array(one)
        if content is None:
            return None
        full = content.reshape(shape if content.ndim else ()).astype(dtype)
        parts.append(np.broadcast_to(full, stored.shape))
    scales, zero_points = parts
    return Kept(stored, scales, zero_points, 4 if -8 <= low <= high <= 7 else 8)


def _moved(draft: Draft, instruction: Instruction, known: Mapping[int, Kept]) -> Kept | None:
    source = instruction.args[0] if instruction.op in MOVES else None
    before = known.get(source.id) if isinstance(source, Ref) else None
    if before is None:
        return None
    if instruction.op == VIEW:
        return before.moved(lambda one: one.reshape(draft.values[instruction.outs[0]].spec.shape))
    dims = instruction.args[1]
    assert isinstance(dims, tuple)
    return before.moved(lambda one: one.transpose(dims))


def _constant(method: Method, arg: Arg) -> Value | None:
    value = method.values[arg.id] if isinstance(arg, Ref) else None
    return value if value is not None and value.role is Role.CONSTANT else None
