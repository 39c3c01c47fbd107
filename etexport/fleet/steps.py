"""What workers do. Each step leaves its result in files that appear whole, with the key of what it was made of, and is
not done again where that is there: so a lost worker's step may be done by another one, or the next time."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from etexport.alone import alone_in
from etexport.artifacts.records import read_record, write_record
from etexport.artifacts.reference import read_calls, read_samples
from etexport.artifacts.runs import read_outputs, read_run, write_run
from etexport.board import load_board
from etexport.device import record, run
from etexport.errors import EtError, ModelError
from etexport.fleet.keys import board_key, code_key, key_of, project_key
from etexport.fleet.plan import Job
from etexport.program import pte
from etexport.program.model import Role
from etexport.project import beside
from etexport.report.report import Report
from etexport.stages.build import build
from etexport.stages.report import report_in


@dataclass(frozen=True)
class Stamp:
    """`sweep.json` of a folder: the key of what its files were made of, and theirs."""

    made_of: str
    files: str


@dataclass(frozen=True)
class Share:
    """The samples from `first` up to `end`, for one board; their results lie in `parts/<key>` of the build's folder."""

    first: int
    end: int
    key: str


@dataclass(frozen=True)
class Row:
    """A line of the table. `accuracy_float` is the eager network's; `flash`, `ram` and `arena` are bytes; `count` is
    the median of an inference, in `counter`. What is not known is None, as is `snr_db` without any noise; `error` says
    why a row has no more."""

    model: str
    quantization: str
    board: str
    optimize: str
    samples: int = 0
    mismatched: int | None = None
    accuracy: float | None = None
    accuracy_float: float | None = None
    snr_db: float | None = None
    flash: int | None = None
    ram: int | None = None
    arena: int | None = None
    count: int | None = None
    counter: str = ""
    error: str = ""


def export(out: Path, job: Job, script: str, code: str) -> str:
    """`model.pte` and `model.npz` of a script; `script` and `code` are the keys of both. In a process of its own, which
    torch may do with as it likes."""
    _check_code(code)
    program = out / job.program

    def made() -> None:
        words: list[str | Path] = [sys.executable, "-m", "etexport", "export", job.model, "-o", program]
        words += ["--quantize", job.quantization]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise ModelError(done.stderr.strip().removeprefix("error: "))

    return _once(program.parent, key_of(script, job.quantization, code), (program.name, "model.npz"), made)


def firmware(out: Path, job: Job, samples: int | None, share: int, code: str) -> tuple[Share, ...]:
    """The image, and what each board is to run of it. Samples of a network that remembers, and calls of methods, are
    one sequence."""
    _check_code(code)
    program, folder = out / job.program, out / job.folder

    def made() -> None:
        beside_it = beside(job.model)
        build(program, job.board, folder, optimize=job.optimize, name=job.name, jobs=1, project=beside_it)

    key = key_of(program, board_key(job.board), project_key(job.model), job.optimize, code)
    _once(folder, key, ("firmware.elf", "memory.json", "sizes.json"), made)
    reference = program.with_suffix(".npz")
    given, calls = read_samples(reference, samples), read_calls(reference, samples)
    methods = pte.read(program.read_bytes()).methods
    remembers = any(value.role is Role.STATE for method in methods for value in method.values.values())
    count = len(calls) or len(given)
    step = count if calls or remembers else share
    image, simulator = (folder / "firmware.bin").read_bytes(), board_key(job.board)
    content = [b"".join(np.ascontiguousarray(one).tobytes() for one in sample) for sample in given]
    asked = [name.encode() + b"".join(one.tobytes() for one in inputs) for name, inputs in calls]
    return tuple(
        Share(first, min(first + step, count), key_of(image, simulator, *(asked or content)[first : first + step]))
        for first in range(0, count, step)
    )


def evaluate(out: Path, job: Job, share: Share) -> None:
    """Run a share's samples on a board of their own: `run.json` and `outputs.npz`."""
    folder, reference, board = out / job.folder, (out / job.program).with_suffix(".npz"), load_board(job.board)
    part = folder / "parts" / share.key
    with alone_in(part):
        if (part / "run.json").is_file():
            return
        calls = read_calls(reference, share.end)[share.first :]
        samples = [given for _, given in calls] or read_samples(reference, share.end)[share.first :]
        done = run(folder / "firmware.elf", board, samples, calls=[name for name, _ in calls], log=part / "wire.log")
        write_run(part, record(done, board), done.outputs)


def judge(out: Path, job: Job, shares: tuple[Share, ...], code: str) -> Row:
    """The shares put together as if one board had run them, the verdict, the report, and the line of the table."""
    _check_code(code)
    folder, program, board = out / job.folder, out / job.program, load_board(job.board)

    def made() -> None:
        _put_together(folder, [folder / "parts" / share.key for share in shares])
        with contextlib.redirect_stdout(io.StringIO()):
            told, _, _ = report_in(folder, program, board)
        write_record(folder / "row.json", _row(told, sum(share.end - share.first for share in shares)))

    content = key_of(program.with_suffix(".npz"), code, *(share.key for share in shares))
    with alone_in(folder):
        _once(folder / "parts", content, ("../row.json", "../run.json", "../outputs.npz", "../report.json"), made)
    return read_record(folder / "row.json", Row, "delete the folder")


def _put_together(folder: Path, parts: list[Path]) -> None:
    for old in (folder / "parts").iterdir():
        if old.is_dir() and old not in parts:
            shutil.rmtree(old)
    runs = [read_run(part) for part in parts]
    if len(parts) == 1:  # of calls, each has outputs of its own
        for name in ("outputs.npz", "run.json"):
            shutil.copyfile(parts[0] / name, folder / name)
        return
    outputs = [read_outputs(part / "outputs.npz") for part in parts]
    whole = replace(
        runs[0],
        samples=sum(one.samples for one in runs),
        counters=tuple(count for one in runs for count in one.counters),
        stack=replace(runs[0].stack, used=max(one.stack.used for one in runs)),
    )
    write_run(folder, whole, [sample for part in outputs for sample in zip(*part, strict=True)])


def _row(told: Report, samples: int) -> Row:
    made = Row(
        told.model, told.quantization, told.board, told.optimize, samples, flash=told.flash.total, ram=told.ram.total,
        arena=told.ram.arena, count=told.count, counter=told.counter,
    )  # fmt: skip
    if (of := told.compare) is None:
        return made
    snr_db = of.snr_db if of.snr_db is not None and math.isfinite(of.snr_db) else None
    return replace(
        made, mismatched=of.mismatched, accuracy=of.accuracy, accuracy_float=of.accuracy_eager, snr_db=snr_db
    )


def failed(job: Job, error: str) -> Row:
    """A line that says why there is no more."""
    return Row(job.name, job.quantization, job.board, job.optimize, error=error)


def _once(folder: Path, key: str, names: tuple[str, ...], make: Callable[[], None]) -> str:
    """Have `make` leave these files in the folder, unless they are there, as they were left, of what has this key."""
    with alone_in(folder):
        stamp, files = folder / "sweep.json", [folder / name for name in names]
        if stamp.is_file() and all(file.is_file() for file in files):
            there = read_record(stamp, Stamp, "delete the folder")
            if there == Stamp(key, key_of(*files)):
                return key
        stamp.unlink(missing_ok=True)
        make()
        write_record(stamp, Stamp(key, key_of(*files)))
    return key


def _check_code(code: str) -> None:
    if code_key() != code:
        raise EtError("a worker has another etexport than the one that asks", hint="install the same one everywhere")
