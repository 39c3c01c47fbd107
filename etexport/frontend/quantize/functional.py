"""Networks that write into parts of a tensor (`y[:, 1:] = x`), as networks that do not: only so can what is written be
quantised."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from etexport.frontend.quantize.states import is_write

aten = torch.ops.aten


def functional(program: ExportedProgram) -> GraphModule:
    """The program's module; where it writes into parts of tensors, each write gives a tensor of its own, and states are
    written at the end.

    torchao puts quantise and dequantise between a part and what writes into it, and so between the write and the
    tensor: it would be lost.
    """
    model: GraphModule = program.module()
    if not (_writes_parts(model.graph) or _goes_on_with_states(model.graph)):
        return model
    model = program.run_decompositions({}).module()
    for node in list(model.graph.nodes):
        if node.target is aten._native_batch_norm_legit_no_training.default:
            _as_batch_norm(node)
        elif node.target is aten.copy.default and _alike(*node.args[:2]):
            node.replace_all_uses_with(node.args[1])
        elif node.target is aten.view.default:  # what is written may lie otherwise in memory than at capture
            node.target = aten.reshape.default
    model.graph.eliminate_dead_code()
    model.recompile()
    return model


def _writes_parts(graph: Graph) -> bool:
    """Whether something is written that is a view of another tensor, or that is read elsewhere by the name that it had
    before."""
    return any(
        _is_view(one) or len(one.users) > 1
        for node in graph.nodes
        for one in _written(node)
        if one.op == "call_function"
    )


def _goes_on_with_states(graph: Graph) -> bool:
    """Whether a buffer is written otherwise than by a copy at the end: what is read of it later is another value than
    before."""
    for node in graph.nodes:
        for one in _written(node):
            later = any(user is not node and node < user for user in one.users)
            if one.op == "get_attr" and (not is_write(node) or node.users or later):
                return True
    return False


def _written(node: Node) -> list[Node]:
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return []
    named = zip(schema.arguments, node.args, strict=False)
    return [one for argument, one in named if argument.is_write and isinstance(one, Node)]


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    aliases = [] if schema is None else [one.alias_info for one in schema.returns]
    return node.target is operator.getitem or any(one is not None and not one.is_write for one in aliases)


def _alike(one: Any, other: Any) -> bool:
    first, second = (node.meta["val"] if isinstance(node, Node) else node for node in (one, other))
    return isinstance(second, Tensor) and (first.shape, first.dtype) == (second.shape, second.dtype)


def _as_batch_norm(node: Node) -> None:
    """As it was before the writes were taken out: one result, whose reader took the first of three."""
    x, weight, bias, mean, variance, momentum, eps = node.args
    for reader in list(node.users):
        assert reader.target is operator.getitem, reader.target
        meta: dict[str, Any] = dict(reader.meta)
        reader.replace_all_uses_with(node)
        reader.graph.erase_node(reader)
        node.meta = {**node.meta, "val": meta["val"]}
    node.target = aten.batch_norm.default
    node.args = (x, weight, bias, mean, variance, False, momentum, eps, False)
