"""Which layers cost an int8 network its accuracy, and the fewest to keep in float for a loss that is accepted.

What a network gives with some of them in float is a judge's to say: PyTorch's (`variants.py`), or a board's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """`snr_db` is the signal to noise against the float network of the output that has least of it, of a softmax or
    sigmoid at the end what it reads; `output_db` that of the outputs themselves; NaN where no output is a real number.
    `right`: how many of the labelled samples are classified as labelled, None without labels. `count`: what a run takes
    on a board."""

    snr_db: float
    output_db: float
    right: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Layer:
    """What is in float by this name (`kept.py`), and what the network gives with that alone in float."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Bisected:
    """`layers` in the order of the network. `labelled` is how many samples `right` is of, `in_float` how many of these
    the float network has right; `judged_on` says which samples all this is on."""

    int8: Figure
    layers: tuple[Layer, ...]
    judged_on: str
    labelled: int
    in_float: int | None

    @property
    def by_gain(self) -> list[Layer]:
        return by_gain(self.layers)

    def gain_db(self, layer: Layer) -> float:
        """What the layer alone in float gains; infinite where nothing is lost any more."""
        return 0.0 if layer.figure.snr_db == self.int8.snr_db else layer.figure.snr_db - self.int8.snr_db


@dataclass(frozen=True)
class Accept:
    """The loss of int8 that a script accepts: each output has at least `snr_db`, and at most `lost_points` percent of
    the labelled samples that float has right are lost. At most `layers` stay in float, None: all but one."""

    snr_db: float | None = None
    lost_points: float | None = None
    layers: int | None = None

    def __str__(self) -> str:
        parts = [] if self.snr_db is None else [f"{self.snr_db:g} dB"]
        if self.lost_points is not None:
            parts.append(f"{self.lost_points:g} points of accuracy lost")
        return " and ".join(parts)


@dataclass(frozen=True)
class Fewest:
    """`names` stay in float, which gives `figure`; `found`: it is enough. `of`: how many layers there are."""

    names: tuple[str, ...]
    figure: Figure
    found: bool
    of: int


@dataclass(eq=False)
class Judge:
    """What the network gives with these in float; each set is asked for once."""

    ask: Callable[[tuple[str, ...]], Figure]
    progress: Callable[[str], None]
    known: dict[frozenset[str], Figure] = field(default_factory=dict)

    def __call__(self, names: Sequence[str]) -> Figure:
        key = frozenset(names)
        if key not in self.known:
            self.progress(f"{', '.join(names)} in float" if names else "all in int8")
            self.known[key] = self.ask(tuple(names))
        return self.known[key]


def by_gain(layers: Sequence[Layer]) -> list[Layer]:
    """The layer first that gains most; equal ones in the order of the network."""
    return sorted(layers, key=lambda one: (-_order(one.figure)[0], -_order(one.figure)[1]))


def alone(judge: Judge, names: Sequence[str]) -> tuple[Layer, ...]:
    """Each by itself in float."""
    return tuple(Layer(name, judge((name,))) for name in names)


def fewest(judge: Judge, layers: Sequence[Layer], enough: Callable[[Figure], bool], most: int) -> Fewest:
    """The fewest of the layers that are enough in float, none of which can be left out again; at most `most`, and not
    all of them.

    Where none is not enough and one is, there can be no fewer. Of more, layers join: each time the one that gains most
    beside those that are there, among the few that gain most alone and those next to a chosen one, for between two
    neighbours in float nothing is rounded. Then whatever is not needed leaves, the first first.
    """
    order = [one.name for one in layers]
    ranked = [one.name for one in by_gain(layers)]
    most = min(most, len(order) - 1)
    names: tuple[str, ...] = ()
    at_the_end: tuple[str, ...] = ()
    if most > 1 and most == len(order) - 1 and not any(enough(judge(one)) for one in [(), *((one,) for one in ranked)]):
        rests = (tuple(one for one in order if one != name) for name in reversed(ranked))
        at_the_end = next((rest for rest in rests if enough(judge(rest))), ())
        most = most if at_the_end else 1
    while not enough(judge(names)) and len(names) < most:
        near = {order[at + by] for at in map(order.index, names) for by in (-1, 1) if 0 <= at + by < len(order)}
        left = [one for one in ranked if one not in names]
        joining = [(*names, one) for at, one in enumerate(left) if at < TRIED or one in near]
        names = max(joining, key=lambda one: _order(judge(one)))
    names = names if enough(judge(names)) else at_the_end
    if not enough(judge(names)):
        best = max(judge.known, key=lambda one: _order(judge.known[one]))
        return Fewest(_sorted(best, order), judge.known[best], False, len(order))
    for name in names:
        without = tuple(one for one in names if one != name)
        if enough(judge(without)):
            names = without
    return Fewest(_sorted(names, order), judge(names), True, len(order))


def _sorted(names: Collection[str], order: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in order if one in names)


TRIED = 6
"""Of the layers that gain most alone, how many are tried beside those that are chosen."""


def _order(figure: Figure) -> tuple[float, float]:
    """More is better."""
    numbers = [-math.inf if math.isnan(one) else one for one in (figure.snr_db, figure.output_db)]
    return (numbers[0], float(figure.right or 0)) if numbers[0] > -math.inf else (float(figure.right or 0), 0.0)


def decibels(ratio: float) -> str:
    if math.isnan(ratio):
        return "no float output"
    return f"{ratio:.1f} dB" if math.isfinite(ratio) else "no noise" if ratio > 0 else "nothing in int8"
