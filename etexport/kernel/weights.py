"""Weights that stay in few bits: how a kernel folder says which float operators read them as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import gcd

import numpy as np

from etexport.kernel.node import Node
from etexport.kernel.quantized import Fused
from etexport.program.model import Array, DType, Value, widened

_WORDS = {DType.FLOAT16: "fp16", DType.BFLOAT16: "bf16"}

NO_ROWS = "its scales are none of rows, or of groups of a row's elements"
"""A reason of `Weights.build`."""

LEAST_GROUP = 8
"""Elements that have a scale in common: with fewer the scales would be as large as the weights."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A constant, real = (stored - zero point) * scale, element by element: all three have its shape. `stored` and
    `zero_points` are int8, and `stored` has numbers of `bits` bits; or it has floats of 16, which need no scales."""

    stored: Array
    scales: Array
    zero_points: Array
    bits: int

    @classmethod
    def halves(cls, stored: Array) -> Kept:
        one, none = np.ones((), np.float32), np.zeros((), np.int8)
        return cls(stored, np.broadcast_to(one, stored.shape), np.broadcast_to(none, stored.shape), 16)

    @property
    def word(self) -> str:
        """What they are called: "int4", "bf16"."""
        return _WORDS.get(DType.of_numpy(self.stored.dtype), f"int{self.bits}")

    @property
    def real(self) -> Array:
        """As float32."""
        if self.bits == 16:
            return widened(self.stored)
        difference = self.stored.astype(np.float32) - self.zero_points.astype(np.float32)
        return np.asarray(difference * self.scales, np.float32)

    def moved(self, by: Callable[[Array], Array]) -> Kept:
        """With the elements elsewhere: a view, or a permutation."""
        return replace(self, stored=by(self.stored), scales=by(self.scales), zero_points=by(self.zero_points))

    def transposed(self) -> Kept:
        return self.moved(np.transpose)

    def in_rows(self) -> Rows | None:
        """Of two dimensions: with the scales of each row's groups, the longest that there are. None where these are
        short."""
        if self.bits == 16:
            return Rows(self.stored, None, None)
        changes = (_steps(self.scales) | _steps(self.zero_points)).any(axis=0)
        elements = self.stored.shape[1]
        group = gcd(elements, *(int(at) + 1 for at in np.flatnonzero(changes)))
        if group < min(LEAST_GROUP, elements):
            return None
        zeros = np.ascontiguousarray(self.zero_points[:, ::group])
        return Rows(self.stored, np.ascontiguousarray(self.scales[:, ::group]), zeros if zeros.any() else None)


def _steps(of: Array) -> Array:
    return np.asarray(of[:, 1:] != of[:, :-1])


@dataclass(frozen=True, eq=False)
class Rows:
    """`stored` (rows, elements), `scales` and `zero_points` (rows, groups); no zero points where all are 0, and no
    scales of floats."""

    stored: Array
    scales: Array | None
    zero_points: Array | None


Rounded = Callable[[Value], Value | None]
"""What a value is with each row rounded to int8 (`ROUND_ROWS`); None for one that is not made so."""


@dataclass(frozen=True)
class Weights:
    """`op` (a float operator's name) has an instruction that reads its operand `operand` in few bits: `build` gives it,
    or the reason why this one has none, and the weights are float32 in flash.

    `layers`: by what names a model has the operator where it has others for it ("aten::conv2d"). `stored` gives the
    instruction of ExecuTorch's that files have in its place, where there is one; `files` are the names of such, each
    with what its weights are called.

    A kernel folder declares `WEIGHTS = [Weights(...)]` beside its `OPS`.
    """

    op: str
    operand: str
    build: Callable[[Node, Kept, Rounded], Fused | str]
    layers: tuple[str, ...] = ()
    stored: Callable[[Node, Kept], Fused | None] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
