"""Where the counts of one run went: profile.json (a Chrome trace) and profile.collapsed beside the firmware."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from etexport.artifacts.files import write_whole
from etexport.artifacts.memory import read_memory
from etexport.artifacts.runs import read_run
from etexport.board import Board
from etexport.device import Sample
from etexport.device.instructions import count_instructions
from etexport.errors import ModelError
from etexport.report.profile import measured, unit_of
from etexport.report.stacks import Stack, chrome_trace, collapsed, of_steps, stacks


@dataclass(frozen=True)
class Profile:
    stacks: tuple[Stack, ...]
    unit: str
    beside: str
    """How the sum stands to the board's own count of the same run."""

    @property
    def count(self) -> int:
        return sum(stack.count for stack in self.stacks)


def in_qemu(
    folder: Path,
    board: Board,
    samples: Sequence[Sample],
    sample: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Instructions by function of a sample: that of this number (from 0), or the one whose count the report tells. The
    samples before it run too where the program has a state."""
    memory = read_memory(folder)
    at = _median(folder, len(samples)) if sample is None else sample
    if at >= len(samples):
        raise ModelError(f"there is no sample {at + 1}, there are {len(samples):,}", where=str(folder))
    first = 0 if any(buffer.role == "state" for buffer in memory.buffers) else at
    ran, done = count_instructions(folder / "firmware.elf", board, samples[first : at + 1], progress=progress)
    found = stacks(memory.model, memory.steps, [(one.count, one.step, one.functions) for one in ran])
    whole = sum(one.count for one in ran)
    return _written(
        folder,
        Profile(
            found, "instructions", _beside(whole, done.counters[-1]) if done.counters else "not counted by the board"
        ),
    )


def of_probes(folder: Path, board: Board, sample: int | None = None) -> Profile:
    """Counts by step of a run with probes, in the folder or its `profile/`, in the unit of the board's counter."""
    memory = read_memory(folder)
    hint = (
        f"`etexport build --probes -o {folder / 'profile'}`, `etexport flash` for a real board, `etexport run --probes`"
    )
    folders = [one for one in (folder, folder / "profile") if (one / "run.json").is_file()]
    run = next((run for run in map(read_run, folders) if run.probes), None)
    if run is None:
        raise ModelError(f"there is no run of {board.name} with probes", where=str(folder), hint=hint)
    counts, at = run.probes, sample or 0
    if at >= len(counts):
        raise ModelError(f"there is no sample {at + 1}, {len(counts):,} were run with probes", where=str(folder))
    if len(counts[at]) != len(memory.steps) or run.program_hash != memory.program_hash:
        raise ModelError("the run with probes is of another program", where=str(folder), hint=hint)
    found = of_steps(memory.model, memory.steps, counts[at])
    return _written(folder, Profile(found, unit_of(run.counter), "in steps, by the probes"))


def _median(folder: Path, count: int) -> int:
    """The sample whose count stands in the report; the first where nothing was run, or of other samples."""
    if not (folder / "run.json").is_file():
        return 0
    run = read_run(folder)
    told = measured(run)
    return run.counters.index(told) if told is not None and len(run.counters) <= count else 0


def _beside(whole: int, own: int) -> str:
    differs = "as" if whole == own else f"{abs(whole - own):,} {'more' if whole > own else 'fewer'} than"
    return f"{differs} the board's own count of this run, {own:,}"


def _written(folder: Path, profile: Profile) -> Profile:
    write_whole(folder / "profile.collapsed", collapsed(profile.stacks).encode())
    write_whole(folder / "profile.json", chrome_trace(profile.stacks, profile.unit).encode())
    return profile
