"""Models of many kinds by ExecuTorch's own flows: `stock_kinds.py FLOW FOLDER [KIND ...]`.

FLOW is float, cortex_m, or xnnpack: quantised as for that delegate and not delegated, so that quantise and dequantise
stand round float operators, with a scale for each channel of a weight or (xnnpack_tensor) one. Beside each file lies an
.npz: `input_0`, and `output_0` as the network that was lowered gives it. A kind that the flow itself cannot lower
leaves a text beside: why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import executorch.kernels.quantized  # noqa: F401  the operators of int8 programs
import numpy as np
import torch
from executorch.exir import to_edge
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLES = 4


class Of(nn.Module):
    """Layers by name, and what forward does with them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.does = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).chunk(3, -1)
    scores: Tensor = torch.softmax(q @ k.transpose(-1, -2) * 0.35, -1)
    return m.out(scores @ v)  # type: ignore[no-any-return]


def conv(ins: int = 3, outs: int = 8, size: int = 3, **more: Any) -> nn.Module:
    return nn.Conv2d(ins, outs, size, **more)


IMAGE, ROWS, SEQUENCE = (1, 3, 10, 10), (2, 16), (1, 4, 20)
KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bn": (lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4, 1)), IMAGE),
    "relu6": (lambda: nn.Sequential(conv(stride=2), nn.ReLU6(), conv(8, 8, groups=8, padding=1), nn.ReLU6(),
    conv(8, 5, 1)), IMAGE), "clamp": (lambda: Of(lambda m, x: torch.clamp(m.b(torch.clamp(m.a(x), -0.4, 0.7)),
    min=-0.1), a=conv(), b=conv(8, 4)), IMAGE), "clamp_alone": (lambda: Of(lambda m,
    x: m.a(x.clamp(-0.5, 1.0)).clamp(max=0.3), a=nn.Linear(16, 8)), ROWS),
    "scalars": (lambda: Of(lambda m, x: m.b(m.a(x) * 0.5 + 0.25 - m.a(x) / 3), a=nn.Linear(16, 16), b=nn.Linear(16, 4)),
    ROWS), "scalar_first": (lambda: Of(lambda m, x: m.a(x * 0.125), a=conv()), IMAGE),
    "buffers": (lambda: Of(lambda m, x: m.a((x - m.n.weight) * m.n.bias), a=nn.Linear(16, 6), n=nn.LayerNorm(16)),
    ROWS), "softmax_between": (lambda: Of(lambda m, x: m.b(torch.softmax(m.a(x), -1)), a=nn.Linear(16, 12),
    b=nn.Linear(12, 5)), ROWS), "softmax_channels": (lambda: Of(lambda m, x: m.b(torch.softmax(m.a(x), 1)), a=conv(),
    b=conv(8, 2)), IMAGE), "log_softmax": (lambda: Of(lambda m, x: torch.log_softmax(m.a(x), -1), a=nn.Linear(16, 12)),
    ROWS), "attention": (lambda: Of(attention, qkv=nn.Linear(16, 48), out=nn.Linear(16, 16)), (1, 6, 16)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 4, 5, stride=2)), SEQUENCE),
    "conv1d_depthwise": (lambda: nn.Sequential(nn.Conv1d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv1d(4, 6, 1)), SEQUENCE),
    "dilated": (lambda: nn.Sequential(conv(dilation=2, padding=2), nn.Hardtanh(-0.5, 0.5), conv(8, 8, groups=2)),
    IMAGE), "transposed": (lambda: nn.Sequential(conv(), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)), IMAGE),
    "transposed_1d": (lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1), nn.Tanh()), SEQUENCE),
    "pools": (lambda: nn.Sequential(conv(), nn.MaxPool2d(2), nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(1),
    nn.Flatten()), IMAGE), "residual": (lambda: Of(lambda m, x: torch.relu(m.b(torch.relu(m.a(x))) + m.a(x)),
    a=conv(padding=1), b=conv(8, 8, padding=1)), IMAGE), "gates": (lambda: Of(lambda m,
    x: torch.sigmoid(m.a(x)) * torch.tanh(m.b(x)), a=nn.Linear(16, 8), b=nn.Linear(16, 8)), ROWS),
    "swish": (lambda: nn.Sequential(conv(), nn.Hardswish(), conv(8, 8, 1), nn.SiLU(), conv(8, 4, 1), nn.GELU()), IMAGE),
    "squeeze_excite": (lambda: Of(lambda m, x: m.a(x) * torch.sigmoid(m.b(m.a(x).mean((2, 3), True))), a=conv(),
    b=conv(8, 8, 1)), IMAGE), "joined": (lambda: Of(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 4),
    b=conv(3, 6), c=conv(10, 4, 1)), IMAGE), "pieces": (lambda: Of(lambda m, x: m.b(m.a(x)[:, :4].flatten(1)[:, ::2]),
    a=conv(3, 6, stride=3), b=nn.Linear(18, 3)), IMAGE), "norm": (lambda: nn.Sequential(nn.Linear(16, 16),
    nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4)), ROWS), "group_norm": (lambda: nn.Sequential(conv(),
    nn.GroupNorm(2, 8), nn.ReLU(), conv(8, 4, 1)), IMAGE), "upsampled": (lambda: Of(lambda m,
    x: m.b(F.interpolate(m.a(x), scale_factor=2.0)), a=conv(), b=conv(8, 2)), IMAGE),
    "padded": (lambda: Of(lambda m, x: m.b(F.pad(m.a(x), (1, 2, 0, 1))), a=conv(), b=conv(8, 2)), IMAGE),
    "leaky": (lambda: nn.Sequential(conv(), nn.LeakyReLU(0.1), conv(8, 4), nn.PReLU(4), nn.ELU()), IMAGE),
    "extremes": (lambda: Of(lambda m, x: torch.maximum(m.a(x), m.b(x)).amax(-1), a=nn.Linear(16, 8),
    b=nn.Linear(16, 8)), ROWS), "turned": (lambda: Of(lambda m, x: m.b(m.a(x).transpose(1, 2)), a=nn.Conv1d(4, 6, 1),
    b=nn.Linear(6, 3)), SEQUENCE), "division": (lambda: Of(lambda m, x: m.a(x) / (m.b(x).abs() + 1.0),
    a=nn.Linear(16, 8), b=nn.Linear(16, 8)), ROWS),
}  # fmt: skip


def as_last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last) if x.dim() == 4 else x


def quantised(model: nn.Module, samples: list[Tensor], quantizer: Any) -> nn.Module:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(model, (samples[0],)).module(check_guards=False), quantizer)
    for sample in samples:
        prepared(sample)
    return convert_pt2e(prepared)  # type: ignore[no-any-return]


def lowered(flow: str, model: nn.Module, samples: list[Tensor]) -> tuple[bytes, list[Tensor]]:
    """(the file, what the network gives for each sample)."""
    if flow == "cortex_m":
        from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config
        from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
        from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer
        from executorch.backends.cortex_m.target_config import CortexM, CortexMTargetConfig

        model, samples = model.to(memory_format=torch.channels_last), [as_last(sample) for sample in samples]
        converted = quantised(model, samples, CortexMQuantizer())
        edge = to_edge(torch.export.export(converted, (samples[0],)), compile_config=cortex_m_edge_compile_config())
        config = CortexMTargetConfig(cpu=CortexM.M4)
        edge._edge_programs["forward"] = CortexMPassManager(edge.exported_program(), target_config=config).transform()
        model = edge.exported_program().module()
    else:
        if flow.startswith("xnnpack"):
            from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
                XNNPACKQuantizer,
                get_symmetric_quantization_config,
            )

            config = get_symmetric_quantization_config(is_per_channel=flow == "xnnpack")
            model = quantised(model, samples, XNNPACKQuantizer().set_global(config))
        edge = to_edge(torch.export.export(model, (samples[0],)))
    return edge.to_executorch().buffer, [model(sample) for sample in samples]


def main(flow: str, folder: Path, *only: str) -> None:
    for name, (make, shape) in KINDS.items():
        if only and name not in only:
            continue
        torch.manual_seed(len(name))
        samples = list(torch.randn(20, *shape))
        try:
            with torch.no_grad():
                model = make().eval().requires_grad_(False)
                data, outputs = lowered(flow, model, samples)
        except Exception as error:
            (folder / f"{name}.txt").write_text(f"{type(error).__name__}: {error}"[:500])
            continue
        (folder / f"{name}.pte").write_bytes(data)
        arrays = (torch.stack([one.contiguous() for one in some[:SAMPLES]]).numpy() for some in (samples, outputs))
        np.savez(folder / f"{name}.npz", allow_pickle=False, **dict(zip(("input_0", "output_0"), arrays, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
