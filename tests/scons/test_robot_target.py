"""`scons robot`: the firmware, and beside it the test that `renode-test` runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.scons.conftest import scons


@pytest.mark.skipif(shutil.which("riscv64-unknown-elf-g++") is None, reason="riscv64-unknown-elf-g++ is not installed")
def test_it_is_written_beside_the_firmware(house: Path) -> None:
    done = scons(house, "BOARD=renode_virt_rv32", "MODEL=linear", "SAMPLES=4", "robot")
    assert done.code == 0, done.text
    folder = house / "build" / "renode_virt_rv32" / "linear-float32"
    text = (folder / "firmware.robot").read_text()
    assert "linear On renode_virt_rv32\n" in text and "--samples    4\n" in text and str(house) not in text
    told = {
        line.split()[0]: line.split()[1].replace("${CURDIR}", str(folder))
        for line in text.splitlines()
        if line.startswith("${")
    }
    assert Path(told["${PROGRAM}"]).is_file() and Path(told["${REFERENCE}"]).is_file()
    assert {"firmware.elf", "virt_rv32.resc", "virt_rv32.repl"} <= {path.name for path in folder.iterdir()}
    assert not {"RUN", "PROFILE", "REPORT"} & set(done.verbs()), "no simulator runs for it"


def test_a_board_that_is_not_in_renode(house: Path) -> None:
    done = scons(house, "BOARD=host", "MODEL=linear", "robot")
    assert done.code != 0 and "host: does not run in Renode" in done.text
