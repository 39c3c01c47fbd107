"""Networks that were trained with quantisation (torchao's QAT) on real scans: the same bytes on every core, each
operator exact, and as right as in PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from tests.frontend.scripts import script

BOARDS = {
    "host": ("gcc", "gcc"),
    "qemu_mps2_an386": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "qemu_mps2_an385": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "qemu_virt_rv32": ("riscv64-unknown-elf-gcc", "qemu-system-riscv32"),
}
PROFILED = ("host", "qemu_mps2_an386")
"""Where each operator is checked by itself; the others give the same bytes."""
SAMPLES = 24

TRAINED = """\
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from etexport.frontend.quantize.quantizer import MicrocontrollerQuantizer

scans, labels = load_digits(return_X_y=True)
scans, labels = torch.tensor(scans, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels)

@torch.enable_grad()
def epochs(network, count, rate):
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for _ in range(count):
        for batch in torch.randperm(1400)[:1344].split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(shaped(scans[batch])), labels[batch]).backward()
            optimizer.step()

def model():
    torch.manual_seed(0)
    network = Model().train()
    epochs(network, 5, 4e-3)
    example, batch = shaped(scans[:64]), torch.export.Dim("batch", min=1, max=512)
    graph = torch.export.export(network, (example,), dynamic_shapes=({0: batch},)).module()
    prepared = prepare_qat_pt2e(graph, MicrocontrollerQuantizer(training=True))
    epochs(prepared, 2, 1e-3)
    return move_exported_model_to_eval(prepared)

def example_inputs():
    return shaped(scans[1400:1401])

def samples():
    return shaped(scans[1400:1600]).unsqueeze(1), labels[1400:1600].numpy()
"""

IMAGES = """
def shaped(scans):
    return F.interpolate(scans, scale_factor=2.0)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 9, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(9), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(9, 9, 3, padding=1, groups=9, bias=False), nn.BatchNorm2d(9), nn.ReLU6())
        self.pointwise = nn.Sequential(nn.Conv2d(9, 9, 1, bias=False), nn.BatchNorm2d(9))
        self.down, self.gate = nn.Conv2d(9, 14, 3, stride=2), nn.Conv2d(14, 14, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(14, 11, 3, stride=2, padding=1), nn.BatchNorm2d(11), nn.ReLU())
        self.drop, self.classify = nn.Dropout(0.1), nn.Linear(11, 10)

    def forward(self, x):
        x = self.stem(x)
        x = F.hardswish(self.down(x + self.pointwise(self.depthwise(x))))
        x = x * F.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.classify(self.drop(self.up(x).mean((2, 3))))
"""  # noqa: E501

SEQUENCES = """
def shaped(scans):
    return scans[:, 0]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Sequential(nn.Conv1d(8, 12, 3, padding=1), nn.BatchNorm1d(12), nn.ReLU())
        self.cell, self.norm, self.qkv = nn.GRU(12, 10, batch_first=True), nn.LayerNorm(10), nn.Linear(10, 30)
        self.classify = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 10))

    def forward(self, x):
        x = self.norm(self.cell(self.mix(x).transpose(1, 2))[0])
        x = x + F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1))
        return self.classify(x.mean(1))
"""  # noqa: E501


@pytest.mark.parametrize("network", [IMAGES, SEQUENCES], ids=["images", "sequences"])
def test_trained_with_quantisation(network: str, tmp_path: Path) -> None:
    program = tmp_path / "trained.pte"
    assert main(["export", str(script(tmp_path, TRAINED + network)), "-o", str(program)]) == 0
    inputs, outputs = str(program.with_suffix(".npz")), {}
    with np.load(inputs) as arrays:
        right = arrays["output_0"].reshape(200, 10).argmax(1) == arrays["labels"]
        assert right.mean() > 0.75, "it has learned something"
    for board, tools in BOARDS.items():
        if not all(map(shutil.which, tools)):
            continue
        folder = tmp_path / board
        assert main(["build", str(program), "--board", board, "-o", str(folder)]) == 0
        assert main(["run", str(folder), "--inputs", inputs, "--samples", str(SAMPLES)]) == 0
        if board in PROFILED:
            assert (
                main(
                    [
                        "build",
                        str(program),
                        "--board",
                        board,
                        "--sources",
                        str(folder),
                        "--probes",
                        "-o",
                        str(folder / "profile"),
                    ]
                )
                == 0
            )
            assert main(["run", str(folder / "profile"), "--inputs", inputs, "--samples", "1", "--probes"]) == 0
        figures = folder / "validate.json"
        assert main(["validate", str(folder), "--program", str(program), "-o", str(figures)]) == 0
        said = json.loads(figures.read_text())
        if board in PROFILED:
            assert said["exact"]["checked"] == said["exact"]["operators"] >= 12
        assert abs(said["accuracy"] - right[:SAMPLES].mean()) <= 1 / SAMPLES
        assert json.loads((folder / "memory.json").read_text())["in_float"] == []
        with np.load(folder / "outputs.npz") as arrays:
            outputs[board] = arrays["output_0"].tobytes()
    if not outputs:
        pytest.skip("no compiler is installed")
    assert len(set(outputs.values())) == 1, "the same bytes on every core"
