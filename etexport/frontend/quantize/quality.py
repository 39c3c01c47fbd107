"""Where accuracy goes: each activation of the quantised network beside the same activation of the float network, on the
same samples."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from etexport.frontend.quantize.states import states
from etexport.frontend.trace import traces

SAMPLES = 16
"""How many samples are looked at, at most."""
SEQUENCE = 128
"""The same of a network with states, which take their time to come to their range."""


@dataclass
class Activation:
    """One place where the network quantises: `node` of the exported graph. Sums are over all samples and elements of
    float values x and of what int8 makes of them."""

    node: str
    scale: float
    zero_point: int
    signal: float = 0.0
    noise: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    saturated: int = 0
    elements: int = 0

    @property
    def snr_db(self) -> float:
        """10 log10(sum x^2 / sum (x - int8)^2); infinite without noise, minus infinite where there is nothing else."""
        return (
            10 * math.log10(self.signal / self.noise)
            if self.signal and self.noise
            else (-math.inf if self.noise else math.inf)
        )


def measured(
    observed: fx.GraphModule, exported: ExportedProgram, samples: Sequence[Sequence[Tensor]]
) -> list[Activation]:
    """The activations in the order of the graph, after running one sample after the other through both networks, each
    with the states that it comes to.

    `observed` is the float network with observers, `exported` what became of it: its k-th quantise stands where the
    k-th observer of an activation stood. Where there are more of one than of the other, those are left out whose scale
    has no counterpart.
    """
    quantises = [
        node for node in exported.graph.nodes if str(node.target) == "quantized_decomposed.quantize_per_tensor.default"
    ]
    written = _states(observed)
    quantises, observers = _paired(
        quantises, [node for node in observed.graph.nodes if _observes(node, written)], observed
    )
    found = [Activation(node.name, float(node.args[1]), int(node.args[2])) for node in quantises]
    looked_at = samples[: SEQUENCE if exported.graph_signature.buffers_to_mutate else SAMPLES]
    for reals, integers in zip(_reals(observed, observers, looked_at), traces(exported, looked_at), strict=True):
        for one, node, real in zip(found, quantises, reals, strict=True):
            _add(one, real, torch.from_numpy(integers[node.name]), int(node.args[3]), int(node.args[4]))
    return found


def _paired(
    quantises: list[fx.Node], observers: list[fx.Node], observed: fx.GraphModule
) -> tuple[list[Any], list[fx.Node]]:
    """Both without those that have no counterpart of the same scale and zero point, in order."""
    if len(quantises) == len(observers):
        return quantises, observers
    stored = [node.args[1:3] for node in quantises]
    modules: list[Any] = [observed.get_submodule(str(node.target)) for node in observers]
    seen = [tuple(one.item() for one in module.calculate_qparams()) for module in modules]
    blocks = difflib.SequenceMatcher(None, stored, seen, autojunk=False).get_matching_blocks()
    pairs = [(quantises[one.a + at], observers[one.b + at]) for one in blocks for at in range(one.size)]
    return [quantise for quantise, _ in pairs], [observer for _, observer in pairs]


def _states(observed: fx.GraphModule) -> set[str]:
    """The buffers that the network writes."""
    return {str(state.target) for state in states(observed.graph)}


def _observes(node: fx.Node, written: Collection[str]) -> bool:
    """An observer of what depends on the network's inputs or states: those of weights become constants, not
    instructions."""
    if not _is_observer(node):
        return False
    todo, seen = [node], {node}
    while todo:
        for source in todo.pop().all_input_nodes:
            if source.op == "placeholder" or (source.op == "get_attr" and source.target in written):
                return True
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return False


def _is_observer(node: fx.Node) -> bool:
    return node.op == "call_module" and "activation_post_process" in str(node.target)


def without_observers(observed: fx.GraphModule) -> fx.GraphModule:
    """The float network alone, with batch normalisation where training put it."""
    plain = copy.deepcopy(observed)
    for node in list(plain.graph.nodes):
        if _is_observer(node):
            node.replace_all_uses_with(node.args[0])
            plain.graph.erase_node(node)
    plain.recompile()
    return plain


class _Reals(fx.Interpreter):
    """Runs the network without its observers observing or rounding."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Tensor:
        if _is_observer(n):
            (source,), _ = self.fetch_args_kwargs_from_env(n)
            self.seen[n.name] = source.detach().clone()
            return source  # type: ignore[no-any-return]
        return super().run_node(n)  # type: ignore[no-any-return]


def _reals(
    observed: fx.GraphModule, observers: Sequence[fx.Node], samples: Iterable[Sequence[Tensor]]
) -> Iterator[list[Tensor]]:
    runner = _Reals(copy.deepcopy(observed))  # a run changes the states
    for inputs in samples:
        with torch.no_grad():
            runner.run(*inputs)
        yield [runner.seen[node.name] for node in observers]


def _add(one: Activation, real: Tensor, integers: Tensor, qmin: int, qmax: int) -> None:
    real = real.double()
    restored = (integers.double() - one.zero_point) * one.scale
    one.signal += float((real**2).sum())
    one.noise += float(((real - restored) ** 2).sum())
    one.low, one.high = min(one.low, float(real.min())), max(one.high, float(real.max()))
    least, most = ((bound - one.zero_point) * one.scale for bound in (qmin - 0.5, qmax + 0.5))
    one.saturated += int(((real < least) | (real > most)).sum())
    one.elements += real.numel()
