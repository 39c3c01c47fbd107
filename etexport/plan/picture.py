"""A plan as a picture: time from left to right, addresses upwards, one box a buffer. Gives the text of a self-contained
SVG element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from etexport.plan.problem import Buffer, Problem, Region, Solution

# Pixels. It is at least as wide as all its labels need: a page that is narrower scrolls.
_WIDTH = 1060
_COLUMN = 18
_LEFT, _RIGHT = 78, 14
_HEIGHT = 330
_HEADING = 34
_LETTER = 6.3
_FEWEST = 10  # letters that are left of a name, else it tells nothing
_LINE = 15

_KINDS = ("input", "output", "activation", "scratch", "state")


@dataclass(frozen=True)
class Box:
    """A buffer during one live range. `text` is what fits into it."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    text: str
    title: str


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Rule:
    """A line across at an address."""

    y: float
    text: str
    text_y: float
    kind: str


@dataclass(frozen=True)
class Panel:
    """One region. `top` .. `bottom` is where its addresses lie."""

    heading: str
    heading_y: float
    top: float
    bottom: float
    boxes: tuple[Box, ...]
    ticks: tuple[Tick, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Entry:
    """A line of the legend."""

    x: float
    text: str
    colour: int


def picture(
    problem: Problem,
    solution: Solution,
    *,
    steps: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """SVG text. `steps` names the steps; by buffer name, `kinds` says what a buffer is ("input", "output",
    "activation", "scratch", "state"; others are added to the legend as they come), `notes` adds a line to what is shown
    when one points at it, and `labels` is what stands in its box instead of its name."""
    kinds = kinds or {}
    used = {kinds.get(buffer.name, "activation") for buffer in problem.buffers}
    legend = [kind for kind in _KINDS if kind in used] + sorted(used - set(_KINDS))
    colours = {kind: 1 + (_KINDS.index(kind) if kind in _KINDS else number) % 6 for number, kind in enumerate(legend)}
    count = max([end for buffer in problem.buffers for _, end in buffer.live] + [len(steps), 1])
    columns = _step_labels(steps, count)
    foot = 26 + max((len(column.text) for column in columns), default=0) * _LETTER * 0.87  # the sine of 60 degrees

    panels = []
    y = 24.0
    for region in problem.regions:
        buffers = [
            buffer
            for buffer in problem.buffers
            if solution.places[buffer.name].region == region.name and buffer.size > 0
        ]
        panels.append(_panel(region, buffers, solution, y, count, steps, kinds, notes or {}, labels or {}, colours))
        y += _HEADING + _HEIGHT + foot
    environment = Environment(
        loader=PackageLoader("etexport.plan"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("picture.svg.j2").render(
        width=_width(count),
        height=round(y),
        left=_LEFT,
        right=_width(count) - _RIGHT,
        legend=_legend(legend, colours),
        steps=columns,
        panels=panels,
    )


def _panel(
    region: Region,
    buffers: Sequence[Buffer],
    solution: Solution,
    y: float,
    count: int,
    steps: Sequence[str],
    kinds: Mapping[str, str],
    notes: Mapping[str, str],
    labels: Mapping[str, str],
    colours: Mapping[str, int],
) -> Panel:
    size, bound = solution.size[region.name], solution.bound[region.name]
    top, bottom = y + _HEADING, y + _HEADING + _HEIGHT
    scale = (_HEIGHT - 18) / max(size, 1)

    def at(address: int) -> float:
        return round(bottom - address * scale, 1)

    boxes = []
    for buffer in buffers:
        offset = solution.places[buffer.name].offset
        for begin, end in buffer.live:
            x, width = _x(begin, count), _x(end, count) - _x(begin, count)
            height = at(offset) - at(offset + buffer.size)
            title = f"{buffer.name}: {buffer.size:,} bytes at {offset:,}, {_when(begin, end, steps)}"
            if buffer.name in notes:
                title += f"\n{notes[buffer.name]}"
            boxes.append(
                Box(
                    x=round(x + 0.75, 1),
                    y=at(offset + buffer.size),
                    width=round(max(width - 1.5, 0.5), 1),
                    height=round(max(height, 0.5), 1),
                    colour=colours[kinds.get(buffer.name, "activation")],
                    text=_fitting(labels.get(buffer.name, buffer.name), width - 8) if height >= _LINE else "",
                    title=title,
                )
            )
    if size == bound:
        verdict = "no plan can be smaller"
        rules = [Rule(at(size), f"{size:,} bytes = lower bound", at(size) - 5, "size")]
    else:
        verdict = f"lower bound {bound:,}, gap {(size - bound) / max(bound, 1):.1%}"
        rules = [Rule(at(size), f"{size:,} bytes", at(size) - 5, "size")]
        rules.append(Rule(at(bound), f"lower bound {bound:,}", at(bound) + 13, "bound"))
    capacity = f" of {region.capacity:,}" if region.capacity is not None else ""
    return Panel(
        heading=f"{region.name}: {size:,}{capacity} bytes, {verdict}",
        heading_y=y + 16,
        top=top,
        bottom=bottom,
        boxes=tuple(boxes),
        ticks=tuple(Tick(at(address), f"{address:,}") for address in _round_addresses(size)),
        rules=tuple(rules),
    )


def _width(count: int) -> int:
    return max(_WIDTH, _LEFT + _RIGHT + _COLUMN * count)


def _x(step: int, count: int) -> float:
    return _LEFT + (_width(count) - _LEFT - _RIGHT) * step / count


def _when(begin: int, end: int, steps: Sequence[str]) -> str:
    def name(step: int) -> str:
        return f"{step} ({steps[step]})" if step < len(steps) else str(step)

    return f"step {name(begin)}" if end == begin + 1 else f"steps {name(begin)} to {name(end - 1)}"


def _fitting(text: str, width: float) -> str:
    room = int(width / _LETTER)
    if len(text) <= room:
        return text
    return text[: room - 1] + "…" if room >= _FEWEST else ""


def _step_labels(steps: Sequence[str], count: int) -> tuple[Tick, ...]:
    """Names under the columns, or numbers where there are none."""
    labels = []
    for step in range(count):
        text = steps[step] if step < len(steps) else "end" if steps and step == len(steps) else str(step)
        labels.append(Tick(round((_x(step, count) + _x(step + 1, count)) / 2, 1), _fitting(text, 20 * _LETTER)))
    return tuple(labels)


def _round_addresses(size: int) -> list[int]:
    """Four to eight round addresses from 0 up, in powers of two."""
    apart = 1
    while apart * 6 < size:
        apart *= 2
    return list(range(0, size + 1, apart))


def _legend(kinds: Sequence[str], colours: Mapping[str, int]) -> tuple[Entry, ...]:
    entries = []
    x = float(_LEFT)
    for kind in kinds:
        entries.append(Entry(round(x, 1), kind, colours[kind]))
        x += 34 + len(kind) * _LETTER
    return tuple(entries)
