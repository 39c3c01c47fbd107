"""Firmwares of the tiny program, each built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from etexport.board import Board, board_names, count_of, load_board
from tests.device.building import build_tiny

BOARDS = (
    "host",
    "qemu_mps2_an386",
    "qemu_mps2_an385",
    "qemu_microbit",
    "qemu_netduinoplus2",
    "qemu_virt_rv32",
    "qemu_sifive_e",
)
"""Of one kind each: what is the same for all boards of a core is tried on these."""

IN_QEMU = tuple(
    name for name in board_names() if (simulator := load_board(name).simulator) is not None and simulator.kind == "qemu"
)
COUNTED = tuple(name for name in IN_QEMU if not count_of(load_board(name), simulated=True).still)
"""Every board that QEMU simulates, and those whose counter it simulates too: a new board file is tested without a
list."""

Firmware = Callable[..., tuple[Board, Path]]


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """firmware(board name, probes=, trace=, defines=) -> the board and the ELF; skips where a tool is missing. Host
    with sanitizers."""
    built: dict[tuple[object, ...], Path] = {}

    def build(
        name: str, *, probes: bool = False, trace: bool = False, defines: tuple[str, ...] = ()
    ) -> tuple[Board, Path]:
        board = load_board(name)
        assert board.simulator is not None
        for program in (f"{board.toolchain.prefix}g++", board.simulator.program):
            if "{" not in program and shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        key = (name, probes, trace, defines)
        if key not in built:
            out = tmp_path_factory.mktemp(name)
            built[key] = build_tiny(
                board, out, probes=probes, trace=trace, sanitize=board.arch == "host", defines=defines
            )
        return board, built[key]

    return build
