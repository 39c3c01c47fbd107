"""Integer arithmetic of quantised programs: fixed-point multipliers, the rounding rule, and how a kernel folder says
which float operator between dequantise and quantise it computes in integers.

docs/quantization.md is the page behind this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from etexport.kernel.node import Node
from etexport.program.model import Array, Ref, TensorSpec, Value

# ---- fixed point -----------------------------------------------------------------------------------------------------


def multiplier_shift(scale: float) -> tuple[int, int]:
    """A real scale as (M, e) with scale = M * 2^(e - 31), M a 32-bit integer of at least 2^30 (or 0), as `cortex_m::`
    operators carry it.

    Negative scales have a negative M. Source: ExecuTorch's cortex_m quantisation, TFLite's QuantizeMultiplier.
    """
    if scale == 0 or not math.isfinite(scale):
        assert scale == 0, f"scale {scale}"
        return 0, 0
    mantissa, exponent = math.frexp(abs(scale))
    multiplier = round(mantissa * 2**31)
    if multiplier == 2**31:
        multiplier, exponent = multiplier // 2, exponent + 1
    return int(math.copysign(multiplier, scale)), exponent


def real_scale(multiplier: int, shift: int) -> float:
    """The scale that (M, e) stands for; exact in float64."""
    return math.ldexp(float(multiplier), shift - 31)


def word_multiplier(multiplier: int, shift: int) -> tuple[int, int]:
    """The house form of (M, e): (m, p) with result = ((acc << p) * m + 2^31) >> 32, m < 2^31, and p the least that
    allows it.

    p is 0 for every scale below one half, which is nearly every layer.
    """
    p = max(0, shift + 1)
    scale = math.ldexp(real_scale(multiplier, shift), 32 - p)
    word = round(scale)
    if word >= 2**31:
        p, word = p + 1, round(scale / 2)
    return word, p


def requantize(acc: Array, word: Array | int, p: Array | int = 0) -> Array:
    """The house rule in numpy, int64: ((acc << p) * m + 2^31) >> 32, that is to the nearest, ties up."""
    wide = np.asarray(acc, dtype=np.int64) << np.asarray(p, dtype=np.int64)
    return (wide * np.asarray(word, dtype=np.int64) + (1 << 31)) >> 32


def tie_to_even(nearest: Array, total: Array, count: int) -> Array:
    """`nearest` is total / count to the nearest, ties whichever way: now to the even neighbour. Where an average keeps
    its scale ties are frequent, and up they would move every average."""
    twice = 2 * (total - nearest * count)
    tied: Array = nearest + np.where((np.abs(twice) == count) & (nearest & 1 == 1), np.sign(twice), 0)
    return tied


def requantize_tflm(acc: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """TFLite's double rounding, as `cortex_m::` operators define it: a rounding doubling high multiply, then a rounding
    right shift."""
    shift = np.asarray(shift, dtype=np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = ((np.asarray(acc, dtype=np.int64) << left) * np.asarray(multiplier, dtype=np.int64) + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)


# ---- a float operator between dequantise and quantise ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Quantized:
    """A dequantised operand: the integer value behind it, real = (stored - zero_point) * scale, one scale or one along
    `axis`."""

    value: Value
    scales: Array
    zero_points: Array
    axis: int | None

    @property
    def scale(self) -> float:
        """The scale of a per-tensor operand."""
        assert self.axis is None, f"{self.value.name} is quantised per channel"
        return float(self.scales)

    @property
    def zero_point(self) -> int:
        assert self.axis is None, f"{self.value.name} is quantised per channel"
        return int(self.zero_points)

    @property
    def ref(self) -> Ref:
        return Ref(self.value.id)


@dataclass(frozen=True, eq=False)
class Masked:
    """An operand that is `scores` where `mask` (bool, it may repeat) is `keeps`, and elsewhere so low a number that exp
    of it is 0 beside exp of any score."""

    scores: Quantized
    mask: Value
    keeps: bool


@dataclass(frozen=True)
class QuantizedOutput:
    """What the result is quantised to, and where it saturates: `low` and `high` are stored values, an activation's
    bounds among them."""

    spec: TensorSpec
    scale: float
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class IntegerNode:
    """A float instruction whose tensor operands are dequantised integers (or float constants) and whose result is
    quantised.

    `node[...]` gives operands as `Op` functions see them; `quantized[...]` those that are dequantised, by parameter
    name (a tuple for a tensor list).
    """

    node: Node
    quantized: Mapping[str, Any]
    out: QuantizedOutput


@dataclass(frozen=True, eq=False)
class Fused:
    """The integer instruction that takes the float one's place. Arrays among `args` become constants."""

    op: str
    args: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Rule:
    """`op` (a float operator's name) can be computed in integers: `build` gives the instruction, or the reason why this
    one cannot.

    A kernel folder declares `RULES = [Rule(...)]` beside its `OPS`.
    """

    op: str
    build: Callable[[IntegerNode], Fused | str]
    masked: tuple[str, ...] = ()
    """Operands that may be `Masked`."""
