"""What a planner is given and what it returns, and nothing else: no tensor, no operator, no board.

Times are steps of the schedule. Addresses are bytes from the start of a region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """`size` bytes that must be kept during the steps in `live` (sorted, disjoint, half-open ranges [first, last))."""

    name: str
    size: int
    live: tuple[tuple[int, int], ...]
    align: int = 16
    region: str | None = None
    """Where it must lie; None where the planner likes."""
    touched: int = 0
    """Bytes of it that the program reads and writes in one run: what a slow region would cost."""


@dataclass(frozen=True)
class Overlap:
    """Buffers `low` and `high` are live together, yet may share bytes as long as `offset[high] - offset[low] >=
    distance`, in one region.

    Plain buffers have distance size(low) (or lie the other way round); an output written in place over its input has 0;
    a kernel that reads ahead of what it writes has something between, or below 0. The other way round, low above high,
    takes the full size of `high`.
    """

    low: str
    high: str
    distance: int


@dataclass(frozen=True)
class Region:
    """A stretch of memory. `capacity` None means unlimited (a bound is looked for). `cost` is what a byte read or
    written there costs, in any unit that all regions share; those that cost least are filled first."""

    name: str
    capacity: int | None = None
    cost: float = 1.0


@dataclass(frozen=True)
class Place:
    """Where something lies: bytes from the start of a region."""

    region: str
    offset: int

    def __add__(self, bytes_: int) -> Place:
        return Place(self.region, self.offset + bytes_)


@dataclass(frozen=True)
class Problem:
    buffers: tuple[Buffer, ...]
    regions: tuple[Region, ...] = (Region("ram"),)
    overlaps: tuple[Overlap, ...] = ()


@dataclass(frozen=True)
class Solution:
    """`places` by buffer name; `size` and `bound` (proven lower bound for the buffers that lie there) in bytes by
    region; `proof` says how the bound was found. The plan is optimal where size == bound."""

    places: Mapping[str, Place]
    size: Mapping[str, int]
    bound: Mapping[str, int]
    proof: str = ""

    @property
    def optimal(self) -> bool:
        return all(self.size[region] == self.bound[region] for region in self.size)
