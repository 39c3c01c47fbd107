"""Search that ends with a plan of a given height or with the proof that there is none.

Depth first over canonical plans, in which buffers are placed in the order of their offsets and each one lies at 0 or
touches one below it: if any plan of that height exists, a canonical one does (push everything down). What cuts the
tree, as in MiniMalloc (Moffitt, ASPLOS 2023): a section whose unplaced buffers no longer fit above the lowest place
that one of them can take; a gap into which an unplaced buffer would have fitted; and unplaced buffers that fall apart
into groups without a conflict between them, which are searched one after the other instead of in each other's branches.

Distances of overlaps (`Overlap`) are followed like sizes. Where some are negative, or where in-place pairs form a
circle, a canonical plan need not exist: a plan that is found is good, but that none is found proves nothing, and
`UNKNOWN` is returned for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from etexport.plan.bounds import shared_bytes
from etexport.plan.conflicts import Conflicts, bits


class Verdict(Enum):
    FOUND = "found"
    IMPOSSIBLE = "impossible"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    verdict: Verdict
    nodes: int
    offsets: tuple[int, ...] = ()


def solve(view: Conflicts, capacity: int, *, nodes: int = 20_000) -> Answer:
    """A plan no higher than `capacity` bytes, or that there is none, or that `nodes` steps of search did not tell.

    Three static orders of trying are rotated with growing budgets: hard instances for one are often easy for another.
    """
    if any(size > capacity for size in view.sizes):
        return Answer(Verdict.IMPOSSIBLE, 0)
    provable = can_prove(view)
    # The search goes as deep as there are buffers; two calls each.
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 4 * len(view) + 1000))
    try:
        return _rotate(view, capacity, nodes, provable)
    finally:
        sys.setrecursionlimit(before)


def _rotate(view: Conflicts, capacity: int, nodes: int, provable: bool) -> Answer:
    budget = 200
    spent = 0
    while spent < nodes:
        for order in _static_orders(view):
            search = _Search(view, capacity, order, min(budget, nodes - spent))
            try:
                found = search.run()
            except _OutOfNodesError:
                spent += search.nodes
                if spent >= nodes:
                    break
                continue
            spent += search.nodes
            if found:
                return Answer(Verdict.FOUND, spent, tuple(search.offsets))
            return Answer(Verdict.IMPOSSIBLE if provable else Verdict.UNKNOWN, spent)
        budget *= 4
    return Answer(Verdict.UNKNOWN, spent)


def can_prove(view: Conflicts) -> bool:
    """Whether every feasible height has a canonical plan: no negative distance, no circle of pairs that may start at
    one address."""
    above: list[list[int]] = [[] for _ in range(len(view))]
    for x, others in enumerate(view.pairs):
        for y, (up, _down) in others.items():
            if up < 0:
                return False
            if up == 0:
                above[x].append(y)
    state = [0] * len(view)  # 1 on the path, 2 done

    def circular(x: int) -> bool:
        state[x] = 1
        for y in above[x]:
            if state[y] == 1 or (state[y] == 0 and circular(y)):
                return True
        state[x] = 2
        return False

    return not any(state[x] == 0 and circular(x) for x in range(len(view)))


def _static_orders(view: Conflicts) -> list[list[int]]:
    """Ranks by index: by total pressure, then area and time in three mixes."""
    pressure = [0] * len(view)
    for section in view.sections:
        total = sum(view.padded[x] for x in bits(section))
        for x in bits(section):
            pressure[x] = max(pressure[x], total)
    span = [view.last[x] - view.first[x] + 1 for x in range(len(view))]
    area = [view.padded[x] * span[x] for x in range(len(view))]
    keys = [
        lambda x: (-pressure[x], -area[x], -span[x]),
        lambda x: (-span[x], -area[x], -pressure[x]),
        lambda x: (-span[x], -pressure[x], -area[x]),
    ]
    ranks = []
    for key in keys:
        rank = [0] * len(view)
        for position, x in enumerate(sorted(range(len(view)), key=key)):
            rank[x] = position
        ranks.append(rank)
    return ranks


class _OutOfNodesError(Exception):
    pass


class _Search:
    """One depth-first search. `lowest[x]` is where x would come to lie now: upon all placed buffers that it must not
    share bytes with."""

    def __init__(self, view: Conflicts, capacity: int, rank: Sequence[int], nodes: int) -> None:
        self.view = view
        self.capacity = capacity
        self.rank = rank
        self.limit = nodes
        self.nodes = 0
        self.offsets = [0] * len(view)
        self.lowest = [0] * len(view)
        self.unplaced = (1 << len(view)) - 1
        self.trail: list[tuple[int, list[tuple[int, int]], list[tuple[int, int]]]] = []
        self.neighbours = [sum(1 << y for y in others) for others in view.pairs]
        self.sections_of: list[list[int]] = [[] for _ in range(len(view))]
        self.left: list[int] = []  # bytes that each section's unplaced buffers need, at least
        for number, section in enumerate(view.sections):
            members = list(bits(section))
            for x in members:
                self.sections_of[x].append(number)
            common = sum(
                shared_bytes(view, x, y) for x in members for y in view.shared[x] if y < x and section >> y & 1
            )
            self.left.append(sum(view.padded[x] for x in members) - common)
        # What the topmost buffer is rounded up by does not count against the capacity.
        self.room = capacity + max((p - s for p, s in zip(view.padded, view.sizes, strict=True)), default=0)

    def run(self) -> bool:
        if any(left > self.room for left in self.left):
            return False
        return self._place_all(self.unplaced, 0, -1)

    def _place_all(self, unplaced: int, floor: int, previous: int) -> bool:
        """Place these, group by group; no two groups have a conflict."""
        while unplaced:
            group = self._connected(unplaced)
            if not self._place(group, floor, previous):
                return False
            unplaced &= ~group
        return True

    def _connected(self, unplaced: int) -> int:
        group = 0
        todo = unplaced & -unplaced
        while todo:
            x = todo.bit_length() - 1
            group |= 1 << x
            todo = (todo | self.neighbours[x] & unplaced) & ~group
        return group

    def _place(self, group: int, floor: int, previous: int) -> bool:
        """Place the buffers of one connected group, lowest first, at `floor` (where `previous` was placed) or above."""
        self.nodes += 1
        if self.nodes > self.limit:
            raise _OutOfNodesError
        view, lowest = self.view, self.lowest
        members = list(bits(group))
        if len(members) == 1:
            return self._take(members[0], 0)
        # Whoever starts at or above `gap` leaves a hole that another one of the group fits into: not canonical.
        gap = min(lowest[x] + view.padded[x] for x in members)
        if gap <= floor:
            return False
        candidates = [x for x in members if floor <= lowest[x] < gap and not self._commutes(x, floor, previous)]
        candidates.sort(key=lambda x: (lowest[x], self.rank[x]))
        for x in candidates:
            mark = len(self.trail)
            if self._take(x, group) and self._place_all(group & ~(1 << x), self.offsets[x], x):
                return True
            self._undo(mark)
        return False

    def _commutes(self, x: int, floor: int, previous: int) -> bool:
        """Whether `previous` and then x is the same as x and then `previous`, which is tried elsewhere."""
        return self.lowest[x] == floor and previous > x and not self.neighbours[x] >> previous & 1

    def _take(self, x: int, group: int) -> bool:
        """Put x where it comes to lie; false if what is left cannot fit any more."""
        view, lowest = self.view, self.lowest
        offset = self.offsets[x] = lowest[x]
        self.unplaced &= ~(1 << x)
        raised = []
        for y in bits(self.neighbours[x] & self.unplaced):
            align = view.aligns[y]
            at = -(-(offset + view.pairs[x][y][0]) // align) * align
            if at > lowest[y]:
                raised.append((y, lowest[y]))
                lowest[y] = at
        eased = []
        for number in self.sections_of[x]:
            section = view.sections[number] & self.unplaced
            gain = view.padded[x] - sum(shared_bytes(view, x, y) for y in view.shared[x] if section >> y & 1)
            self.left[number] -= gain
            eased.append((number, gain))
        self.trail.append((x, raised, eased))
        if offset + view.sizes[x] > self.capacity or any(lowest[y] + view.sizes[y] > self.capacity for y, _ in raised):
            return False
        touched = set(self.sections_of[x])
        for y, _ in raised:
            touched.update(self.sections_of[y])
        return all(self._fits(number, offset, group) for number in touched)

    def _fits(self, number: int, floor: int, group: int) -> bool:
        """Whether the section's unplaced buffers have room above the lowest address that one of them can take."""
        section = self.view.sections[number] & self.unplaced
        if not section:
            return True
        low = min(max(floor, self.lowest[y]) if group >> y & 1 else self.lowest[y] for y in bits(section))
        return low + self.left[number] <= self.room

    def _undo(self, mark: int) -> None:
        while len(self.trail) > mark:
            x, raised, eased = self.trail.pop()
            self.unplaced |= 1 << x
            for y, before in raised:
                self.lowest[y] = before
            for number, gain in eased:
                self.left[number] += gain
