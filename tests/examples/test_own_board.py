"""examples/own_board as its reader takes it: copied anywhere, built with the driver beside it, run; and through
SCons."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etexport.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    for program in ("arm-none-eabi-g++", "qemu-system-arm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    shutil.copytree(ROOT / "examples" / "own_board", tmp_path / "mine")
    return tmp_path / "mine" / "qemu_lm3s6965.toml"


def test_by_hand(board: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", str(ROOT / "examples" / "linear" / "model.py"), "-o", str(tmp_path / "model.pte")]) == 0
    assert main(["build", str(tmp_path / "model.pte"), "--board", str(board), "-o", str(out)]) == 0
    assert "warning" not in capfd.readouterr().err
    assert main(["run", str(out)]) == 0, "the folder knows where its board file is"
    assert main(["validate", str(out)]) == 0
    assert main(["report", str(out), "--quiet"]) == 0
    made = json.loads((out / "report.json").read_text())
    assert made["board"] == "qemu_lm3s6965" and made["compare"]["mismatched"] == 0
    assert json.loads((out / "run.json").read_text())["exit_status"] == 0
    assert str(tmp_path).encode() not in (out / "firmware.elf").read_bytes(), (
        "debug information names no folder of this machine"
    )

    # What the compiler has to say about one's own driver is not kept back.
    driver = board.with_name("pl011.cpp")
    driver.write_text(driver.read_text().replace("void uart_init() {", "void uart_init() {\n  int forgotten;"))
    assert main(["build", str(tmp_path / "model.pte"), "--board", str(board), "-o", str(out)]) == 0
    assert "unused variable 'forgotten'" in capfd.readouterr().err


def test_through_scons(board: Path) -> None:
    """A changed driver is compiled again, and one that computes the same runs nothing."""
    (board.parent / "SConstruct").write_text(
        f"""env = Environment(tools=["et"], toolpath=[{str(ROOT / "site_scons" / "site_tools")!r}])
firmware = env.EtFirmware(env.EtProgram({str(ROOT / "examples" / "add" / "model.py")!r}), BOARD={str(board)!r})
Default(env.EtValidate(env.EtSimulate(firmware)))
"""
    )

    def scons() -> list[str]:
        command, env = [sys.executable, "-m", "SCons", "-Q"], {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=board.parent, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]

    assert {"EXPORT", "GENERATE", "CXX", "LINK", "RUN", "VALIDATE"} <= set(scons())
    driver = board.with_name("pl011.cpp")
    driver.write_text(driver.read_text() + "// a remark\n")
    assert set(scons()) <= {"CXX", "LINK", "BIN", "HEX", "SIZE"}
    assert scons() == []
