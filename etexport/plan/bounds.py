"""Lower bounds: bytes that no plan can do without.

Plain buffers that live at one step are disjoint, so their sizes add up. Two that may overlap share at most so many
bytes; the size of a union is at least the sum of the sizes less the sum of what pairs share (Bonferroni), and at least
the size of any part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from etexport.plan.conflicts import Conflicts, bits, conflicts
from etexport.plan.problem import Buffer, Problem

# A group of buffers that overlap one another is searched exhaustively up to this many; more is never seen (an operator
# has few operands).
_LARGEST_GROUP = 10


@dataclass(frozen=True)
class Peak:
    """Where the bound comes from: at `step` these `buffers` are live (largest first) and need at least `bound` bytes
    together."""

    step: int
    buffers: tuple[Buffer, ...]
    bound: int


def peak(problem: Problem, region: str) -> Peak:
    """The step of `region` that needs the most, the earliest of several."""
    view = conflicts(problem, region)
    by_name = {buffer.name: buffer for buffer in problem.buffers}
    best = Peak(0, (), max(view.sizes, default=0))  # a buffer that never lives still needs a place
    for start, section in zip(view.starts, view.sections, strict=True):
        needed = section_bound(view, section)
        if needed > best.bound or (needed == best.bound and not best.buffers):
            live = sorted((by_name[view.names[x]] for x in bits(section)), key=lambda buffer: -buffer.size)
            best = Peak(start, tuple(live), needed)
    return best


def lower_bound(view: Conflicts) -> int:
    """Bytes that every plan of these buffers needs at least."""
    return max([section_bound(view, section) for section in view.sections] + list(view.sizes), default=0)


def section_bound(view: Conflicts, section: int) -> int:
    """Bytes that the buffers of one section need at least.

    Rounded sizes are counted, since each buffer but the topmost is followed by another one at a multiple of the unit.
    """
    total = sum(_group_bound(view, group) for group in _groups(view, section))
    slack = max((view.padded[x] - view.sizes[x] for x in bits(section)), default=0)
    return max(total - slack, max((view.sizes[x] for x in bits(section)), default=0))


def shared_bytes(view: Conflicts, x: int, y: int) -> int:
    """The most bytes that two buffers live at one moment can have in common (rounded sizes)."""
    smaller = min(view.padded[x], view.padded[y])
    if y not in view.pairs[x]:
        return smaller if y in view.shared[x] else 0
    up, down = view.pairs[x][y]
    return max(0, min(smaller, max(view.padded[x] - up, view.padded[y] - down)))


def _groups(view: Conflicts, section: int) -> list[list[int]]:
    """The section's buffers, those together that overlaps connect. Buffers of different groups are disjoint in every
    plan."""
    groups = []
    left = section
    while left:
        group = 0
        todo = left & -left
        while todo:
            x = (todo & -todo).bit_length() - 1
            group |= 1 << x
            todo &= todo - 1
            for y in view.shared[x]:
                if section >> y & 1 and not group >> y & 1:
                    todo |= 1 << y
        left &= ~group
        groups.append(list(bits(group)))
    return groups


def _group_bound(view: Conflicts, group: list[int]) -> int:
    """The largest Bonferroni sum over subsets of the group: the union holds every subset's union."""
    if len(group) == 1:
        return view.padded[group[0]]
    if len(group) > _LARGEST_GROUP:
        whole = sum(view.padded[x] for x in group)
        common = sum(shared_bytes(view, x, y) for at, x in enumerate(group) for y in group[:at])
        return max(whole - common, max(view.padded[x] for x in group))

    def best(at: int, chosen: tuple[int, ...], total: int) -> int:
        if at == len(group):
            return total
        x = group[at]
        with_x = total + view.padded[x] - sum(shared_bytes(view, x, y) for y in chosen)
        return max(best(at + 1, chosen, total), best(at + 1, (*chosen, x), with_x))

    return best(0, (), 0)
