"""A model script as one source among others: in a CMake project and in a SCons project, both outside this
repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.library.test_library import command, needs

LAYERS = """
from torch import nn

HIDDEN = 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, HIDDEN), nn.Linear(HIDDEN, 3)

    def forward(self, x):
        return self.last(self.first(x).relu())
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
MAIN = """
#include <cstdio>
#include "gesture.h"

int main() {{
  gesture::init();
  for (int i = 0; i < 4; ++i) gesture::inputs::{input}()[i] = 0.5f;
  gesture::run();
  for (int i = 0; i < 3; ++i) std::printf("%.9g\\n", static_cast<double>(gesture::outputs::{output}()[i]));
}}
"""
SCONSTRUCT = """
env = Environment(tools=["default", "et"], toolpath=[PyPackageDir("etexport.scons")])
model = env.EtLibrary(env.EtProgram("gesture.py"), BOARD="host")
env.Program("app", ["main.cpp", *model], LIBS=["m"])
"""
CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(app C CXX)
find_package(etexport REQUIRED)
etexport_add_model(gesture SCRIPT gesture.py CORE host)
add_executable(app main.cpp)
target_link_libraries(app gesture m)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    folder.mkdir()
    for name, text in (
        ("layers.py", LAYERS),
        ("gesture.py", SCRIPT),
        ("SConstruct", SCONSTRUCT),
        ("CMakeLists.txt", CMAKE),
    ):
        (folder / name).write_text(text)
    return folder


def test_scons_and_cmake(project: Path) -> None:
    """The outputs are PyTorch's, a build with nothing to do does nothing, and a change in a file that the script
    imports arrives."""
    needs("cmake", "ninja", "g++")
    memory = project / "build/library/host/gesture-float32/memory.json"
    command(sys.executable, "-m", "SCons", "-Q", memory.relative_to(project), cwd=project)
    names = {kind: json.loads(memory.read_text())[f"{kind}s"][0]["name"] for kind in ("input", "output")}
    (project / "main.cpp").write_text(MAIN.format(**names))
    command(sys.executable, "-m", "SCons", "-Q", cwd=project)
    assert "up to date" in command(sys.executable, "-m", "SCons", "-Q", cwd=project)
    with np.load(project / "build/model/gesture-float32/model.npz") as arrays:
        eager = arrays["output_0"][0].ravel()
    np.testing.assert_allclose(np.array(command(project / "app", cwd=project).split(), np.float32), eager, rtol=1e-6)

    where = command(sys.executable, "-m", "etexport", "--cmake-dir", cwd=project).strip()
    configure = (
        "cmake",
        "-S",
        ".",
        "-B",
        "cmake",
        "-G",
        "Ninja",
        f"-Detexport_DIR={where}",
        f"-DETEXPORT_PYTHON={sys.executable}",
    )
    command(*configure, cwd=project)
    command("cmake", "--build", "cmake", cwd=project)
    np.testing.assert_allclose(np.array(command("cmake/app", cwd=project).split(), np.float32), eager, rtol=1e-6)
    assert "no work to do" in command("cmake", "--build", "cmake", cwd=project)
    (project / "layers.py").write_text(LAYERS.replace("HIDDEN = 8", "HIDDEN = 9"))
    assert "Linking CXX executable" in command("cmake", "--build", "cmake", cwd=project)
    changed = np.array(command("cmake/app", cwd=project).split(), np.float32)
    assert changed.shape == eager.shape and not np.allclose(changed, eager, rtol=1e-3)


def test_what_is_wrong_is_said_when_cmake_runs(project: Path) -> None:
    needs("cmake")
    where = command(sys.executable, "-m", "etexport", "--cmake-dir", cwd=project).strip()

    def said(*more: str) -> str:
        words = ["cmake", "-S", ".", "-B", "wrong", f"-Detexport_DIR={where}", *more]
        done = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return " ".join(done.stderr.split())

    assert "has no etexport; say which Python has" in said("-DETEXPORT_PYTHON=false")
    (project / "gesture.py").unlink()
    assert "gesture.py: no such file" in said(f"-DETEXPORT_PYTHON={sys.executable}")
