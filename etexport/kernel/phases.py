"""Windows of transposed convolutions: outputs at distances of the stride see the same taps. What floats and integers
share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd, prod

from etexport.kernel.call import Window
from etexport.kernel.node import Node
from etexport.kernel.windows import LIMIT, per_axis


@dataclass(frozen=True)
class Phases:
    """One spatial dimension. Output o sees tap k where o + before - k * dilation is a multiple of the stride, there the
    input at the quotient. So outputs at distances of the stride make a phase, o % stride: they see the same taps, each
    at the input behind that of the one before."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    out: int

    @property
    def count(self) -> int:
        """Phases that have an output."""
        return min(self.stride, self.out)

    @property
    def back(self) -> int:
        """Inputs from one tap of a phase to the next."""
        return self.dilation // gcd(self.dilation, self.stride) if self.kernel > 1 else 1

    @cached_property
    def taps(self) -> tuple[tuple[int, ...], ...]:
        """Of each phase, in the order of the inputs that they see: the last tap first."""
        return tuple(
            tuple(
                tap
                for tap in reversed(range(self.kernel))
                if (phase + self.before - tap * self.dilation) % self.stride == 0
            )
            for phase in range(self.count)
        )

    @property
    def most(self) -> int:
        """Taps that a phase sees at most; 1 where none sees any."""
        return max(1, *map(len, self.taps))

    def first(self, out: int) -> int:
        """The input that an output's first tap sees, which may lie outside; any where it sees none."""
        taps = self.taps[out % self.count]
        return (out + self.before - taps[0] * self.dilation) // self.stride if taps else 0

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """`first` of each phase's first output."""
        return tuple(map(self.first, range(self.count)))

    @property
    def firsts(self) -> tuple[int, ...]:
        """For each output the first of `most` inputs that end with its own last one. An output without taps has those
        of the one before."""
        found: list[int] = []
        for out in range(self.out):
            taps = self.taps[out % self.count]
            fewer = self.most - len(taps)
            found.append(self.first(out) - fewer * self.back if taps else (found or [0])[-1])
        return tuple(found)

    @property
    def reaches_outside(self) -> bool:
        """Whether any output has a tap outside the input."""
        spans = ((self.first(out), len(self.taps[out % self.count])) for out in range(self.out))
        return any(taps and (first < 0 or first + (taps - 1) * self.back >= self.size) for first, taps in spans)


ROW = Phases(1, 1, 1, 1, 0, 1)
"""The height of a sequence, which is an image of height 1."""


def phases_of(node: Node, kernel: tuple[int, ...], outputs: int) -> tuple[Phases, ...]:
    """The spatial dimensions of operand `input`, outermost first, after checking `stride`, `padding`, `output_padding`
    and `dilation`; node.error for what PyTorch refuses or we cannot do."""
    x, rank = node["input"].spec, len(kernel)
    stride, dilation = (per_axis(node, name, rank, 1) for name in ("stride", "dilation"))
    padding, added = (per_axis(node, name, rank, 0) for name in ("padding", "output_padding"))
    phases = []
    for at in range(rank):
        size = x.shape[2 + at]
        out = (size - 1) * stride[at] - 2 * padding[at] + dilation[at] * (kernel[at] - 1) + added[at] + 1
        if kernel[at] == 0 or size == 0 or out < 1:
            raise node.error(f"an output of {out} elements from an input of {size} with a kernel of {kernel[at]}")
        if added[at] >= max(stride[at], dilation[at]):
            raise node.error(
                f"output_padding {added[at]} is not smaller than stride {stride[at]} or dilation {dilation[at]}"
            )
        phases.append(Phases(size, kernel[at], stride[at], dilation[at], padding[at], out))
    reach = (max(axis.out, axis.size, axis.dilation * (axis.kernel - 1) + 1) + axis.before for axis in phases)
    if prod((x.shape[0], x.shape[1] + outputs, *reach)) > LIMIT:
        raise node.error(f"an output of {[axis.out for axis in phases]} is too large for 32-bit offsets")
    return tuple(phases)


def window_of(node: Node, rows: Phases, columns: Phases, pad_value: float) -> Window:
    """The sweep of a kernel over the rows of `input`, channels last. It is told the number of the row, and takes the
    last ones of its rows, as many as the row's phase has taps."""
    x, out = node["input"], node.out
    in_row = columns.size * x.spec.shape[1]
    window = Window(
        input=x.id, output=out.id, batch=x.spec.shape[0], in_rows=rows.size, in_row=in_row, out_rows=rows.out,
        out_row=columns.out * out.spec.shape[1], kernel=rows.most, stride=0, pad=0, dilation=rows.back,
        pad_value=pad_value, pad_elements=0, firsts=rows.firsts, numbered=True,
    )  # fmt: skip
    return replace(window, pad_elements=in_row) if window.reads_outside else window
