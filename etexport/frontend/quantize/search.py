"""All settings side by side on samples that were held out, the layers that hurt most, and what to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from etexport.frontend.quantize import correct, preparation
from etexport.frontend.quantize.equalize import equalized, pairs
from etexport.frontend.quantize.layers import Layer, alone, by_gain, fewest
from etexport.frontend.quantize.ranges import choose
from etexport.frontend.quantize.settings import RANGES, Settings
from etexport.frontend.quantize.simulate import Sample, outputs, snr_db
from etexport.frontend.quantize.tune import BIAS_MARGIN_DB, MARGIN_DB, calibrated, split
from etexport.frontend.quantize.variants import Subject, Trial, judge_of, layers_of, right_of

MOST_LAYERS = 40
"""How many layers are tried in float alone."""
MOST_KEPT = 4
"""How many layers are proposed at most: each computes many times as long in float."""


@dataclass(frozen=True)
class Row:
    """`right`: how many of the labelled samples are classified as labelled; None without labels."""

    settings: Settings
    snr_db: float
    right: int | None


@dataclass(frozen=True)
class Found:
    """`rows` are all combinations, the first one the plainest; `layers` by gain, of the best combination; `best` what
    is recommended, with `verified` its figure."""

    rows: tuple[Row, ...]
    layers: tuple[Layer, ...]
    best: Settings
    verified: Row
    held_out: int
    labelled: int
    right_in_float: int | None


def search(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    calibration: Sequence[Sample],
    labelled: Sequence[tuple[Sample, int]],
    keep_float: tuple[str, ...],
    target_db: float,
    progress: Callable[[str], None],
) -> Found:
    """Try all combinations; then, where the best stays below `target_db`, layers in float until it is met or nothing
    gains 2 dB."""
    captured, prepare = preparation(model, inputs, calibration, keep_float)
    seen, held = split(calibration, captured)
    judges = held or seen
    labels = [label for _, label in labelled]
    real = outputs(prepare(captured), judges, in_int8=False)
    right = right_of(outputs(prepare(captured), [one for one, _ in labelled], in_int8=False), labels)

    def row(settings: Settings, prepared: torch.fx.GraphModule) -> Row:
        got = outputs(prepared, [one for one, _ in labelled], in_int8=True) if labelled else []
        return Row(settings, snr_db(real, outputs(prepared, judges, in_int8=True)), right_of(got, labels))

    rows, networks = [], {}
    for equalize in (False, True) if pairs(captured) else (False,):
        progress("layers equalised" if equalize else "layers as they are")
        prepared = calibrated(prepare(equalized(captured) if equalize else captured), seen)
        networks[equalize] = prepared
        for ranges in RANGES:
            choose(prepared, ranges)
            rows.append(row(Settings(equalize, ranges, False, keep_float), prepared))
            biases = correct.corrected(prepared, seen)
            if biases:
                before = correct.apply(prepared, biases)
                rows.append(row(Settings(equalize, ranges, True, keep_float), prepared))
                correct.apply(prepared, before)
    best = _recommended(rows)
    subject = Subject(captured, prepare, seen, best.settings)
    judge = judge_of(subject, Trial(judges, [True] * len(judges), None, ""), progress)
    found = alone(judge, layers_of(networks[bool(best.settings.equalize)])[:MOST_LAYERS])
    verified = best
    if best.snr_db < target_db:
        kept = fewest(judge, found, lambda one: one.snr_db >= target_db, MOST_KEPT)
        settings = replace(best.settings, keep_float=(*keep_float, *kept.names))
        in_float = row(settings, subject.variant(kept.names))
        verified = in_float if in_float.snr_db >= best.snr_db + MARGIN_DB else best
    return Found(tuple(rows), tuple(by_gain(found)), verified.settings, verified, len(held), len(labelled), right)


def _recommended(rows: Sequence[Row]) -> Row:
    """The plainest row unless another gains the margin: fewer changes first. Corrected biases need less of it."""
    best = rows[0]
    for one in rows:
        is_bias_alone = replace(one.settings, correct_bias=False) == replace(best.settings, correct_bias=False)
        if one.snr_db >= best.snr_db + (BIAS_MARGIN_DB if is_bias_alone else MARGIN_DB):
            best = one
    return best
