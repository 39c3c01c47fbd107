"""A figure of each layer as a bar, in order of execution. Gives the text of an SVG element for a page of HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from etexport.report.template import render

# Pixels. It is at least as wide as all its labels need: a page that is narrower scrolls.
_WIDTH = 1060
_COLUMN = 18
_LEFT, _RIGHT, _TOP = 78, 14, 14
_HEIGHT = 170
_LETTER = 6.3
_LONGEST = 24


@dataclass(frozen=True)
class Bar:
    """`height` is 0 where there is no figure; `top` and `more` are where the second part begins, and its height."""

    x: float
    width: float
    y: float
    height: float
    top: float
    more: float
    text: str
    title: str


@dataclass(frozen=True)
class Tick:
    y: float
    text: str


def chart(
    names: Sequence[str], figures: Sequence[float | None], unit: str, second: Sequence[float] | None = None
) -> str:
    """SVG text of figures from 0 up; one that is infinite reaches to the top, and None is a gap. `second` stands on top
    of each in another colour."""
    on_top = second if second is not None else [0.0] * len(figures)
    count = max(len(names), 1)
    width = max(_WIDTH, _LEFT + _RIGHT + _COLUMN * count)
    column = (width - _LEFT - _RIGHT) / count
    finite = (one + more for one, more in zip(figures, on_top, strict=True) if one is not None and math.isfinite(one))
    most = max(finite, default=0.0) or 1.0
    apart = _round(most)
    bars = []
    for at, (name, figure, more) in enumerate(zip(names, figures, on_top, strict=True)):
        share = 0.0 if figure is None else min(max(figure, 0.0) / most, 1.0)
        said = "not known" if figure is None else f"{figure:,.4g} {unit}" if math.isfinite(figure) else "exact"
        if second is not None:
            said += f" and {more:,.4g}"
        bars.append(
            Bar(
                x=round(_LEFT + at * column + 0.15 * column, 1),
                width=round(0.7 * column, 1),
                y=round(_TOP + _HEIGHT * (1 - share), 1),
                height=round(_HEIGHT * share, 1),
                top=round(_TOP + _HEIGHT * (1 - share - more / most), 1),
                more=round(_HEIGHT * more / most, 1),
                text=name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…",
                title=f"{name}: {said}",
            )
        )
    ticks = [
        Tick(round(_TOP + _HEIGHT * (1 - at * apart / most), 1), f"{at * apart:,g}")
        for at in range(int(most / apart) + 1)
    ]
    foot = 26 + max((len(bar.text) for bar in bars), default=0) * _LETTER * 0.87  # the sine of 60 degrees
    return render(
        "chart.svg.j2",
        width=width,
        height=round(_TOP + _HEIGHT + foot),
        left=_LEFT,
        right=width - _RIGHT,
        bottom=_TOP + _HEIGHT,
        bars=bars,
        ticks=ticks,
    )


def _round(most: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, of which there are two to five."""
    power: float = 10.0 ** math.floor(math.log10(most))
    return next(step for step in (0.5 * power, power, 2 * power, 5 * power) if most / step <= 5)
