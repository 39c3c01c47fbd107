"""torchao's int8 weights in the form of its others. Linear layers with them multiply by integers as they are and scale
the results; dequantised weights say the same, and are what is looked for later."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def dequantised(model: nn.Module) -> nn.Module:
    """The network, of which a copy where it has such weights."""
    if not any(_is_int8(one) for one in model.parameters()):
        return model
    from torchao.quantization import IntxUnpackedToInt8Tensor

    model = copy.deepcopy(model)
    for module in model.modules():
        parameters: list[tuple[str, Any]] = list(module.named_parameters(recurse=False))
        for name, weight in parameters:
            if _is_int8(weight):
                parts = (weight.qdata, weight.scale, weight.zero_point, torch.int8, tuple(weight.block_size))
                made = IntxUnpackedToInt8Tensor(*parts, weight.dtype, None)
                setattr(module, name, nn.Parameter(made, requires_grad=False))
    return model


def _is_int8(weight: Any) -> bool:
    """Asked without importing torchao."""
    kind = type(weight)
    named = kind.__module__.startswith("torchao.") and kind.__name__ == "Int8Tensor"
    return named and weight.act_quant_kwargs is None
