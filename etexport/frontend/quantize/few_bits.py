"""Weights in few bits, activations in float: `quantize = "int8-weights"`, `"int4-weights"`, `"bf16-weights"` and
`"fp16-weights"`, without calibration.

A weight is stored as integers with a scale for each output channel, in 4 bits for each 32 of the inputs that go into
it, and dequantised by an operator of stock ExecuTorch's (`quantized_decomposed::`) before it is read. On the target
side it stays as it is (`etexport/specialise/weights.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import torch
import torch.ao.quantization.fx._decomposed  # defines the operators of quantized_decomposed
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from etexport.errors import ModelError
from etexport.frontend.operators import out_name
from etexport.frontend.quantize import kept
from etexport.frontend.quantize.declared import groups_of, is_layer, library, name_of, operand, weights_of
from etexport.frontend.quantize.folding import folded
from etexport.frontend.quantize.functional import functional

aten = torch.ops.aten

STORED: Mapping[str, int | torch.dtype] = {
    "int8-weights": 8, "int4-weights": 4, "bf16-weights": torch.bfloat16, "fp16-weights": torch.float16,
}  # fmt: skip
"""By a script's word, in how many bits integers are, or in what type floats."""
GROUP = 32
"""Inputs whose weights have a scale in common, in 4 bits."""
_TRIED = tuple(1 - step / 40 for step in range(12))
"""Of the scale that holds a group's largest weight: smaller ones, which cut it off for the others' good."""


def in_few_bits(
    model: nn.Module, inputs: tuple[Tensor, ...], stored: int | torch.dtype, keep_float: Sequence[str]
) -> GraphModule:
    """The network with the weights of layers and embeddings as `STORED` says, but for those that are not finite.
    ModelError where none has any, and for names in `keep_float` that the network does not have."""
    with torch.no_grad():
        captured = folded(functional(torch.export.export(model, inputs, strict=False)))
        kept.check(captured.graph, keep_float, (name for name, _ in model.named_modules()))
        made: dict[str, Node] = {}
        for node in list(captured.graph.nodes):
            weight = operand(node, "weight") if _reads(node) and kept.keeper(node, keep_float) is None else None
            if not isinstance(weight, Node) or weight.op != "get_attr":
                continue
            content = operator.attrgetter(str(weight.target))(captured).detach()
            if content.dtype is not torch.float32 or content.dim() < 2 or not content.isfinite().all():
                continue
            if weight.target not in made:
                made[str(weight.target)] = (
                    _stored(captured, node, weight, content, stored)
                    if isinstance(stored, int)
                    else _halved(captured, weight, content, stored)
                )
            node.replace_input_with(weight, made[str(weight.target)])
    if not made:
        raise ModelError("no layer or embedding has weights to be stored in few bits", hint='quantize = "int8"')
    captured.graph.eliminate_dead_code()
    captured.delete_all_unused_submodules()
    captured.recompile()
    return captured


def _reads(node: Node) -> bool:
    """Whether a kernel folder says that the operator's `weight` may be in few bits."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    said = library().weights
    layers = {name for one in said.values() if one.operand == "weight" for name in one.layers}
    direct = said.get(out_name(node.target))
    return name_of(node.target) in layers or (direct is not None and direct.operand == "weight")


def _halved(model: GraphModule, weight: Node, content: Tensor, dtype: torch.dtype) -> Node:
    """What makes float32 of the weight in 16 bits, right behind it. What these cannot hold is the largest number that
    they can."""
    limit = torch.finfo(dtype).max
    (half,) = _buffers(model, weight, {"half": content.clamp(-limit, limit).to(dtype)})
    with model.graph.inserting_after(half):
        return model.graph.call_function(aten.to.dtype, (half, torch.float32))


def _stored(model: GraphModule, layer: Node, weight: Node, content: Tensor, bits: int) -> Node:
    """What dequantises the weight, right behind it."""
    channel = weights_of(layer).channel_dim if is_layer(layer) else 0
    into = 1 - channel  # the dimension of inputs; of an embedding that of a row's elements
    inputs = content.shape[into] // (groups_of(layer) if into == 0 else 1)
    last = content.movedim(into, -1)
    grouped = bits == 4 and inputs % GROUP == 0
    rows = last.reshape(-1, GROUP) if grouped else content.movedim(channel, 0).reshape(content.shape[channel], -1)
    integers, scales = _rounded(rows, bits)
    if not grouped:
        beside = content.movedim(channel, 0).shape
        integers = integers.reshape(beside).movedim(0, channel).contiguous()
    stored, factors = _buffers(model, weight, {"stored": integers, "scales": scales})
    limit, after = 1 << (bits - 1), stored

    def then(target: torch._ops.OpOverload, *args: object) -> Node:
        with model.graph.inserting_after(after):
            return model.graph.call_function(target, args)  # type: ignore[arg-type]

    axis = 0 if grouped else channel
    dequantize = torch.ops.quantized_decomposed.dequantize_per_channel.default
    after = then(dequantize, stored, factors, None, axis, -limit, limit - 1, torch.int8)
    if grouped:
        after = then(aten.reshape.default, after, list(last.shape))
    if grouped and into != content.dim() - 1:
        order = list(range(content.dim() - 1))
        order.insert(into, content.dim() - 1)
        after = then(aten.permute.default, after, order)
    return after


def _buffers(model: GraphModule, weight: Node, contents: Mapping[str, Tensor]) -> list[Node]:
    """Of the module that has the weight: right behind it, the last one first."""
    path, _, leaf = str(weight.target).rpartition(".")
    module, prefix = model.get_submodule(path), f"{path}." if path else ""
    nodes = []
    with model.graph.inserting_after(weight):
        for name, content in contents.items():
            module.register_buffer(f"{leaf}_{name}", content)
            nodes.append(model.graph.get_attr(f"{prefix}{leaf}_{name}"))
    return nodes


def _rounded(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integers and a scale for each row: of the scales tried, the one with the least squared error."""
    limit = 1 << (bits - 1)
    largest = rows.abs().amax(dim=1).clamp(min=2.0**-100)
    best = torch.full_like(largest, torch.inf)
    stored, scales = torch.zeros_like(rows, dtype=torch.int8), largest / (limit - 1)
    for factor in _TRIED if bits < 8 else (1.0,):
        scale = largest / (limit - 1) * factor
        integers = (rows / scale[:, None]).round().clamp(-limit, limit - 1)
        error = (integers * scale[:, None] - rows).square().sum(dim=1)
        better = error < best
        best, scales = torch.where(better, error, best), torch.where(better, scale, scales)
        stored = torch.where(better[:, None], integers.to(torch.int8), stored)
    return stored, scales
