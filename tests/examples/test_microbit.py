"""The digits on boards with little memory (16 KB of RAM and more): every scan streamed in, in floating point and in
integers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from etexport.__main__ import main
from etexport.board import load_board

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    assert main(["train", str(DIGITS), "-o", str(path)]) == 0
    return path


RUNS = [
    ("qemu_microbit", "float32", 3_900_000),
    ("qemu_microbit", "int8", 330_000),
    ("qemu_netduinoplus2", "float32", 52_000),  # as on qemu_mps2_an386, counted by another timer
    ("qemu_sifive_e", "int8", 330_000),
]


@pytest.mark.parametrize(("name", "quantization", "most"), RUNS)
def test_digits(
    name: str, quantization: str, most: int, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = load_board(name)
    assert board.simulator is not None
    for program in (f"{board.toolchain.prefix}g++", board.simulator.program):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    pte, folder = (
        tmp_path / "model" / f"digits-{quantization}" / "model.pte",
        tmp_path / board.name / f"digits-{quantization}",
    )
    assert main(["export", str(DIGITS), str(weights), "--quantize", quantization, "-o", str(pte)]) == 0, (
        capsys.readouterr().err
    )
    assert main(["build", str(pte), "--board", board.name, "-o", str(folder), "--name", "digits"]) == 0, (
        capsys.readouterr().err
    )
    assert main(["run", str(folder)]) == 0, capsys.readouterr().err
    assert main(["validate", str(folder), "-o", str(tmp_path / "validate.json")]) == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "validate.json").read_text())
    assert figures["samples"] == 360 and figures["accuracy"] >= 0.97

    ran = json.loads((folder / "run.json").read_text())
    assert max(ran["counters"]) <= most
    sizes = json.loads((folder / "sizes.json").read_text())
    assert ran["stack"]["used"] <= sizes["stack_bound"] <= board.stack
