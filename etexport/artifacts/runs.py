"""What runs leave: `run.json`, `outputs.npz`, and of images with traces `trace.npz`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etexport.artifacts.files import Array, npz, numbered, opened, write_whole
from etexport.artifacts.memory import TensorType
from etexport.artifacts.records import read_record, write_record
from etexport.artifacts.sized import named, padded, runs, sizes


@dataclass(frozen=True)
class LinkUse:
    version: int
    layout: str
    asked_again: int
    """Questions repeated because no answer came."""
    bad_frames: int
    """Pieces that were no frames, on both sides."""


@dataclass(frozen=True)
class Clock:
    hz: int
    """Of the core; 0 where the board file does not say."""
    set_up: bool
    """Whether the firmware reached that clock, rather than that of the reset."""


@dataclass(frozen=True)
class StackUse:
    """Bytes; 0 where the stack is not ours."""

    reserved: int
    used: int


@dataclass(frozen=True)
class BoardTensor(TensorType):
    """An input or output as the board has it."""

    permuted_by_host: bool


@dataclass(frozen=True)
class RunRecord:
    """How the board was started, who answered, how tensors lie in its memory, and what was counted. No paths but file
    names."""

    board: str
    command: tuple[str, ...]
    """The simulator's command line; () for a real board."""
    exit_status: int | None
    program: str
    program_hash: str
    image_crc: str
    image_bytes: int
    link: LinkUse
    boot: int
    reset_cause: str
    clock: Clock
    inputs: tuple[BoardTensor, ...]
    outputs: tuple[BoardTensor, ...]
    samples: int
    counter: str
    """What was counted, and who counted: "instructions (qemu icount)"."""
    counters: tuple[int, ...]
    """Of each sample, from the call of the program to its return."""
    init_count: int | None
    stack: StackUse
    probes: tuple[tuple[int, ...], ...] = ()
    """Of each sample the count of each step, of all its executions together; empty without probes."""
    executions: tuple[tuple[int, ...], ...] = ()
    """Of each sample how often each step ran."""
    traced: tuple[int, ...] = ()
    """Which samples the first runs were of, where these left traces."""
    beside: str | None = None
    """The CRC of the image whose outputs those samples were chosen by."""
    calls: tuple[str, ...] = ()
    """The method of each sample, where these are calls of several; the tensors above are then those of all methods."""
    sized: bool = False
    """Samples may have different sizes; those of the tensors above are the largest."""


@dataclass(frozen=True)
class Furthest:
    """`furthest.json`: the samples that a verdict on a run looks into."""

    samples: tuple[int, ...]


def read_run(folder: Path) -> RunRecord:
    """`run.json` of a folder; ModelError where there is none, or somebody changed it."""
    return read_record(folder / "run.json", RunRecord, "`etexport run` writes it")


def image_of(folder: Path) -> str | None:
    """The CRC of the image that was run in a folder; None where none was."""
    return read_run(folder).image_crc if (folder / "run.json").is_file() else None


def read_outputs(path: Path) -> tuple[Array, ...]:
    """Read `outputs.npz`: arrays `output_<i>`, samples first."""
    with opened(path) as arrays:
        made = runs(arrays, "output")
        return padded(made) if made else numbered(arrays, "output")


def read_sizes(path: Path) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Of `outputs.npz` the shapes of each sample's outputs; () where all are alike."""
    with opened(path) as arrays:
        return sizes(runs(arrays, "output"))


def read_call_outputs(path: Path, calls: Sequence[int]) -> list[tuple[Array, ...]]:
    """Of `outputs.npz`: what each of these calls gave, `call_<i>_output_<j>`."""
    with opened(path) as arrays:
        return [numbered(arrays, f"call_{call}_output") for call in calls]


Trace = Mapping[tuple[int, int], bytes]
"""What each step of one run gave, by step and number of the result."""


def write_run(
    folder: Path, record: RunRecord, outputs: Sequence[Sequence[Array]], traces: Mapping[int, Trace] | None = None
) -> None:
    """Write `outputs.npz` (arrays `output_<i>` of each output, samples first; of calls of methods
    `call_<i>_output_<j>`, of samples of different sizes `run_<i>_output_<j>`), `trace.npz` where there are `traces`,
    by sample (arrays `step_<n>_<result>_of_<sample>` of bytes), and last `run.json`: where it is, the others are of
    the same run."""
    (folder / "run.json").unlink(missing_ok=True)
    if record.calls:
        arrays = {f"call_{call}_output_{at}": one for call, given in enumerate(outputs) for at, one in enumerate(given)}
    elif record.sized:
        arrays = named(outputs, "output")
    else:
        arrays = {f"output_{at}": np.stack([sample[at] for sample in outputs]) for at in range(len(record.outputs))}
    write_whole(folder / "outputs.npz", npz(arrays))
    if traces is not None:
        stepwise = {
            f"step_{step}_{at}_of_{sample}": data for sample, one in traces.items() for (step, at), data in one.items()
        }
        write_whole(folder / "trace.npz", npz({name: np.frombuffer(data, np.uint8) for name, data in stepwise.items()}))
    write_record(folder / "run.json", record)
