"""Cases as arrays: what an operator's `Case` stands for, and cases drawn at random."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from etexport.kernel.cases import Case, T
from etexport.kernel.op import Layout, Op
from etexport.program.model import Array, DType, channels_last

SPECIALS = (math.nan, math.inf, -math.inf, -0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor argument with its content, indexed logically."""

    of: T
    data: Array


@dataclass(frozen=True, eq=False)
class Sample:
    """A case with content: `args` are those of the case with each `T` replaced by a `Tensor`."""

    op: Op
    case: Case
    args: tuple[Any, ...]
    note: str
    residual: Array | None = None
    """Added to the first result by a further instruction, which fusion makes part of this one."""
    bounds: tuple[float, float] | None = None
    """The result is clamped by a further instruction, which fusion makes part of this one."""

    def __str__(self) -> str:
        return f"{self.op.name}{self.case.args} {self.note}"


_Item = TypeVar("_Item")


class SeededDraw:
    """Choices of a seeded generator; the ends of a range, and what lies next to them, come more often than chance would
    have it."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        among = self._random.random()
        if among < 0.3:
            return (low, high, min(low + 1, high))[int(among * 10)]
        return self._random.randint(low, high)

    def number(self, low: float, high: float) -> float:
        ends = np.array([low, high], np.float32)
        low, high = map(float, np.where([ends[0] < low, ends[1] > high], np.nextafter(ends, ends[::-1]), ends))
        sign, exponent = self._random.choice((-1.0, 1.0)), self._random.randint(-126, 127)
        drawn = self._random.choice(
            (
                low,
                high,
                sign * 0.0,
                float(self.integer(math.ceil(low), max(math.ceil(low), math.floor(high)))),
                sign * 2.0**exponent,
            )
            + 5 * (self._random.uniform(low, high),)
        )
        return float(np.float32(min(max(drawn, low), high)))

    def choice(self, options: Sequence[_Item]) -> _Item:
        return self._random.choice(options)

    def flag(self) -> bool:
        return self._random.random() < 0.5


MOST = 200
"""Cases drawn of an operator."""


def drawn(op: Op, count: int) -> list[Case]:
    """The first `count` of the operator's drawn cases, the same in every run."""
    assert count <= MOST
    return list(_drawn(op)[:count]) if count else []


@functools.cache
def _drawn(op: Op) -> tuple[Case, ...]:
    """`MOST` cases, first those that differ: an operator of few shapes has some again, whose content will be another.
    Operands of kernels that take strides get dim orders too."""
    assert op.draw is not None
    different: dict[str, Case] = {}
    again: list[Case] = []
    for number in range(3 * MOST):
        draw = SeededDraw(f"{op.name} {number}")
        case = op.draw(draw)
        if op.layout is not Layout.CONTIGUOUS:
            case = replace(case, args=tuple(_reordered(arg, draw) for arg in case.args))
        if different.setdefault(repr(case), case) is not case:
            again.append(case)
        if len(different) == MOST:
            break
    return (*different.values(), *again)[:MOST]


def _reordered(arg: Any, draw: SeededDraw) -> Any:
    if isinstance(arg, tuple) and any(isinstance(item, T) for item in arg):
        return tuple(_reordered(item, draw) for item in arg)
    if isinstance(arg, T) and arg.dim_order is None and len(arg.shape) in (3, 4) and draw.flag():
        return replace(arg, dim_order=channels_last(len(arg.shape)))
    return arg


def sample(op: Op, case: Case, seed: int, *, specials: bool = False) -> Sample:
    """The case with content drawn from `seed`; `specials` strews NaN, infinities and signed zeros over float inputs,
    not over weights."""
    random = np.random.default_rng(seed)

    def content(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(content(item) for item in arg)
        return Tensor(arg, _content(arg, random, specials)) if isinstance(arg, T) else arg

    return Sample(
        op, case, tuple(content(arg) for arg in case.args), case.note + (" (with special values)" if specials else "")
    )


def _content(tensor: T, random: np.random.Generator, specials: bool) -> Array:
    dtype = tensor.dtype.numpy
    if tensor.values is not None and tensor.dtype is not DType.BFLOAT16:
        return np.array(tensor.values).astype(dtype).reshape(tensor.shape)
    if tensor.dtype is DType.BOOL:
        return np.asarray(random.integers(0, 2, tensor.shape), dtype)
    values = random.uniform(tensor.low, tensor.high, tensor.shape)
    if tensor.values is not None:
        values = np.array(tensor.values).reshape(tensor.shape)
    if tensor.dtype is DType.BFLOAT16:
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return np.asarray(np.clip(np.floor(values), limits.min, limits.max), dtype)
    if specials and not tensor.constant:
        values = np.where(random.random(tensor.shape) < 0.15, random.choice(SPECIALS, tensor.shape), values)
    return np.asarray(values, dtype)


def families(ops: Iterable[Op]) -> dict[str, list[Op]]:
    """Operators that have a kernel or are an address, by kernel folder."""
    found: dict[str, list[Op]] = {}
    for op in ops:
        if op.lower is not None or op.layout in (Layout.VIEW, Layout.PERMUTE):
            found.setdefault(op.family, []).append(op)
    return dict(sorted(found.items()))


def documented(op: Op) -> list[Sample]:
    """The cases that stand in `op.py`."""
    return [sample(op, case, seed) for seed, case in enumerate(op.cases)]


def random_samples(op: Op, count: int) -> list[Sample]:
    """Drawn cases; a quarter of them with special values where these have a meaning. They have none in sums of
    products: PyTorch's libraries leave out factors of 0, and what a padded border times infinity is."""
    special = op.sum_length is None or op.layout is Layout.FOLLOW
    return [sample(op, case, 1000 + at, specials=special and at % 4 == 3) for at, case in enumerate(drawn(op, count))]


def fused_samples(op: Op, count: int) -> list[Sample]:
    """Drawn cases with what the kernel can absorb behind them."""
    from .batch import infer  # which builds programs of samples

    found = []
    for at, plain in enumerate(random_samples(op, count)):
        random = np.random.default_rng(5000 + at)
        dtype, shape = infer(plain)[0]
        if dtype is not DType.FLOAT32:
            continue  # counters and indices: what is fused are bounds and residuals of floats
        residual = (
            np.asarray(random.uniform(-1, 1, shape), np.float32) if "residual" in op.absorbs and at % 3 != 2 else None
        )
        clamps = "clamp" in op.absorbs and (at % 2 or residual is None)
        bounds = ((-0.5, 0.75), (0.0, math.inf), (-math.inf, 0.25))[at % 3] if clamps else None
        if residual is not None or bounds is not None:
            found.append(replace(plain, residual=residual, bounds=bounds, note=f"{plain.note} (fused)"))
    return found
