"""int8 by torchao's PT2E flow: annotate, observe the script's calibration data, convert."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from etexport.errors import ModelError


def quantized(
    model: nn.Module, inputs: tuple[Tensor, ...], calibration: Sequence[tuple[Tensor, ...]], keep_float: Sequence[str] = ()
) -> nn.Module:
    """The network with quantise and dequantise round what can compute in int8, as a graph to export again.

    Batch normalisation is folded into the layers before it. `calibration` holds inputs as `inputs` are shaped; `keep_float` names
    modules by their path. A network that holds quantise operators already, because the user prepared it, comes back as it is.
    """
    with _quiet():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        from etexport.frontend.quantize.quantizer import MicrocontrollerQuantizer
    unknown = [name for name in keep_float if name not in dict(model.named_modules())]
    if unknown:
        known = ", ".join(sorted(name for name, _ in model.named_modules() if name))
        raise ModelError(f"keep_float names {', '.join(unknown)}, which the model does not have", hint=f"it has {known}")
    exported = torch.export.export(model, inputs, strict=False)
    if is_quantized(exported.graph):
        return model
    with _quiet():
        prepared = prepare_pt2e(exported.module(), MicrocontrollerQuantizer(keep_float))
        with torch.no_grad():
            for one in calibration:
                prepared(*one)
        converted: nn.Module = convert_pt2e(prepared)
    return converted


def is_quantized(graph: torch.fx.Graph) -> bool:
    """Does the graph hold quantise or dequantise operators?"""
    return any("quantized_decomposed" in str(node.target) for node in graph.nodes if node.op == "call_function")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchao warns at import about extensions that a CPU does not need."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
