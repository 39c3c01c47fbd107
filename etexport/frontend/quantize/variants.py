"""What a network gives with some of its layers in float, as its prepared graph computes it: the judge of `layers.py`
that needs no board."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from etexport.frontend.quantize import Prepare
from etexport.frontend.quantize.declared import int8_of
from etexport.frontend.quantize.layers import Accept, Bisected, Fewest, Figure, Judge, alone, fewest
from etexport.frontend.quantize.settings import Settings
from etexport.frontend.quantize.simulate import Sample, judged, results, snr_db
from etexport.frontend.quantize.tune import variant
from etexport.frontend.sources import lines_of
from etexport.kernel.int8 import Scales

LEEWAYS_DB = (0.1, 0.5, 1.0, 2.0)
"""So much more than is asked for is sought until the converted network has what is asked for: it, and a board, round
some elements to the neighbour."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Samples in order, as a network with states takes them; those `counted` are judged. `labels` are theirs, where
    there are any. `origin` says where they come from."""

    samples: Sequence[Sample]
    counted: Sequence[bool]
    labels: Sequence[int] | None
    origin: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A network as `preparation` gives it, and the settings by which it is quantised: none is open."""

    captured: GraphModule
    prepare: Prepare
    calibration: Sequence[Sample]
    settings: Settings

    def variant(self, names: Sequence[str] = ()) -> GraphModule:
        return variant(self.captured, self.prepare, self.calibration, self.settings, names)


@dataclass(frozen=True, eq=False)
class _Given:
    """For each counted sample what the network is judged by, and its outputs."""

    ends: list[list[Tensor]]
    outputs: list[list[Tensor]]


def judge_of(subject: Subject, trial: Trial, progress: Callable[[str], None]) -> Judge:
    real = _real(subject, trial)

    def ask(names: tuple[str, ...]) -> Figure:
        prepared = subject.variant(names)
        if not any(_is_observer(node) for node in prepared.graph.nodes):  # that would be no int8 network
            return Figure(-math.inf, -math.inf)
        got = _given(prepared, trial, in_int8=True)
        return Figure(_least(real.ends, got.ends), _least(real.outputs, got.outputs), right_of(got.ends, trial.labels))

    return Judge(ask, progress)


def bisected(subject: Subject, trial: Trial, judge: Judge, names: Sequence[str]) -> Bisected:
    """Each of the layers alone in float."""
    in_float = right_of(_real(subject, trial).ends, trial.labels)
    labelled = 0 if in_float is None else sum(trial.counted)
    return Bisected(judge(()), alone(judge, names), trial.origin, labelled, in_float)


def accepted(found: Bisected, judge: Judge, accept: Accept, leeway_db: float) -> Fewest:
    """The fewest layers in float for what is accepted, and `leeway_db` more."""
    most = len(found.layers) if accept.layers is None else accept.layers
    return fewest(judge, found.layers, lambda figure: is_within(figure, found, accept, leeway_db), most)


def is_within(figure: Figure, found: Bisected, accept: Accept, leeway_db: float = 0.0) -> bool:
    if accept.snr_db is not None and not figure.output_db >= accept.snr_db + leeway_db:
        return False
    if accept.lost_points is None or figure.right is None:
        return accept.lost_points is None
    return 100 * ((found.in_float or 0) - figure.right) <= accept.lost_points * found.labelled


def figure_of(network: nn.Module, subject: Subject, trial: Trial) -> Figure:
    """What a converted network gives."""
    real = _real(subject, trial)
    network = copy.deepcopy(network)  # a run changes its states
    with torch.no_grad():
        made = [network(*sample) for sample in trial.samples]
    got = [_floats(pytree.tree_leaves(one)) for one, counts in zip(made, trial.counted, strict=True) if counts]
    ratio = _least(real.outputs, got)
    return Figure(ratio, ratio, right_of(got, trial.labels))


def layers_of(prepared: GraphModule) -> list[str]:
    """By what each layer that is quantised can be kept in float, in order."""
    makers = set()
    for node in filter(_is_observer, prepared.graph.nodes):
        (source,) = node.all_input_nodes[:1]
        makers.add(next(iter(node.users), source) if source.op in ("get_attr", "placeholder") else source)
    computing = (one for one in prepared.graph.nodes if one in makers and int8_of(one).scales is not Scales.SHARED)
    return list(dict.fromkeys(filter(None, map(_name, computing))))


def right_of(given: Sequence[Sequence[Tensor]], labels: Sequence[int] | None) -> int | None:
    """How many are classified as labelled; None without labels or classes."""
    if labels is None or not labels or not given[0] or given[0][0].numel() < 2:
        return None
    return sum(int(one[0].argmax()) == label for one, label in zip(given, labels, strict=True))


def _real(subject: Subject, trial: Trial) -> _Given:
    """In float, with the biases that it has."""
    return _given(subject.prepare(subject.captured), trial, in_int8=False)


def _given(prepared: GraphModule, trial: Trial, *, in_int8: bool) -> _Given:
    ends, outputs = judged(prepared), next(iter(reversed(prepared.graph.nodes))).all_input_nodes
    made = results(prepared, trial.samples, [*ends, *outputs], in_int8=in_int8)
    counted = [one for one, counts in zip(made, trial.counted, strict=True) if counts]
    return _Given(*([_floats(one[node] for node in nodes) for one in counted] for nodes in (ends, outputs)))


def _floats(values: Iterable[object]) -> list[Tensor]:
    return [one for one in values if isinstance(one, Tensor) and one.is_floating_point()]


def _least(real: list[list[Tensor]], got: list[list[Tensor]]) -> float:
    columns = zip(zip(*real, strict=True), zip(*got, strict=True), strict=True)
    figures = [snr_db([[one] for one in mine], [[one] for one in theirs]) for mine, theirs in columns]
    return min((one for one in figures if not math.isnan(one)), default=math.nan)


def _is_observer(node: Node) -> bool:
    return node.op == "call_module" and "activation_post_process" in str(node.target)


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
