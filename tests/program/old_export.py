"""Programs as one version of ExecuTorch writes them: `old_export.py FOLDER`, with that version's wheel on PYTHONPATH.

Each program is a `.pte` with an `.npz` of the inputs of some calls and of what PyTorch gives for them.
tests/program/test_old.py says how the wheels are had.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.exir import EdgeCompileConfig, to_edge
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

Calls = list[tuple[Tensor, ...]]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.Linear(27, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2, padding=1)
        return torch.softmax(self.last(torch.flatten(x, 1)), -1)


class Mean(nn.Module):
    """A running mean, kept between calls."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.kept.mul_(0.5).add_(x * 0.5)
        return self.kept * 2


class Choice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.cond(x.sum() > 0, lambda v: v * 2, lambda v: v - 1, (x,))
        assert isinstance(y, Tensor)
        return y.tanh()


class Rows(nn.Module):
    """Of as many rows as a call has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))


def quantized(module: nn.Module, calls: Calls) -> ExportedProgram:
    """By PT2E in 8 bits, as ExecuTorch's quantiser for XNNPACK does, whose files any runtime computes."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(export(module, calls[0]).module(), quantizer)
    for call in calls:
        prepared(*call)
    return export(convert_pt2e(prepared), calls[0])


def declare_quantized() -> None:
    """The out variants of quantized operators, as the wheel itself lists them: the library that does it in the wheel
    loads with that version's own torch only."""
    listed = (files("executorch") / "kernels" / "quantized" / "quantized.yaml").read_text()
    declared = torch.library.Library("quantized_decomposed", "FRAGMENT")
    for name, schema in re.findall(r"- func: quantized_decomposed::((?:de)?quantize_per_\w+\.\w*out)(\(.*)", listed):
        declared.define(name + schema)
    declarations.append(declared)


declarations: list[torch.library.Library] = []
"""Operators are gone with the library that declares them."""


def program(module: nn.Module, calls: Calls, **options: Any) -> ExportedProgram:
    return export(module, calls[0], **options)


Made = tuple[nn.Module, Calls, Callable[[nn.Module, Calls], ExportedProgram]]


def programs() -> dict[str, Made]:
    torch.manual_seed(0)
    images: Calls = [(torch.randn(1, 1, 9, 9),) for _ in range(4)]
    vectors: Calls = [(torch.randn(4),) for _ in range(4)]
    rows: Calls = [(torch.randn(count, 6),) for count in (5, 1, 3)]
    network = Network().eval()
    with torch.no_grad():
        network(torch.cat([image for (image,) in images]))
    return {
        "network": (network, images, program),
        "quantized": (network, images, quantized),
        "state": (Mean(), vectors, program),
        "branch": (Choice(), vectors, program),
        "rows": (Rows(), rows, lambda m, c: program(m, c, dynamic_shapes=({0: Dim("rows", min=1, max=5)},))),
    }


def main(folder: Path) -> None:
    declare_quantized()
    for name, (module, calls, exported) in programs().items():
        module.requires_grad_(False)
        captured = exported(module, calls)
        computed = captured.module()
        edge = to_edge(captured, compile_config=EdgeCompileConfig(_check_ir_validity=False))
        (folder / f"{name}.pte").write_bytes(edge.to_executorch().buffer)
        arrays = {f"run_{at}_input_0": call[0].numpy() for at, call in enumerate(calls)}
        arrays |= {f"run_{at}_output_0": computed(*call).numpy() for at, call in enumerate(calls)}
        np.savez(folder / f"{name}.npz", **arrays)
    print(f"executorch {version('executorch')}, torch {torch.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
