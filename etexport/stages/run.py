"""Samples through the firmware of a build folder: run.json, outputs.npz, wire.log; with probes trace.npz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from etexport.artifacts.memory import read_memory
from etexport.artifacts.records import read_record
from etexport.artifacts.runs import Furthest, image_of, write_run
from etexport.board import Board
from etexport.device import Run, Sample, record, run
from etexport.device.elf import program_hash
from etexport.errors import ModelError
from etexport.program.names import INIT


def run_in(
    folder: Path, board: Board, samples: Sequence[Sample], *, calls: Sequence[str] = (), probes: bool = False,
    trace: bool = False, traced: Sequence[int] = (0,), beside: Path | None = None, url: str | None = None,
    baud: int = 0, reset: bool = False, timeout_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None, waiting: Callable[[str], None] | None = None,
) -> Run:  # fmt: skip
    """Run the samples on the board, or in its simulator, and leave what came back in the folder; arguments are as in
    `device.run`.

    With `probes`, `traced` are the numbers that the first samples have in `model.npz`, and `beside` is the folder whose
    outputs theirs stand beside. ModelError where the image is not of the program that was generated in the folder.
    """
    _check_program(folder)
    done = run(
        folder / "firmware.elf", board, samples, calls=calls, probes=probes, trace=trace, url=url, baud=baud,
        reset=reset, log=folder / "wire.log", progress=progress, waiting=waiting, timeout_s=timeout_s,
    )  # fmt: skip
    found = record(done, board)
    if probes and len(traced) == len(samples):
        found = replace(found, traced=tuple(traced), beside=None if beside is None else image_of(beside))
    ran = [at for at, name in zip_longest(traced, calls) if at is not None and name != INIT]
    write_run(folder, found, done.outputs, dict(zip(ran, done.trace, strict=False)) if probes else None)
    return done


def listed(path: Path, there: int) -> tuple[int, ...]:
    """The samples that a file of `etexport furthest` names, of `there`."""
    hint = "`etexport furthest` writes it"
    found = read_record(path, Furthest, hint).samples
    if not found or not all(0 <= one < there for one in found):
        raise ModelError(f"names no samples of the {there:,} that there are", where=str(path), hint=hint)
    return found


def _check_program(folder: Path) -> None:
    """The image must be of the program that was generated in this folder: the host compares the board with the image,
    no more."""
    elf = folder / "firmware.elf"
    found = program_hash(elf) if elf.is_file() and (folder / "memory.json").is_file() else None
    if found is None:
        return
    wanted = read_memory(folder).program_hash
    if f"{found:016x}" != wanted:
        raise ModelError(
            f"is of program {found:016x}, the folder's is {wanted}",
            where=str(elf),
            hint="`etexport build` makes it anew",
        )
