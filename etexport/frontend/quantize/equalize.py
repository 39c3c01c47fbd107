"""Cross-layer equalisation: channels of very different size, which one scale has to serve, made alike without changing
the float network.

Where f(s x) = s f(x) for s > 0 lies between layer A and the layers B that read its result, channel c of A divided by s
and the weights of B for it times s give the same results. Source: Nagel et al., Data-Free Quantization Through Weight
Equalization and Bias Correction, 2019.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from etexport.frontend.quantize.blocks import is_body
from etexport.frontend.quantize.declared import groups_of, int8_of, is_layer, weights_of
from etexport.kernel.int8 import Channels

ROUNDS = 10
DONE = 0.01
"""A round that changes no channel by more than this share is the last."""
FARTHEST = 1e4
"""No channel is scaled by more, nor by less than its reciprocal."""


@dataclass(frozen=True, eq=False)
class _Reader:
    """A layer that reads a scaled tensor, and for each of its inputs (as its weights have them) the channel of the
    tensor."""

    layer: Node
    channels: Tensor


@dataclass(frozen=True, eq=False)
class Pair:
    """A layer and those that read its result, all of them."""

    layer: Node
    readers: tuple[_Reader, ...]


def pairs(model: GraphModule) -> list[Pair]:
    """Where equalisation is exact."""
    found = []
    if not _is_static(model):
        return []
    tied = _tied(model)
    for node in model.graph.nodes:
        is_grouped = (
            is_layer(node) and weights_of(node).channel_dim == 1 and groups_of(node) > 1
        )  # whose weights hold no channel of their own
        if is_layer(node) and _has_own_weights(model, node, tied) and not is_grouped:
            channels = torch.arange(_channels(node))
            shape = node.meta["val"].shape
            place = len(shape) - 1 if weights_of(node).rows else len(shape) - _spatial(node) - 1
            labels = channels.reshape([-1 if dim == place else 1 for dim in range(len(shape))]).expand(shape)
            readers = list(_readers(model, node, labels, tied))
            if readers and None not in readers:
                found.append(Pair(node, tuple(one for one in readers if one is not None)))
    return found


def spread(model: GraphModule, pair: Pair) -> float:
    """How many times as large as the median channel the largest one is, in the weights that read them."""
    reading = _reading(model, pair)
    reading = reading[reading > 0]
    return float(reading.max() / reading.median()) if reading.numel() else 1.0


def equalized(model: GraphModule) -> GraphModule:
    """A copy of the network with its layers equalised; the same where no pair is."""
    model = copy.deepcopy(model)
    found = pairs(model)
    done = {pair.layer: torch.ones(_channels(pair.layer)) for pair in found}
    for _ in range(ROUNDS):
        moved = 0.0
        for pair in found:
            making, reading = _making(model, pair.layer), _reading(model, pair)
            factor = torch.where((making > 0) & (reading > 0), torch.sqrt(making / reading), torch.ones_like(making))
            whole = (done[pair.layer] * factor).clamp(1 / FARTHEST, FARTHEST)
            factor, done[pair.layer] = whole / done[pair.layer], whole
            moved = max(moved, float((factor.log()).abs().max()))
            _scale(model, pair, factor)
        if moved < DONE:
            break
    return model


def _is_static(model: GraphModule) -> bool:
    """Whether all sizes are numbers."""
    values = [node.meta.get("val") for node in model.graph.nodes]
    return all(isinstance(size, int) for value in values if isinstance(value, Tensor) for size in value.shape)


def _readers(model: GraphModule, node: Node, labels: Tensor, tied: Collection[str]) -> Iterator[_Reader | None]:
    """The layers behind the node's result, whose channels are `labels`; None for whatever else reads it."""
    for reader in node.users:
        if is_layer(reader) and reader.args[0] is node:
            channels = _inputs(reader, labels) if _has_own_weights(model, reader, tied) else None
            yield None if channels is None else _Reader(reader, channels)
            continue
        carried = _carried(reader, node, labels)
        if carried is None:
            yield None
        else:
            yield from _readers(model, reader, carried, tied)


def _carried(node: Node, source: Node, labels: Tensor) -> Tensor | None:
    """The channel of each element of the node's result, if it scales as its operand does."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, Tensor) or node.args[0] is not source:
        return None
    channels = int8_of(node).channels
    if channels is Channels.ALIKE or (channels is Channels.BY_NUMBER and isinstance(node.args[1], (int, float))):
        return labels
    if channels is Channels.MOVED:
        assert callable(node.target)
        moved: Tensor = node.target(labels, *node.args[1:], **node.kwargs)
        return moved
    if channels is Channels.PADDED:
        widths: Any = node.args[1]
        how = [*node.args[2:], *node.kwargs.values()]
        if any(one not in (0, None, "constant") for one in how):
            return None
        return _along(labels, len(widths) // 2, value.shape)
    if channels is Channels.WINDOW:
        return _along(labels, int8_of(node).spatial, value.shape)
    if channels is Channels.REDUCED:
        dims: Any = node.args[1] if len(node.args) > 1 else None
        keep = bool(node.args[2]) if len(node.args) > 2 else False
        if not dims:
            return None
        dims = [dims] if isinstance(dims, int) else list(dims)
        low, high = labels.amin(dims, keep), labels.amax(dims, keep)
        return low if torch.equal(low, high) else None
    return None


def _along(labels: Tensor, dims: int, shape: torch.Size) -> Tensor | None:
    """Labels that are the same along the last dimensions, for a result that has others there."""
    last = list(range(-dims, 0))
    low, high = labels.amin(last, keepdim=True), labels.amax(last, keepdim=True)
    return low.expand(shape) if torch.equal(low, high) and low.dim() == len(shape) else None


def _inputs(layer: Node, labels: Tensor) -> Tensor | None:
    """The channel for each input of the layer, in the form that its weights have them; None where an input mixes
    channels."""
    rows = labels.movedim(-1 if weights_of(layer).rows else -1 - _spatial(layer), 0)
    rows = rows.reshape(len(rows), -1) if rows.numel() else rows
    if rows.numel() == 0 or not torch.equal(rows.amin(1), rows.amax(1)):
        return None
    return rows[:, 0]


def _making(model: GraphModule, layer: Node) -> Tensor:
    """The largest weight of each channel that the layer makes."""
    return _content(model, layer.args[1]).abs().transpose(0, weights_of(layer).channel_dim).flatten(1).amax(1)


def _reading(model: GraphModule, pair: Pair) -> Tensor:
    """The largest weight for each channel among all readers."""
    found = torch.zeros(_channels(pair.layer))
    for reader in pair.readers:
        weight, groups = _content(model, reader.layer.args[1]).abs(), groups_of(reader.layer)
        if weights_of(reader.layer).channel_dim == 1:  # transposed: (inputs, outputs of a group, window)
            largest = weight.flatten(1).amax(1)
        else:  # (outputs, inputs of a group, window)
            largest = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).amax((1, 3)).flatten()
        found = found.scatter_reduce(0, reader.channels, largest, "amax")
    return found


def _scale(model: GraphModule, pair: Pair, factor: Tensor) -> None:
    """Channels of the layer divided by the factors, what reads them times the factors; the network is changed."""
    weight, dim = _content(model, pair.layer.args[1]), weights_of(pair.layer).channel_dim
    weight.div_(factor.reshape([-1 if at == dim else 1 for at in range(weight.dim())]))
    if len(pair.layer.args) > 2 and pair.layer.args[2] is not None:
        _content(model, pair.layer.args[2]).div_(factor)
    for reader in pair.readers:
        weight, groups = _content(model, reader.layer.args[1]), groups_of(reader.layer)
        of_input = factor[reader.channels]
        if weights_of(reader.layer).channel_dim == 0:
            of_input = of_input.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1).flatten(0, 1)
        weight.mul_(of_input.reshape(*of_input.shape, *[1] * (weight.dim() - of_input.dim())))


def _has_own_weights(model: GraphModule, layer: Node, tied: Collection[str]) -> bool:
    """Whether weights and bias are the layer's own parameters, which nothing else reads."""
    own = [one for one in layer.args[1:3] if one is not None]
    if not all(
        isinstance(one, Node) and one.op == "get_attr" and len(one.users) == 1 and one.target not in tied for one in own
    ):
        return False
    return all(_content(model, one).dtype is torch.float32 for one in own)


def _tied(model: GraphModule) -> set[str]:
    """The names of parameters that have another name too, or are read by two nodes."""
    names = [str(node.target) for node in model.graph.nodes if node.op == "get_attr" and not is_body(node)]
    places = {name: operator.attrgetter(name)(model).untyped_storage().data_ptr() for name in names}
    read, held = Counter(names), Counter(places.values())
    return {name for name in names if read[name] > 1 or held[places[name]] > 1}


def _content(model: GraphModule, node: Any) -> Tensor:
    found: Tensor = operator.attrgetter(str(node.target))(model)
    return found.detach()


def _channels(layer: Node) -> int:
    weight: Any = layer.args[1]
    return int(weight.meta["val"].shape[weights_of(layer).channel_dim])


def _spatial(layer: Node) -> int:
    """How many dimensions a window has."""
    weight: Any = layer.args[1]
    return int(weight.meta["val"].dim()) - 2
