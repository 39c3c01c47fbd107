"""What a board must do, on that of `pytest --board NAME --port URL`; and that this works, on a QEMU machine with port
and debugger."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest

from etexport.board import load_board
from etexport.errors import DeviceFaultError
from etexport.resources import root
from tests.desk import Desk
from tests.device.building import build_tiny
from tests.device.test_fault import as_built
from tests.device.test_flash import stopped
from tests.device.tiny import WRITE_NOWHERE, expected, sample


@pytest.mark.on_board
def test_outputs_and_counts(desk: Desk, tmp_path: Path) -> None:
    done = desk.run(build_tiny(desk.board, tmp_path), desk.board, [sample(index) for index in (0, 1, 2, 2)])
    for run, (index, outputs) in enumerate(zip((0, 1, 2, 2), done.outputs, strict=True), done.hello.runs + 1):
        for got, wanted in zip(outputs, expected(sample(index), run), strict=True):
            np.testing.assert_array_equal(got, wanted)
    if not done.counters:
        pytest.skip(f"outputs are right; nothing is counted: {done.unit}")
    assert all(count > 0 for count in done.counters), done.unit


@pytest.mark.on_board(needs=("counter",))
def test_probes(desk: Desk, tmp_path: Path) -> None:
    done = desk.run(build_tiny(desk.board, tmp_path, probes=True), desk.board, [sample(0)], probes=True)
    if not done.counters:
        pytest.skip(f"nothing is counted: {done.unit}")
    assert len(done.probes[0]) == 3 and 0 < sum(done.probes[0]) <= done.counters[0]


@pytest.mark.on_board
def test_a_fault_names_the_line(desk: Desk, tmp_path: Path) -> None:
    elf = as_built(tmp_path, build_tiny(desk.board, tmp_path / "built"))
    with pytest.raises(DeviceFaultError) as caught:
        desk.run(elf, desk.board, [sample(0, WRITE_NOWHERE)])
    assert caught.value.where == "model.py:12"


@pytest.mark.skipif(
    not all(map(shutil.which, ("gdb-multiarch", "arm-none-eabi-g++", "qemu-system-arm"))),
    reason="gdb-multiarch, arm-none-eabi-g++ or qemu-system-arm is not installed",
)
@pytest.mark.parametrize("chosen", ["tests/device/test_attached.py", "tests/operators/test_attached.py"])
def test_the_tests_run_on_a_port(tmp_path: Path, chosen: str) -> None:
    """On a machine that stays the same while firmware after firmware is written to it; JUnit says where it was."""
    board, report = load_board("qemu_netduinoplus2"), tmp_path / "x.xml"
    with stopped(board) as (url, debugger):
        where = ["--board", board.name, "--port", url, "--flash-tool", "gdb", "--flash-at", debugger]
        only = ["-k", "test_attached and not on_a_port and (not test_operators or pad)", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", chosen, *where, *only]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        done = subprocess.run(command, cwd=root(), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = list(xml.parse(report).iter("testcase"))
    assert cases and not [case for case in cases if case.find("skipped") is not None]
    assert all(case.find("properties/property[@name='board']").get("value") == board.name for case in cases)  # type: ignore[union-attr]


MAP = """
[[board]]
name = "host"

[[board]]
name = "qemu_virt_rv32"
lacks = ["counter"]

[[board]]
name = "st_nucleo_f446re"

[[board]]
name = "nrf52840_dk"
serial = "not attached"
"""


@pytest.mark.skipif(
    not all(
        map(shutil.which, ("arm-none-eabi-g++", "riscv64-unknown-elf-g++", "qemu-system-arm", "qemu-system-riscv32"))
    ),
    reason="a compiler or a simulator of the map's boards is not installed",
)
def test_the_tests_run_on_each_board_of_a_map(tmp_path: Path) -> None:
    """What a board lacks is a skip with the reason; a board that is not there is an error, and says so."""
    listed, report = tmp_path / "boards.toml", tmp_path / "x.xml"
    listed.write_text(MAP)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/device/test_attached.py",
        "-k",
        "counts or probes",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    words = [f"--hardware-map={listed}", f"--junitxml={report}"]
    done = subprocess.run([*command, *words], cwd=root(), env=environment, capture_output=True, text=True, check=False)
    found = {}
    for case in xml.parse(report).iter("testcase"):
        test, _, board = case.get("name", "").rstrip("]").partition("[")
        wrong = next((child for child in case if child.tag in ("skipped", "error", "failure")), None)
        found[test, board] = (wrong.tag, wrong.get("message")) if wrong is not None else ("passed", None)
        if board and wrong is None:
            assert case.find("properties/property[@name='board']").get("value") == board  # type: ignore[union-attr]
    counts, probes, still = "test_outputs_and_counts", "test_probes", "nothing (QEMU's cycle counter stands still)"
    lost = "nrf52840_dk-not attached: no port has serial number not attached"
    assert done.returncode == 1 and len(found) == 8, done.stdout + done.stderr
    assert found[counts, "host"][0] == found[probes, "host"][0] == found[counts, "qemu_virt_rv32"][0] == "passed", found
    assert found[probes, "qemu_virt_rv32"] == ("skipped", "qemu_virt_rv32 lacks a counter")
    assert found[counts, "st_nucleo_f446re"] == ("skipped", f"outputs are right; nothing is counted: {still}")
    assert found[probes, "st_nucleo_f446re"] == ("skipped", "st_nucleo_f446re lacks a counter")
    assert (
        all(found[test, "nrf52840_dk-not attached"][0] == "error" for test in (counts, probes))
        and done.stdout.count(lost) >= 2
    )
