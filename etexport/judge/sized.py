"""Runs whose sizes differ: what an image with traces streams of them, which is as much as the largest sizes need, cut
to what was in use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from etexport.judge.compare import Traced
from etexport.program.model import Array, Instruction, Method

Shape = tuple[int, ...]


def in_use(traced: Sequence[Traced], largest: Method, method: Method) -> list[Traced]:
    """The results of a run of `method`, which is `largest` for smaller sizes: a tensor is packed at its own. What has
    another shape on the board than in the program, and lies in another order, stays as it is; steps that the program
    does not have do too."""
    by_handle = {one.handle: one for one in largest.instructions}
    return [_cut(one, by_handle[one.handle], largest, method) if one.handle in by_handle else one for one in traced]


def _cut(traced: Traced, instruction: Instruction, largest: Method, method: Method) -> Traced:
    shapes = [(largest.values[out].spec.shape, method.values[out].spec.shape) for out in instruction.outs]
    if not shapes:
        return traced
    others = tuple(
        one if one is None else _packed(one, tuple(range(one.ndim)), *pair)
        for one, pair in zip(traced.others, shapes[1:], strict=False)
    )
    return replace(traced, data=_packed(traced.data, traced.dim_order, *shapes[0]), others=others)


def _packed(data: Array, order: Shape, most: Shape, size: Shape) -> Array:
    """The beginning of what is in memory, as a tensor of that size."""
    order = order or tuple(range(data.ndim))
    shape = _shape(data.shape, most, size)
    if shape is None:
        if data.size != math.prod(most) or order != tuple(range(data.ndim)):
            return data
        shape, order = size, tuple(range(len(size)))
        stored = data.reshape(-1)
    else:
        stored = np.transpose(data, order).reshape(-1)
    used = stored[: math.prod(shape)].reshape([shape[dim] for dim in order])
    return np.array(np.transpose(used, np.argsort(order)) if order else used, order="C")


def _shape(board: Shape, most: Shape, size: Shape) -> Shape | None:
    """What a tensor of shape `board` has for these sizes, where it is `most` but for dimensions of 1."""
    there, here = ([dim for dim, one in enumerate(shape) if one != 1] for shape in (board, most))
    if [board[dim] for dim in there] != [most[dim] for dim in here]:
        return None
    shape = list(board)
    for dim, from_dim in zip(there, here, strict=True):
        shape[dim] = size[from_dim]
    return tuple(shape)
