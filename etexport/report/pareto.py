"""`sweep.html`: what accuracy costs in RAM, flash and time, over many builds. A build is on the front where no other
is at least as good in all of them, and better in one. Its style is the report's, `page.css.j2`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etexport.report.profile import unit_of
from etexport.report.template import render

Row = Mapping[str, Any]
"""A line of a sweep's table: the fields of `etexport.fleet.steps.Row`."""

# Pixels.
_WIDTH, _HEIGHT = 620, 300
_LEFT, _RIGHT, _TOP = 66, 30, 14


@dataclass(frozen=True)
class Dot:
    """`number` is that of its line in the table below."""

    x: float
    y: float
    number: int
    title: str
    front: bool


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Picture:
    """What the builds are worth over one thing that they take; `line` joins those of the front of the two."""

    title: str
    dots: tuple[Dot, ...]
    line: str
    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]


def pareto(rows: Sequence[Row]) -> str:
    """The page; of builds without accuracy their signal to noise against the float network takes its place."""
    whole = [row for row in rows if not row["error"]]
    labelled = all(row["accuracy"] is not None for row in whole)
    key, title = ("accuracy", "accuracy") if labelled else ("snr_db", "signal to noise, dB")
    judged = [row for row in whole if row[key] is not None]
    best = front(judged, key)
    units = sorted({row["counter"] for row in judged if row["count"] is not None})
    costs = [("ram", "bytes of RAM", judged), ("flash", "bytes of flash", judged)]
    costs += [
        ("count", unit_of(unit), [row for row in judged if row["counter"] == unit and row["count"] is not None])
        for unit in units
    ]
    numbers = {id(row): at for at, row in enumerate(rows, 1)}
    pictures = [_picture(key, title, cost, unit, some, best, numbers) for cost, unit, some in costs if some]
    marked = [(row, any(row is one for one in best)) for row in rows]
    return render("sweep.html.j2", rows=marked, pictures=pictures, worth=title)


def front(rows: Sequence[Row], key: str, costs: Sequence[str] = ("ram", "flash", "count")) -> list[Row]:
    """The rows that no other one beats; counts of different counters are not compared."""

    def beats(one: Row, other: Row) -> bool:
        same = [cost for cost in costs if cost != "count" or one["counter"] == other["counter"]]
        pairs = [(one[key], other[key]), *((-(one[cost] or 0), -(other[cost] or 0)) for cost in same)]
        return len(same) == len(costs) and all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [row for row in rows if not any(beats(other, row) for other in rows)]


def _picture(
    key: str, worth: str, cost: str, unit: str, rows: Sequence[Row], best: Sequence[Row], numbers: Mapping[int, int]
) -> Picture:
    costs, worths = [row[cost] for row in rows], [row[key] for row in rows]
    across, upwards = _scale(0, max(costs)), _scale(min(worths), max(worths))

    def x(value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * value / across[-1], 1)

    def y(value: float) -> float:
        return round(_TOP + _HEIGHT * (upwards[-1] - value) / (upwards[-1] - upwards[0]), 1)

    dots = [
        Dot(
            x(row[cost]),
            y(row[key]),
            numbers[id(row)],
            f"{row['model']} {row['quantization']} on {row['board']}, {row['optimize']}: {row[key]:.4g} {worth}, "
            f"{row[cost]:,} {unit}",
            any(row is one for one in best),
        )
        for row in rows
    ]
    two = sorted(front(rows, key, (cost,)), key=lambda row: float(row[cost]))
    line = " ".join(f"{x(row[cost])},{y(row[key])}" for row in two)
    return Picture(
        f"{worth} over {unit}",
        tuple(dots),
        line,
        tuple(Tick(x(at), f"{at:,g}") for at in across),
        tuple(Tick(y(at), f"{at:,g}") for at in upwards),
    )


def _scale(least: float, most: float) -> list[float]:
    """Round numbers from at most `least` to at least `most`, two apart at least."""
    span = (most - least) or abs(most) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(one * power for one in (0.2, 0.5, 1, 2, 5, 10) if span / (one * power) <= 5)
    first, last = math.floor(least / step), math.ceil(most / step)
    return [round(at * step, 10) for at in range(first, max(last, first + 1) + 1)]
