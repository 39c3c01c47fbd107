"""Weights in few bits, activations in float: `quantize = "int8-weights"`, `"int4-weights"` and `"bf16-weights"`,
without calibration.

A weight is stored as integers with a scale for each row, in 4 bits for each group of 32 elements of a row, and
dequantised by an operator of stock ExecuTorch's (`quantized_decomposed::`) before it is read. On the target side it
stays as it is (`etexport/specialise/weights.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.ao.quantization.fx._decomposed  # defines the operators of quantized_decomposed
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from etexport.errors import ModelError
from etexport.frontend.operators import out_name
from etexport.frontend.quantize import kept
from etexport.frontend.quantize.declared import library, operand
from etexport.frontend.quantize.folding import folded
from etexport.frontend.quantize.functional import functional

aten = torch.ops.aten

BITS: Mapping[str, int] = {"int8-weights": 8, "int4-weights": 4, "bf16-weights": 16}
GROUP = 32
"""Elements of a row that have a scale in common, in 4 bits."""
_TRIED = tuple(1 - step / 40 for step in range(12))
"""Of the scale that holds a group's largest weight: smaller ones, which cut it off for the others' good."""


def in_few_bits(model: nn.Module, inputs: tuple[Tensor, ...], bits: int, keep_float: Sequence[str]) -> GraphModule:
    """The network with the weights of linear layers and embeddings in `bits` bits, but for those that are not finite.
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
            if content.dtype is not torch.float32 or content.dim() != 2 or not content.isfinite().all():
                continue
            if weight.target not in made:
                stored = _halved if bits == 16 else partial(_stored, bits=bits)
                made[str(weight.target)] = stored(captured, weight, content)
            node.replace_input_with(weight, made[str(weight.target)])
    if not made:
        raise ModelError("no linear layer or embedding has weights to be stored in few bits", hint='quantize = "int8"')
    captured.graph.eliminate_dead_code()
    captured.delete_all_unused_submodules()
    captured.recompile()
    return captured


def _reads(node: Node) -> bool:
    """Whether a kernel folder says that the operator's `weight` may be in few bits, in rows."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    said = library().weights.get(out_name(node.target))
    return said is not None and said.operand == "weight"


def _halved(model: GraphModule, weight: Node, content: Tensor) -> Node:
    """What makes float32 of the weight as bfloat16, right behind it."""
    (half,) = _buffers(model, weight, {"bf16": content.to(torch.bfloat16)})
    with model.graph.inserting_after(half):
        return model.graph.call_function(aten.to.dtype, (half, torch.float32))


def _stored(model: GraphModule, weight: Node, content: Tensor, *, bits: int) -> Node:
    """What dequantises the weight, right behind it."""
    rows = content.reshape(-1, GROUP) if bits == 4 and content.shape[1] % GROUP == 0 else content
    integers, scales = _rounded(rows, bits)
    stored, factors = _buffers(model, weight, {"stored": integers, "scales": scales})
    limit = 1 << (bits - 1)
    with model.graph.inserting_after(stored):
        args = (stored, factors, None, 0, -limit, limit - 1, torch.int8)
        real = model.graph.call_function(torch.ops.quantized_decomposed.dequantize_per_channel.default, args)
    if rows is content:
        return real
    with model.graph.inserting_after(real):
        return model.graph.call_function(aten.reshape.default, (real, list(content.shape)))


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
