"""The C++ call of one instruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from etexport.kernel.node import Node
from etexport.program.model import Array, DType
from etexport.sources import Package, Sources

__all__ = ["Call", "Const", "GeometryField", "Operand", "Package", "Read", "RowRead", "RowWrite", "Scratch", "Sources"]
__all__ += ["Target", "Window", "Write", "swept_call"]


@dataclass(frozen=True)
class Target:
    """What kernel choice depends on: the core's features ("fpu", "dsp", "mve", "arm", "riscv", ...) and "speed" or
    "size"."""

    features: frozenset[str] = frozenset()
    optimize: str = "speed"
    rounding: str = "nearest"
    """How integer results are rounded: "nearest", or "tflm" for the bytes of TFLite and of ExecuTorch's cortex_m
    operators."""


@dataclass(frozen=True)
class Read:
    """`const T*` to the start of this value."""

    value: int


@dataclass(frozen=True)
class Write:
    """`T*` to the start of this value."""

    value: int


@dataclass(frozen=True)
class RowRead:
    """In a windowed call: `const T*` to the row of this value that has the index of the output row (a residual)."""

    value: int


@dataclass(frozen=True)
class RowWrite:
    """In a windowed call: `T*` to the row of this value that has the index of the output row (a further result)."""

    value: int


@dataclass(frozen=True, eq=False)
class Const:
    """`const T*` to packed data in flash; `name` says what it is ("weight", "bias"). None as data gives a null
    pointer."""

    name: str
    data: Array | None


@dataclass(frozen=True)
class Scratch:
    """`T*` to bytes that the planner provides during this call only."""

    dtype: DType
    elements: int


Operand = Read | Write | RowRead | RowWrite | Const | Scratch


@dataclass(frozen=True)
class Window:
    """How a windowed kernel is swept over output rows: `et::sweep` calls it once for every `rows_per_call` rows, from
    the first to the last, or `upward` from the last to the first (which the plan decides, see `Call.overlaps`).

    Output row r of image n reads input rows r * stride - pad + k * dilation, k = 0 .. kernel - 1 (with more rows a call
    further ones, up to those of the last), or, where windows lie at no fixed distance, firsts[r] + k * dilation; a row
    outside the image is a pointer to `pad_elements` constants of `pad_value`. Row sizes are in elements. `counted` and
    `numbered`: what else the kernel is told (see `Call`).
    """

    input: int
    output: int
    batch: int
    in_rows: int
    in_row: int
    out_rows: int
    out_row: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    pad_value: float
    pad_elements: int
    rows_per_call: int = 1
    counted: bool = False
    upward: bool = False
    firsts: tuple[int, ...] = ()
    numbered: bool = False

    def first(self, row: int) -> int:
        """The first input row that output row `row` of an image reads, which may lie outside of it."""
        return self.firsts[row] if self.firsts else row * self.stride - self.pad

    @property
    def seen(self) -> int:
        """Input rows that one call sees."""
        return self.kernel + (self.rows_per_call - 1) * self.stride

    @property
    def calls(self) -> range:
        """The first output row of each call for an image."""
        return range(0, self.out_rows, self.rows_per_call)

    @property
    def padded(self) -> bool:
        """Whether any call is given a row of padding; a kernel without `pad_elements` keeps to the rows inside."""
        return self.pad_elements > 0 and self.reads_outside

    @property
    def reads_outside(self) -> bool:
        """Whether the window of any call reaches over rows outside the image."""
        far = (self.seen - 1) * self.dilation
        return any(self.first(row) < 0 or self.first(row) + far >= self.in_rows for row in self.calls)


GeometryField = int | float | bool | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """The C++ call of one instruction.

    Without a window:  `et::<function>(geometry, <operand>, ...)`, operands in this order.
    With a window:     `et::<function>(geometry, out_row, rows, <operand>, ...)`, once an output row: `T* out_row`,
                       `const T* const* rows`;
                       behind `rows`, each an int32_t, come the number of the output row in its image where the window
                       is `numbered`, and where it is `counted` how many rows there are.
    `geometry` is the first argument, an object whose members are the fields: int32_t (or a narrower integer that holds
    its values), float, bool, or arrays `const int32_t[N]`. `variant` is shown in reports ("portable", "m4f"). `macs`
    counts padded positions too. `overlaps` is the kernel's word on memory: output 0 may share bytes with this operand
    as long as the operand starts at least so many bytes above the output's start (a kernel that says nothing needs them
    apart). `swept_call` declares it for windowed calls. `overlaps_upward` is the same for a windowed call that is swept
    from the last row to the first: so many bytes above the operand's start output 0 must start. `multiples`: what a
    value's place in the arena must be a multiple of, in bytes, beyond what every tensor's is. `sources`: C and C++
    that are linked with it.
    """

    function: str
    header: str
    geometry: Mapping[str, GeometryField]
    operands: tuple[Operand, ...]
    window: Window | None = None
    macs: int = 0
    variant: str = "portable"
    overlaps: Mapping[int, int] = field(default_factory=dict)
    overlaps_upward: Mapping[int, int] = field(default_factory=dict)
    multiples: Mapping[int, int] = field(default_factory=dict)
    sources: Sources | None = None


def swept_call(
    node: Node,
    function: str,
    header: str,
    geometry: Mapping[str, GeometryField],
    window: Window,
    operands: tuple[Operand, ...] = (),
    macs: int = 0,
    variant: str = "portable",
) -> Call:
    """A windowed call that reads of its input only the rows of its windows and writes only its output rows, in any
    order of the rows, so that the output may lie over the input: what a call writes must meet no row that it or a later
    one reads."""
    sizes = {value.id: value.spec.dtype.itemsize for value in (*node.tensors, *node.outs)}
    in_row, out_row = window.in_row * sizes[window.input], window.out_row * sizes[window.output]
    rows = []  # of each call, over all images: the first and the one past the last that it writes and that it reads
    for image in range(window.batch):
        for row in window.calls:
            read = (window.first(row), window.first(row) + (window.seen - 1) * window.dilation + 1)
            written = (row, min(row + window.rows_per_call, window.out_rows))
            rows.append(
                (
                    *(image * window.out_rows + at for at in written),
                    *(image * window.in_rows + min(max(at, 0), window.in_rows) for at in read),
                )
            )
    down = up = 0
    least, most = window.batch * window.in_rows, 0
    for (begin, _, _, last), (_, end, first, _) in zip(rows, reversed(rows), strict=True):
        least, most = min(least, first), max(most, last)
        down, up = max(down, end * out_row - least * in_row), max(up, most * in_row - begin * out_row)
    overlaps = {window.input: down}
    return Call(function, header, geometry, operands, window, macs, variant, overlaps, {window.input: up})
