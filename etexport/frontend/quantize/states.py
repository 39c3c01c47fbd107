"""The states of a graph: which buffers it writes, and which of them are accumulators, whose steps are smaller than int8
can say."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from etexport.frontend.quantize.declared import int8_of
from etexport.frontend.quantize.observe import kept_states
from etexport.kernel.int8 import State

aten = torch.ops.aten

FEW = 512
"""Numbers in states, whose int8 saves less than its kernels are larger."""
LOSS_DB = 6.0
"""A state that runs in int8 may be so much further from the float one than its values are when they are rounded once:
one bit. An average y = a y + (1 - a) x loses 4.4 dB for a = 0.8, 7.2 for 0.9, and stands still where a step is less
than half a unit."""


def is_state(node: object) -> bool:
    """Is it a buffer that the network writes?"""
    return isinstance(node, Node) and node.op == "get_attr" and write_back(node) is not None


def is_write(node: Node) -> bool:
    """Does it write a buffer, as functional graphs do at their end?"""
    return node.target is aten.copy_.default


def write_back(state: Node) -> Node | None:
    """What writes the buffer."""
    return next((user for user in state.users if is_write(user) and user.args[0] is state), None)


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

    The network runs the samples as a sequence, in float but for the states, which are rounded after each sample in the
    range that they reach. As long as one loses too much, the one that loses most is taken out.
    """
    names = [str(state.target) for state in states(model.graph)]
    names = [
        name
        for name in dict.fromkeys(names)
        if _buffer(model, name).dtype is torch.float32 and _buffer(model, name).numel()
    ]
    if not names or not samples:
        return {}
    real = _run(model, samples, names, {})
    units = {name: (max(float(one.max()), 0.0) - min(float(one.min()), 0.0)) / 255 for name, one in real.items()}
    units = {name: unit for name, unit in units.items() if unit > 0 and math.isfinite(unit)}
    found: dict[str, float] = {}
    while units:
        rounded = _run(model, samples, list(units), units)
        losses = {name: loss_db(real[name], rounded[name], unit) for name, unit in units.items()}
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


def _run(
    model: GraphModule, samples: Sequence[Sequence[Tensor]], names: Sequence[str], units: dict[str, float]
) -> dict[str, Tensor]:
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


def loss_db(real: Tensor, rounded: Tensor, unit: float) -> float:
    real, rounded = real.double(), rounded.double()
    once = float(((torch.round(real / unit) * unit - real) ** 2).mean())
    noise = float(((rounded - real) ** 2).mean())
    floor = unit**2 / 12 / 100  # values that int8 says exactly, as a counter's, have no noise to compare with
    return 10 * math.log10(max(noise, floor) / max(once, floor)) if math.isfinite(noise) else math.inf


def carries(state: Node) -> set[Node]:
    """The sums, products and movements by which the state's own values come into what is written to it, maybe by way of
    other states (the next in a chain of delays), and those that do nothing but feed these: the noise of what is added
    up again and again is added up too."""
    write = write_back(state)
    assert write is not None
    value = write.args[1]
    assert isinstance(value, Node)
    written = states(state.graph)
    # the state that a value becomes at the end of the step
    read = {one.args[1]: other for other, one in written.items()}

    def forwards(node: Node) -> Iterable[Node]:
        return [*node.users, *([read[node]] if node in read else [])]

    def backwards(node: Node) -> Iterable[Node]:
        return [written[node].args[1]] if node in written else node.all_input_nodes  # type: ignore[list-item]

    passes = {*written, *(node for node in state.graph.nodes if _leads(node) is not None)}
    found = (_spread(state, forwards, passes) & {value, *_spread(value, backwards, passes)}) - written.keys()
    return _and_what_feeds(found)


def carries_on(parameter: Node, value: Node) -> set[Node]:
    """The same of what a loop carries: from a parameter of its body to what the body gives in its place."""
    passes = {node for node in value.graph.nodes if _leads(node) is not None}
    forwards = _spread(parameter, lambda node: node.users, passes)
    backwards = _spread(value, lambda node: node.all_input_nodes, passes)
    return _and_what_feeds(forwards & {value, *backwards})


def _and_what_feeds(found: set[Node]) -> set[Node]:
    while True:
        fed = {
            one
            for node in found
            for one in node.all_input_nodes
            if _leads(one) in (State.SUM, State.ELEMENTS) and found.issuperset(one.users)
        } - found
        if not fed:
            return found
        found |= fed


def is_small_filter(graph: Graph) -> bool:
    """Does the network nothing but add up, multiply and move numbers, from step to step, and few of them?

    Two biquads have 8 numbers of state. In int8 these are 24 bytes less, and the kernels that requantise 1,840 bytes
    for 548.
    """
    floats = [state for state in states(graph) if state.meta["val"].dtype is torch.float32]
    computing = [node for node in graph.nodes if node.op == "call_function" and not is_write(node)]
    few = sum(state.meta["val"].numel() for state in floats) <= FEW
    adds = any(_leads(node) in (State.SUM, State.TOTAL) for state in floats for node in carries(state))
    return few and adds and all(_leads(node) not in (None, State.PRODUCTS) for node in computing)


def _spread(start: Node, following: Callable[[Node], Iterable[Node]], passes: Collection[Node]) -> set[Node]:
    found: set[Node] = set()
    todo = [start]
    while todo:
        for node in following(todo.pop()):
            if node not in found and node in passes:
                found.add(node)
                todo.append(node)
    return found


def _leads(node: Node) -> State | None:
    """What the operator is on the way from a state to its next value. A piece of what has been taken apart is moved."""
    return State.MOVED if node.target is operator.getitem else int8_of(node).state
