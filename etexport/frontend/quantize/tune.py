"""The prepared network that int8 hurts least: equalised or not, ranges by one rule or another, biases corrected or not.

A share of the calibration data is held out, and every choice is judged on it; in the end the ranges are those of all
data.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.fx import GraphModule

from etexport.frontend.quantize import Prepare, correct
from etexport.frontend.quantize.blocks import bodies
from etexport.frontend.quantize.equalize import equalized, pairs, spread
from etexport.frontend.quantize.observe import kept_states
from etexport.frontend.quantize.ranges import choose, give_headroom
from etexport.frontend.quantize.settings import RANGES, Settings
from etexport.frontend.quantize.simulate import Sample, outputs, snr_db
from etexport.frontend.quantize.states import driven, states
from etexport.frontend.quantize.weights import widen_weights

MARGIN_DB = 2.0
"""What a choice must gain on held-out samples: 20 samples chose wrongly by up to 2.6 dB."""
BIAS_MARGIN_DB = 0.25
"""Of corrected biases, which are no other network, only a better mean."""
BAD_CHANNELS = 10.0
"""From this median spread of channels on, the weights alone say that channels are badly scaled."""
WORTH_TRYING = 3.0
"""Below this spread nothing was ever gained."""
FEWEST = 12
"""Calibration samples of which some can be held out."""
MOST_HELD_OUT = 32
MOST_NODES = 8000
"""That many operators of all held-out samples together: a run takes some 0.3 s then."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """`prepared` has seen all calibration data. `settings` says what was chosen; `snr_db` what it gives on the held-out
    samples, NaN where there were none."""

    prepared: GraphModule
    settings: Settings
    snr_db: float


def tuned(captured: GraphModule, prepare: Prepare, calibration: Sequence[Sample], settings: Settings) -> Tuned:
    seen, held = split(calibration, captured)
    plain = calibrated(prepare(captured), seen) if settings.equalize is not True else None
    real = outputs(plain or prepare(captured), held, in_int8=False)

    def figure(prepared: GraphModule) -> float:
        return snr_db(real, outputs(prepared, held, in_int8=True)) if held else math.nan

    best = None if plain is None else Tuned(plain, replace(settings, equalize=False), figure(plain))
    if settings.equalize is not False:
        best = _with_equalised(captured, prepare, seen, best, settings, figure)
    assert best is not None
    best = _with_ranges(best, settings, figure)
    best, corrects = _with_biases(best, seen, settings, figure)
    # what a state comes to at the end of all of it
    calibrated(best.prepared, calibration if states(captured.graph) else held)
    if corrects:
        correct.apply(best.prepared, correct.corrected(best.prepared, calibration))
    return replace(best, settings=replace(best.settings, correct_bias=corrects))


def variant(
    captured: GraphModule, prepare: Prepare, calibration: Sequence[Sample], settings: Settings, more: Sequence[str] = ()
) -> GraphModule:
    """The prepared network by settings that leave nothing open, with `more` of it in float."""
    assert settings.ranges is not None
    prepared = calibrated(prepare(equalized(captured) if settings.equalize else captured, more), calibration)
    choose(prepared, settings.ranges)
    if settings.correct_bias:
        correct.apply(prepared, correct.corrected(prepared, calibration))
    return prepared


def split(samples: Sequence[Sample], model: GraphModule) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """What is calibrated with, and what is held out: every fourth, or the end of the sequence where a network keeps
    states."""
    if len(samples) < FEWEST:
        return samples, ()
    most = max(3, min(MOST_HELD_OUT, MOST_NODES // len(model.graph.nodes)))
    if states(model.graph):
        count = min(len(samples) // 4, most)
        return samples[:-count], samples[-count:]
    every = max(4, math.ceil(len(samples) / most))
    return [one for at, one in enumerate(samples) if at % every != every - 1], samples[every - 1 :: every]


def calibrated(prepared: GraphModule, samples: Sequence[Sample]) -> GraphModule:
    """The network, whose observers have seen the samples as the sequence that they are."""
    with torch.no_grad(), kept_states(prepared):
        for one in samples:
            prepared(*one)
    if states(prepared.graph):
        give_headroom(prepared, {str(node.target) for node in driven(prepared.graph) if node.op == "call_module"})
    for graph in (prepared, *(body for _, _, body in bodies(prepared))):
        widen_weights(graph)
    return prepared


def _with_equalised(
    captured: GraphModule,
    prepare: Prepare,
    seen: Sequence[Sample],
    plain: Tuned | None,
    settings: Settings,
    figure: Callable[..., float],
) -> Tuned | None:
    """The equalised network, if it is wanted, or better, or if its channels are badly scaled and it is no worse."""
    spreads = [spread(captured, pair) for pair in pairs(captured)]
    if plain is not None and max(spreads, default=0.0) < WORTH_TRYING:
        return plain
    prepared = calibrated(prepare(equalized(captured)), seen)
    found = Tuned(prepared, replace(settings, equalize=True), figure(prepared))
    if plain is None:
        return found
    is_bad = statistics.median(spreads) > BAD_CHANNELS
    if math.isnan(found.snr_db) or math.isnan(plain.snr_db):
        return found if is_bad else plain
    return found if found.snr_db - plain.snr_db >= (0.0 if is_bad else MARGIN_DB) else plain


def _with_ranges(best: Tuned, settings: Settings, figure: Callable[..., float]) -> Tuned:
    rules = RANGES if settings.ranges is None else (settings.ranges,)
    for rule in rules if settings.ranges or not math.isnan(best.snr_db) else ():
        choose(best.prepared, rule)
        found = figure(best.prepared) if rule != "histogram" else best.snr_db
        if settings.ranges or found >= best.snr_db + MARGIN_DB:
            best = replace(best, settings=replace(best.settings, ranges=rule), snr_db=found)
    chosen = best.settings.ranges or "histogram"
    choose(best.prepared, chosen)
    return replace(best, settings=replace(best.settings, ranges=chosen))


def _with_biases(
    best: Tuned, seen: Sequence[Sample], settings: Settings, figure: Callable[..., float]
) -> tuple[Tuned, bool]:
    """The network as it is, with the figure of corrected biases and whether they are better."""
    if settings.correct_bias is False or (math.isnan(best.snr_db) and not settings.correct_bias):
        return best, False
    biases = correct.corrected(best.prepared, seen)
    if not biases:
        return best, False
    before = correct.apply(best.prepared, biases)
    found = figure(best.prepared)
    correct.apply(best.prepared, before)
    if settings.correct_bias or found >= best.snr_db + BIAS_MARGIN_DB:
        return replace(best, snr_db=found), True
    return best, False
