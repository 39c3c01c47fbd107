"""Empirical bias correction: what int8 adds to a layer's results on the average over real data is taken out of its
bias.

Layer after layer in the order of the graph, each reading what the layers before it give once these are corrected. Costs
nothing on a board. Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019,
section 4.2.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from etexport.frontend.quantize.declared import is_layer, weights_of
from etexport.frontend.quantize.observe import kept_states
from etexport.frontend.quantize.simulate import Network, Sample
from etexport.frontend.quantize.states import is_write

FEWEST = 8
"""Samples: the mean of fewer says nothing."""
MOST_BYTES = 2**28
"""Of values that are held at once; fewer samples are used rather than more memory."""

Biases = dict[str, Tensor]
"""Corrected biases by the name of the parameter."""


def corrected(prepared: GraphModule, samples: Sequence[Sample]) -> Biases:
    """The biases that take the mean error out of each layer that has a bias of its own; {} of a network with states, or
    of few samples.

    A correction that is less than the standard error of its mean is left out.
    """
    layers = _layers(prepared)
    samples = samples[: max(FEWEST, MOST_BYTES // max(_bytes(prepared), 1))]
    if not layers or len(samples) < FEWEST or _keeps_states(prepared):
        return {}
    float_network, int8_network = (Network(prepared, in_int8=in_int8) for in_int8 in (False, True))
    reals: list[dict[Node, Any]] = [{} for _ in samples]
    integers: list[dict[Node, Any]] = [{} for _ in samples]
    last = _last_readers(prepared)
    found: Biases = {}
    with torch.no_grad(), kept_states(prepared):
        inputs = [node for node in prepared.graph.nodes if node.op == "placeholder"]
        for values in (reals, integers):
            for sample, known in zip(samples, values, strict=True):
                known.update(zip(inputs, sample, strict=True))
        for node in prepared.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            for network, values in ((float_network, reals), (int8_network, integers)):
                for known in values:
                    network.env = known
                    known[node] = network.run_node(node)
            if node in layers:
                found.update(_correct(node, layers[node], reals, integers, prepared))
            for gone in last.get(node, ()):
                for known in (*reals, *integers):
                    del known[gone]
    return found


def apply(prepared: GraphModule, biases: Biases) -> Biases:
    """Put these biases in the place of the network's; returns those that were there."""
    before = {}
    for name, bias in biases.items():
        path, _, leaf = name.rpartition(".")
        before[name] = getattr(prepared.get_submodule(path), leaf)
        setattr(prepared.get_submodule(path), leaf, nn.Parameter(bias.detach(), requires_grad=False))
    return before


def _correct(
    node: Node, name: str, reals: Sequence[dict[Node, Any]], integers: Sequence[dict[Node, Any]], model: GraphModule
) -> Biases:
    """The layer's corrected bias; the values of the int8 network are corrected with it."""
    shape = [1] * reals[0][node].dim()
    place = _channel_dim(node)
    shape[place] = -1
    errors = torch.stack([_mean(real[node] - got[node], place) for real, got in zip(reals, integers, strict=True)])
    mean, doubt = errors.mean(0), errors.std(0) / len(errors) ** 0.5
    change = torch.where(mean.abs() > doubt, mean, 0.0)  # nothing of what is no number
    for got in integers:
        got[node] += change.reshape(shape)
    return {name: operator.attrgetter(name)(model) + change}


def _mean(error: Tensor, dim: int) -> Tensor:
    return error.movedim(dim, 0).reshape(error.shape[dim], -1).mean(1)


def _channel_dim(node: Node) -> int:
    if weights_of(node).rows:
        return -1
    weight: Any = node.args[1]
    return 1 - int(weight.args[0].meta["val"].dim())  # before the dimensions of the window


def _layers(prepared: GraphModule) -> dict[Node, str]:
    """The layers that int8 computes, with the name of the bias that is theirs alone."""
    names = [str(node.target) for node in prepared.graph.nodes if node.op == "get_attr"]
    found = {}
    for node in prepared.graph.nodes:
        bias = node.args[2] if is_layer(node) and len(node.args) > 2 else None
        parameter = (
            bias.args[0] if isinstance(bias, Node) and bias.op == "call_module" and len(bias.users) == 1 else None
        )
        if isinstance(parameter, Node) and parameter.op == "get_attr" and names.count(str(parameter.target)) == 1:
            found[node] = str(parameter.target)
    return found


def _keeps_states(prepared: GraphModule) -> bool:
    """Whether one sample's values depend on the sample before."""
    return any(is_write(node) for node in prepared.graph.nodes)


def _last_readers(prepared: GraphModule) -> dict[Node, list[Node]]:
    """By a node, those whose results nothing reads after it."""
    order = {node: at for at, node in enumerate(prepared.graph.nodes)}
    found: dict[Node, list[Node]] = {}
    for node in prepared.graph.nodes:
        if node.op != "output" and node.users:
            found.setdefault(max(node.users, key=order.__getitem__), []).append(node)
    return found


def _bytes(prepared: GraphModule) -> int:
    """Of the largest result, of which a handful are held in float and in int8: a bound that is near enough."""
    values = [node.meta.get("val") for node in prepared.graph.nodes]
    return 16 * max((one.numel() * one.element_size() for one in values if isinstance(one, Tensor)), default=0)
