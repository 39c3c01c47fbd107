"""Which tensors of an exported graph become int8, and which share their scale: the annotations that torchao's PT2E flow
asks for.

Activations are int8 per tensor, asymmetric; weights int8 per output channel, symmetric, in [-127, 127] (kernels count
on -128 not being there); biases int32 with the scale of the accumulator. Whatever only moves elements shares the scale
of what it moves.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torchao.quantization.pt2e import MovingAverageMinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.fake_quantize import FakeQuantize, FusedMovingAvgObsFakeQuantize
from torchao.quantization.pt2e.observer import MovingAveragePerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from etexport.frontend.quantize import kept, reasons
from etexport.frontend.quantize.blocks import blocks
from etexport.frontend.quantize.declared import groups_of, int8_of, is_elementwise, is_layer, operand, weights_of
from etexport.frontend.quantize.masks import Masks, drawn, masked
from etexport.frontend.quantize.parts import PRODUCTS, STEP, varying, written_out
from etexport.frontend.quantize.ranges import HEADROOM, SMALLEST_SCALE, RangeObserver, widened
from etexport.frontend.quantize.states import carries, carries_on, is_state, is_write, states
from etexport.kernel.int8 import Mask, Scales

ANNOTATION = "quantization_annotation"

LARGEST = 2.0**60
"""Weights and biases beyond it have no scale."""
SMALLEST = 128 * SMALLEST_SCALE
"""Neither have weights that are all below it."""


@dataclass(frozen=True, eq=False)
class Meet:
    """What of a branch's or a loop's operands and results is int8, by number, and its scale where that is known
    beforehand, else None. `passed`: operands that come out again, which have the scale of what they meet."""

    operands: Mapping[int, Any] = field(default_factory=dict)
    results: Mapping[int, Any] = field(default_factory=dict)
    passed: Collection[int] = ()


@dataclass(frozen=True, eq=False)
class Inside:
    """What a quantizer knows of where its graph meets others: its own branches and loops, and of a body what it is
    given and what it gives, with the scale where that is known. `losing`: what it carries, by number, that int8 would
    lose too much of, in dB. `leave`: why all of it stays in float."""

    meets: Mapping[Node, Meet] = field(default_factory=dict)
    losing: Mapping[int, float] = field(default_factory=dict)
    leave: str = ""
    decides: bool = False
    """Is it the condition of a loop?"""
    given: Mapping[int, Any] = field(default_factory=dict)
    gives: Mapping[int, Any] = field(default_factory=dict)


class MicrocontrollerQuantizer(Quantizer):  # type: ignore[misc]  # torchao has no types
    """int8 for everything that has an integer kernel or a table, except what `keep_float` names (`kept.py`)."""

    def __init__(
        self,
        keep_float: Iterable[str] = (),
        samples: Sequence[Sequence[Tensor]] = (),
        *,
        accumulators: Mapping[str, float] = MappingProxyType({}),
        leave: str = "",
        training: bool = False,
        inside: Inside = Inside(),
    ) -> None:
        """`samples` show which numbers stand for infinity, as masks have them; without any, inputs are drawn.
        `accumulators` are states that int8 would lose too much of, and how much in dB. `leave`: why all stays in
        float."""
        super().__init__()
        self.keep_float = tuple(keep_float)
        self.samples = samples
        self.accumulators = accumulators
        self.leave = leave or inside.leave
        self.inside = inside
        self.activation = _activation(training)
        self.weight = _weights(training)
        self.model: Any = None
        self.masks = Masks({}, {}, frozenset())
        self.bound: dict[Node, Any] = {}
        self.varies: set[Node] = set()
        self.roots: dict[Node, Node] = {}
        self.layers: dict[tuple[Node, int], Node] = {}
        self.steps: dict[Any, Node] = {}

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        kept.mark(model.graph, self.keep_float)
        model = written_out(model)
        self.masks = masked(model, self.samples or drawn(model))
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        self.model = model
        self.layers = {}
        self.bound = self._scores() if self.samples else {}
        self.steps = {}
        self.roots = _roots(model.graph)
        self.varies = varying(model.graph)
        accumulating = dict.fromkeys(self.varies, self.leave) if self.leave else self._accumulating(model.graph)
        parameters = [node for node in model.graph.nodes if node.op == "placeholder"]
        for number, spec in self.inside.given.items():
            _note(parameters[number], {}, spec or self.activation)
        for node in model.graph.nodes:
            if node in self.inside.meets:
                self._meets(node, self.inside.meets[node])
                continue
            if node not in self.varies or node.op != "call_function" or _takes_out(node, self.inside.meets):
                continue
            reason = kept.marked(node)
            if reason is not None:
                reasons.note(node, reason)
                continue
            if node in accumulating:
                reasons.note(node, accumulating[node])
                continue
            self._annotate(node)
            self._as_in_other_steps(node)
            if ANNOTATION not in node.meta and node.target is not operator.getitem and _is_float(node, allow_list=True):
                reasons.note(node, self._reason(node))
        if self.inside.gives:
            end = next(iter(reversed(model.graph.nodes)))
            given = list(end.args[0])
            for at, spec in self.inside.gives.items():
                if spec is None and known_spec(given[at]) is not None and given[at] in self.roots:
                    given[at].meta[ANNOTATION].output_qspec = self.activation  # a table has any scale
            _note(end, {given[at]: spec or self.activation for at, spec in self.inside.gives.items()}, None)
        self._leave_between_floats(model.graph)
        return model

    def _meets(self, node: Node, meet: Meet) -> None:
        """The scales of a branch's or a loop's operands and results."""
        (block,) = (one for one in blocks(node.graph) if one.node is node)
        operands = {}
        for number, spec in meet.operands.items():
            operand = block.operands[number]
            arriving = None if number in meet.passed else known_spec(operand)
            operands[operand] = spec or arriving or self.activation
        _note(node, operands, None)
        for number, spec in meet.results.items():
            for one in block.results().get(number, []):
                _note(one, {}, spec or self.activation)

    def _leave_between_floats(self, graph: Graph) -> None:
        """What only moves results of operators in float to others, or out of the network, would round them for
        nothing."""
        for moves in _connected([node for node in graph.nodes if _is_movement(node) and ANNOTATION in node.meta]):
            sources = {one for node in moves for one in node.all_input_nodes if _is_float(one, allow_list=True)} - moves
            around = {*sources, *(reader for node in moves for reader in node.users)} - moves
            computed = any(one.op == "call_function" or str(one.target) in self.accumulators for one in sources)
            stored = any(is_state(one) and str(one.target) not in self.accumulators for one in sources)
            if computed and not stored and not any(ANNOTATION in one.meta for one in around):
                for node in moves:
                    del node.meta[ANNOTATION]
                    reasons.note(node, reasons.BETWEEN_FLOATS)

    def _accumulating(self, graph: Graph) -> dict[Node, str]:
        """What carries the values of accumulators from step to step, and why it stays in float."""
        found: dict[Node, str] = dict.fromkeys(self._deciding(graph), reasons.DECIDES)
        if self.inside.losing:
            parameters = [node for node in graph.nodes if node.op == "placeholder"]
            given = list(next(iter(reversed(graph.nodes))).args[0])
            for number, lost in self.inside.losing.items():
                reason = f"{reasons.CARRIED} ({lost:.0f} dB)"
                found.update(dict.fromkeys(carries_on(parameters[number], given[number]), reason))
        for state in states(graph):
            loss = self.accumulators.get(str(state.target))
            if loss is not None:
                reason = f"the state {state.target} {reasons.ACCUMULATES} (it would lose {loss:.0f} dB)"
                found.update(dict.fromkeys(carries(state), reason))
        return found

    def _deciding(self, graph: Graph) -> set[Node]:
        """What is computed for nothing but the condition of a branch or a loop, up to layers with weights."""
        conditions = [node.args[0] for node in self.inside.meets if node.target is torch.ops.higher_order.cond]
        if self.inside.decides:
            conditions += next(iter(reversed(graph.nodes))).all_input_nodes
        found: set[Node] = set()
        todo = [one for one in conditions if isinstance(one, Node)]
        ends = {*self.inside.meets, next(iter(reversed(graph.nodes)))}
        while todo:
            node = todo.pop()
            weighty = int8_of(node).scales in (Scales.LAYER, Scales.NORM) or node.target in PRODUCTS
            if node.op != "call_function" or weighty or node in found or _takes_out(node, self.inside.meets):
                continue
            if all(user in found or user in ends for user in node.users):
                found.add(node)
                todo += node.all_input_nodes
        return found

    def _as_in_other_steps(self, node: Node) -> None:
        """What each step of a recurrent layer computes has one scale for all of them."""
        step, annotation = node.meta.get(STEP), node.meta.get(ANNOTATION)
        if step is None or annotation is None or annotation.output_qspec is not self.activation:
            return
        first = self.steps.setdefault(step, node)
        if first is not node:
            annotation.output_qspec = SharedQuantizationSpec(first)

    def _written_back(self, node: Node) -> None:
        """A state is stored in the scale in which it is read."""
        state, value = node.args[:2]
        assert isinstance(state, Node)
        readers = [one for one in state.users if state in getattr(one.meta.get(ANNOTATION), "input_qspec_map", {})]
        wide = str(state.target) in self.accumulators
        if (
            readers
            and not wide
            and _is_float(state)
            and isinstance(value, Node)
            and value.meta["val"].shape == state.meta["val"].shape
        ):
            _note(node, {value: SharedQuantizationSpec((state, readers[0]))}, None)

    def _reason(self, node: Node) -> str:
        """Why the node has no annotation."""
        if is_layer(node) and not self.varies.isdisjoint(_parameters(node)):
            return reasons.COMPUTED
        if is_layer(node) and not self._is_ordinary(node):
            return reasons.NO_SCALE
        behind = not self.masks.infinite.isdisjoint(node.all_input_nodes)
        if not behind and node not in self.masks.infinite:
            return reasons.no_integer_form(node)
        if (positive := self.masks.positive(node)) is not None:
            return reasons.other_unit(*positive)
        return reasons.BEHIND_MASK if behind else reasons.MASK

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: what has no annotation stays in float, and export says so."""

    def _annotate(self, node: Node) -> None:
        said = int8_of(node)
        scales = said.scales
        if node in self.masks.infinite or (
            node.op == "call_function" and not self.masks.infinite.isdisjoint(node.all_input_nodes)
        ):
            # a range with room for what stands for minus infinity has none for anything else
            if node not in self.masks.infinite and scales is Scales.CHOICE:
                _note(node, {}, self.activation)  # what is ordinary of it
        elif node.target is operator.getitem:
            self._piece(node)
        elif is_write(node):
            self._written_back(node)
        elif scales is Scales.LAYER:
            if (
                not _is_grouped_transpose(node)
                and self.varies.isdisjoint(_parameters(node))
                and self._is_ordinary(node)
            ):
                self._weighted(node)
        elif scales is Scales.SHARED:
            if not (said.adds_if and operand(node, said.adds_if)):
                self._shared(node, _sharing(node))
        elif node in self.masks.filled:
            scores = self.masks.filled[node]
            _note(node, {scores: known_spec(scores) or self.bound.get(scores) or self.activation}, None)
        elif said.fixed and node.args[0] in self.masks.filled:
            _note(node, {}, _fixed(*said.fixed))
        elif scales is Scales.CHOICE and node not in self.roots:
            self._shared(node, _operands(node))
        elif node in self.roots:
            self._elementwise(node)
        elif not _is_float(node, allow_list=True) or not all(map(_is_float, _operands(node)[:1])):
            pass  # counts, places: whole numbers have no scale
        elif scales is Scales.OWN or (scales is Scales.PAIR and len(_operands(node)) == 2):
            _note(node, self._arriving(_operands(node)), None if _clamped(node, self.roots) else self._own(node))
        elif scales is Scales.FIRST and isinstance(node.args[0], Node):
            _note(node, self._arriving([node.args[0]]), self._own(node) if _is_float(node) else None)
        elif scales is Scales.CLAMP and _is_float(node):
            _note(node, {}, self.activation)
        elif scales is Scales.NORM:
            sources = [] if _is_folded(node) else [node.args[0]]
            _note(node, self._arriving(sources), None if _clamped(node, self.roots) else self.activation)  # type: ignore[arg-type]

    def _own(self, node: Node) -> Any:
        """The scale of what it computes."""
        fixed = int8_of(node).fixed
        return _fixed(*fixed) if fixed is not None else self.bound.get(node, self.activation)

    def _weighted(self, node: Node) -> None:
        source, weight, *rest = node.args
        channel_dim = weights_of(node).channel_dim
        assert isinstance(source, Node) and isinstance(weight, Node)
        first = self.layers.setdefault((weight, channel_dim), node)
        inputs: dict[Node, Any] = {**self._arriving([source]), weight: self.weight(channel_dim)}
        if first is not node:
            # the same layer once more, as in each step of a recurrent one: with the same scales its constants are the
            # same
            inputs[weight] = SharedQuantizationSpec((weight, first))
            if known_spec(source) is None and known_spec(first.args[0]) is None:  # type: ignore[arg-type]
                inputs[source] = SharedQuantizationSpec((first.args[0], first))
        if rest and isinstance(rest[0], Node):
            inputs[rest[0]] = _bias(source, weight, node)
        norm = _only_reader(node)
        folded = norm is not None and _is_folded(norm)
        output = None if folded or _clamped(node, self.roots) else self.activation
        if output is not None and first is not node and first.meta[ANNOTATION].output_qspec is not None:
            output = SharedQuantizationSpec(first)
        _note(node, inputs, output)

    def _shared(self, node: Node, inputs: Iterable[Any]) -> None:
        sources = list(dict.fromkeys(one for one in inputs if isinstance(one, Node) and _is_float(one)))
        if not sources or not _is_float(node, allow_list=True):
            return
        first = SharedQuantizationSpec((sources[0], node))
        fixed = {(spec.scale, spec.zero_point) if (spec := known_spec(one)) is not None else None for one in sources}
        # a scale that one operand is bound to would cut off the others
        common = self._arriving(sources[:1]) if len(fixed) == 1 else {sources[0]: self.activation}
        specs: dict[Node, Any] = {**common, **dict.fromkeys(sources[1:], first)}
        _note(node, specs, first if _is_float(node) else None)

    def _piece(self, node: Node) -> None:
        """One of the results of an operator that takes a tensor apart has its scale."""
        whole = node.args[0]
        assert isinstance(whole, Node)
        source = (
            whole.args[0] if int8_of(whole).scales is Scales.SHARED and whole.meta.get(ANNOTATION) is not None else None
        )
        if isinstance(source, Node) and _is_float(node):
            _note(node, {}, SharedQuantizationSpec((source, whole)))

    def _elementwise(self, node: Node) -> None:
        """Elementwise operators over one tensor have a scale where they begin and where they end: in int8 they are one
        table."""
        begin = [one for one in _operands(node) if not _is_inner(one, self.roots)]
        _note(
            node, self._arriving(begin), None if _is_inner(node, self.roots) or not _is_float(node) else self._own(node)
        )

    def _arriving(self, sources: Iterable[Node]) -> dict[Node, Any]:
        """The scale in which an operand comes where that is known beforehand, else an observed one: no requantisation
        between the two."""
        return {source: known_spec(source) or self.activation for source in sources}

    def _scores(self) -> dict[Node, Any]:
        """The scales of scores that are masked: the range of those that are not, and the same integers before they are
        multiplied by a number."""
        bound: dict[Node, Any] = {}
        headroom = HEADROOM if states(self.model.graph) else 0.0
        for filled, scores in self.masks.filled.items():
            seen = self.masks.seen[filled]
            low, high = widened(min(seen.low, 0.0), max(seen.high, 0.0), headroom)
            if not 0 < high - low < math.inf or any(reader is not filled for reader in scores.users):
                continue
            scale = max((high - low) / 255, SMALLEST_SCALE)
            zero_point = round(-128 - low / scale)
            bound[scores] = _fixed(scale, zero_point)
            mask = int8_of(scores).mask
            product, factor = scores.args[:2] if mask in (Mask.MULTIPLIED, Mask.DIVIDED) else (None, None)
            if (
                isinstance(product, Node)
                and isinstance(factor, (int, float))
                and factor > 0
                and len(product.users) == 1
            ):
                bound[product] = _fixed(scale / factor if mask is Mask.MULTIPLIED else scale * factor, zero_point)
        return bound

    def _is_ordinary(self, node: Node) -> bool:
        """Whether the layer's weights and biases are numbers that a scale can stand for: products of scales stay within
        float32."""
        constants = [one for one in _parameters(node) if one.op == "get_attr"]
        sizes = [operator.attrgetter(str(one.target))(self.model).detach().abs() for one in constants]
        largest = [float(one.max()) if one.numel() else 0.0 for one in sizes]  # of what holds a NaN: NaN
        weights = largest[:1] if node.args[1] in constants else []
        return all(one < LARGEST for one in largest) and not any(0 < one < SMALLEST for one in weights)


def _parameters(node: Node) -> list[Node]:
    """The weight and the bias of a layer."""
    return [one for one in node.args[1:3] if isinstance(one, Node)]


def _connected(nodes: Sequence[Node]) -> list[set[Node]]:
    """The nodes in groups, of which none reads another's."""
    groups: list[set[Node]] = []
    for node in nodes:
        joined = [group for group in groups if not group.isdisjoint(node.all_input_nodes)]
        groups = [group for group in groups if group not in joined] + [{node}.union(*joined)]
    return groups


def _is_grouped_transpose(node: Node) -> bool:
    """Its weight has a scale for each output of a group, which is no scale for each output."""
    return weights_of(node).channel_dim == 1 and groups_of(node) != 1


def _is_movement(node: Node) -> bool:
    return node.target is operator.getitem or int8_of(node).scales is Scales.SHARED


def _sharing(node: Node) -> Iterable[Any]:
    """The operands that have one scale with the result."""
    for name in int8_of(node).shares:
        found = operand(node, name)
        yield from found if isinstance(found, Sequence) else [found]
    if not int8_of(node).shares:
        yield node.args[0]


def _note(node: Node, inputs: dict[Node, Any], output: Any) -> None:
    node.meta[ANNOTATION] = QuantizationAnnotation(input_qspec_map=inputs, output_qspec=output, _annotated=True)


def _is_float(node: Node, *, allow_list: bool = False) -> bool:
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        return allow_list
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _operands(node: Node) -> list[Node]:
    """Float tensors that the operator computes from, each once; scalars that the graph holds are not among them."""
    floats = [one for one in node.all_input_nodes if _is_float(one)]
    return [one for one in floats if not _is_constant(one) or one.meta["val"].numel() != 1]


def _is_constant(node: Node) -> bool:
    return node.op == "get_attr" and not is_state(node)


def _roots(graph: Graph) -> dict[Node, Node]:
    """For each node that is computed from one tensor element by element, by whatever operators, conditions too: that
    tensor.

    An activation that the kernel before it does by saturating belongs to that kernel. What something else reads as well
    has a scale, and is one tensor of its own for whatever is computed from it.
    """
    stored: set[Node] = set()
    while True:
        roots = _roots_beside(graph, stored)
        ends = {node for node in roots if _is_float(node) and not _is_inner(node, roots)}
        if ends <= stored:
            return roots
        stored |= ends


def _roots_beside(graph: Graph, stored: Collection[Node]) -> dict[Node, Node]:
    roots: dict[Node, Node] = {}
    for node in graph.nodes:
        if node.op == "call_function" and (_is_float(node) or _is_condition(node)) and _is_pointwise(node):
            operands = [*_operands(node), *filter(_is_condition, node.all_input_nodes)]
            of_kernel = int8_of(node).scales is Scales.CLAMP and any(_clamped(one, roots) for one in operands)
            found = {one if one in stored else roots.get(one, one) for one in operands}
            if len(found) == 1 and not of_kernel:
                roots[node] = found.pop()
    return roots


def _is_pointwise(node: Node) -> bool:
    """One element of the result depends on the same element of each operand."""
    if int8_of(node).scales not in (Scales.TABLE, Scales.CHOICE) and not is_elementwise(node):
        return False
    shape = node.meta["val"].shape
    operands = [*_operands(node), *filter(_is_condition, node.all_input_nodes)]
    return all(not _is_constant(one) and one.meta["val"].shape == shape for one in operands)


def _is_condition(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.bool


def _is_inner(node: Node, roots: Mapping[Node, Node]) -> bool:
    """Is the node part of an elementwise computation that goes on in all of its readers?"""
    root = roots.get(node)
    return root is not None and bool(node.users) and all(roots.get(reader) is root for reader in node.users)


def _takes_out(node: Node, meets: Mapping[Node, Meet]) -> bool:
    return node.target is operator.getitem and node.args[0] in meets


def known_spec(node: Node) -> FixedQParamsQuantizationSpec | None:
    """The fixed scale in which the node's result is stored, if it has one."""
    annotation = node.meta.get(ANNOTATION)
    spec = annotation.output_qspec if annotation is not None else None
    while isinstance(spec, SharedQuantizationSpec):
        at = spec.edge_or_node
        spec = (
            at.meta[ANNOTATION].output_qspec if isinstance(at, Node) else at[1].meta[ANNOTATION].input_qspec_map[at[0]]
        )
    return spec if isinstance(spec, FixedQParamsQuantizationSpec) else None


def _is_folded(node: Node) -> bool:
    """A batch normalisation right behind a layer with weights."""
    layer = node.args[0] if int8_of(node).scales is Scales.NORM else None
    return isinstance(layer, Node) and is_layer(layer) and _only_reader(layer) is node


def _only_reader(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _clamped(node: Node, roots: Mapping[Node, Node]) -> bool:
    """Is the one reader of the result an activation that the kernel can do by saturating?"""
    said, reader = int8_of(node), _only_reader(node)
    computes = said.saturates and (said.scales is not Scales.PAIR or (len(_operands(node)) == 2 and node not in roots))
    return computes and reader is not None and int8_of(reader).scales is Scales.CLAMP


def _activation(training: bool) -> QuantizationSpec:
    observer: Any = RangeObserver
    if training:
        observer = FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver, eps=SMALLEST_SCALE)
    return QuantizationSpec(torch.int8, observer, -128, 127, torch.per_tensor_affine)


LEAST_SCALE = 2**-12
"""Of a channel's weights, beside the layer's largest: what is below cannot be seen beside the others' rounding. A
channel that training has switched off would have a scale of nothing, at which its bias needs more than 32 bits; torchao
cuts it off there."""


def _with_least(scales: Tensor) -> Tensor:
    return torch.maximum(scales, scales.max() * LEAST_SCALE)


class _PerChannelRange(PerChannelMinMaxObserver):  # type: ignore[misc]  # torchao passes on the channel by the word in the name
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scales, zeros = super().calculate_qparams()
        return _with_least(scales), zeros


class _TrainedPerChannelRange(MovingAveragePerChannelMinMaxObserver):  # type: ignore[misc]
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scales, zeros = super().calculate_qparams()
        return _with_least(scales), zeros


def _weights(training: bool) -> Callable[[int], QuantizationSpec]:
    def of(channel_dim: int) -> QuantizationSpec:
        observer: Any = _PerChannelRange.with_args(eps=SMALLEST_SCALE)
        if training:
            # the range of the weights as they are now: an average would lag behind the statistics that are folded into
            # them; torchao passes ch_axis on to observers only, not to what has one
            observer = FakeQuantize.with_args(
                observer=_TrainedPerChannelRange, averaging_constant=1.0, eps=2**-24, ch_axis=channel_dim
            )
        return QuantizationSpec(torch.int8, observer, -127, 127, torch.per_channel_symmetric, channel_dim)

    return of


def _fixed(scale: float, zero_point: int) -> FixedQParamsQuantizationSpec:
    return FixedQParamsQuantizationSpec(torch.int8, scale, zero_point, -128, 127, torch.per_tensor_affine)


def _bias(source: Node, weight: Node, node: Node) -> DerivedQuantizationSpec:
    def derived(observers: list[Any]) -> tuple[Tensor, Tensor]:
        (source_scale, _), (weight_scale, _) = (observer.calculate_qparams() for observer in observers)
        scale = source_scale.to(torch.float32) * weight_scale.to(torch.float32)
        return scale, torch.zeros_like(scale, dtype=torch.int32)

    edges = [(source, node), (weight, node)]
    return DerivedQuantizationSpec(
        derived_from=edges, derive_qparams_fn=derived, dtype=torch.int32, quant_min=-(2**31), quant_max=2**31 - 1,
        qscheme=torch.per_channel_symmetric, ch_axis=0,
    )  # fmt: skip
