"""Operators that do several things at once, written out before scales are chosen: each part that computes gets a scale
of its own."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node, traceback
from torch.fx.experimental.proxy_tensor import make_fx

from etexport.frontend.quantize import cells, kept, reasons
from etexport.frontend.quantize.declared import int8_of
from etexport.frontend.quantize.states import is_state, states
from etexport.kernel.int8 import Scales

aten = torch.ops.aten

PRODUCTS = (aten.matmul.default, aten.bmm.default, aten.mm.default)

PADDED_BY_NAME = {aten.conv1d.padding: aten.conv1d.default, aten.conv2d.padding: aten.conv2d.default}
"""Convolutions whose padding is a word, and what is the same with numbers."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0,
    is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """scaled_dot_product_attention without dropout. What a mask leaves nothing of is 0."""
    if enable_gqa:
        key, value = (_for_each_head(one, query.shape[-3] // one.shape[-3]) for one in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(query, key.transpose(-2, -1)) * factor
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if mask is None:
        return torch.softmax(scores, dim=-1) @ value
    scores = torch.where(mask, scores, -math.inf) if mask.dtype is torch.bool else scores + mask
    shares: Tensor = aten._safe_softmax.default(scores, -1)
    return shares @ value


def _for_each_head(x: Tensor, count: int) -> Tensor:
    """(.., heads, rows, features) with each head `count` times."""
    return x.unsqueeze(-3).expand(*x.shape[:-2], count, *x.shape[-2:]).flatten(-4, -3)


def product_and_sum(
    x: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1,
    multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
) -> Tensor:  # fmt: skip
    product = multiply(left, right)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (x if beta == 1 else x * beta)


def gated(x: Tensor, dim: int = -1) -> Tensor:
    left, gate = x.chunk(2, dim)
    return left * torch.sigmoid(gate)


def by_channel(x: Tensor, weight: Tensor) -> Tensor:
    """prelu with a slope for each channel: what lies above zero is one table, what lies below another, times the
    slopes."""
    above = torch.relu(x)
    return above + weight.reshape(-1, *[1] * (x.dim() - 2)) * (x - above)


def by_column(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)


def of_vectors(left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(left.unsqueeze(0), right.unsqueeze(1)).reshape(())


def by_reciprocal(x: Tensor, divisor: Tensor) -> Tensor:
    return x * torch.reciprocal(divisor)


def by_computed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer whose weight is an activation or a state."""
    product = torch.matmul(x, weight.transpose(0, 1))
    return product if bias is None else product + bias


def by_computed_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, weight) + bias


RECURRENT: dict[Any, Callable[..., Any]] = {
    aten.lstm.input: cells.lstm, aten.gru.input: cells.gru, aten.rnn_tanh.input: cells.rnn_tanh,
    aten.rnn_relu.input: cells.rnn_relu,
}  # fmt: skip
CELLS: dict[Any, Callable[..., Any]] = {
    aten.lstm_cell.default: cells.lstm_cell, aten.gru_cell.default: cells.gru_cell,
    aten.rnn_tanh_cell.default: cells.rnn_tanh_cell, aten.rnn_relu_cell.default: cells.rnn_relu_cell,
}  # fmt: skip

MOST_STEPS = 80
"""Of all layers that are written out, each direction by itself: a step of an LSTM is some 450 of the 40,000 tables that
a file may have (`program.wire`), and half a second of export."""

STEP = "etexport_step"
"""In a node's meta: what it computes in a step of a recurrent layer, equal for all steps; they get one scale."""


def written_out(model: GraphModule) -> GraphModule:
    """The graph with the parts of such operators in their place, each with source and module of the whole."""
    waiting = deque(model.graph.nodes)
    while waiting:
        node = waiting.popleft()
        if node.op != "call_function":
            continue
        _as_numbers(model, node)
        _as_sequence(model, node)
        write = _writer(node)
        if write is not None:
            waiting.extend(_replace(model, node, write))
    varies = varying(model.graph)
    for node in list(model.graph.nodes):
        _as_layer(model, node, varies)
    model.graph.eliminate_dead_code()
    model.recompile()
    return model


def leave_long(graph: Graph, keep_float: Sequence[str]) -> None:
    """Mark recurrent layers to stay in float, where each is one operator, the longest first, until the rest has no more
    steps than can be written out."""
    recurrent = [node for node in graph.nodes if node.target in RECURRENT or node.target in CELLS]
    steps = {node: _steps(node) for node in recurrent if kept.keeper(node, keep_float) is None}
    total = sum(steps.values())
    for node in sorted(steps, key=lambda one: -steps[one]):
        if total > MOST_STEPS:
            kept.leave(node, f"{total} {reasons.STEPS}, {MOST_STEPS} at the most")
            total -= steps[node]


def _steps(node: Node) -> int:
    """One of a cell; of a layer over a whole sequence, whose arguments end with biases, layers, dropout, training, both
    directions, batch first, all."""
    if node.target in CELLS:
        return 1
    _, layers, _, _, bidirectional, batch_first = node.args[-6:]
    length = node.args[0].meta["val"].shape[1 if batch_first else 0]  # type: ignore[union-attr]
    return int(length * layers * (2 if bidirectional else 1))


def _writer(node: Node) -> Callable[..., Any] | None:
    target, args = node.target, node.args
    if target is aten.scaled_dot_product_attention.default:
        return None if len(args) > 4 and args[4] else attention
    if target in (aten.baddbmm.default, aten.addmm.default):
        return product_and_sum
    if target is aten.addmv.default:
        return partial(product_and_sum, multiply=by_column)
    if target is aten.mv.default:
        return by_column
    if target in (aten.dot.default, aten.vdot.default):
        return of_vectors
    if target is aten.glu.default:
        return gated
    if target is aten.prelu.default and isinstance(args[1], Node) and args[1].meta["val"].numel() > 1:
        return by_channel
    if int8_of(node).scales is Scales.PARTS:
        return target  # type: ignore[return-value]
    if target in RECURRENT:
        if kept.marked(node) is not None:  # one operator, where it stays in float
            return None
        states = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
        return partial(
            RECURRENT[target], fresh=all(isinstance(one, Node) and one.target is aten.zeros.default for one in states)
        )
    if target in CELLS:
        return CELLS[target]
    if target is aten.linear.default and args[1].meta["val"].dim() == 2:  # type: ignore[union-attr]
        weight, bias = (_is_computed(one) for one in (args[1], args[2] if len(args) > 2 else None))
        return by_computed if weight else by_computed_bias if bias else None
    if target is aten.matmul.default and isinstance(args[1], Node) and args[1].meta["val"].dim() == 1:
        return by_column if isinstance(args[0], Node) and args[0].meta["val"].dim() > 1 else of_vectors
    if target is aten.div.Tensor and len(args) == 2 and _is_parameter(args[1]):
        return by_reciprocal
    return None


def _is_parameter(arg: Any) -> bool:
    return (
        isinstance(arg, Node) and arg.op == "get_attr" and isinstance(arg.meta.get("val"), Tensor) and not is_state(arg)
    )


def _is_computed(arg: Any) -> bool:
    return isinstance(arg, Node) and not _is_parameter(arg) and arg in varying(arg.graph)


def _as_layer(model: GraphModule, node: Node, varies: Container[Node]) -> None:
    """A product with a matrix that is computed on the host is a linear layer, with a scale for each output. Each
    product is a layer of its own: what is multiplied with the same matrix may have quite another range."""
    if node.target not in PRODUCTS or not node.meta["val"].is_floating_point():
        return
    left, right = node.args[:2]
    assert isinstance(left, Node) and isinstance(right, Node)
    if right not in varies and left in varies and (matrix := _matrix(model, node, right)) is not None:
        node.args = (left, before(model, node, aten.permute.default, matrix, [1, 0]))
    elif left not in varies and right in varies and (matrix := _matrix(model, node, left)) is not None:
        columns = right.meta["val"].dim() > 1
        weight = before(model, node, aten.clone.default, matrix)
        node.args = (before(model, node, aten.transpose.int, right, -1, -2) if columns else right, weight)
        if columns:
            _transposed(model, node)
    else:
        return
    node.target = aten.linear.default


def _matrix(model: GraphModule, node: Node, factor: Node) -> Node | None:
    """The factor where it is a matrix, or a batch of one for a batch of one."""
    shape = factor.meta["val"].shape
    if len(shape) == 2:
        return factor
    return (
        before(model, node, aten.select.int, factor, 0, 0)
        if len(shape) == 3 and shape[0] == 1 and _is_batch_of_one(node)
        else None
    )


def _is_batch_of_one(node: Node) -> bool:
    return bool(node.meta["val"].dim() == 3 and node.meta["val"].shape[0] == 1)


def _transposed(model: GraphModule, node: Node) -> None:
    """The node gives its matrices transposed; its readers are given them as they were."""
    readers = list(node.users)
    with _fake_mode(node):
        node.meta["val"] = node.meta["val"].transpose(-1, -2)
    with model.graph.inserting_after(node):
        back = model.graph.call_function(aten.transpose.int, (node, -1, -2))
    with _fake_mode(node):
        back.meta["val"] = node.meta["val"].transpose(-1, -2)
    keep_source(back, node)
    for reader in readers:
        reader.replace_input_with(node, back)


def _as_numbers(model: GraphModule, node: Node) -> None:
    """A convolution with its padding in numbers where it says "same" or "valid": torchao folds batch normalisation into
    no others while networks are trained. What "same" has to add unevenly comes last, as in PyTorch."""
    if node.target not in PADDED_BY_NAME:
        return
    args: list[Any] = [*node.args, *(None, [1], "valid", [1], 1)[len(node.args) - 2 :]]
    x, weight, bias, stride, padding, dilation, groups = args
    sizes = weight.meta["val"].shape[2:]
    steps = [*dilation] * (len(sizes) // len(dilation))
    total = [step * (size - 1) if padding == "same" else 0 for step, size in zip(steps, sizes, strict=True)]
    uneven = [bit for whole in reversed(total) for bit in (0, whole % 2)]
    if any(uneven):
        x = before(model, node, aten.pad.default, x, uneven)
    node.args = (x, weight, bias, stride, [whole // 2 for whole in total], steps, groups)
    node.target = PADDED_BY_NAME[node.target]


def _as_sequence(model: GraphModule, node: Node) -> None:
    """A batch normalisation of rows, as behind a linear layer that is being trained, is one of sequences of one
    element, with the activation behind it: these have a kernel."""
    x = node.args[0] if node.target is aten.batch_norm.default else None
    if not isinstance(x, Node) or x.meta["val"].dim() != 2:
        return
    node.replace_input_with(x, before(model, node, aten.unsqueeze.default, x, -1))
    end = node
    while len(end.users) == 1 and int8_of(next(iter(end.users))).scales is Scales.CLAMP:
        end.meta["val"] = _unsqueezed(end)
        end = next(iter(end.users))
    end.meta["val"] = _unsqueezed(end)
    readers = list(end.users)
    with model.graph.inserting_after(end):
        row = model.graph.call_function(aten.squeeze.dim, (end, -1))
    with _fake_mode(end):
        row.meta["val"] = end.meta["val"].squeeze(-1)
    keep_source(row, end)
    for reader in readers:
        reader.replace_input_with(end, row)


def _unsqueezed(node: Node) -> Tensor:
    value: Tensor = node.meta["val"]
    with _fake_mode(node):
        return value.unsqueeze(-1)


def _fake_mode(node: Node) -> Any:
    value = node.meta["val"]
    return (value[0] if isinstance(value, (tuple, list)) else value).fake_mode


def _take_over(node: Node, result: Any, replaced: Mapping[Node, Any]) -> None:
    """What `result` stands for in the place of the node, of whose results in the places of those that take them out of
    it."""
    if isinstance(result, Node):
        node.replace_all_uses_with(replaced[result])
        return
    for reader in list(node.users):
        assert reader.target is operator.getitem, reader.target
        reader.replace_all_uses_with(replaced[result[reader.args[1]]])
        reader.graph.erase_node(reader)


def before(model: GraphModule, node: Node, target: Any, source: Node, *args: Any, **kwargs: Any) -> Node:
    with model.graph.inserting_before(node):
        made = model.graph.call_function(target, (source, *args), kwargs)
    with node.meta["val"].fake_mode:
        made.meta["val"] = target(source.meta["val"], *args, **kwargs)
    keep_source(made, node)
    return made


def varying(graph: Graph) -> set[Node]:
    """What depends on the inputs or on states; the rest is computed on the host, and has a scale where something else
    reads it."""
    varies: set[Any] = set(states(graph))
    for node in graph.nodes:
        if node.op == "placeholder" or not varies.isdisjoint(node.all_input_nodes):
            varies.add(node)
    return varies


def keep_source(part: Node, whole: Node) -> None:
    keys = ("nn_module_stack", "stack_trace", "source_fn_stack", "custom")
    part.meta.update({key: whole.meta[key] for key in keys if key in whole.meta})


def _replace(model: GraphModule, node: Node, write: Callable[..., Any]) -> list[Node]:
    """The trace of `write` on the node's operands in the node's place."""
    operands = list(node.all_input_nodes)
    values = [one.meta["val"] for one in operands]

    def rebuilt(*tensors: Tensor) -> Any:
        known = dict(zip(operands, tensors, strict=True))
        args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), lambda one: known[one])
        return write(*args, **kwargs)

    with _fake_mode(node), traceback.preserve_node_meta():
        trace = make_fx(rebuilt, pre_dispatch=write is not node.target)(*values)
    weights = tuple(one for one in operands if _is_parameter(one))
    replaced: dict[Node, Any] = dict(
        zip((one for one in trace.graph.nodes if one.op == "placeholder"), operands, strict=True)
    )
    with model.graph.inserting_before(node):
        for part in trace.graph.nodes:
            if part.op == "output":
                _take_over(node, part.args[0], replaced)
            elif part.op != "placeholder":
                replaced[part] = model.graph.node_copy(part, replaced.__getitem__)
                keep_source(replaced[part], node)
                traced = part.meta.get("custom") or {}
                replaced[part].meta["custom"] = dict(node.meta.get("custom") or {})
                if cells.STEP in traced:
                    replaced[part].meta[STEP] = (traced[cells.STEP], traced.get(cells.LAYER), weights)
    model.graph.erase_node(node)
    return [one for one in replaced.values() if one not in operands]
