"""Branches and loops in a network that is to be int8: each body is a graph of its own, prepared by itself and observed
as it runs, and where values meet (results of branches, what a loop carries, rows of tables) they have one scale.

In an exported graph the weights of a body are operands like any other. While scales are chosen they are constants of
the body (`take_in`), because only constants have a scale for each channel; to be exported again they are operands once
more (`give_back`).
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torchao.quantization.pt2e import DerivedObserverOrFakeQuantize, quantize_pt2e

from etexport.frontend.quantize.observe import OBSERVER, kept_states
from etexport.frontend.quantize.states import is_state

control = torch.ops.higher_order

_OPERANDS = {control.cond: (3,), control.while_loop: (2, 3), control.scan: (1, 2, 3), control.map_impl: (1, 2)}
"""Which arguments hold what the bodies are given, in the order of their parameters."""
_FIRST = {control.while_loop: 2, control.scan: 1}
"""Which holds what a loop carries."""
_ROWS = {control.scan: 2, control.map_impl: 1}
"""Which holds tables, of which each round is given a row."""
MOST_CALLS = 32
"""Of each body, that show what its values are."""


@dataclass(frozen=True, eq=False)
class Block:
    """A branch or a loop in a graph. `bodies` are the graphs' names in the module, those that give results last."""

    node: Node
    bodies: tuple[str, ...]
    operands: tuple[Any, ...]
    carried: int
    """So many of the operands, and of the results, are what a loop carries."""
    rows: range
    """Which operands are tables."""

    @property
    def making(self) -> tuple[str, ...]:
        """The bodies that give results: all but the condition of a loop."""
        return self.bodies[1:] if self.node.target is control.while_loop else self.bodies

    def results(self) -> dict[int, list[Node]]:
        """By number, the nodes that take it out."""
        found: dict[int, list[Node]] = {}
        for reader in self.node.users:
            if reader.target is operator.getitem:
                found.setdefault(int(str(reader.args[1])), []).append(reader)
        return found


def blocks(graph: Graph) -> list[Block]:
    return [_block(node) for node in graph.nodes if node.op == "call_function" and node.target in _OPERANDS]


def _block(node: Node) -> Block:
    target: Any = node.target
    lists = {at: list(node.args[at]) for at in _OPERANDS[target]}  # type: ignore[arg-type]
    bodies = tuple(str(one.target) for one in node.args if isinstance(one, Node) and is_body(one))
    before = len(lists[_FIRST[target]]) if target in _FIRST else 0
    rows = len(lists[_ROWS[target]]) if target in _ROWS else 0
    operands = tuple(one for every in lists.values() for one in every)
    return Block(node, bodies, operands, before, range(before, before + rows))


def is_body(node: Node) -> bool:
    module = node.graph.owning_module
    return node.op == "get_attr" and isinstance(getattr(module, str(node.target), None), nn.Module)


def bodies(model: GraphModule) -> Iterator[tuple[GraphModule, str, GraphModule]]:
    """All graphs within the graph, the innermost first: whose it is, its name there, and it."""
    for block in blocks(model.graph):
        for name in block.bodies:
            body = getattr(model, name)
            yield from bodies(body)
            yield model, name, body


def parameters_of(body: GraphModule) -> list[Node]:
    return [node for node in body.graph.nodes if node.op == "placeholder"]


def given_by(body: GraphModule) -> list[Any]:
    """What a body's graph returns."""
    (results,) = end_of(body).args
    return list(results) if isinstance(results, (tuple, list)) else [results]


def end_of(body: GraphModule) -> Node:
    end: Node = next(iter(reversed(body.graph.nodes)))
    return end


# ---- weights ---------------------------------------------------------------------------------------------------------


def take_in(model: GraphModule) -> None:
    """Constants that bodies are given become theirs. Each block gets bodies of its own."""
    used: set[str] = set()
    for block in blocks(model.graph):
        for at, name in enumerate(block.bodies):
            if name in used:
                _own_body(model, block.node, name, f"{name}_of_{block.node.name}")
            used.add(_block(block.node).bodies[at])
        block = _block(block.node)
        every = [getattr(model, name) for name in block.bodies]
        for body in every:
            _know_values(body, block)
        constants = {at: one for at, one in enumerate(block.operands) if at >= block.rows.stop and _is_constant(one)}
        for body in every:
            parameters = parameters_of(body)
            for at, one in constants.items():
                name = f"given_{at}"
                content = operator.attrgetter(str(one.target))(model)
                if content.is_floating_point():
                    content = nn.Parameter(content.detach(), requires_grad=False)
                setattr(body, name, content)
                with body.graph.inserting_before(parameters[at]):
                    constant = body.graph.get_attr(name)
                constant.meta.update(parameters[at].meta)
                parameters[at].replace_all_uses_with(constant)
                body.graph.erase_node(parameters[at])
            body.graph.eliminate_dead_code()
            body.recompile()
        _set_operands(block.node, [one for at, one in enumerate(block.operands) if at not in constants])
        for body in every:
            take_in(body)
    model.graph.eliminate_dead_code()
    model.recompile()


def _is_constant(one: object) -> bool:
    return isinstance(one, Node) and one.op == "get_attr" and not is_state(one)


def _own_body(model: GraphModule, node: Node, name: str, new: str) -> None:
    setattr(model, new, copy.deepcopy(getattr(model, name)))
    old = next(one for one in node.args if isinstance(one, Node) and one.target == name)
    with model.graph.inserting_before(node):
        node.replace_input_with(old, model.graph.get_attr(new))


def _know_values(body: GraphModule, block: Block) -> None:
    """Parameters that torch left without a shape have that of their operand."""
    for at, (parameter, one) in enumerate(zip(parameters_of(body), block.operands, strict=True)):
        if "val" not in parameter.meta and isinstance(one, Node):
            value = one.meta["val"]
            parameter.meta["val"] = value[0] if at in block.rows else value


def _set_operands(node: Node, operands: Sequence[Any]) -> None:
    """These for what the bodies are given. Only the last of the arguments may change its length."""
    left, args = list(operands), list(node.args)
    places = _OPERANDS[node.target]  # type: ignore[index]
    for at in places:
        count = len(left) if at == places[-1] else len(node.args[at])  # type: ignore[arg-type]
        args[at] = tuple(left[:count])
        left = left[count:]
    node.args = tuple(args)


def give_back(model: GraphModule) -> None:
    """What bodies hold is given to them again, from outside of all of them."""
    for block in blocks(model.graph):
        every = [getattr(model, name) for name in block.bodies]
        for body in every:
            give_back(body)
            for parameter in reversed(parameters_of(body)):
                next(iter(body.graph.nodes)).prepend(parameter)
        operands = list(block.operands)
        for name, body in zip(block.bodies, every, strict=True):
            held: dict[str, list[Node]] = {}
            for node in body.graph.nodes:
                if node.op == "get_attr" and not is_body(node):
                    held.setdefault(str(node.target), []).append(node)
            for target, nodes in held.items():
                content = operator.attrgetter(target)(body)
                own = f"{name}_{target}".replace(".", "_")
                model.register_buffer(own, content.detach(), persistent=True)
                with model.graph.inserting_before(block.node):
                    operands.append(model.graph.get_attr(own))
                for other in every:  # all of them take the same operands
                    last = parameters_of(other)
                    with other.graph.inserting_after(last[-1]) if last else other.graph.inserting_before():
                        parameter = other.graph.placeholder(own)
                    if other is body:
                        parameter.meta.update(nodes[0].meta)
                        for node in nodes:
                            node.replace_all_uses_with(parameter)
                            other.graph.erase_node(node)
        for body in every:
            body.recompile()
        _set_operands(block.node, operands)
    model.recompile()


# ---- running ---------------------------------------------------------------------------------------------------------


class Within(Interpreter):
    """Runs a graph whose bodies are run by `inner(body)` in its place, given its name."""

    def __init__(self, model: GraphModule, inner: Callable[[GraphModule], Callable[..., Any]]) -> None:
        super().__init__(model)
        self.inner = inner

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(target, with_bodies(target, args, self.inner), kwargs)


def with_bodies(target: Any, args: tuple[Any, ...], inner: Callable[[GraphModule], Callable[..., Any]]) -> Any:
    """The arguments of a branch or a loop with `inner(body)` for each body; others as they are."""
    if target not in _OPERANDS:
        return args
    return tuple(inner(one) if isinstance(one, GraphModule) else one for one in args)


Given = dict[str, list[tuple[Any, ...]]]
"""What each body is given, by its path, in the order of the calls."""


def given(model: GraphModule, samples: Sequence[Sequence[Tensor]]) -> Given:
    """What the bodies of a float graph are given while the samples run: of each body some of its calls, spread over all
    samples."""
    found: Given = {}
    most = max(2, MOST_CALLS // max(1, len(samples)))
    calls: dict[str, int] = {}
    paths = {id(body): path for path, body in _paths(model, "")}

    def inner(body: GraphModule) -> Callable[..., Any]:
        path = paths[id(body)]

        def run(*operands: Any) -> Any:
            calls[path] = calls.get(path, 0) + 1
            if calls[path] <= most:
                kept = [one.detach().clone() if isinstance(one, Tensor) else one for one in operands]
                found.setdefault(path, []).append(tuple(kept))
            return Within(body, inner).run(*operands)

        return run

    if paths:
        with torch.no_grad(), kept_states(model):
            for sample in samples:
                calls.clear()
                Within(model, inner).run(*sample)
    return found


def _paths(model: GraphModule, before: str) -> Iterator[tuple[str, GraphModule]]:
    for block in blocks(model.graph):
        for name in block.bodies:
            body = getattr(model, name)
            yield f"{before}{name}", body
            yield from _paths(body, f"{before}{name}.")


# ---- observers -------------------------------------------------------------------------------------------------------


def observer_at(node: object) -> str | None:
    """The name of the observer that a node is, if it is one."""
    is_one = isinstance(node, Node) and node.op == "call_module" and OBSERVER in str(node.target)
    return str(node.target) if is_one and isinstance(node, Node) else None


def share(model: GraphModule, groups: Sequence[Sequence[tuple[GraphModule, str]]]) -> None:
    """One observer for each group of places, and for whatever else the observers of these places observe."""
    parents: dict[int, int] = {}
    known: dict[int, nn.Module] = {}

    def root(one: int) -> int:
        while parents[one] != one:
            one = parents[one]
        return one

    for group in groups:
        places = [getattr(owner, name) for owner, name in group]
        for module in places:
            known.setdefault(id(module), module)
            parents.setdefault(id(module), id(module))
        for module in places[1:]:
            parents[root(id(module))] = root(id(places[0]))
    owners = [model, *(body for _, _, body in bodies(model))]
    for owner in owners:
        for name, module in list(owner._modules.items()):
            if module is not None and id(module) in parents:
                setattr(owner, name, known[root(id(module))])
            if isinstance(module, DerivedObserverOrFakeQuantize):  # of biases
                module.obs_or_fqs = [known[root(id(one))] if id(one) in parents else one for one in module.obs_or_fqs]


def prepare_alone(model: GraphModule, quantizer: Any) -> GraphModule:
    """As torchao's `prepare_pt2e`, which goes on in the bodies of some loops with the same quantizer: not here."""
    prepare = quantize_pt2e.prepare_pt2e
    quantize_pt2e.prepare_pt2e = lambda body, quantizer: body
    try:
        found: GraphModule = prepare(model, quantizer)
    finally:
        quantize_pt2e.prepare_pt2e = prepare
    return found


def convert_alone(model: GraphModule) -> GraphModule:
    """As torchao's `convert_pt2e`, and nothing else than this graph: it would look into bodies, and forgets theirs."""
    held = {name: getattr(model, name) for block in blocks(model.graph) for name in block.bodies}
    for name in held:
        empty = Graph()
        empty.output(())
        setattr(model, name, GraphModule(nn.Module(), empty))
    convert = quantize_pt2e.convert_pt2e
    quantize_pt2e.convert_pt2e = lambda body, **settings: body
    try:
        found: GraphModule = convert(model)
    finally:
        quantize_pt2e.convert_pt2e = convert
    for name, body in held.items():
        setattr(found, name, body)
    return found
