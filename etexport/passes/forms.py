"""One operator where PyTorch has several for the same thing, so that kernels and other passes know one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etexport.kernel.library import Library
from etexport.passes.rewrites import FORMS, rewritten
from etexport.program.draft import Draft
from etexport.program.model import Instruction, Method, Ref, TensorSpec, Value, contiguous
from etexport.program.operators import PAD, PERMUTE, SLICE

MEAN_OF_ALL = "aten::mean.dtype_out"
MEAN = "aten::mean.out"
ADAPTIVE_MAX = "aten::adaptive_max_pool2d.out"
MAX_POOL = "aten::max_pool2d_with_indices.out"
PHYSICAL_PAD = "cortex_m::pad.out"
PHYSICAL_TRANSPOSE = "cortex_m::transpose.out"


def use_one_form(method: Method, library: Library) -> Method:
    """A mean over everything is one over all dimensions; a negative pad is a slice (stock ExecuTorch has no negative
    pads).

    What ExecuTorch's Cortex-M flow pads and transposes is PyTorch's padding and permutation, of int8. What has no
    kernel of its own and can be said in others (`rewrites.py`) is said so. The maximum over windows to a given size is
    max_pool2d where all are alike.
    """
    draft = Draft(method)
    draft.rewrite(lambda instruction: _in_one_form(draft, instruction))
    return draft.done()


def _in_one_form(draft: Draft, instruction: Instruction) -> Sequence[Instruction]:
    operand = draft.value(instruction.args[0]) if instruction.args else None
    if instruction.op in FORMS:
        return rewritten(draft, instruction)
    if instruction.op == PHYSICAL_TRANSPOSE:
        return (replace(instruction, op=PERMUTE),)
    if operand is None:
        return (instruction,)
    if instruction.op == PAD:
        return _crop(draft, instruction, operand)
    if instruction.op == MEAN_OF_ALL and len(instruction.args) == 2:
        every = contiguous(len(operand.spec.shape))
        return (replace(instruction, op=MEAN, args=(instruction.args[0], every, False, instruction.args[1])),)
    if instruction.op == PHYSICAL_PAD:
        return (_logical_pad(instruction, operand.spec, draft.values[instruction.outs[0]].spec) or instruction,)
    if instruction.op == ADAPTIVE_MAX and (window := _equal_windows(instruction, operand.spec)):
        return (replace(instruction, op=MAX_POOL, args=(instruction.args[0], window, window, (0, 0), (1, 1), False)),)
    return (instruction,)


def _logical_pad(pad: Instruction, operand: TensorSpec, out: TensorSpec) -> Instruction | None:
    """`cortex_m::pad(x, before[4], after[4], value)` as PyTorch's; None where its arguments are not of that form.

    The amounts are for the last 4 dimensions as they lie in memory. A tensor of one channel or one pixel lies both
    ways; ExecuTorch takes it for channels last.
    """
    rank = len(operand.shape)
    if len(pad.args) != 4 or rank > 4:
        return None
    ends = [[one for one in arg if isinstance(one, int)] if isinstance(arg, tuple) else [] for arg in pad.args[1:3]]
    if any(len(end) != 4 or any(end[: 4 - rank]) for end in ends):
        return None
    order = operand.dim_order
    if rank == 4 and (order[:2] == (0, 2) or operand.shape[1] == 1 or operand.shape[2:] == (1, 1)):
        ends = [[end[at] for at in (0, 3, 1, 2)] for end in ends]
    before, after = (end[4 - rank :] for end in ends)
    if out.shape != tuple(sum(sizes) for sizes in zip(before, operand.shape, after, strict=True)):
        return None
    amounts = tuple(amount for pair in zip(before[::-1], after[::-1], strict=True) for amount in pair)
    return replace(pad, op=PAD, args=(pad.args[0], amounts, pad.args[3]))


def _equal_windows(pool: Instruction, operand: TensorSpec) -> tuple[int, ...]:
    """Height and width of the windows of a pooling to a given size, where all are alike and side by side; else
    nothing."""
    asked = pool.args[1] if len(pool.args) == 2 else ()
    sizes = [one for one in asked if isinstance(one, int)] if isinstance(asked, tuple) else []
    if len(sizes) != 2 or min(sizes) < 1 or len(operand.shape) not in (3, 4) or 0 in operand.shape:
        return ()
    image = operand.shape[-2:]
    return (
        ()
        if any(have % want for have, want in zip(image, sizes, strict=True))
        else tuple(map(int.__floordiv__, image, sizes))
    )


def _crop(draft: Draft, pad: Instruction, operand: Value) -> Sequence[Instruction]:
    """The negative entries of the pad, innermost dimension first, as slices, and what is left of the pad."""
    pads, rank = pad.args[1] if len(pad.args) > 1 else (), len(operand.spec.shape)
    numbers = [one for one in pads if isinstance(one, int)] if isinstance(pads, tuple) else []
    if not any(one < 0 for one in numbers) or len(numbers) % 2 or len(numbers) > 2 * rank or 0 in operand.spec.shape:
        return (pad,)
    shape, source = list(operand.spec.shape), Ref(operand.id)
    slices: list[Instruction] = []
    for at in range(len(numbers) // 2):
        dim = rank - 1 - at
        start, end = max(-numbers[2 * at], 0), shape[dim] - max(-numbers[2 * at + 1], 0)
        if (start, end) == (0, shape[dim]) or start > end:
            continue
        shape[dim] = end - start
        spec = TensorSpec(operand.spec.dtype, tuple(shape))
        cropped = draft.add_value(f"{draft.values[pad.outs[0]].name}_cropped", spec)
        crop = (source, dim, start, end, 1)
        slices.append(Instruction(SLICE, crop, (cropped.id,), draft.handle(), f"{pad.name}_crop", pad.source))
        source = Ref(cropped.id)
    rest = tuple(max(one, 0) for one in numbers)
    return *slices, replace(pad, args=(source, rest, *pad.args[2:]))
