"""Which bytes of the arena hold nothing of value before and after each step: the poison run overwrites them.

A buffer's bytes are worthless before it is born and after it dies. Bytes that it shares with a buffer that is alive then are left
alone only where the problem allows the two to overlap; so a plan in which two live buffers overlap without leave overwrites one of
them, and the outputs change.
"""

from __future__ import annotations

from dataclasses import dataclass

from etexport.plan.problem import Buffer, Place, Problem, Solution

POISON = 0xFF
"""A NaN in every float type, which spreads to the outputs (0xA5 would make -2.9e-16, hardly different from zero), and -1 in integers."""


@dataclass(frozen=True)
class Fill:
    """`size` bytes from `place` become POISON."""

    place: Place
    size: int


@dataclass(frozen=True)
class Poison:
    """`start` is filled when run() begins, `before[i]` and `after[i]` round step i."""

    start: tuple[Fill, ...]
    before: tuple[tuple[Fill, ...], ...]
    after: tuple[tuple[Fill, ...], ...]


def poison(problem: Problem, solution: Solution, step_count: int, filled: frozenset[str]) -> Poison:
    """`filled` names the buffers with content before step 0 (inputs, state). What is alive in step `step_count` is alive at the end."""
    start: list[Fill] = []
    for region in problem.regions:
        kept = [buffer for buffer in problem.buffers if buffer.name in filled and solution.places[buffer.name].region == region.name]
        start += _apart(region.name, (0, solution.size[region.name]), [_extent(buffer, solution) for buffer in kept])
    before: list[tuple[Fill, ...]] = []
    after: list[tuple[Fill, ...]] = []
    for step in range(step_count):
        born = [buffer for buffer in problem.buffers if any(first == step for first, _ in buffer.live)]
        dead = [buffer for buffer in problem.buffers if any(last == step + 1 for _, last in buffer.live)]
        before.append(_fills([buffer for buffer in born if not (step == 0 and buffer.name in filled)], step, problem, solution))
        after.append(_fills(dead, step + 1, problem, solution))
    return Poison(tuple(start), tuple(before), tuple(after))


def _fills(buffers: list[Buffer], step: int, problem: Problem, solution: Solution) -> tuple[Fill, ...]:
    fills: list[Fill] = []
    for buffer in buffers:
        region, partners = solution.places[buffer.name].region, _partners(buffer, step, problem, solution)
        fills += _apart(region, _extent(buffer, solution), partners)
    return tuple(fills)


def _apart(region: str, extent: tuple[int, int], others: list[tuple[int, int]]) -> list[Fill]:
    return [Fill(Place(region, first), last - first) for first, last in _without(extent, others)]


def _partners(buffer: Buffer, step: int, problem: Problem, solution: Solution) -> list[tuple[int, int]]:
    """Extents of the buffers alive in `step` that may, where they lie, share bytes with this one."""
    named = {other.name: other for other in problem.buffers}
    extents = []
    for overlap in problem.overlaps:
        if buffer.name in (overlap.low, overlap.high):
            other = named[overlap.high if buffer.name == overlap.low else overlap.low]
            high, low = solution.places[overlap.high], solution.places[overlap.low]
            allowed = high.region == low.region and high.offset - low.offset >= overlap.distance
            if allowed and any(first <= step < last for first, last in other.live):
                extents.append(_extent(other, solution))
    return extents


def _extent(buffer: Buffer, solution: Solution) -> tuple[int, int]:
    start = solution.places[buffer.name].offset
    return start, start + buffer.size


def _without(extent: tuple[int, int], others: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of `extent` that none of `others` covers."""
    parts: list[tuple[int, int]] = []
    at = extent[0]
    for first, last in sorted(others):
        if first > at:
            parts.append((at, min(first, extent[1])))
        at = max(at, last)
    parts.append((at, extent[1]))
    return [(first, last) for first, last in parts if first < last]
