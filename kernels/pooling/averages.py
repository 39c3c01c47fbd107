"""Averages of int8: what pooling and reductions share, the choice of a kernel and how its sums become stored values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Target, Write
from etexport.kernel.node import Node
from etexport.kernel.quantized import multiplier_shift, requantize, tie_to_even, word_multiplier
from etexport.kernel.strided import Nest, nest
from etexport.program.model import Array
from etexport_kernels.pooling.pools import Axis, Pool, counts, each_window, swept


@dataclass(frozen=True)
class Average:
    """The average of a sum of stored values is zero_point + R(sum + start, multiplier, left_shift), clamped. `count` is
    the number of elements where ties go to even, else 0; `divided`: it is sum / count as TFLite divides, and nothing
    else counts."""

    start: int
    multiplier: int
    left_shift: int
    zero_point: int
    count: int = 0
    divided: bool = False
    low: int = -128
    high: int = 127

    @property
    def rounding(self) -> str:
        """The C++ enumerator."""
        return f"et::AverageRounding::{'kDivided' if self.divided else 'kToEven' if self.count else 'kNearest'}"


@dataclass(frozen=True)
class Columns:
    """A window of rows x taps elements, so many bytes apart, for each of `channels` neighbours."""

    rows: int
    row_step: int
    taps: int
    tap_step: int
    channels: int

    @property
    def elements(self) -> int:
        return self.rows * self.taps


def windows(
    target: Target,
    channels: int,
    elements: int = 1,
    left_shift: int = 0,
    bounds: tuple[int, int] = (-128, 127),
    most_words: int = 2,
) -> tuple[str, str]:
    """What computes a window of at most so many elements: the C++ type, and the variant's name. Of maxima 4 words fit
    the registers."""
    if "dsp" not in target.features or channels < 4 or left_shift:
        return "et::PortableWindows", "portable"
    words, long, own = (
        min(1 if channels < 8 else 2 if channels < 16 else 4, most_words),
        elements > 255,
        bounds != (-128, 127),
    )
    return f"et::DspWindows<{words}, {str(long).lower()}, {str(own).lower()}>", "dsp"


def column_averages(
    target: Target, loops: Nest, columns: Columns, average: Average, operands: tuple[Operand, ...]
) -> Call:
    """The call for one window at each index of `loops` (strides of the output, of the input)."""
    if columns.taps * columns.tap_step == columns.row_step or columns.rows == 1:
        columns = Columns(1, 0, columns.elements, columns.tap_step, columns.channels)
    core, variant = windows(target, columns.channels, columns.elements, average.left_shift, (average.low, average.high))
    if average.divided:
        core, variant = "et::PortableWindows", "portable"
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1], "rows": columns.rows,
        "row_step": columns.row_step, "taps": columns.taps, "tap_step": columns.tap_step, "channels": columns.channels,
        "start": average.start, "multiplier": average.multiplier, "left_shift": average.left_shift,
        "count": columns.elements if average.divided else average.count, "zero_point": average.zero_point,
        "low": average.low, "high": average.high,
    }  # fmt: skip
    header = f"pooling/window8{'' if variant == 'portable' else '_dsp'}.h"
    return Call(f"quantized_column_averages<{core}, {average.rounding}>", header, geometry, operands, variant=variant)


# ---- pooling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Averaged:
    """What pooling does besides summing: `scale` is that of input to output for one element; `divisor` 0: the number of
    elements."""

    zero_in: int
    zero_out: int
    scale: float
    low: int = -128
    high: int = 127
    divisor: int = 0

    def counted(self, down: Iterable[int], across: Iterable[int]) -> list[int]:
        """What is divided by, for each number of rows and of columns."""
        return [self.divisor or rows * columns for rows, columns in product(down, across)]

    def words(self, counted: list[int]) -> tuple[Array, int]:
        """The multiplier for each, with the left shift that suits all of them."""
        left = max(word_multiplier(*multiplier_shift(self.scale / count))[1] for count in counted)
        return np.array([round(self.scale / count * 2.0 ** (32 - left)) for count in counted], np.int32), left

    def to_even(self, counted: list[int]) -> bool:
        """Whether ties occur that are rounded to even: the scale stays, and a count is even."""
        return self.scale == 1.0 and any(count % 2 == 0 for count in counted)


def zero_points(node: Node, *names: str) -> list[int]:
    """These arguments; node.error for one that no int8 has, and with which sums could be of any size."""
    found = [node[name] for name in names]
    if not all(-128 <= one <= 127 for one in found):
        raise node.error(f"zero points {', '.join(map(str, found))}; they lie in -128 to 127")
    return found


def pooled_averages(node: Node, target: Target, pool: Pool, how: Averaged, divided: bool = False) -> Call:
    """The call that pools operand `self`. `divided`: as TFLite divides, see `Average`; node.error where sums are too
    large."""
    rows, columns = pool.rows, pool.columns
    down, across = counts(rows), counts(columns)
    counted = how.counted(down, across)
    words, left = how.words(counted)
    size = rows.kernel * columns.kernel
    if (size * (128 + abs(how.zero_in))) << left >= 2**31:
        raise node.error(f"the sum of {size} elements is too large")
    even = (how.divisor or size) if how.to_even(counted) else 0
    average = Average(-size * how.zero_in, int(words[0]), left, how.zero_out, even, divided, how.low, how.high)
    if pool.once:
        loops = nest((pool.batch,), (pool.channels,), (rows.size * columns.size * pool.channels,))
        window = Columns(rows.kernel, columns.size * pool.channels, columns.kernel, pool.channels, pool.channels)
        return column_averages(target, loops, window, average, (Write(node.out.id), Read(node["self"].id)))
    geometry: dict[str, GeometryField] = {
        "least_rows": down[0], "least_columns": across[0], "widths": 0 if divided else len(across),
        "divisor": how.divisor, "in_zero_point": how.zero_in, "out_zero_point": how.zero_out, "left_shift": left,
        "low": how.low, "high": how.high,
    }  # fmt: skip
    core, variant = (
        ("et::PortableWindows", "portable")
        if divided
        else windows(target, pool.channels, size, left, (how.low, how.high))
    )
    header = f"pooling/quantized{'' if variant == 'portable' else '_dsp'}.h"
    table, types = Const("multipliers", None if divided else words), (core, average.rounding)
    return swept(node, pool, "quantized_avg_pool", header, geometry, (table,), types, variant)


def reference(x: Array, height: Axis, width: Axis, how: Averaged) -> Array:
    """`pooled_averages` in numpy, for int8 (..., H, W)."""
    counted = how.counted(counts(height), counts(width))
    words, left = how.words(counted)
    out = np.empty((*x.shape[:-2], height.out, width.out), np.int8)
    for at, down, across in each_window(height, width):
        count = how.divisor or down.counted * across.counted
        total = (x[..., down.inside, :][..., across.inside].astype(np.int64) - how.zero_in).sum((-2, -1))
        stored = requantize(total, words[counted.index(count)], left)
        stored = tie_to_even(stored, total, count) if how.to_even(counted) else stored
        out[..., *at] = np.clip(stored + how.zero_out, how.low, how.high)
    return out
