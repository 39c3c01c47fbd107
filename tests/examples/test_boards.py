"""A small network on every board that can be simulated here: its outputs are PyTorch's, and in integers the same bytes
everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.board import board_names, count_of, load_board
from tests.conftest import Once

SCRIPT = '''
import torch
from torch import nn


class Small(nn.Module):
    """Fits a board with 8 KB of RAM."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.layer = nn.Linear(16, 3)

    def forward(self, x):
        return self.layer(self.pool(torch.relu(self.convolution(x))).flatten(1)).softmax(-1)


def model():
    torch.manual_seed(5)
    return Small().eval()


def example_inputs():
    return (torch.zeros(1, 1, 8, 8),)


def samples():
    return torch.randn(12, 1, 1, 8, 8, generator=torch.Generator().manual_seed(6))


def calibration():
    return torch.randn(100, 1, 1, 8, 8, generator=torch.Generator().manual_seed(7))
'''

SIMULATED = [
    name
    for name in board_names()
    if (simulator := load_board(name).simulator) is not None and simulator.kind not in ("host", "renode")
]
FIRST = "qemu_microbit"
"""Whose integers all others are compared with: the smallest core."""


@pytest.fixture(scope="module")
def programs(once: Once) -> Path:
    def export(folder: Path) -> None:
        (folder / "small.py").write_text(SCRIPT)
        for quantization in ("float32", "int8"):
            arguments = [
                "export",
                str(folder / "small.py"),
                "--quantize",
                quantization,
                "-o",
                str(folder / quantization / "model.pte"),
            ]
            assert main(arguments) == 0

    return once("small", export)


def outputs(board: str, quantization: str, programs: Path, folder: Path) -> np.ndarray:
    """Built, run and compared with PyTorch: what the board gave."""
    assert (
        main(
            [
                "build",
                str(programs / quantization / "model.pte"),
                "--board",
                board,
                "-o",
                str(folder),
                "--name",
                "small",
            ]
        )
        == 0
    )
    assert main(["run", str(folder)]) == 0
    assert main(["validate", str(folder), "-o", str(folder / "validate.json")]) == 0
    figures = json.loads((folder / "validate.json").read_text())
    assert figures["samples"] == 12 and figures["mismatched"] == 0
    with np.load(folder / "outputs.npz") as found:
        return np.asarray(found["output_0"])


@pytest.fixture(scope="module")
def integers(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    needs(FIRST)
    return outputs(FIRST, "int8", programs, tmp_path_factory.mktemp("first"))


def needs(name: str) -> None:
    board = load_board(name)
    assert board.simulator is not None
    for program in (f"{board.toolchain.prefix}g++", board.simulator.program):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("name", SIMULATED)
def test_a_small_network(
    name: str,
    programs: Path,
    integers: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    needs(name)
    board = load_board(name)
    if board.simulator is not None and board.simulator.kind == "program":
        monkeypatch.setenv("NODE_PATH", str(request.getfixturevalue("rp2040js")))
    outputs(name, "float32", programs, tmp_path / "float32")
    assert outputs(name, "int8", programs, tmp_path / "int8").tobytes() == integers.tobytes()

    ran = json.loads((tmp_path / "int8" / "run.json").read_text())
    count = count_of(board, simulated=True)
    assert ran["counter"] == count.unit and (ran["counters"] == []) is count.still
    if not count.still:
        assert 0 < min(ran["counters"]) < 100_000 and 0 < ran["init_count"] < 10_000
    assert ran["exit_status"] == 0
    sizes = json.loads((tmp_path / "int8" / "sizes.json").read_text())
    assert ran["stack"]["used"] <= sizes["stack_bound"] <= board.stack
