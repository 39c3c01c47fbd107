"""Scales of weights that 32 bits can work with."""

from __future__ import annotations

import operator

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import ObserverBase, PerChannelMinMaxObserver

from etexport.frontend.quantize.declared import is_layer

_LARGEST_BIAS = 2**22
"""In units of the sums: at which fast kernels still add in halves of a word."""


def widen_weights(prepared: GraphModule) -> None:
    """Give a channel of weights that are next to nothing a scale in which 32 bits hold its bias, and the sums of fast
    kernels too.

    A bias far beyond all that the channel's products can add up to is the channel's result: its weights need no finer
    scale than this.
    """
    observers = dict(prepared.named_modules(remove_duplicate=False))
    for node in prepared.graph.nodes:
        if not is_layer(node):
            continue
        source, weight, bias = (
            observers.get(str(one.target)) if isinstance(one, Node) else None for one in (*node.args, None)[:3]
        )
        parameter = node.args[2].args[0] if isinstance(bias, ObserverBase) else None
        if parameter is None or parameter.op != "get_attr" or not isinstance(weight, PerChannelMinMaxObserver):
            continue
        if isinstance(source, ObserverBase) and weight.min_val.numel():
            content = operator.attrgetter(str(parameter.target))(prepared).detach().abs()
            taps = node.args[1].args[0].meta["val"].numel() // len(content)
            least = content / (source.calculate_qparams()[0] * max(_LARGEST_BIAS, taps * 2**15))
            far = least * weight.quant_max
            weight.min_val, weight.max_val = torch.minimum(weight.min_val, -far), torch.maximum(weight.max_val, far)
