"""Two at once in one folder: real processes, one of them killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from etexport.alone import alone_in

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "linear" / "model.py"
HOLD = """import sys, pathlib; from etexport.alone import alone_in
with alone_in(pathlib.Path(sys.argv[1])):
    print('in', flush=True); sys.stdin.read()"""


def start(*words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def etexport(*words: object) -> subprocess.Popen[str]:
    return start("-m", "etexport", *words)


def line(stream: object) -> str:
    text: str = stream.readline()  # type: ignore[attr-defined]
    return text


def test_the_second_waits_and_says_for_whom(tmp_path: Path) -> None:
    first = start("-c", HOLD, tmp_path)
    assert line(first.stdout) == "in\n"
    second = start("-c", HOLD, tmp_path)
    said = line(second.stderr)
    assert said.startswith("waiting for ") and f"(pid {first.pid}), which works in {tmp_path}" in said
    first.send_signal(signal.SIGKILL)
    assert line(second.stdout) == "in\n"
    for one in (first, second):
        one.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_child_is_not_kept_out(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        child = start("-c", HOLD, tmp_path)
        assert line(child.stdout) == "in\n"
        child.communicate()


def test_a_folder_into_which_nothing_came_is_removed(tmp_path: Path) -> None:
    with alone_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()


def test_builds_runs_and_exports_at_once_and_killed(tmp_path: Path) -> None:
    """Export twice into one file, build twice into one folder with different settings, run twice: each result is one's
    own, whole."""
    pte, out = tmp_path / "net.pte", tmp_path / "out"
    exports = [etexport("export", SCRIPT, "-o", pte) for _ in range(2)]
    assert [(one.communicate()[1], one.returncode)[1] for one in exports] == [0, 0]
    build = ("build", pte, "--board", "host", "-o", out)
    killed = etexport(*build, "--optimize", "size")
    while not (out / "obj").is_dir():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGSTOP)  # else it may be done before the second one looks
    second = etexport(*build)
    said = line(second.stderr)
    assert "waiting for " in said and f"pid {killed.pid}" in said
    killed.kill()
    killed.communicate()
    assert second.communicate() and second.returncode == 0
    runs = [etexport("run", out) for _ in range(2)]
    ended = [(one.communicate()[1], one.returncode) for one in runs]
    assert [code for _, code in ended] == [0, 0], ended
    assert sum("waiting for " in text for text, _ in ended) == 1
    first = start("-c", HOLD, out)
    assert line(first.stdout) == "in\n"
    judges = [etexport("validate", out, "--trace"), etexport("report", out)]
    for judge in judges:
        assert f"(pid {first.pid}), which works in {out}" in line(judge.stderr)
    first.communicate()
    ended = [judge.communicate() for judge in judges]
    assert [judge.returncode for judge in judges] == [0, 0], ended
    assert all("agree" in said for said, _ in ended), ended


def test_a_build_that_was_killed_is_no_build(tmp_path: Path) -> None:
    pte, out = tmp_path / "net.pte", tmp_path / "out"
    assert etexport("export", SCRIPT, "-o", pte).communicate() and pte.is_file()
    build = etexport("build", pte, "--board", "host", "-o", out)
    assert build.communicate() and build.returncode == 0
    again = etexport("build", pte, "--board", "host", "-o", out, "--optimize", "size")
    while (out / "build.json").exists():
        time.sleep(0.002)
    again.kill()
    again.communicate()
    run = etexport("run", out)
    assert "not known what this was built from" in run.communicate()[1] and run.returncode == 1
