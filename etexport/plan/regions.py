"""Which region each buffer lies in, where there are several: what is touched most lies where that costs least.

The cost of a plan is the sum over its buffers of the bytes touched times the cost of a byte in their region. A buffer
keeps room from others for as long as it lives. Three orders are tried: by the bytes touched, the same for each byte of
the buffer, and for each byte and step that it takes; in each the buffers go one by one into the cheapest region that
still holds them, and the order that costs least is taken. There is no proof that another choice would not cost less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from etexport.plan.conflicts import conflicts
from etexport.plan.first_fit import height, orders, place
from etexport.plan.problem import Buffer, Problem, Region, Solution


def assigned(problem: Problem) -> Problem:
    """The same problem with a region for every buffer. Where none has room the last one is named, which then says what
    it lacks."""
    if len(problem.regions) == 1:
        return replace(
            problem, buffers=tuple(replace(buffer, region=problem.regions[0].name) for buffer in problem.buffers)
        )
    return min((_one_by_one(problem, worth) for worth in (_for_bytes_and_steps, _for_bytes, _in_all)), key=_cost)


def _one_by_one(problem: Problem, worth: Callable[[Buffer], float]) -> Problem:
    chosen = {buffer.name: buffer.region for buffer in problem.buffers if buffer.region is not None}
    cheapest = sorted(problem.regions, key=lambda region: region.cost)
    for buffer in sorted((buffer for buffer in problem.buffers if buffer.region is None), key=worth, reverse=True):
        fitting = (
            region for region in cheapest if _holds(region, _with(problem, {**chosen, buffer.name: region.name}))
        )
        chosen[buffer.name] = next(fitting, cheapest[-1]).name
    return _with(problem, chosen)


def settled(problem: Problem, solution: Solution) -> Problem:
    """The problem with every buffer's region as a plan has it (where it has one: that all have is for `validate` to
    see)."""
    there = {name: place.region for name, place in solution.places.items()}
    return replace(
        problem,
        buffers=tuple(replace(buffer, region=there.get(buffer.name, buffer.region)) for buffer in problem.buffers),
    )


def cost(problem: Problem, solution: Solution) -> float:
    """Bytes touched in one run, each times the cost of its region."""
    return _cost(settled(problem, solution))


def _cost(problem: Problem) -> float:
    costs = {region.name: region.cost for region in problem.regions}
    return sum(buffer.touched * costs[buffer.region] for buffer in problem.buffers if buffer.region is not None)


def _in_all(buffer: Buffer) -> float:
    return buffer.touched


def _for_bytes(buffer: Buffer) -> float:
    return buffer.touched / max(buffer.size, 1)


def _for_bytes_and_steps(buffer: Buffer) -> float:
    return buffer.touched / max(buffer.size * sum(end - begin for begin, end in buffer.live), 1)


def _with(problem: Problem, chosen: dict[str, str]) -> Problem:
    """Of the buffers that have a region."""
    return replace(
        problem,
        buffers=tuple(
            replace(buffer, region=chosen[buffer.name]) for buffer in problem.buffers if buffer.name in chosen
        ),
    )


def _holds(region: Region, problem: Problem) -> bool:
    """Whether a quick plan of what is in the region stays within it."""
    if region.capacity is None:
        return True
    view = conflicts(problem, region.name)
    return any(height(view, place(view, order)) <= region.capacity for order in orders(view))
