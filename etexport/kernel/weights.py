"""Weights that stay in few bits: how a kernel folder says which float operators read them as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from etexport.kernel.node import Node
from etexport.kernel.quantized import Fused
from etexport.program.model import Array

LEAST_GROUP = 8
"""Elements that have a scale in common: with fewer the scales would be as large as the weights."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A constant, real = (stored - zero point) * scale, element by element: all three have its shape. `stored` and
    `zero_points` are int8, and `stored` has numbers of `bits` bits."""

    stored: Array
    scales: Array
    zero_points: Array
    bits: int

    @property
    def real(self) -> Array:
        """As float32."""
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
    """`stored` (rows, elements), `scales` and `zero_points` (rows, groups); no zero points where all are 0."""

    stored: Array
    scales: Array
    zero_points: Array | None


@dataclass(frozen=True)
class Weights:
    """`op` (a float operator's name) has an instruction that reads its operand `operand` in few bits: `build` gives it,
    or the reason why this one has none, and the weights are float32 in flash.

    A kernel folder declares `WEIGHTS = [Weights(...)]` beside its `OPS`.
    """

    op: str
    operand: str
    build: Callable[[Node, Kept], Fused | str]
