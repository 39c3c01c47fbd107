"""Of real images, for speed and for size, in int8 and float, on every board: the parts add up to what the ELF loads and
reserves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from etexport.__main__ import main
from etexport.board import load_board

SCRIPT = """
import torch
from torch import nn


def model():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)).eval()


def example_inputs():
    torch.manual_seed(1)
    return (torch.randn(1, 3, 8, 8),)


def calibration():
    torch.manual_seed(2)
    return [(torch.randn(1, 3, 8, 8),) for _ in range(8)]
"""  # noqa: E501
BOARDS = ("host", "qemu_mps2_an385", "qemu_mps2_an386", "qemu_microbit", "qemu_virt_rv32")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.py").write_text(SCRIPT)
    made = {}
    for quantization in ("float32", "int8"):
        made[quantization] = folder / f"{quantization}.pte"
        assert main(["export", str(folder / "net.py"), "--quantize", quantization, "-o", str(made[quantization])]) == 0
    return made


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("quantization", ["float32", "int8"])
@pytest.mark.parametrize("name", BOARDS)
def test_the_parts_add_up(
    name: str, quantization: str, optimize: str, programs: dict[str, Path], tmp_path: Path
) -> None:
    board = load_board(name)
    if not shutil.which(f"{board.toolchain.prefix}g++"):
        pytest.skip(f"{board.toolchain.prefix}g++ is not installed")
    assert (
        main(["build", str(programs[quantization]), "--board", name, "--optimize", optimize, "-o", str(tmp_path)]) == 0
    )
    found = json.loads((tmp_path / "sizes.json").read_text())
    with (tmp_path / "firmware.elf").open("rb") as stream:
        file = ELFFile(stream)
        loaded = sum(segment["p_filesz"] for segment in file.iter_segments() if segment["p_type"] == "PT_LOAD")
        writable = [
            section
            for section in file.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_WRITE and _is_reserved(section)
        ]
        reserved = sum(section["sh_size"] for section in writable)
    for kind, total in (("flash", loaded), ("static", reserved - found["arena"] - found["stack"])):
        parts = dict(found[kind])
        assert parts.pop("total") == total == sum(parts.values()), kind
    assert found["arena"] == json.loads((tmp_path / "memory.json").read_text())["arena"]["size"]
    assert found["flash"]["constants"] >= (tmp_path / "constants.bin").stat().st_size
    assert name == "host" or found["stack_bound"] <= found["stack"] == board.stack


def _is_reserved(section: object) -> bool:
    """Takes memory; thread-local zeros have a size, but nothing of their own lies there."""
    flags, kind = section["sh_flags"], section["sh_type"]  # type: ignore[index]
    return bool(flags & SH_FLAGS.SHF_ALLOC) and not (flags & SH_FLAGS.SHF_TLS and kind == "SHT_NOBITS")
