"""A model script as one source among others: the projects of docs/cmake.md and docs/scons.md, word by word, with the
package that pip installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from etexport.resources import root
from tests.installed import Installed
from tests.library.test_library import needs
from tests.pages import commands, files

LAYERS = """
from torch import nn

HIDDEN = 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, HIDDEN), nn.Linear(HIDDEN, 3)

    def forward(self, motion):
        return self.last(self.first(motion).relu())
"""
SCRIPT = """
import torch
from layers import Net


def model():
    torch.manual_seed(0)
    return Net()


def example_inputs():
    return (torch.full((1, 4), 0.5),)
"""
"""What docs/install.md has in one file."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    folder.mkdir()
    for name, text in {"layers.py": LAYERS, "gesture.py": SCRIPT, **files("cmake.md"), **files("scons.md")}.items():
        (folder / name).write_text(text)
    return folder


def test_scons_and_cmake(installed: Installed, project: Path) -> None:
    """The outputs are PyTorch's, a build with nothing to do does nothing, and a change in a file that the script
    imports arrives."""
    needs("cmake", "ninja", "g++")

    def typed(line: str) -> str:
        return installed.run("bash", "-c", line, cwd=project)

    scons, app, report = commands("scons.md")
    typed(scons)
    assert "up to date" in typed(scons)
    with np.load(project / "build/model/gesture-float32/model.npz") as arrays:
        eager = arrays["output_0"][0].ravel()
    np.testing.assert_allclose(np.array(typed(app).split(), np.float32), eager, rtol=1e-6)
    typed(report)
    assert (project / "build/host/gesture-float32/report.html").is_file()

    configure, build, app = commands("cmake.md")
    typed(configure)
    typed(build)
    np.testing.assert_allclose(np.array(typed(app).split(), np.float32), eager, rtol=1e-6)
    assert "no work to do" in typed(build)
    (project / "layers.py").write_text(LAYERS.replace("HIDDEN = 8", "HIDDEN = 9"))
    assert "Linking CXX executable" in typed(build)
    changed = np.array(typed(app).split(), np.float32)
    assert changed.shape == eager.shape and not np.allclose(changed, eager, rtol=1e-3)


def test_what_is_wrong_is_said_when_cmake_runs(project: Path) -> None:
    needs("cmake")
    where = root() / "integrations/cmake"

    def said(*more: str) -> str:
        words = ["cmake", "-S", ".", "-B", "wrong", f"-Detexport_DIR={where}", *more]
        done = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return " ".join(done.stderr.split())

    assert "has no etexport; say which Python has" in said("-DETEXPORT_PYTHON=false")
    (project / "gesture.py").unlink()
    assert "gesture.py: no such file" in said(f"-DETEXPORT_PYTHON={sys.executable}")
