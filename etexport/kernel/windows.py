"""Windows that slide over sequences and images: what convolutions of floats and of integers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from etexport.kernel.call import Window
from etexport.kernel.node import Node
from etexport.program.model import Array

LIMIT = 2**31 - 1
"""Sizes and distances are int32_t in the kernels."""


@dataclass(frozen=True)
class Axis:
    """One spatial dimension: padding may differ at its two ends."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def reach(self) -> int:
        """From the first to one past the last input of a window."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def out(self) -> int:
        return (self.size + self.before + self.after - self.reach) // self.stride + 1

    @property
    def inner(self) -> tuple[int, int]:
        """The output positions [begin, end) whose window lies inside."""
        begin = min(-(-self.before // self.stride), self.out)
        end = (self.size + self.before - self.reach) // self.stride + 1
        return begin, min(max(begin, end), self.out)

    @property
    def padded(self) -> int:
        return self.size + self.before + self.after


ONE = Axis(1, 1, 1, 1, 0, 0)
"""The height of a sequence, which is an image of height 1."""


def axes_of(node: Node, kernel: tuple[int, ...]) -> tuple[Axis, ...]:
    """The spatial dimensions of operand `input` under a window, outermost first, after checking `stride`, `padding`
    (one, one a dimension, or all befores and then all afters) and `dilation`; node.error for what is illegal."""
    x = node["input"].spec.shape
    rank = len(kernel)
    if len(x) != rank + 2 or rank not in (1, 2):
        raise node.error(
            f"a window of {list(kernel)} over {list(x)}; sequences (N, C, L) and images (N, C, H, W) have a kernel"
        )
    stride, dilation = (per_axis(node, name, rank, 1) for name in ("stride", "dilation"))
    padding = node["padding"] if len(node["padding"]) == 2 * rank else per_axis(node, "padding", rank, 0) * 2
    axes = []
    for at in range(rank):
        before, after = padding[at], padding[rank + at]
        if not (0 <= before <= LIMIT and 0 <= after <= LIMIT):
            raise node.error(f"padding is {list(node['padding'])}")
        axis = Axis(x[2 + at], kernel[at], stride[at], dilation[at], before, after)
        if axis.kernel == 0:
            raise node.error(f"a kernel without elements, {list(kernel)}")
        if axis.reach > axis.padded:
            raise node.error(
                f"a kernel that reaches over {axis.reach} elements of an input with {axis.padded} (padding included)"
            )
        # A distance that is never gone is 1, so that the kernels' products stay small.
        axes.append(replace(axis, stride=min(stride[at], axis.padded), dilation=dilation[at] if axis.kernel > 1 else 1))
    return tuple(axes)


def per_axis(node: Node, name: str, rank: int, least: int) -> tuple[int, ...]:
    """An attribute of one number for each dimension, or one for all; node.error for another length, or one below
    `least`."""
    values: tuple[int, ...] = node[name]
    if len(values) not in (1, rank) or not all(least <= value <= LIMIT for value in values):
        raise node.error(f"{name} is {list(values)} for {rank} spatial dimension{'s' if rank > 1 else ''}")
    return values * rank if len(values) == 1 else values


def window_over(node: Node, rows: Axis, columns: Axis, pad_value: float, rows_per_call: int = 0) -> Window:
    """The sweep of a kernel over the rows of `input`, channels last, whose output has the channels of the node's.
    `rows_per_call` is for kernels that are told how many."""
    x, out = node["input"], node.out
    in_row = columns.size * x.spec.shape[1]
    return Window(
        input=x.id,
        output=out.id,
        batch=x.spec.shape[0],
        in_rows=rows.size,
        in_row=in_row,
        out_rows=rows.out,
        out_row=columns.out * out.spec.shape[1],
        kernel=rows.kernel,
        stride=rows.stride,
        pad=rows.before,
        dilation=rows.dilation,
        pad_value=pad_value,
        pad_elements=in_row if rows.before or rows.after else 0,
        rows_per_call=rows_per_call or 1,
        counted=rows_per_call > 0,
    )


# ---- how far an output may lie over its input ------------------------------------------------------------------------


def first_reads(batch: int, rows: Axis, columns: Axis, pixel: int) -> Array:
    """For each output position of all images, and one past them: the first byte of the input that it or a later one
    reads."""
    y, x = (np.arange(axis.out) for axis in (rows, columns))
    top = np.clip(y * rows.stride - rows.before, 0, rows.size)
    left = np.clip(x * columns.stride - columns.before, 0, columns.size)
    window = ((top[:, None] * columns.size + left[None, :]) * pixel).reshape(-1)
    size = rows.size * columns.size * pixel
    first = np.append((np.arange(batch)[:, None] * size + window[None, :]).reshape(-1), batch * size)
    least: Array = np.minimum.accumulate(first[::-1])[::-1]
    return least


def read_then_stored(first: Array, ends: Iterable[int], bytes_each: int, within: int | None = None) -> int:
    """How many bytes above its output an input must start, where positions are read together up to each of `ends`, then
    stored.

    `first` as `first_reads` has it; a position's results take `bytes_each`. With `within`, positions read together are
    stored group of channels after group: what is still to be read of them begins so many bytes less behind their
    windows' start than what is stored lies behind the last one's results.
    """
    stops = np.unique(np.fromiter(ends, np.int64))
    apart = -int(first[-1])
    distance = int((stops * bytes_each - first[stops])[:-1].max(initial=apart))  # after the last nothing is read
    if within is None:
        return distance
    begins = np.append(0, stops[:-1])
    return int(((stops - 1) * bytes_each + within - first[begins]).max(initial=distance))


def last_reads(batch: int, rows: Axis, columns: Axis, pixel: int) -> Array:
    """For each output position of all images, and one past them: one past the last byte of the input that positions
    before it read."""
    y, x = (np.arange(axis.out) for axis in (rows, columns))
    bottom = np.clip(y * rows.stride - rows.before + rows.reach, 0, rows.size)
    right = np.clip(x * columns.stride - columns.before + columns.reach, 0, columns.size)
    window = (((bottom[:, None] - 1) * columns.size + right[None, :]) * pixel).reshape(-1)
    size = rows.size * columns.size * pixel
    last = np.append(0, (np.arange(batch)[:, None] * size + window[None, :]).reshape(-1))
    most: Array = np.maximum.accumulate(last)
    return most


def read_then_stored_upward(last: Array, begins: Iterable[int], bytes_each: int) -> int:
    """How many bytes above its input an output must start, where positions from each of `begins` on are read together,
    then stored, the last ones first. `last` as `last_reads` has it; a position's results take `bytes_each`."""
    starts = np.unique(np.fromiter(begins, np.int64))
    apart = -(len(last) - 1) * bytes_each
    return int((last[starts] - starts * bytes_each)[1:].max(initial=apart))  # below the first nothing is read
