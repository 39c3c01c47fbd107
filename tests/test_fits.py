"""Where a program fits: every board is tried, and what one lacks is told in the model's terms."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etexport.__main__ import main
from etexport.kernel.library import load_ops
from etexport.program import pte
from tests.specialise.graph import Graph


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A linear layer with 16,000 bytes of results: too much for 16 KB of RAM beside a stack."""
    graph = Graph(load_ops())
    path = tmp_path / "model.pte"
    path.write_bytes(pte.write(graph.program(graph.linear(graph.input(1, 1), 4_000, name="wide", line=12))))
    return path


def test_quick(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fits", str(wide), "qemu_microbit", "qemu_mps2_an386", "--quick"]) == 0
    small, large = capsys.readouterr().out.splitlines()
    assert small.startswith("qemu_microbit    no    the program needs 18,052 bytes of RAM")
    assert large.startswith("qemu_mps2_an386  fits  constants 32,") and "arena and stack 20,1" in large
    assert main(["fits", str(wide), "qemu_stm32vldiscovery", "--quick"]) == 1, "nowhere"


def test_what_is_no_program_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pte").write_bytes(b"no program")
    assert main(["fits", str(tmp_path / "model.pte"), "--quick"]) == 1
    said = capsys.readouterr()
    assert not said.out and said.err.startswith(f"error: {tmp_path / 'model.pte'}: ")


def test_all_boards_are_tried(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fits", str(wide), "--quick"]) == 0
    lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert (
        lines["rpi_pico"] == lines["st_nucleo_f446re"] == "fits"
        and lines["hifive1_revb"] == "no"
        and "host" not in lines
    )


def test_compiled(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    assert main(["fits", str(wide), "qemu_lm3s6965evb"]) == 0
    line = capsys.readouterr().out
    assert "qemu_lm3s6965evb  fits  " in line and "of 262,144 bytes of flash" in line and "of 65,536 of RAM" in line
