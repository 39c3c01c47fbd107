"""`scons flash`: builds what is out of date, writes it, and the firmware says that it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from etexport.board import load_board
from tests.device.test_flash import stopped
from tests.scons.conftest import Built, scons


@pytest.mark.skipif(
    not all(map(shutil.which, ("gdb-multiarch", "arm-none-eabi-g++", "qemu-system-arm"))),
    reason="gdb-multiarch, arm-none-eabi-g++ or qemu-system-arm is not installed",
)
def test_it_builds_writes_and_asks(house: Path) -> None:
    board = load_board("qemu_netduinoplus2")
    with stopped(board) as (url, debugger):
        words = ("BOARD=qemu_netduinoplus2", "MODEL=linear", "flash", f"PORT={url}", "TOOL=gdb", f"AT={debugger}")
        done = scons(house, *words)
        assert done.code == 0, done.text
        assert "gdb: written and verified" in done.text and "qemu_netduinoplus2: runs linear " in done.text
        assert not {"RUN", "PROFILE", "REPORT"} & set(done.verbs()), "no simulator runs for it"
        assert scons(house, *words).verbs() == ["FLASH"], "nothing is built again, and it is written again"


def test_a_board_that_nothing_writes(build: Callable[..., Built]) -> None:
    done = build("flash")
    assert done.code != 0 and "no tool is known that writes its flash" in done.text


def test_a_capture_is_a_target(house: Path) -> None:
    """Made once; it is up to date until the image or the inputs change."""
    (house / "capture.scons").write_text(
        'env = Environment(tools=["et"])\n'
        'firmware = env.EtFirmware(env.EtProgram("examples/linear/model.py", NAME="linear"), BOARD="host")\n'
        'Default(env.EtCapture(firmware, "build/captured.jsonl"))\n'
    )
    first, second = scons(house, "-f", "capture.scons"), scons(house, "-f", "capture.scons")
    assert first.code == 0 and "CAPTURE" in first.verbs(), first.text
    assert second.code == 0 and not second.verbs(), second.text
    records = [json.loads(line) for line in (house / "build" / "captured.jsonl").read_text().splitlines()]
    assert len(records) == 32 and {record["board"] for record in records} == {"host"}
