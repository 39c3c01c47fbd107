"""The planners' view of one region: buffers by index, the moments that matter, and which pairs must keep their
distance.

Every rule is of one form. For buffers x and y that are live together, offset[y] >= offset[x] + w_xy or offset[x] >=
offset[y] + w_yx. For plain buffers w is the size of the lower one; an `Overlap` lowers one of the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from etexport.plan.problem import Problem


@dataclass(frozen=True)
class Conflicts:
    """Buffers of one region. Offsets are multiples of `unit`, so sizes and distances are rounded up to it: no plan is
    lost by that."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """As the problem says, not rounded."""
    padded: tuple[int, ...]
    """Rounded up to `unit`."""
    aligns: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    """First and last section in which a buffer lives (0 and -1 for a buffer that never does)."""
    unit: int
    sections: tuple[int, ...]
    """For each moment that matters, in order of time, a bit mask of the buffers that live then."""
    starts: tuple[int, ...]
    """The step at which each section begins."""
    pairs: tuple[dict[int, tuple[int, int]], ...]
    """pairs[x][y] = (w_xy, w_yx), for every y that x cannot lie upon at will."""
    shared: tuple[frozenset[int], ...]
    """shared[x]: those y with which an Overlap lets x share bytes."""

    def __len__(self) -> int:
        return len(self.names)


def bits(mask: int) -> Iterator[int]:
    """Indices of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def conflicts(problem: Problem, region: str) -> Conflicts:
    """Of the buffers that must lie in `region`, and where there is no other one of all that may."""
    alone = len(problem.regions) == 1
    buffers = [buffer for buffer in problem.buffers if buffer.region == region or (alone and buffer.region is None)]
    index = {buffer.name: at for at, buffer in enumerate(buffers)}
    unit = math.gcd(*(buffer.align for buffer in buffers)) if buffers else 1
    padded = [_up(buffer.size, unit) for buffer in buffers]
    starts, sections = _sections([buffer.live for buffer in buffers])

    first, last = [0] * len(buffers), [-1] * len(buffers)
    together = [0] * len(buffers)
    for number, mask in enumerate(sections):
        for x in bits(mask):
            if last[x] < 0:
                first[x] = number
            last[x] = number
            together[x] |= mask

    pairs: list[dict[int, tuple[int, int]]] = []
    for x in range(len(buffers)):
        others = [y for y in bits(together[x]) if y != x and padded[x] and padded[y]]
        pairs.append({y: (padded[x], padded[y]) for y in others})
    shared: list[set[int]] = [set() for _ in buffers]
    for overlap in problem.overlaps:
        if overlap.low not in index or overlap.high not in index:
            continue  # of another region
        x, y = index[overlap.low], index[overlap.high]
        if y not in pairs[x]:
            continue
        up, down = pairs[x][y]
        up = min(up, _up(overlap.distance, unit))
        pairs[x][y], pairs[y][x] = (up, down), (down, up)
        shared[x].add(y)
        shared[y].add(x)
    for x in range(len(buffers)):
        pairs[x] = {y: (up, down) for y, (up, down) in pairs[x].items() if up + down > 0}

    return Conflicts(
        names=tuple(buffer.name for buffer in buffers),
        sizes=tuple(buffer.size for buffer in buffers),
        padded=tuple(padded),
        aligns=tuple(buffer.align for buffer in buffers),
        first=tuple(first),
        last=tuple(last),
        unit=unit,
        sections=tuple(sections),
        starts=tuple(starts),
        pairs=tuple(pairs),
        shared=tuple(frozenset(others) for others in shared),
    )


def _sections(lives: Iterable[tuple[tuple[int, int], ...]]) -> tuple[list[int], list[int]]:
    """Steps at which the set of live buffers changes, and the sets; a set that is part of its neighbour in time is left
    out."""
    changes: dict[int, list[tuple[int, bool]]] = {}
    for x, live in enumerate(lives):
        for begin, end in live:
            changes.setdefault(begin, []).append((x, True))
            changes.setdefault(end, []).append((x, False))
    starts: list[int] = []
    sections: list[int] = []
    mask = 0
    for step in sorted(changes):
        for x, begins in sorted(changes[step], key=lambda change: change[1]):
            mask = mask | 1 << x if begins else mask & ~(1 << x)
        while sections and sections[-1] & ~mask == 0:
            starts.pop()
            sections.pop()
        if mask and not (sections and mask & ~sections[-1] == 0):
            starts.append(step)
            sections.append(mask)
    return starts, sections


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
