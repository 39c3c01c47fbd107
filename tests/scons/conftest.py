"""A house of its own to build in: the repository's files copied, so that tests may change a kernel or break a
script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("etexport", "backends", "benchmarks", "kernels", "firmware", "boards", "schema", "site_scons", "SConstruct")


@dataclass(frozen=True)
class Built:
    code: int
    text: str

    def verbs(self) -> list[str]:
        """The words of the steps that ran, in order: EXPORT, CXX, ..."""
        return [
            line.split()[0]
            for line in self.text.splitlines()
            if line.startswith("  ") and line.split() and line.split()[0].isupper()
        ]


def scons(folder: Path, *arguments: str) -> Built:
    command = [sys.executable, "-m", "SCons", "-Q", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    return Built(done.returncode, done.stdout + done.stderr)


def copied(folder: Path, examples: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    for example in examples:
        shutil.copytree(
            ROOT / "examples" / example, folder / "examples" / example, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once: `linear` and `own_project` on the host board, run and reported."""
    folder = copied(tmp_path_factory.mktemp("scons") / "house", ("linear", "own_project", "add"))
    done = scons(folder, "BOARD=host", "MODEL=linear,own_project", "report")
    assert done.code == 0, done.text
    return folder


@pytest.fixture
def build(house: Path) -> Callable[..., Built]:
    def run(*arguments: str) -> Built:
        return scons(house, "BOARD=host", "MODEL=linear,own_project", *arguments)

    return run
