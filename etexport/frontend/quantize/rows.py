"""torchao's dynamic int8 activations: what chooses a scale for each row, quantises it and dequantises it again is one
operator, `etexport::round_rows` of kernels/few_bits."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

aten = torch.ops.aten


@functools.cache
def operators() -> torch.library.Library:
    """Tells PyTorch of it."""
    library = torch.library.Library("etexport", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("round_rows(Tensor input) -> Tensor")  # type: ignore[no-untyped-call]
    library.impl("round_rows", _rounded, "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake("etexport::round_rows", torch.empty_like, lib=library)
    return library


def _rounded(x: Tensor) -> Tensor:
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).eps)
    zero = (-128 - (low / scale).round()).clamp(-128, 127)
    return (((x * (1 / scale)).round() + zero).clamp(-128, 127) - zero) * scale


def round_rows(program: ExportedProgram, *, stock: bool) -> None:
    """In the program's own graph. With `stock` torchao's own steps stay, the last one written in float: as an operator
    it would take scales that are computed, for which nothing but this rule has a kernel."""
    if not hasattr(torch.ops.torchao, "choose_qparams_affine"):
        return
    for node in list(program.graph.nodes):
        source = _source(node)
        if source is not None:
            with program.graph.inserting_before(node):
                made = _in_float(program.graph, node) if stock else _one_operator(program.graph, node, source)
            node.replace_all_uses_with(made)
    program.graph.eliminate_dead_code()


def _one_operator(graph: Graph, node: Node, source: Node) -> Node:
    shape = list(node.meta["val"].shape)
    operators()
    rows = _call(graph, node, aten.reshape.default, source, [-1, shape[-1]])
    rounded = _call(graph, node, torch.ops.etexport.round_rows.default, rows)
    return _call(graph, node, aten.reshape.default, rounded, shape)


def _in_float(graph: Graph, node: Node) -> Node:
    """(integers - zero point) * scale."""
    integers, _, scale, zero = node.args[:4]
    column = [*node.meta["val"].shape[:-1], 1]
    scale, zero = (_call(graph, node, aten.reshape.default, one, column) for one in (scale, zero))
    integers, zero = (_call(graph, node, aten.to.dtype, one, torch.float32) for one in (integers, zero))
    return _call(graph, node, aten.mul.Tensor, _call(graph, node, aten.sub.Tensor, integers, zero), scale)


def _call(graph: Graph, like: Node, target: torch._ops.OpOverload, *args: object) -> Node:
    made = graph.call_function(target, args)  # type: ignore[arg-type]
    made.meta.update(like.meta)
    made.meta["val"] = target(*(one.meta["val"] if isinstance(one, Node) else one for one in args))
    return made


def _source(node: Node) -> Node | None:
    """What a dequantise gives back, rounded; None for another node, and for other scales than a row's by its range."""
    stored = _parts(node, "dequantize_affine")
    quantise = stored and _parts(stored[0], "quantize_affine")
    if not stored or not quantise or stored[1:7] != quantise[1:7]:
        return None
    scale, zero = quantise[2], quantise[3]
    found = [one.args[0] if isinstance(one, Node) and one.target is operator.getitem else None for one in (scale, zero)]
    chosen = _parts(found[0], "choose_qparams_affine")
    if not chosen or found[0] is not found[1] or chosen[0] is not quantise[0]:
        return None
    block, *others = chosen[2:7]
    whole = list(block) == [1] * (len(block) - 1) + [node.meta["val"].shape[-1]]
    wanted = [torch.int8, -128, 127, None]
    if chosen[1] != "ASYMMETRIC" or others != wanted or list(quantise[4:7]) != wanted[:3] or not whole:
        return None
    assert isinstance(quantise[0], Node)
    return quantise[0]


def _parts(node: object, name: str) -> tuple[Any, ...]:
    """The arguments of an operator of torchao's of this name; none of another node."""
    packet = getattr(torch.ops.torchao, name)
    return node.args if isinstance(node, Node) and node.target is packet.default else ()
