"""Installed packages in the build graph: one that is installed after a build is seen, and a change in it makes again
what it made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, Built, copied

from tests.test_packages import HEADER, MODEL, OP, PASS, installed


def test_a_package_is_part_of_the_graph(tmp_path: Path) -> None:
    folder, site = copied(tmp_path / "house", ("add",)), tmp_path / "site-packages"
    site.mkdir()

    def scons(model: str) -> Built:
        command = [sys.executable, "-m", "SCons", "-Q", "BOARD=host", f"MODEL={model}", "firmware"]
        env = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False
        )
        return Built(done.returncode, done.stdout + done.stderr)

    (folder / "net.py").write_text(
        "\n".join(line.removeprefix("    ") for line in MODEL.splitlines()), encoding="utf-8"
    )
    assert scons("add").code == 0
    assert "aten::triple" not in (missing := scons("net.py").text) and "no kernel for this operator" in missing, missing
    files = {
        "acme_kernels/__init__.py": "",
        "acme_kernels/triple/op.py": OP,
        "acme_kernels/triple/triple.h": HEADER,
        "acme_passes.py": PASS,
    }
    entries = "[etexport.kernels]\nacme = acme_kernels\n[etexport.passes]\nacme = acme_passes:remove_double_relu\n"
    installed(site, "acme", entries, files)
    assert (done := scons("net.py")).code == 0, done.text
    assert scons("net.py").verbs() == []

    (site / "acme_passes.py").write_text(
        "def remove_double_relu(method, library):\n    return method\n", encoding="utf-8"
    )
    assert {"EXPORT", "GENERATE"} <= set(scons("net.py").verbs()), "three relus now"
    header = site / "acme_kernels" / "triple" / "triple.h"
    header.write_text(header.read_text(encoding="utf-8").replace("3.0f", "4.0f"), encoding="utf-8")
    assert {"CXX", "LINK", "BIN"} <= set(done := scons("net.py").verbs()) and "EXPORT" not in done


def test_files_beside_the_sconstruct_stand_for_nothing_of_pythons(tmp_path: Path) -> None:
    for name in ("types", "queue", "statistics"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not for you')\n", encoding="utf-8")
    tool, script = str(ROOT / "site_scons" / "site_tools"), str(ROOT / "examples" / "add" / "model.py")
    text = (
        f'env = Environment(tools=["et"], toolpath=[{tool!r}])\nenv.EtFirmware(env.EtProgram({script!r}), '
        'BOARD="host")\n'
    )
    (tmp_path / "SConstruct").write_text(text, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "SCons", "-Q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
