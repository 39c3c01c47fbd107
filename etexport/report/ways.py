"""Which way each sample took where a condition decides, and how many rounds loops made: from a run that counts how
often steps ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etexport.artifacts.memory import Step


@dataclass(frozen=True)
class Way:
    """One condition. `held` and `failed` are the samples in which it did so at least once, by their numbers in
    `model.npz`; of a loop the condition holds once a round, and `rounds` are the fewest and the most of a sample, each
    time that it came there taken together."""

    name: str
    source: str
    held: tuple[int, ...]
    failed: tuple[int, ...]
    rounds: tuple[int, int] | None = None


def ways(steps: Sequence[Step], executions: Sequence[Sequence[int]]) -> tuple[Way, ...]:
    """In the order of the program, of how often each step ran in each sample. Those behind which no kernel tells
    whether the condition held are left out. Empty without such a run, or for that of another build."""
    if not executions or any(len(one) != len(steps) for one in executions):
        return ()
    found = []
    for jump in steps:
        if (
            not jump.condition
            or jump.target is None
            or (inside := _first_call(steps, jump.step + 1, jump.target)) is None
        ):
            continue
        counts = [(sample, one[jump.step], one[inside]) for sample, one in enumerate(executions)]
        held = tuple(sample for sample, _, times in counts if times)
        failed = tuple(sample for sample, asked, times in counts if asked > times)
        end = steps[jump.target - 1].target  # a loop's last step leads back over its condition
        rounds = (
            (min(times for _, _, times in counts), max(times for _, _, times in counts))
            if end is not None and end <= jump.step
            else None
        )
        found.append(Way(jump.name, jump.source, held, failed, rounds))
    return tuple(found)


def _first_call(steps: Sequence[Step], first: int, end: int) -> int | None:
    """The first kernel that surely runs where step `first` does; None where a jump comes before it."""
    for step in steps[first:end]:
        if step.kind == "call":
            return step.step
        if step.kind in ("jump", "next"):
            return None
    return None


def never(found: Sequence[Way], samples: int) -> tuple[str, ...]:
    """A warning for each way that no sample took."""
    lines = []
    for way in found:
        lost = "held" if not way.held else "failed" if not way.failed else ""
        if lost:
            lines.append(
                f"the condition of {way.name} ({way.source}) never {lost} in {samples} samples: what follows then is "
                "not proven"
            )
    return tuple(lines)


def way_line(way: Way) -> str:
    """`net.py:31 cond: held in 0, 3; failed in 1, 2`. Of a loop the rounds of the samples, which bound no others."""
    rounds = f", {way.rounds[0]} to {way.rounds[1]} rounds, unbounded" if way.rounds else ""
    return f"{way.source} {way.name}: held in {_listed(way.held)}; failed in {_listed(way.failed)}{rounds}"


def _listed(samples: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, samples[:most])) or "none"
    return f"{shown} and {len(samples) - most} more" if len(samples) > most else shown
