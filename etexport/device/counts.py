"""What the ticks of a board's counter mean: the unit they are told in, and which of them cannot be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etexport.board import Board, Count, count_of, own_sources
from etexport.device.link import Probes, Result
from etexport.errors import DeviceLostError

_MOST_TICKS = 1 << 62
_LONGEST_START = 1 << 24
"""A start of so many instructions or cycles is none: memory is set up in thousands. A counter of 24 bits that wraps as
it is started (SysTick of one simulator) tells as much too much."""
_OWN_UNIT = re.compile(r"^// unit: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Measure:
    """How ticks are told: the unit, which says by whom it is counted, and what a tick is in it."""

    of: Count
    driver: str
    is_uneven: bool
    """The host's clock: not the same twice, and a few operators may seem to take less than nothing."""

    @property
    def unit(self) -> str:
        return self.of.unit

    def count(self, ticks: int) -> int:
        """Ticks in the unit, rounded to the nearest."""
        return (2 * ticks * self.of.numerator + self.of.denominator) // (2 * self.of.denominator)


def measure(board: Board, *, launched: bool) -> Measure:
    """How this board's ticks are told: in a simulator that we launched by its own word, at a port by that of the board.
    Of a board that is only simulated the file knows no more than its simulator, and behind a port may be anything:
    there the counter's own ticks are told."""
    of = count_of(board, simulated=launched)
    is_real = board.simulator is None or board.attach is not None or board.simulator.count is not None
    if not launched and not is_real:
        of = Count(_own_unit(board))
    return Measure(of, board.counter.driver, "host" in board.features)


def _own_unit(board: Board) -> str:
    """What the driver's file says that it counts (a line `// unit: cycles (dwt)`), else its ticks."""
    name = Path(board.counter.driver).stem
    source = next(path for path in own_sources(board) if path.stem == name)
    said = _OWN_UNIT.search(source.read_text(encoding="utf-8", errors="replace"))
    return said[1].strip() if said else f"ticks ({name})"


def start_count(by: Measure, init_ticks: int, url: str) -> int | None:
    """From reset until HELLO could be answered; DeviceLostError for what no start takes. None where nothing is
    counted."""
    if by.of.still:
        return None
    count = by.count(init_ticks)
    if not by.is_uneven and not 0 < count < _LONGEST_START:
        stands = "the counter stands still" if init_ticks == 0 else "a count that cannot be"
        what = f"{stands}: from reset to ready {count:,} {by.unit} ({init_ticks:,} ticks)"
        raise DeviceLostError(what, where=url, hint=_hint(by))
    return count


def run_counts(by: Measure, results: Sequence[Result], url: str) -> tuple[int, ...]:
    """The count of each run, without what counting nothing takes: the least of all runs, since on the host an interrupt
    may have come between. DeviceLostError where a program took nothing or less; the host's clock is uneven, so that a
    few operators may take less there, down to half of it: they count as one tick. () where nothing is counted."""
    if by.of.still:
        return ()
    overhead = min((result.overhead for result in results), default=0)
    for number, result in enumerate(results, 1):
        if not by.is_uneven and result.ticks == overhead:
            stands = "the counter stands still" if overhead == 0 else "a count that cannot be"
            what = f"{stands}: {result.ticks:,} ticks for sample {number}, and {overhead:,} for nothing"
            raise DeviceLostError(what, where=url, hint=_hint(by))
        if not (overhead // 2 if by.is_uneven else overhead) <= result.ticks < _MOST_TICKS:
            what = f"a count that cannot be: {result.ticks:,} ticks for sample {number}, and {overhead:,} for nothing"
            raise DeviceLostError(what, where=url, hint=_hint(by))
    taken = (max(result.ticks, overhead + 1) if by.is_uneven else result.ticks for result in results)
    return tuple(by.count(ticks) - by.count(overhead) for ticks in taken)


def step_counts(by: Measure, result: Result, counts: Probes, mark: int, url: str) -> tuple[int, ...]:
    """Counts of each step, without those of the marks themselves."""
    for step, ticks in enumerate(counts.ticks):
        if ticks > result.ticks:
            what = f"a count that cannot be: {ticks:,} ticks for step {step}, of {result.ticks:,} for all"
            raise DeviceLostError(what, where=url, hint=_hint(by))
    marks = (mark * often for often in counts.executions)
    return tuple(by.count(max(ticks - own, 0)) for ticks, own in zip(counts.ticks, marks, strict=True))


def _hint(by: Measure) -> str:
    return f"is {by.driver} the counter of this board?"
