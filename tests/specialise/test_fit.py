"""A program that does not fit its board stops before anything is compiled, in the model's terms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etexport.board import board_files
from etexport.errors import PlanError
from etexport.kernel.library import load_ops
from etexport.program import pte
from etexport.stages.generate import generate
from tests.specialise.graph import Graph

LIBRARY = load_ops()


def program(folder: Path, features: int, inputs: int = 1) -> Path:
    """One linear layer: 4 * `features` bytes of results, as many times `inputs` of weights."""
    graph = Graph(LIBRARY)
    x = graph.input(1, inputs)
    path = folder / "model.pte"
    path.write_bytes(pte.write(graph.program(graph.linear(x, features, name="wide", line=12))))
    return path


def refused(path: Path, board: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        generate(path, board, path.parent / "out", optimize="speed", name="model")
    assert not (path.parent / "out").exists()
    return caught.value


def test_ram(tmp_path: Path) -> None:
    error = refused(program(tmp_path, 4_000), "qemu_microbit")
    assert error.where == "board qemu_microbit"
    assert error.what == "the program needs 18,052 bytes of RAM (arena 16,004, stack 2,048), the board has 16,384"
    assert error.hint.startswith(
        "at the peak, model.py:12: wide (aten::addmm.out): wide_0_0 16,000 (model.py:12), input_0 4"
    )


def test_what_the_first_ram_does_not_hold_lies_in_the_second(tmp_path: Path) -> None:
    board = tmp_path / "two.toml"
    more = '[[memory]]\nname = "more"\nkind = "ram"\naddress = 0x2800_0000\nsize = 0x10_0000\n\n[counter]'
    board.write_text(board_files()["qemu_microbit"].read_text("utf-8").replace("[counter]", more), encoding="utf-8")
    generate(program(tmp_path, 4_000), str(board), tmp_path / "made", optimize="speed", name="model")
    first, second = json.loads((tmp_path / "made" / "memory.json").read_text())["regions"]
    assert first["name"] == "ram" and first["size"] < 16_000 <= second["size"]
    told = refused(program(tmp_path, 300_000), str(board))
    assert (
        told.what.startswith("region more needs 1,200,0") and "(no plan needs less), there are 1,048,576" in told.what
    ), told


def test_flash(tmp_path: Path) -> None:
    error = refused(program(tmp_path, 300, 300), "qemu_microbit")
    assert error.what.startswith("the program's constants take 361,2") and error.what.endswith(
        "bytes of flash, the board has 262,144"
    )
    assert "weight 360,000 (float32 [90000] model.py:12)" in error.hint


def test_what_just_fits_is_taken(tmp_path: Path) -> None:
    made = generate(program(tmp_path, 3_000), "qemu_microbit", tmp_path / "out", optimize="speed", name="model")
    assert all(path.is_file() for path in made)
