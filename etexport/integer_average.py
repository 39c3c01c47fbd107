"""Averages of int8: what pooling and reductions share, the choice of a kernel and how its sums become stored values."""

from __future__ import annotations

from dataclasses import dataclass

from etexport.op import Call, GeometryField, Operand, Target
from etexport.strided import Nest


@dataclass(frozen=True)
class Average:
    """The average of a sum of stored values is zero_point + R(sum + start, multiplier, left_shift), clamped. `count` is the number of
    elements where ties go to even, else 0; `divided`: it is sum / count as TFLite divides, and nothing else counts."""

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
    target: Target, channels: int, elements: int = 1, left_shift: int = 0, bounds: tuple[int, int] = (-128, 127), most_words: int = 2
) -> tuple[str, str]:
    """What computes a window of at most so many elements: the C++ type, and the variant's name. Of maxima 4 words fit the registers."""
    if "dsp" not in target.features or channels < 4 or left_shift:
        return "et::PortableWindows", "portable"
    words, long, own = min(1 if channels < 8 else 2 if channels < 16 else 4, most_words), elements > 255, bounds != (-128, 127)
    return f"et::DspWindows<{words}, {str(long).lower()}, {str(own).lower()}>", "dsp"


def column_averages(target: Target, loops: Nest, columns: Columns, average: Average, operands: tuple[Operand, ...]) -> Call:
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
