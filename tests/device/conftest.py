"""Firmwares of the tiny program, each built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from etexport.board import Board, load_board
from tests.device.building import build_tiny

BOARDS = ("host", "qemu_mps2_an386", "qemu_mps2_an385", "qemu_microbit", "qemu_netduinoplus2", "qemu_virt_rv32", "qemu_sifive_e")

Firmware = Callable[..., tuple[Board, Path]]


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """firmware(board name, probes=, trace=, defines=) -> the board and the ELF; skips where a tool is missing. Host with sanitizers."""
    built: dict[tuple[object, ...], Path] = {}

    def build(name: str, *, probes: bool = False, trace: bool = False, defines: tuple[str, ...] = ()) -> tuple[Board, Path]:
        board = load_board(name)
        assert board.simulator is not None
        for program in (f"{board.toolchain.prefix}g++", board.simulator.program):
            if "{" not in program and shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        key = (name, probes, trace, defines)
        if key not in built:
            out = tmp_path_factory.mktemp(name)
            built[key] = build_tiny(board, out, probes=probes, trace=trace, sanitize=board.arch == "host", defines=defines)
        return board, built[key]

    return build
