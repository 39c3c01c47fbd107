"""First fit in a few orders, and a hill climb over orders: finds the optimum of nearly every network in milliseconds,
proves nothing.

Deterministic: the seed is fixed and effort is counted in placements, not in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from etexport.plan.conflicts import Conflicts, bits


def place(view: Conflicts, order: Sequence[int]) -> list[int]:
    """Offsets by index: each buffer, in this order, at the lowest aligned address that those before it leave."""
    offsets = [-1] * len(view)
    for x in order:
        align = view.aligns[x]
        # o_x must not lie strictly between o_y - w_xy and o_y + w_yx
        forbidden = sorted(
            (offsets[y] - up, offsets[y] + down) for y, (up, down) in view.pairs[x].items() if offsets[y] >= 0
        )
        offset = 0
        for low, high in forbidden:
            if low < offset < high:
                offset = -(-high // align) * align
        offsets[x] = offset
    return offsets


def height(view: Conflicts, offsets: Sequence[int]) -> int:
    """The highest end."""
    return max((offset + size for offset, size in zip(offsets, view.sizes, strict=True)), default=0)


def orders(view: Conflicts) -> list[list[int]]:
    """Orders worth trying: by size, by time, and by how crowded the buffer's most crowded moment is."""
    crowd = [0] * len(view)
    for section in view.sections:
        total = sum(view.padded[x] for x in bits(section))
        for x in bits(section):
            crowd[x] = max(crowd[x], total)
    span = [view.last[x] - view.first[x] for x in range(len(view))]
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda x: (-view.sizes[x], view.first[x]),
        lambda x: (-crowd[x], -span[x], -view.sizes[x]),
        lambda x: (-crowd[x], -view.sizes[x], view.first[x]),
        lambda x: (view.first[x], -view.sizes[x]),
        lambda x: (-view.last[x], -view.sizes[x]),
        lambda x: (-view.sizes[x] * (span[x] + 1), view.first[x]),
        lambda x: (-span[x], -view.sizes[x]),
    ]
    return [sorted(range(len(view)), key=key) for key in keys]


def first_fit(view: Conflicts, bound: int, *, placements: int = 60_000, seed: int = 1) -> list[int]:
    """The best offsets found; stops at `bound`. `placements` limits the climb (a placement of one buffer costs some
    microseconds)."""
    best_order: list[int] = []
    best: list[int] = []
    for order in orders(view):
        offsets = place(view, order)
        if not best or height(view, offsets) < height(view, best):
            best_order, best = order, offsets
        if height(view, best) <= bound:
            return best
    return _climb(view, bound, best_order, best, placements=placements, seed=seed)


def _climb(view: Conflicts, bound: int, order: list[int], best: list[int], *, placements: int, seed: int) -> list[int]:
    """Moves a buffer that reaches the top, or one below it, forward in the order, or swaps two; keeps what is not
    worse."""
    chance = random.Random(seed)
    offsets = best
    for _ in range(placements // max(1, len(view))):
        top = height(view, offsets)
        culprits = [x for x in range(len(view)) if offsets[x] + view.sizes[x] == top]
        x = chance.choice(culprits)
        if chance.random() < 0.5 and view.pairs[x]:
            x = chance.choice(list(view.pairs[x]))
        at = order.index(x)
        to = chance.randrange(len(order))
        trial = list(order)
        if chance.random() < 0.5:
            trial[at], trial[to] = trial[to], trial[at]
        else:
            trial.insert(to, trial.pop(at))
        trial_offsets = place(view, trial)
        if height(view, trial_offsets) <= top:
            order, offsets = trial, trial_offsets
            if height(view, offsets) < height(view, best):
                best = offsets
        if height(view, best) <= bound:
            break
    return best
