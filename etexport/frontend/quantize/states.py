"""The states of a graph: which buffers it writes, and which of them are accumulators, whose steps are smaller than int8 can say."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from etexport.frontend.quantize.observe import kept_states

aten = torch.ops.aten

FEW = 512
"""Numbers in states, whose int8 saves less than its kernels are larger."""
LOSS_DB = 6.0
"""A state that runs in int8 may be so much further from the float one than its values are when they are rounded once: one bit. An average
y = a y + (1 - a) x loses 4.4 dB for a = 0.8, 7.2 for 0.9, and stands still where a step is less than half a unit."""


def is_state(node: object) -> bool:
    """Is it a buffer that the network writes?"""
    return isinstance(node, Node) and node.op == "get_attr" and write_back(node) is not None


def write_back(state: Node) -> Node | None:
    """What writes the buffer."""
    return next((user for user in state.users if user.target is aten.copy_.default and user.args[0] is state), None)


def states(graph: Graph) -> dict[Node, Node]:
    """The buffers that are written, and what writes them."""
    found = {node: write_back(node) for node in graph.nodes if node.op == "get_attr"}
    return {state: write for state, write in found.items() if write is not None}


def driven(graph: Graph) -> set[Node]:
    """What depends on the inputs, also by way of states; what changes by itself goes on as it was seen to."""
    found: set[Node] = {node for node in graph.nodes if node.op == "placeholder"}
    while True:
        before = len(found)
        for node in graph.nodes:
            if not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        found |= {state for state, write in states(graph).items() if write.args[1] in found}
        if len(found) == before:
            return found


def accumulators(model: GraphModule, samples: Sequence[Sequence[Tensor]]) -> dict[str, float]:
    """The float states that lose more than LOSS_DB when they are int8, by name, each with its loss in dB.

    The network runs the samples as a sequence, in float but for the states, which are rounded after each sample in the range that they
    reach. As long as one loses too much, the one that loses most is taken out.
    """
    names = [str(state.target) for state in states(model.graph)]
    names = [name for name in dict.fromkeys(names) if _buffer(model, name).dtype is torch.float32 and _buffer(model, name).numel()]
    if not names or not samples:
        return {}
    real = _run(model, samples, names, {})
    units = {name: (max(float(one.max()), 0.0) - min(float(one.min()), 0.0)) / 255 for name, one in real.items()}
    units = {name: unit for name, unit in units.items() if unit > 0 and math.isfinite(unit)}
    found: dict[str, float] = {}
    while units:
        rounded = _run(model, samples, list(units), units)
        losses = {name: _loss_db(real[name], rounded[name], unit) for name, unit in units.items()}
        worst = max(losses, key=lambda name: losses[name])
        if losses[worst] <= LOSS_DB:
            break
        found[worst] = losses[worst]
        del units[worst]
    return found


def _buffer(model: GraphModule, name: str) -> Tensor:
    path, _, leaf = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(path), leaf)
    return found


def _run(model: GraphModule, samples: Sequence[Sequence[Tensor]], names: Sequence[str], units: dict[str, float]) -> dict[str, Tensor]:
    """(samples, *shape) of each state after each sample; those with a unit are rounded to multiples of it."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.no_grad(), kept_states(model):
        for inputs in samples:
            model(*inputs)
            for name in names:
                state = _buffer(model, name)
                if name in units:
                    state.copy_(torch.round(state / units[name]) * units[name])
                seen[name].append(state.clone())
    return {name: torch.stack(every) for name, every in seen.items()}


def _loss_db(real: Tensor, rounded: Tensor, unit: float) -> float:
    real, rounded = real.double(), rounded.double()
    once = float(((torch.round(real / unit) * unit - real) ** 2).mean())
    noise = float(((rounded - real) ** 2).mean())
    floor = unit**2 / 12 / 100  # values that int8 says exactly, as a counter's, have no noise to compare with
    return 10 * math.log10(max(noise, floor) / max(once, floor)) if math.isfinite(noise) else math.inf


def carries(state: Node) -> set[Node]:
    """The sums, products and movements by which the state's own values come into what is written to it, maybe by way of other states (the
    next in a chain of delays), and those that do nothing but feed these: the noise of what is added up again and again is added up too."""
    write = write_back(state)
    assert write is not None
    value = write.args[1]
    assert isinstance(value, Node)
    written = states(state.graph)
    read = {one.args[1]: other for other, one in written.items()}  # the state that a value becomes at the end of the step

    def forwards(node: Node) -> Iterable[Node]:
        return [*node.users, *([read[node]] if node in read else [])]

    def backwards(node: Node) -> Iterable[Node]:
        return [written[node].args[1]] if node in written else node.all_input_nodes  # type: ignore[list-item]

    passes = {*written, *(node for node in state.graph.nodes if node.target in _CARRYING)}
    found = (_spread(state, forwards, passes) & {value, *_spread(value, backwards, passes)}) - written.keys()
    while True:
        fed = {one for node in found for one in node.all_input_nodes if one.target in _ADDING and found.issuperset(one.users)} - found
        if not fed:
            return found
        found |= fed


def is_small_filter(graph: Graph) -> bool:
    """Does the network nothing but add up, multiply and move numbers, from step to step, and few of them?

    Two biquads have 8 numbers of state. In int8 these are 24 bytes less, and the kernels that requantise 1,840 bytes for 548.
    """
    floats = [state for state in states(graph) if state.meta["val"].dtype is torch.float32]
    computing = [node for node in graph.nodes if node.op == "call_function" and node.target is not aten.copy_.default]
    few = sum(state.meta["val"].numel() for state in floats) <= FEW
    adds = any(node.target in _SUMS for state in floats for node in carries(state))
    return few and adds and all(node.target in _CARRYING - _LAYERS for node in computing)


def _spread(start: Node, following: Callable[[Node], Iterable[Node]], passes: Collection[Node]) -> set[Node]:
    found: set[Node] = set()
    todo = [start]
    while todo:
        for node in following(todo.pop()):
            if node not in found and node in passes:
                found.add(node)
                todo.append(node)
    return found


_ADDING = frozenset({
    aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor, aten.rsub.Scalar, aten.rsub.Tensor, aten.mul.Tensor,
    aten.mul_.Tensor, aten.div.Tensor, aten.div_.Tensor, aten.neg.default, aten.lerp.Scalar, aten.lerp.Tensor, aten.clone.default,
    aten.addcmul.default, aten.view.default, aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dim, aten.where.self,
    aten.clamp.default, aten.clamp_min.default, aten.minimum.default, aten.maximum.default,
})  # fmt: skip
"""Sums, products and movements of elements."""

_CARRYING = _ADDING | {
    aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten.dot.default, aten.mv.default, aten.matmul.default,
    aten.mm.default, aten.bmm.default, aten.linear.default, aten.addmm.default, aten.conv1d.default, aten.conv2d.default,
    aten.cat.default, aten.stack.default, aten.slice.Tensor, aten.select.int, aten.squeeze.default, aten.squeeze.dims,
    aten.permute.default, aten.transpose.int, aten.t.default, aten.expand.default, aten.flatten.using_ints, aten.roll.default,
    aten.flip.default, aten.unbind.int, aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, operator.getitem,
    aten.slice_scatter.default, aten.select_scatter.default, aten.index_put.default, aten.index_copy.default, aten.index.Tensor,
    aten.index_select.default,
}  # fmt: skip
"""All that is linear: weighted sums, and movements between the places of a state, as in a row of delays."""

_LAYERS = frozenset({
    aten.dot.default, aten.mv.default, aten.matmul.default, aten.mm.default, aten.bmm.default, aten.linear.default, aten.addmm.default,
    aten.conv1d.default, aten.conv2d.default,
})  # fmt: skip
_SUMS = frozenset({
    aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor, aten.rsub.Scalar, aten.rsub.Tensor, aten.lerp.Scalar,
    aten.lerp.Tensor, aten.addcmul.default, aten.sum.default, aten.sum.dim_IntList,
})  # fmt: skip
