"""What can be said of the Renode files without Renode: they agree with the board file; with it, the board runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from etexport.board import load_board
from etexport.device import run
from etexport.device.launch import command
from etexport.resources import root
from tests.device.building import build_tiny
from tests.device.tiny import expected, sample

FOLDER = root() / "renode"


def test_the_platform_is_the_board() -> None:
    board = load_board(str(FOLDER / "virt_rv32.toml"))
    text = (FOLDER / "virt_rv32.repl").read_text()
    memories = re.findall(r"^(\w+): Memory\.MappedMemory @ sysbus (0x\w+)\n    size: (0x\w+)$", text, re.MULTILINE)
    assert {(name, int(address, 0), int(size, 0)) for name, address, size in memories} == {
        (region.name, region.address, region.size) for region in board.memory
    }
    uart = re.search(r"^uart0: UART\.NS16550 @ sysbus (0x\w+)$", text, re.MULTILINE)
    assert uart and int(uart[1], 0) == board.defines["ET_UART_ADDRESS"]
    assert board.simulator is not None
    line = command(board.simulator, Path("x.elf"), 4321)
    assert line[0] == "renode" and "$bin=@x.elf; $port=4321;" in line[-1]
    assert Path(line[-1].rsplit("@", 1)[1]).is_file()


@pytest.mark.skipif(shutil.which("renode") is None, reason="renode is not installed")
def test_it_runs(tmp_path: Path) -> None:
    board = load_board(str(FOLDER / "virt_rv32.toml"))
    done = run(build_tiny(board, tmp_path), board, [sample(0)])
    np.testing.assert_array_equal(done.outputs[0][1], expected(sample(0), 1)[1])
