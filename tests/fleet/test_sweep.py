"""A sweep by real worker processes, one of them killed in the middle; interrupted, and gone on with."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import etexport
from etexport.__main__ import main
from etexport.artifacts.runs import read_outputs, read_run
from etexport.errors import EtError
from etexport.fleet.plan import jobs, read_plan
from etexport.report.pareto import front, pareto

ROOT = Path(__file__).parents[2]
SCRIPT = """
import torch

def model():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3).eval()

def example_inputs():
    return (torch.zeros(1, 4),)

def samples():
    torch.manual_seed(1)
    inputs = torch.rand(40, 1, 4)
    return inputs, model()(inputs).argmax(dim=2)[:, 0]
"""
PLAN = """
models = ["small.py", "STATE"]
boards = ["host"]
share = 2
""".replace("STATE", str(ROOT / "examples/state/model.py"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and two workers."""

    def start(which: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{which}", "--scheduler-file", str(file), *words]
        with (tmp_path / f"{which}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)

    file = tmp_path / "scheduler.json"
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    workers = [start("worker", "--no-nanny", "--nthreads", "1", "--no-dashboard") for _ in range(2)]
    try:
        from distributed import Client

        while not file.is_file():
            assert scheduler.poll() is None, (tmp_path / "scheduler.log").read_text()
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
            address = client.scheduler.address
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def times(folder: Path) -> dict[Path, int]:
    """When each result was written; a run's `run.json` comes last."""
    kept = ("model.pte", "firmware.elf", "run.json", "row.json")
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name in kept}


def test_a_lost_worker_an_interruption_and_a_second_call(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, workers = cluster
    (tmp_path / "small.py").write_text(SCRIPT)
    (tmp_path / "plan.toml").write_text(PLAN)
    plan, out = read_plan(tmp_path / "plan.toml"), tmp_path / "out"
    monkeypatch.chdir(tmp_path)

    def interrupted(done: int, of: int) -> None:
        if len(list(out.glob("host/small-float32/parts/*/run.json"))) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        etexport.sweep(plan, out, scheduler=address, progress=interrupted)
    time.sleep(1)  # what was being done may still come to its end
    before = {path: when for path, when in times(out).items() if path.parent.parent.name == "parts"}
    assert 3 <= len(before) < 21

    said: list[tuple[int, int]] = []

    def killed(done: int, of: int) -> None:
        said.append((done, of))
        if len(list(out.glob("host/small-float32/parts/*/run.json"))) > len(before) + 2 and workers[0].poll() is None:
            workers[0].kill()

    swept = etexport.sweep(plan, out, scheduler=address, progress=killed)
    assert workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None
    assert said[-1][0] == said[-1][1] and [done for done, _ in said] == list(range(1, len(said) + 1))
    small, state = swept.rows
    assert not small.error and not state.error, (small.error, state.error)
    assert (small.samples, small.mismatched, small.accuracy, state.mismatched) == (40, 0, 1.0, 0)
    assert small.ram is not None and small.flash is not None and small.arena == 28  # four inputs and three outputs
    folder = out / "host/small-float32"
    with np.load(out / "model/small-float32/model.npz") as arrays:
        np.testing.assert_allclose(read_outputs(folder / "outputs.npz")[0], arrays["output_0"], rtol=1e-5)
    assert read_run(folder).samples == 40 and len(list((folder / "parts").glob("*/run.json"))) == 20
    assert len(list((out / "host/state-float32/parts").glob("*/run.json"))) == 1, "a state is one sequence"
    after = times(out)
    assert {path: after[path] for path in before} == before, "nothing that was there was made again"

    table = (out / "table.csv").read_bytes()
    assert [row["model"] for row in csv.DictReader(table.decode().splitlines())] == ["small", "state"]
    again = etexport.sweep(plan, out, scheduler=address)
    assert again.rows == swept.rows and times(out) == after and (out / "table.csv").read_bytes() == table

    (tmp_path / "small.py").write_text(SCRIPT + "\n# a remark\n")
    etexport.sweep(plan, out, scheduler=address)
    changed = {path for path, when in times(out).items() if after.get(path) != when}
    assert changed == {out / "model/small-float32/model.pte"}, "the same bytes are not built or run again"


WRONG = {
    "no such file": ("", "cannot be read"),
    "no TOML": ("models = [", "cannot be read"),
    "an unknown word": ('models = ["a.py"]\nboards = ["host"]\nboard = "host"\n', "has board"),
    "a number": ('models = ["a.py"]\nboards = "host"\n', "Expected `array`"),
    "no such script": ('models = ["b.py"]\nboards = ["host"]\n', "b.py: no such file"),
    "no such board": ('models = ["a.py"]\nboards = ["hots"]\n', "hots"),
    "a real board": ('models = ["a.py"]\nboards = ["st_nucleo_h743zi2"]\n', "has no simulator"),
    "arithmetic": ('models = ["a.py"]\nboards = ["host"]\nquantize = ["int9"]\n', "there is no int9"),
    "twice": ('models = ["a.py", "c/a.py"]\nboards = ["host"]\n', "models: twice a"),
    "no share": ('models = ["a.py"]\nboards = ["host"]\nshare = 0\n', "from 1 up"),
}


@pytest.mark.parametrize("text, said", WRONG.values(), ids=WRONG)
def test_a_wrong_plan_is_told_before_anything_is_done(text: str, said: str, tmp_path: Path) -> None:
    for name in ("a.py", "c/a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SCRIPT)
    if text:
        (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(EtError) as told:
        jobs(read_plan(tmp_path / "plan.toml"))
    assert said in str(told.value)


def test_no_scheduler_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(SCRIPT)
    (tmp_path / "plan.toml").write_text('models = ["a.py"]\nboards = ["host"]\n')
    assert (
        main(["sweep", str(tmp_path / "plan.toml"), "-o", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:9"])
        == 3
    )
    assert "no scheduler answers" in capsys.readouterr().err


def row(model: str, accuracy: float, ram: int, flash: int, count: int) -> dict[str, object]:
    return {
        "model": model, "quantization": "int8", "board": "b", "optimize": "speed", "samples": 9, "mismatched": 0,
        "accuracy": accuracy, "accuracy_float": accuracy, "snr_db": 30.0, "flash": flash, "ram": ram, "arena": ram,
        "count": count, "counter": "instructions (qemu icount)", "error": "",
    }  # fmt: skip


def test_the_front_has_what_nothing_beats() -> None:
    best, cheap, beaten = row("best", 0.9, 40, 400, 50), row("cheap", 0.8, 20, 200, 30), row("beaten", 0.8, 20, 300, 30)
    assert front([best, cheap, beaten], "accuracy") == [best, cheap]
    other = {**beaten, "counter": "cycles (dwt)", "count": 31}
    assert front([cheap, other], "accuracy") == [cheap, other], "counts of two counters cannot be compared"
    page = pareto([best, cheap, beaten, {**best, "model": "<none>", "accuracy": None, "error": "no kernel for <x>"}])
    assert page.count("on the front") == 2 + 1 and page.count("<polyline") == 3 and "no kernel for &lt;x&gt;" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
