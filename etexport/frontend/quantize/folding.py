"""Batch normalisation folded by torchao after training in int8: only patterns that can occur are made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx import GraphModule


@contextlib.contextmanager
def patterns_that_occur() -> Iterator[None]:
    """Within it `convert_pt2e` gives the same graphs sooner.

    torchao 0.18 looks for four kinds of convolution before a batch normalisation, as it has written them for training, and traces 24
    patterns of each kind first: 20 s, for any network that has a batch normalisation left. Every pattern has a root (of the variance)
    and its convolution; where the graph does not call both, none can match.
    """
    from torchao.quantization.pt2e import qat_utils

    fold = qat_utils._fold_conv_bn_qat_helper

    def fold_where_called(graph: GraphModule, convolution: Callable[..., Any], example: tuple[Any, ...], is_cuda: bool) -> GraphModule:
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
