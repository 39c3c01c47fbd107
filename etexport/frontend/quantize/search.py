"""All settings side by side on samples that were held out, the layers that hurt most, and what to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.fx import Node

from etexport.frontend.quantize import correct, preparation
from etexport.frontend.quantize.equalize import equalized, pairs
from etexport.frontend.quantize.ranges import choose
from etexport.frontend.quantize.settings import RANGES, Settings
from etexport.frontend.quantize.simulate import Sample, outputs, snr_db
from etexport.frontend.quantize.tune import BIAS_MARGIN_DB, MARGIN_DB, calibrated, split
from etexport.frontend.sources import lines_of

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
class Layer:
    """What stays in float, by module path, by line or by operator; and what the network gives with that alone in
    float."""

    name: str
    snr_db: float


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
    real = outputs(prepare(captured), judges, in_int8=False)
    right = _right(outputs(prepare(captured), [one for one, _ in labelled], in_int8=False), labelled)

    def row(settings: Settings, prepared: torch.fx.GraphModule) -> Row:
        got = outputs(prepared, [one for one, _ in labelled], in_int8=True) if labelled else []
        return Row(settings, snr_db(real, outputs(prepared, judges, in_int8=True)), _right(got, labelled))

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
    chosen = networks[bool(best.settings.equalize)]
    choose(chosen, best.settings.ranges or RANGES[0])
    plain = next(one for one in rows if replace(best.settings, correct_bias=False) == one.settings)
    layers = _by_gain(chosen, real, judges, progress)
    verified = best
    for layer in layers[:MOST_KEPT] if verified.snr_db < target_db else ():
        if layer.snr_db < plain.snr_db + MARGIN_DB / 2 or verified.snr_db >= target_db:
            break
        progress(f"{layer.name} in float")
        settings = replace(verified.settings, keep_float=(*verified.settings.keep_float, layer.name))
        network, prepare_so = preparation(model, inputs, calibration, settings.keep_float)
        prepared = calibrated(prepare_so(equalized(network) if settings.equalize else network), seen)
        choose(prepared, settings.ranges or RANGES[0])
        if settings.correct_bias:
            correct.apply(prepared, correct.corrected(prepared, seen))
        verified = max(verified, row(settings, prepared), key=lambda one: one.snr_db)
    if verified is not best and verified.snr_db < best.snr_db + MARGIN_DB:
        verified = best
    return Found(tuple(rows), tuple(layers), verified.settings, verified, len(held), len(labelled), right)


def _recommended(rows: Sequence[Row]) -> Row:
    """The plainest row unless another gains the margin: fewer changes first. Corrected biases need less of it."""
    best = rows[0]
    for one in rows:
        is_bias_alone = replace(one.settings, correct_bias=False) == replace(best.settings, correct_bias=False)
        if one.snr_db >= best.snr_db + (BIAS_MARGIN_DB if is_bias_alone else MARGIN_DB):
            best = one
    return best


def _right(got: Sequence[Sequence[Tensor]], labelled: Sequence[tuple[Sample, int]]) -> int | None:
    if not labelled or not got or not got[0] or got[0][0].numel() < 2:
        return None
    return sum(int(one[0].argmax()) == label for one, (_, label) in zip(got, labelled, strict=True))


def _by_gain(
    prepared: torch.fx.GraphModule, real: list[list[Tensor]], judges: Sequence[Sample], progress: Callable[[str], None]
) -> list[Layer]:
    """Each layer alone in float: what it makes is not rounded, neither are its weights."""
    groups: dict[str, set[Node]] = {}
    for node in prepared.graph.nodes:
        if node.op != "call_module" or "activation_post_process" not in str(node.target):
            continue
        (source,) = node.all_input_nodes[:1]
        maker = next(iter(node.users), source) if source.op in ("get_attr", "placeholder") else source
        name = _name(maker)
        if name:
            groups.setdefault(name, set()).add(node)
    progress(f"{min(len(groups), MOST_LAYERS)} layers in float, one after the other")
    found = []
    for name, exact in list(groups.items())[:MOST_LAYERS]:
        found.append(Layer(name, snr_db(real, outputs(prepared, judges, in_int8=True, exact=exact))))
    return sorted(found, key=lambda one: -one.snr_db if math.isfinite(one.snr_db) else 0.0)


def _name(node: Node) -> str:
    """By which the operator can be kept in float: its layer's path; where it stands in forward(), its line."""
    if node.op != "call_function":
        return ""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]).removeprefix("L['self'].") if stack else ""
    if path and path != "L['self']" and "torch.nn" in str(stack[-1][1]):
        return path
    lines = lines_of(node.meta)
    return f"{lines[-1][0].rpartition('/')[2]}:{lines[-1][1]}" if lines else path.removeprefix("L['self']")
