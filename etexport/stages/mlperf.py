"""Firmware that speaks MLPerf Tiny's serial protocol, and a run that asks it what the benchmark's runner asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from etexport.artifacts.files import numbered, opened, write_whole
from etexport.artifacts.memory import project_in, read_memory
from etexport.board import Board, count_of
from etexport.device.mlperf import Inferred, dut
from etexport.device.session import Line
from etexport.emit.mlperf import ENCODINGS, ERROR, RAW, SCORES, Encoding, Stored, mlperf_source, stored
from etexport.errors import DeviceLostError, ModelError
from etexport.program.model import Array
from etexport.report.peers import network_of
from etexport.resources import include_folders
from etexport.toolchain import gcc
from etexport.toolchain.check import footprint

CLOCK_HZ = 100_000_000
"""What a simulator, which has no time, is said to run at unless the user says otherwise."""


@dataclass(frozen=True)
class Benchmark:
    """What a model is for the benchmark: its word for it, what its bytes mean there, and input and output as the
    program stores them."""

    id: str
    encoding: Encoding
    into: Stored
    out: Stored


@dataclass(frozen=True, eq=False)
class Answered:
    """Of each sample what the board said, and what PyTorch gives. Samples whose bytes stand for other numbers than the
    network was given, since the benchmark's encoding cannot say these, are `rounded`."""

    inferred: tuple[Inferred, ...]
    expected: Array
    rounded: int

    @property
    def apart(self) -> float:
        """The largest difference from PyTorch's results."""
        return float(np.abs(np.array([one.results for one in self.inferred]) - self.expected).max())

    @property
    def same_class(self) -> int:
        return sum(
            int(np.argmax(one.results) == np.argmax(want))
            for one, want in zip(self.inferred, self.expected, strict=True)
        )


def benchmark_of(folder: Path, reference: Path, name: str, id: str | None, given: Encoding | None) -> Benchmark:
    """What the program built in `folder` is for the benchmark: one of its networks, known by the work of its layers, or
    the model called `name`; `id` and `given` overrule that. ModelError for a program that it has no words for."""
    memory = read_memory(folder)
    called = id or SCORES.get(network_of([step.macs for step in memory.steps if step.macs]), name)
    if not called.isprintable() or set(called) & set("[]%"):
        raise ModelError(
            f"{called!r} cannot be said in the benchmark's protocol", where="--id", hint="kws01, ic01, vww01, ad01"
        )
    scales: dict[str, list[tuple[float, int]]] = {"input": [], "output": []}
    with opened(reference) as arrays:
        for what in scales:
            if f"{what}_scales" in arrays:
                scales[what] = list(
                    zip(arrays[f"{what}_scales"].tolist(), arrays[f"{what}_zero_points"].tolist(), strict=True)
                )
    into, out = stored(memory.inputs, scales["input"], "input"), stored(memory.outputs, scales["output"], "output")
    return Benchmark(called, given or ENCODINGS.get(called, RAW), into, out)


def tick_of(board: Board, clock_hz: int | None) -> tuple[Fraction, str]:
    """Microseconds a tick of the board's counter, and in words where that comes from: of a real board, simulated or
    not, its own clock."""
    is_real = board.attach is not None
    count = count_of(board, simulated=not is_real)
    unit = count.unit.partition(" ")[0]
    if count.still:
        raise ModelError("the counter stands still in this simulator, and the protocol is about time", where=board.name)
    a_tick = Fraction(count.numerator, count.denominator)
    if unit == "nanoseconds":
        return a_tick / 1000, "the host's clock"
    known = board.clock.hz if board.clock is not None and is_real else 0
    hz = clock_hz or known or CLOCK_HZ
    cycles = ", one a cycle" if unit == "instructions" else ""
    said = "the board file's clock" if hz == known else f"an estimate: {unit} at {hz:,} Hz{cycles}"
    return a_tick * 1_000_000 / hz, said


def build_benchmark(
    folder: Path, board: Board, what: Benchmark, name: str, clock_hz: int | None = None
) -> gcc.Artifacts:
    """Compile the sources in `folder` with the benchmark's front end, into `folder/mlperf`; PlanError where the stack
    may not do."""
    out = folder / "mlperf"
    tick, clock = tick_of(board, clock_hz)
    text = mlperf_source(name, what.id, what.encoding, what.into, what.out, tick, clock)
    source = write_whole(out / "mlperf.cpp", text.encode())
    made = gcc.build(
        folder, board, include_folders(project_in(folder)), build_dir=out, front="mlperf", generated=[source]
    )
    footprint(made.elf, made.map, made.objects, board)
    return made


def ask_benchmark(
    elf: Path, board: Board, line: Line, what: Benchmark, reference: Path, *, samples: int | None = None,
    count: int = 1, warmups: int = 0, timeout_s: float = 60.0, progress: Callable[[int, int], None] | None = None,
) -> Answered:  # fmt: skip
    """Have the board answer for samples of `model.npz`, as the benchmark's runner asks: each is loaded, and inferred
    `count` times after `warmups`. DeviceLostError where the answers are not the protocol's."""
    with opened(reference) as arrays:
        inputs, outputs = numbered(arrays, "input")[0], numbered(arrays, "output")[0]
    taken = min(len(inputs), samples or len(inputs))
    contents = [_content(what, one) for one in inputs[:taken]]
    reals = [_reals(what.into, one) for one in inputs[:taken]]
    expected = np.stack([_reals(what.out, one) for one in outputs[:taken]])
    if what.id == ERROR:
        expected = np.mean((np.stack(reals) - expected) ** 2, axis=1, keepdims=True)
    inferred = []
    with dut(elf, board, line) as there:
        if (called := there.model()) != what.id:
            raise DeviceLostError(
                f"the board runs {called}, not {what.id}", where=board.name, hint="write the firmware again"
            )
        for at, content in enumerate(contents):
            there.load(content)
            inferred.append(there.infer(count, warmups, timeout_s * (count + warmups)))
            if progress is not None:
                progress(at + 1, taken)
    return Answered(tuple(inferred), expected, sum(map(_is_rounded, [what] * taken, contents, inputs)))


def _reals(stored: Stored, array: Array) -> Array:
    flat = array.reshape(-1)
    return (
        flat
        if stored.is_float
        else (flat.astype(np.float32) - np.float32(stored.zero_point)) * np.float32(stored.scale)
    )


def _content(what: Benchmark, array: Array) -> bytes:
    """One input as the benchmark sends it."""
    return array.tobytes() if what.encoding == RAW else what.encoding.codes(_reals(what.into, array))


def _is_rounded(what: Benchmark, content: bytes, array: Array) -> bool:
    """Whether the board gets other numbers than the network was given."""
    return what.encoding != RAW and not np.array_equal(what.into.of(what.encoding.reals(content)), array.reshape(-1))
