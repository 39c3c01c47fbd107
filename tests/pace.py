"""How slow this machine is now, for limits in seconds of processor time."""

from __future__ import annotations

import time

NOMINAL_S = 0.022
"""What the loop takes where the limits were set: a server core of 2022, nothing else running on it."""
LOOPS = 400_000


def pace() -> float:
    """How many times as long as there the same work takes here, at least 1. Measured anew: other processes share caches
    and clock."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        total = 0
        for number in range(LOOPS):
            total += number & 3
        taken.append(time.process_time() - start)
    return max(1.0, sorted(taken)[1] / NOMINAL_S)
