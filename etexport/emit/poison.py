"""Which bytes of the arena hold nothing of value before and after each step: the poison run overwrites them.

A buffer's bytes are worthless before it is born and after it dies. Bytes that it shares with a buffer that is alive
then are left alone only where the problem allows the two to overlap; so a plan in which two live buffers overlap
without leave overwrites one of them, and the outputs change. Which bytes are worthless after a jump depends on where it
leads: so all that hold nothing as a block begins are overwritten there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etexport.plan.problem import Buffer, Place, Problem, Solution
from etexport.specialise.schedule import JumpStep, Step

POISON = 0xFF
"""A NaN in every float type, which spreads to the outputs (0xA5 would make -2.9e-16, hardly different from zero), and
-1 in integers."""


@dataclass(frozen=True)
class Fill:
    """`size` bytes from `place` become POISON."""

    place: Place
    size: int


@dataclass(frozen=True)
class Poison:
    """`start` is filled when run() begins, `before[i]` and `after[i]` round step i, as often as it runs."""

    start: tuple[Fill, ...]
    before: tuple[tuple[Fill, ...], ...]
    after: tuple[tuple[Fill, ...], ...]


def poison(
    problem: Problem, solution: Solution, steps: Sequence[Step], entered: Mapping[int, frozenset[str]]
) -> Poison:
    """`entered` names the buffers with content as each block begins, by its first step; in block 0 those of inputs and
    states. What is alive in step `len(steps)` is alive at the end."""
    before: list[tuple[Fill, ...]] = []
    after: list[tuple[Fill, ...]] = []
    jumps = any(isinstance(step, JumpStep) for step in steps)
    born: dict[int, list[Buffer]] = defaultdict(list)
    dead: dict[int, list[Buffer]] = defaultdict(list)
    for buffer in problem.buffers:
        for first, last in buffer.live:
            born[first].append(buffer)
            dead[last].append(buffer)
    for at, step in enumerate(steps):
        kept = entered.get(at)
        if kept is None or not jumps:
            before.append(
                _fills([buffer for buffer in born[at] if not (kept and buffer.name in kept)], at, problem, solution)
            )
        else:
            before.append(_all_but(kept, problem, solution) if at else ())
        after.append(() if isinstance(step, JumpStep) else _fills(dead[at + 1], at + 1, problem, solution))
    return Poison(_all_but(entered[0], problem, solution), tuple(before), tuple(after))


def _all_but(kept: frozenset[str], problem: Problem, solution: Solution) -> tuple[Fill, ...]:
    fills: list[Fill] = []
    for region in problem.regions:
        there = [
            buffer
            for buffer in problem.buffers
            if buffer.name in kept and solution.places[buffer.name].region == region.name
        ]
        fills += _apart(region.name, (0, solution.size[region.name]), [_extent(buffer, solution) for buffer in there])
    return tuple(fills)


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
    names = set()
    for overlap in problem.overlaps:
        if buffer.name in (overlap.low, overlap.high):
            high, low = solution.places[overlap.high], solution.places[overlap.low]
            if high.region == low.region and high.offset - low.offset >= overlap.distance:
                names.add(overlap.high if buffer.name == overlap.low else overlap.low)
    others = [other for other in problem.buffers if other.name in names] if names else []
    return [_extent(other, solution) for other in others if any(first <= step < last for first, last in other.live)]


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
