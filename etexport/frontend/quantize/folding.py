"""Batch normalisation as part of the layer before it: before scales are chosen by ourselves, after training in int8 by
torchao."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from etexport.frontend.quantize.declared import groups_of, is_layer, weights_of
from etexport.frontend.quantize.parts import before, varying

aten = torch.ops.aten


def folded(model: GraphModule) -> GraphModule:
    """The graph of a network in eval mode with each batch normalisation in the weights of the layer before it.

    torchao does that as well, but writes over weights that another layer reads too, loses the bias of a layer that is
    used twice, and fails for weights that are computed (weight_norm), transposed convolutions with groups and
    statistics of the input's own. What cannot be folded, for something else reads the layer's results, is kept out of
    its reach by a copy between the two.
    """
    varies = varying(model.graph)
    made: dict[tuple[Any, ...], tuple[Node, Node]] = {}
    for norm in list(model.graph.nodes):
        layer = norm.args[0] if norm.op == "call_function" and norm.target is aten.batch_norm.default else None
        if not isinstance(layer, Node) or not is_layer(layer):
            continue
        constants = [layer.args[1], *layer.args[2:3], *norm.args[1:5]]
        is_constant = not any(one in varies for one in constants) and None not in constants[-2:]
        along_rows = weights_of(layer).rows and layer.meta["val"].dim() > 2
        if len(layer.users) > 1 or not is_constant or along_rows:
            norm.replace_input_with(layer, before(model, norm, aten.clone.default, layer))
            continue
        eps = norm.args[7]
        key = (*constants, eps)
        if key not in made:
            made[key] = _weights(model, layer, norm)
        layer.args = (layer.args[0], *made[key], *layer.args[3:])
        norm.replace_all_uses_with(layer)
        model.graph.erase_node(norm)
    model.graph.eliminate_dead_code()
    model.recompile()
    return model


def _weights(model: GraphModule, layer: Node, norm: Node) -> tuple[Node, Node]:
    """Weights and bias of the layer with the batch normalisation in them, in the place of the originals where nothing
    else reads these."""
    old = (layer.args[1], layer.args[2] if len(layer.args) > 2 else None)
    new = _fused(layer, *(_content(model, one) for one in (*old, *norm.args[1:5], norm.args[7])))
    weight = _constant(model, layer, old[0], f"{layer.name}_weight", new[0])
    return weight, _constant(model, layer, old[1], f"{weight.target}_bias", new[1])


def _fused(
    layer: Node,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    scale = torch.ones_like(mean) if scale is None else scale
    shift = torch.zeros_like(mean) if shift is None else shift
    weights = weights_of(layer)
    if weights.rows:
        return fuse_linear_bn_weights(weight, bias, mean, variance, eps, scale, shift)
    if weights.channel_dim == 0:
        return fuse_conv_bn_weights(weight, bias, mean, variance, eps, scale, shift)
    groups = groups_of(layer)
    inputs, outputs, *window = weight.shape
    # (inputs, outputs of a group, window) as (inputs of a group, outputs, window), and back
    as_one = weight.reshape(groups, -1, outputs, *window).transpose(0, 1).reshape(-1, groups * outputs, *window)
    fused, fused_bias = fuse_conv_bn_weights(as_one, bias, mean, variance, eps, scale, shift, transpose=True)
    return fused.reshape(-1, groups, outputs, *window).transpose(0, 1).reshape(inputs, outputs, *window), fused_bias


def _content(model: GraphModule, node: Any) -> Any:
    """What a node gives that depends on no input."""
    if not isinstance(node, Node):
        return node
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(model).detach()
    args, kwargs = map_arg((node.args, node.kwargs), lambda one: _content(model, one))
    assert callable(node.target), node
    return node.target(*args, **kwargs)


def _constant(model: GraphModule, layer: Node, old: Any, name: str, content: Tensor) -> Node:
    """A parameter with this content: `old` itself where nothing else reads it, else a new one, called `name` if `old`
    is no parameter."""
    is_parameter = isinstance(old, Node) and old.op == "get_attr"
    is_free = is_parameter and len(old.users) == 1
    path, _, leaf = str(old.target if is_parameter else name).rpartition(".")
    leaf = leaf if is_free or not is_parameter else f"{leaf}_{layer.name}"
    setattr(model.get_submodule(path), leaf, nn.Parameter(content.detach().contiguous(), requires_grad=False))
    if is_free:
        kept: Node = old
        return kept
    with model.graph.inserting_before(layer):
        node = model.graph.get_attr(f"{path}.{leaf}" if path else leaf)
    node.meta["val"] = layer.meta["val"].fake_mode.from_tensor(content.detach(), static_shapes=True)
    return node


@contextlib.contextmanager
def patterns_that_occur() -> Iterator[None]:
    """Within it `convert_pt2e` gives the same graphs sooner.

    torchao 0.18 looks for four kinds of convolution before a batch normalisation, as it has written them for training,
    and traces 24 patterns of each kind first: 20 s, for any network that has a batch normalisation left. Every pattern
    has a root (of the variance) and its convolution; where the graph does not call both, none can match.
    """
    from torchao.quantization.pt2e import qat_utils

    fold = qat_utils._fold_conv_bn_qat_helper

    def fold_where_called(
        graph: GraphModule, convolution: Callable[..., Any], example: tuple[Any, ...], is_cuda: bool
    ) -> GraphModule:
        called = {getattr(node.target, "overloadpacket", None) for node in graph.graph.nodes}
        if {torch.ops.aten.sqrt, getattr(torch.ops.aten, convolution.__name__)} <= called:
            folded: GraphModule = fold(graph, convolution, example, is_cuda)
            return folded
        graph.graph.eliminate_dead_code()
        qat_utils._duplicate_dequantize_node(graph)
        qat_utils._remove_extra_dequantize(graph)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return graph

    qat_utils._fold_conv_bn_qat_helper = fold_where_called
    try:
        yield
    finally:
        qat_utils._fold_conv_bn_qat_helper = fold
