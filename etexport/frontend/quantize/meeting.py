"""Observers in the bodies of branches and loops, and one scale where values meet.

What a body makes is int8 outside of it where each body that makes it stores it so; what a loop carries has one scale in
its first value, in each round and behind the loop, so that no requantisation stands where rounds meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from etexport.frontend.quantize import reasons
from etexport.frontend.quantize.blocks import (
    Block,
    Given,
    Within,
    blocks,
    given_by,
    observer_at,
    parameters_of,
    prepare_alone,
    share,
)
from etexport.frontend.quantize.observe import kept_states
from etexport.frontend.quantize.quantizer import ANNOTATION, Inside, Meet, MicrocontrollerQuantizer, known_spec
from etexport.frontend.quantize.states import LOSS_DB, is_state, loss_db

Make = Callable[[Sequence[Sequence[Tensor]], Inside], MicrocontrollerQuantizer]
"""Of the samples that show a graph's values, and of what is known where it meets others."""
Losses = Mapping[str, Mapping[int, float]]
"""By the path of a loop, what it carries that int8 would lose too much of, by number, and how much in dB."""

SAMPLES = 8
"""That show what a loop carries."""


def prepared(
    model: GraphModule, make: Make, samples: Sequence[Sequence[Tensor]], calls: Given, losses: Losses
) -> GraphModule:
    """The network with observers, in its bodies too. `calls` has what each body is given, by its path."""
    every: dict[str, Meet] = {}

    def within(owner: GraphModule, path: str) -> dict[Node, Meet]:
        found: dict[Node, Meet] = {}
        for block in blocks(owner.graph):
            losing = losses.get(f"{path}{block.node.name}", {})
            told: dict[str, tuple[Sequence[Sequence[Any]], Inside]] = {}
            for name in block.bodies:
                body = getattr(owner, name)
                shown: Sequence[Sequence[Any]] = calls.get(f"{path}{name}", ())
                own = losing if name in block.making else {}
                inside = Inside(
                    within(body, f"{path}{name}."), losing=own, leave="" if shown else reasons.NEVER,
                    decides=name not in block.making,
                )  # fmt: skip
                told[name] = (shown, inside)
                quantizer = make(shown, inside)
                quantizer.annotate(quantizer.transform_for_annotation(body))
            meet = _meet(owner, block, losing, [row for name in block.bodies for row in told[name][0]])
            for name, (shown, inside) in told.items():
                body = getattr(owner, name)
                _forget(body.graph)
                results = meet.results if name in block.making else {}
                inside = replace(inside, given=meet.operands, gives=results)
                setattr(owner, name, prepare_alone(body, make(shown, inside)))
            found[block.node] = every[f"{path}{block.node.name}"] = meet
        return found

    network: GraphModule = prepare_alone(model, make(samples, Inside(within(model, ""))))
    share(network, _groups(network, "", every))
    return network


def _forget(graph: Graph) -> None:
    for node in graph.nodes:
        node.meta.pop(ANNOTATION, None)
        reasons.forget(node)


def _meet(owner: GraphModule, block: Block, losing: Mapping[int, float], shown: Sequence[Sequence[Any]]) -> Meet:
    """What of a block is int8, by what its bodies would store and read."""
    bodies = [getattr(owner, name) for name in block.bodies]
    ends = list(zip(*(given_by(getattr(owner, name)) for name in block.making), strict=True))
    passed = {number for every in ends for one in every if (number := _number(one)) is not None}
    results: dict[int, Any] = {}
    operands: dict[int, Any] = {}
    for number, every in enumerate(ends):
        stored = [_number(one) is not None or _is_stored(one) for one in every]
        computed = any(_is_stored(one) for one in every) or (
            number < block.carried and any(_is_read(body, number) for body in bodies)
        )
        is_carried = number < block.carried
        if not (all(stored) and computed and number not in losing):
            continue
        if is_carried and not _is_taken(block.operands[number]):
            continue
        specs = [None if _number(one) is not None else known_spec(one) for one in every]
        spec = specs[0] if specs[0] is not None and all(_same(specs[0], one) for one in specs) else None
        if is_carried:
            spec = spec if spec is not None and _holds(spec, shown, number) else None
            operands[number] = spec
        results[number] = spec
    for number, one in enumerate(block.operands):
        reads = any(_is_read(body, number) for body in bodies)
        gives = any(_number(end) == number for at in results for end in ends[at])
        if number >= block.carried and _is_taken(one) and (reads or gives):
            operands[number] = None
    return Meet(operands, results, frozenset(passed) | frozenset(range(block.carried)))


def _number(one: object) -> int | None:
    """Which of its body's parameters it is."""
    if not isinstance(one, Node) or one.op != "placeholder":
        return None
    return [node for node in one.graph.nodes if node.op == "placeholder"].index(one)


def _is_stored(one: object) -> bool:
    annotation = one.meta.get(ANNOTATION) if isinstance(one, Node) else None
    return annotation is not None and annotation.output_qspec is not None


def _is_read(body: GraphModule, number: int) -> bool:
    parameter = parameters_of(body)[number]
    return any(parameter in getattr(one.meta.get(ANNOTATION), "input_qspec_map", {}) for one in parameter.users)


def _is_taken(operand: object) -> bool:
    """A float tensor that is no state: what is written back by a branch or a loop stays as exact as it is."""
    value = operand.meta.get("val") if isinstance(operand, Node) else None
    return isinstance(value, Tensor) and value.dtype is torch.float32 and not is_state(operand)


def _same(one: Any, other: Any) -> bool:
    return other is not None and (one.scale, one.zero_point) == (other.scale, other.zero_point)


def _holds(spec: Any, shown: Sequence[Sequence[Any]], number: int) -> bool:
    """Whether the first value of each loop lies in the fixed range, as far as it was seen."""
    low, high = ((bound - spec.zero_point) * spec.scale for bound in (spec.quant_min, spec.quant_max))
    return all(low <= float(row[number].min()) and float(row[number].max()) <= high + spec.scale for row in shown)


def _groups(owner: GraphModule, path: str, meets: Mapping[str, Meet]) -> list[list[tuple[GraphModule, str]]]:
    """The observers of each operand and each result, inside and outside."""
    found: list[list[tuple[GraphModule, str]]] = []
    for block in blocks(owner.graph):
        meet = meets[f"{path}{block.node.name}"]
        bodies = [getattr(owner, name) for name in block.bodies]
        parameters = [(body, one) for body in bodies for one in parameters_of(body)]
        count = len(block.operands)
        for number in meet.operands:
            places = [(owner, block.operands[number])]
            places += [(body, next(iter(one.users))) for body, one in parameters[number::count] if one.users]
            if number in meet.results and number < block.carried:
                places += _results(owner, block, number)
            found.append(_observers(places))
        for number in meet.results.keys() - set(range(block.carried)):
            found.append(_observers(_results(owner, block, number)))
        for name, body in zip(block.bodies, bodies, strict=True):
            found += _groups(body, f"{path}{name}.", meets)
    return found


def _results(owner: GraphModule, block: Block, number: int) -> list[tuple[GraphModule, Any]]:
    inside = [(body, given_by(body)[number]) for body in (getattr(owner, name) for name in block.making)]
    outside = [(owner, reader) for one in block.results().get(number, []) for reader in one.users]
    return [*inside, *outside]


def _observers(places: Sequence[tuple[GraphModule, Any]]) -> list[tuple[GraphModule, str]]:
    return [(owner, name) for owner, node in places if (name := observer_at(node)) is not None]


# ---- what would be lost ----------------------------------------------------------------------------------------------


def losses_of(model: GraphModule, samples: Sequence[Sequence[Tensor]]) -> dict[str, dict[int, float]]:
    """What the loops of a float network carry that loses more than LOSS_DB when it is int8, with its loss in dB.

    The samples run in float but for what is carried, which is rounded after each round in the range that it reaches.
    As long as one loses too much, the one that loses most is taken out.
    """
    samples = samples[:SAMPLES]
    real = _carried(model, samples, {})
    units = {
        key: (max(float(one.max()), 0.0) - min(float(one.min()), 0.0)) / 255
        for key, every in real.items()
        if (one := torch.cat([each.reshape(-1) for each in every])).numel()
    }
    units = {key: unit for key, unit in units.items() if unit > 0 and math.isfinite(unit)}
    found: dict[str, dict[int, float]] = {}
    while units:
        rounded = _carried(model, samples, units)
        lost = {key: _lost_db(real[key], rounded.get(key, []), unit) for key, unit in units.items()}
        path, number = worst = max(lost, key=lambda key: lost[key])
        if lost[worst] <= LOSS_DB:
            break
        found.setdefault(path, {})[number] = lost[worst]
        del units[worst]
    return found


Key = tuple[str, int]


def _carried(
    model: GraphModule, samples: Sequence[Sequence[Tensor]], units: Mapping[Key, float]
) -> dict[Key, list[Tensor]]:
    """Each float tensor that a loop carries, after each round; those with a unit are rounded to multiples of it."""
    seen: dict[Key, list[Tensor]] = {}

    def runner(owner: GraphModule, path: str) -> Within:
        loops = {name: block for block in blocks(owner.graph) if block.carried for name in block.making}
        names = {id(getattr(owner, name)): name for block in blocks(owner.graph) for name in block.bodies}

        def inner(body: GraphModule) -> Callable[..., Any]:
            name = names[id(body)]
            network = runner(body, f"{path}{name}.")
            block = loops.get(name)

            def run(*operands: Any) -> Any:
                made = network.run(*operands)
                if block is None:
                    return made
                results = list(made)
                for number, one in enumerate(results[: block.carried]):
                    if not isinstance(one, Tensor) or one.dtype is not torch.float32:
                        continue
                    key = (f"{path}{block.node.name}", number)
                    if key in units:
                        results[number] = one = torch.round(one / units[key]) * units[key]
                    seen.setdefault(key, []).append(one.detach().clone())
                return type(made)(results)

            return run

        return Within(owner, inner)

    with torch.no_grad(), kept_states(model):
        for sample in samples:
            runner(model, "").run(*sample)
    return seen


def _lost_db(real: Sequence[Tensor], rounded: Sequence[Tensor], unit: float) -> float:
    if len(real) != len(rounded):  # another number of rounds
        return math.inf
    return loss_db(torch.cat([one.reshape(-1) for one in real]), torch.cat([one.reshape(-1) for one in rounded]), unit)
