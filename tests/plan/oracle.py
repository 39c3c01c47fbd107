"""What is legal and what is best, found by trying: slow, and written without a look at the planners or at
`validate`."""

from __future__ import annotations

from collections.abc import Mapping

from etexport.plan import Buffer, Place, Problem, Solution


def in_ram(offsets: Mapping[str, int]) -> dict[str, Place]:
    """Of the only region."""
    return {name: Place("ram", offset) for name, offset in offsets.items()}


def offsets_of(solution: Solution) -> dict[str, int]:
    return {name: place.offset for name, place in solution.places.items()}


def steps(buffer: Buffer) -> set[int]:
    return {step for first, last in buffer.live for step in range(first, last)}


def may_share(problem: Problem, one: Buffer, other: Buffer, offsets: Mapping[str, int]) -> bool:
    """By the words of `Overlap`."""
    for overlap in problem.overlaps:
        if {overlap.low, overlap.high} == {one.name, other.name} and offsets[overlap.high] - offsets[
            overlap.low
        ] >= overlap.distance:
            return True
    return False


def is_legal(problem: Problem, places: Mapping[str, Place]) -> bool:
    """Paints every byte of every step."""
    if set(places) != {buffer.name for buffer in problem.buffers}:
        return False
    capacity = {region.name: region.capacity for region in problem.regions}
    offsets = {name: place.offset for name, place in places.items()}
    owners: dict[tuple[str, int, int], list[Buffer]] = {}
    for buffer in problem.buffers:
        region, offset = places[buffer.name].region, places[buffer.name].offset
        if region not in capacity or buffer.region not in (None, region):
            return False
        room = capacity[region]
        if offset < 0 or offset % buffer.align or (room is not None and offset + buffer.size > room):
            return False
        for step in steps(buffer):
            for byte in range(offset, offset + buffer.size):
                painted = owners.setdefault((region, step, byte), [])
                if any(not may_share(problem, other, buffer, offsets) for other in painted):
                    return False
                painted.append(buffer)
    return True


def smallest(problem: Problem) -> int:
    """The least size of a problem of one region, by trying all addresses; for a handful of buffers of a few bytes."""
    buffers = problem.buffers
    together = {(a.name, b.name) for a in buffers for b in buffers if steps(a) & steps(b) and a.size and b.size}
    offsets: dict[str, int] = {}

    def fine(one: Buffer, other: Buffer) -> bool:
        if (one.name, other.name) not in together:
            return True
        low, high = sorted((offsets[one.name], offsets[other.name]))
        below = one if offsets[one.name] == low else other
        return low + below.size <= high or may_share(problem, one, other, offsets)

    def fits(at: int, capacity: int) -> bool:
        if at == len(buffers):
            return True
        buffer = buffers[at]
        for offset in range(0, capacity - buffer.size + 1, buffer.align):
            offsets[buffer.name] = offset
            if all(fine(buffer, earlier) for earlier in buffers[:at]) and fits(at + 1, capacity):
                return True
        return False

    size = max((buffer.size for buffer in buffers), default=0)
    while not fits(0, size):
        size += 1
    return size
