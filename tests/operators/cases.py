"""Cases as arrays: what an operator's `Case` stands for, and cases drawn by hypothesis."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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


class HypothesisDraw:
    """Choices from a hypothesis test."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return int(self._data.draw(st.integers(low, high)))

    def number(self, low: float, high: float) -> float:
        bounds = np.array([low, high], np.float32)
        inside = np.where([bounds[0] < low, bounds[1] > high], np.nextafter(bounds, bounds[::-1]), bounds)
        return float(self._data.draw(st.floats(float(inside[0]), float(inside[1]), width=32, allow_subnormal=False)))

    def choice(self, options: Sequence[_Item]) -> _Item:
        return self._data.draw(st.sampled_from(options))

    def flag(self) -> bool:
        return bool(self._data.draw(st.booleans()))


MOST = 200
"""Cases drawn of an operator."""


def drawn(op: Op, count: int) -> list[Case]:
    """`count` cases of the operator's own `draw`, the same in every run, evenly taken from `MOST`: hypothesis begins with small ones."""
    assert count <= MOST
    every = _drawn(op) if count else ()
    return [every[at * MOST // count] for at in range(count)]


@functools.cache
def _drawn(op: Op) -> tuple[Case, ...]:
    """Operands of kernels that take strides get dim orders too."""
    cases: list[Case] = []

    @settings(
        max_examples=MOST, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        assert op.draw is not None
        draw = HypothesisDraw(data)
        case = op.draw(draw)
        if op.layout is not Layout.CONTIGUOUS:
            case = replace(case, args=tuple(_reordered(arg, draw) for arg in case.args))
        cases.append(case)

    collect()
    assert len(cases) >= MOST, f"{op.name}: hypothesis drew {len(cases)} of {MOST} cases"
    return tuple(cases[:MOST])


def _reordered(arg: Any, draw: HypothesisDraw) -> Any:
    if isinstance(arg, tuple) and any(isinstance(item, T) for item in arg):
        return tuple(_reordered(item, draw) for item in arg)
    if isinstance(arg, T) and arg.dim_order is None and len(arg.shape) in (3, 4) and draw.flag():
        return replace(arg, dim_order=channels_last(len(arg.shape)))
    return arg


def sample(op: Op, case: Case, seed: int, *, specials: bool = False) -> Sample:
    """The case with content drawn from `seed`; `specials` strews NaN, infinities and signed zeros over float inputs, not over weights."""
    random = np.random.default_rng(seed)

    def content(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(content(item) for item in arg)
        return Tensor(arg, _content(arg, random, specials)) if isinstance(arg, T) else arg

    return Sample(op, case, tuple(content(arg) for arg in case.args), case.note + (" (with special values)" if specials else ""))


def _content(tensor: T, random: np.random.Generator, specials: bool) -> Array:
    dtype = tensor.dtype.numpy
    if tensor.values is not None:
        return np.array(tensor.values, np.float64).astype(dtype).reshape(tensor.shape)
    if tensor.dtype is DType.BOOL:
        return np.asarray(random.integers(0, 2, tensor.shape), dtype)
    values = random.uniform(tensor.low, tensor.high, tensor.shape)
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
    """Drawn cases; a quarter of them with special values where these have a meaning. They have none in sums of products: PyTorch's
    libraries leave out factors of 0, and what a padded border times infinity is."""
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
        residual = np.asarray(random.uniform(-1, 1, shape), np.float32) if "residual" in op.absorbs and at % 3 != 2 else None
        clamps = "clamp" in op.absorbs and (at % 2 or residual is None)
        bounds = ((-0.5, 0.75), (0.0, math.inf), (-math.inf, 0.25))[at % 3] if clamps else None
        if residual is not None or bounds is not None:
            found.append(replace(plain, residual=residual, bounds=bounds, note=f"{plain.note} (fused)"))
    return found
