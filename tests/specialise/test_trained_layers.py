"""What training leaves in a network: channels without weights, and weights of nearly nothing beside their biases.
Against the float network, on samples that calibration has not seen."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from etexport.frontend import export
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.specialise.pipeline import specialise
from tests.frontend.scripts import read_back
from tests.specialise.interpret import interpret
from tests.specialise.test_integer import build

SCRIPT = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.middle, self.each = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 144, 1), nn.Conv2d(144, 144, 3, groups=144)
        self.up, self.last, self.two = nn.ConvTranspose2d(144, 12, 2, 2), nn.Linear(12 * 36, 20), nn.Linear(20, 2)
        with torch.no_grad():
            for layer in (self.first, self.middle, self.each, self.up, self.last):
                layer.weight *= 2
                layer.bias *= 0.1
                rows = layer.weight.transpose(0, 1) if layer is self.up else layer.weight
                rows[1::5] = 0                   # dead
                rows[2::7] *= 1e-6               # nearly so
                most = 6.0 if layer is self.first else 1.0
                layer.bias[1::5] = torch.tensor([most, -most]).repeat(99)[:len(layer.bias[1::5])]
    def forward(self, x):
        x = torch.relu(self.each(torch.relu(self.middle(torch.relu(self.first(x))))))
        return self.two(torch.relu(self.last(torch.flatten(self.up(x), 1))))
def model(): return Net().eval()
def example_inputs(): return (data(0)[0],)
def data(seed): return torch.randn(24, 1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
def samples(): return data(1)
def calibration(): return data(2)
"""  # noqa: E501


@pytest.fixture(scope="module")
def library() -> Library:
    return load_ops()


def test_dead_channels(library: Library, tmp_path: Path) -> None:
    script = tmp_path / "model.py"
    script.write_text(SCRIPT, encoding="utf-8")
    export(script, tmp_path / "model.pte", quantize="int8")
    built = build(tmp_path / "model.pte", library)
    assert not [
        step for step in built.placed.specialised.calls.values() if step.instruction.op.startswith("aten::convolution")
    ]
    module = SimpleNamespace(**runpy.run_path(str(script)))
    net, samples = module.model(), module.samples()
    with torch.no_grad():
        wanted = np.stack([net(sample).numpy() for sample in samples])
    got = np.stack([interpret(built.placed, library, [sample.numpy()])[0] for sample in samples])
    moving = wanted - wanted.mean(axis=0)
    noise = 10 * np.log10((moving**2).sum() / ((got - wanted) ** 2).sum())
    assert noise > 14, f"{noise:.1f} dB"
    fast = specialise(read_back(tmp_path / "model.pte")[0], Target(frozenset({"arm", "thumb2", "dsp"})), library)
    slow = [step.call.function for step in fast.calls.values() if step.call.macs and "dsp" not in step.call.variant]
    assert not slow
