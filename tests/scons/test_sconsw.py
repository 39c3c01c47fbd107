"""The wrapper: what it hands over, what it adds, what it says before there is anything."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, copied

from tests.pace import pace

pytestmark = pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="sconsw is for Debian, Ubuntu and WSL")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "CI": "true", **environment}
    return subprocess.run(
        ["./sconsw", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=env,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that is set up: its `.venv` is the environment that runs this test."""
    folder = copied(tmp_path / "house", ("add",))
    for name in ("sconsw", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "scons"):
        (folder / ".venv" / "bin" / name).symlink_to(Path(sys.prefix) / "bin" / name)
    stamp = subprocess.run(
        ["cksum", "pyproject.toml"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / ".venv" / "etexport.stamp").write_text(stamp)
    return folder


def test_arguments_and_exit_code_pass_through(clone: Path) -> None:
    done = run(clone, "--help")
    assert done.returncode == 0 and "compile_commands.json" in done.stdout
    done = run(clone, "BORD=host", "report")
    assert done.returncode == 1 and "did you mean BOARD?" in done.stderr


def test_it_works_from_another_folder_and_through_a_link(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(clone / "sconsw")
    done = subprocess.run(
        [tmp_path / "link", "--help"], cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0 and "compile_commands.json" in done.stdout


def test_a_second_call_adds_little(clone: Path) -> None:
    def quickest(command: list[str]) -> float:
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=clone, capture_output=True, stdin=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    assert quickest(["./sconsw", "--version"]) - quickest([".venv/bin/scons", "--version"]) < 0.3 * pace()


def test_doctor_works_before_anything_is_installed(tmp_path: Path) -> None:
    folder = copied(tmp_path / "house", ())
    for name in ("sconsw", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    done = run(folder, "doctor")
    assert done.returncode in (0, 5)
    assert "python" in done.stdout and "qemu-system-arm" in done.stdout and "Traceback" not in done.stderr
    assert not (folder / ".venv").exists(), "doctor looks, it does not install"


def test_it_is_posix_shell_and_executable() -> None:
    assert os.access(ROOT / "sconsw", os.X_OK) and os.access(ROOT / ".ci" / "run", os.X_OK)
    for shell in ("dash", "bash"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", ROOT / "sconsw"], check=True)
    assert "./sconsw test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_a_folder_of_somebody_else_is_refused_in_a_line() -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    if as_nobody and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not here")
    with tempfile.TemporaryDirectory() as name:
        for file in ("sconsw", "pyproject.toml"):
            shutil.copy(ROOT / file, name)
        Path(name).chmod(0o555)
        done = subprocess.run(
            [*as_nobody, f"{name}/sconsw", "demo"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        Path(name).chmod(0o755)
    assert done.returncode == 1 and done.stderr.startswith(
        f"sconsw: {name} cannot be written, and .venv and build belong into it"
    )
