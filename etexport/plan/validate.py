"""Is a plan right? By definition, pair by pair, in code that no planner shares.

Nothing is imported from a planner, and nothing is clever here: a few hundred buffers are some ten thousand pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

from etexport.errors import PlanError
from etexport.plan.problem import Buffer, Problem, Solution


def validate(problem: Problem, solution: Solution) -> None:
    """Errors: PlanError that names the buffers and the steps (all that is wrong, not the first)."""
    missing = sorted({buffer.name for buffer in problem.buffers} - set(solution.places))
    unknown = sorted(set(solution.places) - {buffer.name for buffer in problem.buffers})
    faults = [f"buffer {name} has no address" for name in missing]
    faults += [f"the plan places {name}, which does not exist" for name in unknown]
    if not faults:
        faults = [*_misplaced(problem, solution), *_colliding(problem, solution), *_misstated(problem, solution)]
    if faults:
        raise PlanError("the plan is wrong: " + "\n  ".join(faults))


def _misplaced(problem: Problem, solution: Solution) -> Iterator[str]:
    capacity = {region.name: region.capacity for region in problem.regions}
    for buffer in problem.buffers:
        offset, region = solution.places[buffer.name].offset, solution.places[buffer.name].region
        end = offset + buffer.size
        if offset < 0:
            yield f"buffer {buffer.name} lies at {offset}, below its region"
        if offset % buffer.align != 0:
            yield f"buffer {buffer.name} lies at {offset}, which is not a multiple of {buffer.align}"
        if region not in capacity:
            yield f"buffer {buffer.name} lies in region {region}, which does not exist"
            continue
        if buffer.region is not None and region != buffer.region:
            yield f"buffer {buffer.name} lies in region {region} and must lie in {buffer.region}"
        room = capacity[region]
        if room is not None and end > room:
            yield f"buffer {buffer.name} ends at {end}, beyond the {room} bytes of region {region}"


def _colliding(problem: Problem, solution: Solution) -> Iterator[str]:
    distances: dict[tuple[str, str], int] = {}
    for overlap in problem.overlaps:
        key = (overlap.low, overlap.high)
        distances[key] = min(overlap.distance, distances.get(key, overlap.distance))
    places = [(buffer, solution.places[buffer.name]) for buffer in problem.buffers]
    spans = [(buffer, place.region, place.offset, place.offset + buffer.size) for buffer, place in places]
    for number, (one, region, here, end) in enumerate(spans):
        for other, other_region, there, other_end in spans[:number]:
            if end <= there or other_end <= here or region != other_region:  # most pairs end here
                continue
            step = _first_common_step(one, other)
            if step is None or one.size == 0 or other.size == 0:
                continue
            upward = distances.get((one.name, other.name))
            downward = distances.get((other.name, one.name))
            if upward is not None and there - here >= upward:
                continue
            if downward is not None and here - there >= downward:
                continue
            yield (
                f"buffers {other.name} [{there}, {other_end}) and {one.name} [{here}, {end}) "
                f"of region {region} share bytes, and both live at step {step}"
            )


def _first_common_step(one: Buffer, other: Buffer) -> int | None:
    common = [max(a, c) for a, b in one.live for c, d in other.live if max(a, c) < min(b, d)]
    return min(common, default=None)


def _misstated(problem: Problem, solution: Solution) -> Iterator[str]:
    for region in problem.regions:
        lying = ((buffer, solution.places[buffer.name]) for buffer in problem.buffers)
        highest = max((place.offset + buffer.size for buffer, place in lying if place.region == region.name), default=0)
        if region.name not in solution.size or region.name not in solution.bound:
            yield f"the plan states no size or no bound for region {region.name}"
            continue
        size, bound = solution.size[region.name], solution.bound[region.name]
        if size != highest:
            yield f"the stated size of region {region.name} is {size}, the highest end is {highest}"
        if bound < 0 or bound > size:
            yield f"the stated bound of region {region.name} is {bound}, its size {size}"
