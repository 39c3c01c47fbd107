"""Programs of next to nothing else: what a kernel needs of headers it says itself, and does not find by what other
layers bring along."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etexport.__main__ import main
from tests.conftest import Int8Net
from tests.frontend.nets import NETS

BOARDS = {
    "qemu_mps2_an386": "arm-none-eabi-gcc",
    "qemu_mps2_an385": "arm-none-eabi-gcc",
    "qemu_virt_rv32": "riscv64-unknown-elf-gcc",
}


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", ["transposed_rows", "linear_of_rows", "sigmoid", "layer_norm"])
def test_it_is_built(name: str, board: str, int8_net: Int8Net, tmp_path: Path) -> None:
    if not shutil.which(BOARDS[board]):
        pytest.skip(f"{BOARDS[board]} is not installed")
    assert main(["build", str(int8_net(NETS[name])), "--board", board, "-o", str(tmp_path / board)]) == 0
