"""Run a firmware on a board, simulated or real: inputs go in over the serial link, outputs and counts come back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from etexport.board import Board, Count, count_of
from etexport.device.elf import memory_bytes, program_counts, program_hash
from etexport.device.fault import decode, error
from etexport.device.hello import Hello, Tensor
from etexport.device.image import image
from etexport.device.launch import Running, launch
from etexport.device.link import FaultReported, Link, Result
from etexport.device.port import Port
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceLostError, EtError, ModelError, raise_all
from etexport.program.model import Array

_IDENTIFY_S = 20.0
_OPEN_S = 30.0
_MOST_TICKS = 1 << 62
_SIMULATED_WINDOW = 8
"""Questions under way to a simulator, which loses nothing. Real ports may lack a receive buffer, and get one."""

Sample = Mapping[str, Array] | Sequence[Array]
"""The inputs of one run, by name or in order, in the script's order of dimensions."""


@dataclass(frozen=True, eq=False)
class Run:
    """What came back. Counts are in `unit`, with what the counting itself costs taken off."""

    outputs: tuple[tuple[Array, ...], ...]
    """For each sample the outputs, in the script's order of dimensions."""
    counters: tuple[int, ...]
    """For each sample, from the call of the program to its return."""
    probes: tuple[tuple[int, ...], ...]
    """For each sample the count of each step; empty without probes."""
    trace: tuple[Mapping[tuple[int, int], bytes], ...]
    """For each sample (step, output) -> bytes as they lie in memory; empty without traces."""
    unit: str
    init_count: int
    """From reset until HELLO could be answered."""
    hello: Hello
    stack_used: int
    """Bytes, the deepest over all runs; 0 where the stack is not ours."""
    log: Path | None
    command: tuple[str, ...]
    """The simulator's command line; () for a real board."""
    exit_status: int | None
    asked_again: int
    """Questions repeated because no answer came."""
    bad_frames: int
    """Pieces that were no frames, on both sides."""


def run(
    elf: Path,
    board: Board,
    inputs: Sequence[Sample],
    *,
    probes: bool = False,
    trace: bool = False,
    url: str | None = None,
    log: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    waiting: Callable[[str], None] | None = None,
    timeout_s: float = 60.0,
) -> Run:
    """Run every sample once, in order, on an attached board (`url`, or the board's own where it has no simulator), else on a simulator.

    `timeout_s` is for one run of the program, of a simulator in its own time (`Running.clock`). `progress(done, of)` is called after each,
    `waiting(text)` now and then while nobody answers. `probes` and `trace` say that the firmware must
    have been built with them; traces of one that was are kept in any case. Raises DeviceLostError, DeviceFaultError, ToolMissingError, and
    ModelError for inputs that do not match.
    """
    url = url or (board.url if board.simulator is None else "")
    with ExitStack() as stack:
        running = None if url else stack.enter_context(launch(board, elf))
        wire = stack.enter_context(WireLog(log))
        with _translated(elf, board, running):
            port = _open(running, board) if running is not None else Port(url, board.baud)
            stack.callback(port.close)
            window, nonce = (_SIMULATED_WINDOW, 1) if running is not None else (1, secrets.randbelow(1 << 16))
            clock = running.clock if running is not None else time.monotonic
            link = Link(port, wire, window=window, nonce=nonce, lossless=running is not None, clock=clock, waiting=waiting)
            hello = link.greet(_IDENTIFY_S)
            _check_firmware(hello, elf, board, port.url, {name for name, wanted in (("probes", probes), ("trace", trace)) if wanted})
            hello = link.describe(hello, memory_bytes(elf))
            samples = [_match(sample, hello.inputs, index) for index, sample in enumerate(inputs)]
            results: list[Result] = []
            for index, sample in enumerate(samples):
                results.append(link.run(hello, hello.runs + 1 + index, sample, timeout_s))
                if progress is not None:
                    progress(index + 1, len(samples))
            after = link.greet(_IDENTIFY_S)
            if after.boot != hello.boot:
                what = f"the board was reset after its runs: it has started {after.boot} times, before it was {hello.boot}"
                raise DeviceLostError(what, where=port.url)
            count = count_of(board, simulated=running is not None)
            counters = _counters(board, count, results, port.url)
            mark = min((result.probes[-1] for result in results if result.probes), default=0)
            steps = tuple(_steps(board, count, result, mark, port.url) for result in results if probes)
            if running is not None:
                link.exit(0)
        exit_status = running.wait() if running is not None else None
    return Run(
        outputs=tuple(result.outputs for result in results),
        counters=counters,
        probes=steps,
        trace=tuple(result.trace for result in results if "trace" in hello.features),
        unit=count.unit,
        init_count=_count(count, hello.init_ticks),
        hello=hello,
        stack_used=after.stack_used,
        log=log,
        command=running.arguments if running is not None else (),
        exit_status=exit_status,
        asked_again=link.asked_again,
        bad_frames=link.bad_frames + after.bad_frames - hello.bad_frames,
    )


def record(run: Run, board: Board) -> dict[str, object]:
    """The content of `run.json`: how the board was started, who answered, how tensors lie in its memory. No paths but file names."""
    hello = run.hello
    return {
        "board": board.name,
        "command": [Path(part).name if Path(part).is_absolute() else part for part in run.command],
        "exit_status": run.exit_status,
        "program": hello.program,
        "program_hash": f"{hello.program_hash:016x}",
        "image_crc": f"{hello.image_crc:08x}",
        "image_bytes": hello.image_bytes,
        "link": {"version": hello.version, "layout": f"{hello.layout:08x}", "asked_again": run.asked_again, "bad_frames": run.bad_frames},
        "boot": hello.boot,
        "reset_cause": hello.reset_cause,
        "clock": {"hz": hello.clock_hz, "set_up": "reset_clock" not in hello.features},
        "inputs": [_described(tensor) for tensor in hello.inputs],
        "outputs": [_described(tensor) for tensor in hello.outputs],
        "samples": len(run.outputs),
        "counter": run.unit,
        "counters": list(run.counters),
        "init_count": run.init_count,
        "stack": {"reserved": hello.stack_bytes, "used": run.stack_used},
    }


def _described(tensor: Tensor) -> dict[str, object]:
    return {
        "name": tensor.name,
        "dtype": str(tensor.dtype.numpy),
        "shape": list(tensor.shape),
        "dim_order": list(tensor.dim_order),
        "permuted_by_host": tensor.dim_order != tuple(range(len(tensor.shape))),
    }


@contextmanager
def _translated(elf: Path, board: Board, running: Running | None) -> Iterator[None]:
    """Faults get names, and a connection that broke because the simulator ended says so."""
    try:
        yield
    except FaultReported as reported:
        raise error(decode(reported.message, elf, board)) from None
    except DeviceLostError as lost:
        epitaph = running.epitaph() if running is not None else ""
        if not epitaph:
            raise
        raise DeviceLostError(f"{lost.what}; {epitaph}", where=lost.where, hint=lost.hint) from lost


def _open(running: Running, board: Board) -> Port:
    """The port of a simulator that was just started: one that was told which port to take may not have it open yet."""
    end = running.clock() + _OPEN_S
    while True:
        try:
            return Port(running.url, board.baud)
        except DeviceLostError:
            if running.clock() > end or running.exit_status is not None:
                raise
            time.sleep(0.05)


def _check_firmware(hello: Hello, elf: Path, board: Board, url: str, features: set[str]) -> None:
    """The board runs this very file; DeviceLostError with both sides of everything that differs."""
    errors: list[EtError] = []
    hint = "write the firmware again"
    if hello.board != board.name:
        errors.append(DeviceLostError(f"the firmware there was built for {hello.board}, not for {board.name}", where=url, hint=hint))
    expected = program_hash(elf)
    if expected is not None and hello.program_hash != expected:
        what = f"the board runs another program: {hello.program} {hello.program_hash:016x}; {elf.name} has {expected:016x}"
        errors.append(DeviceLostError(what, where=url, hint=hint))
    else:
        told, counts = (hello.input_count, hello.output_count, hello.steps), program_counts(elf)
        if counts is not None and told != counts:
            there, here = ("{} inputs, {} outputs and {} steps".format(*numbers) for numbers in (told, counts))
            what = f"the board says that its program has {there}; that of {elf.name} has {here}"
            errors.append(DeviceLostError(what, where=url, hint=hint))
        own = image(elf)
        if (own.crc, own.size) != (hello.image_crc, hello.image_bytes):
            there, here = f"{hello.image_bytes} bytes with CRC {hello.image_crc:08x}", f"{own.size} with {own.crc:08x}"
            what = f"the board runs another firmware: {there}; {elf.name} has {here}"
            errors.append(DeviceLostError(what, where=url, hint=hint))
    if missing := sorted(features - hello.features):
        errors.append(DeviceLostError(f"the firmware was built without {' and '.join(missing)}", where=url, hint="build it with them"))
    raise_all(errors)


def _match(sample: Sample, tensors: Sequence[Tensor], index: int) -> list[Array]:
    """The arrays of one sample in the board's order of inputs; ModelError for any that does not match, all at once."""
    where = f"sample {index}"
    if isinstance(sample, Mapping):
        names = [tensor.name for tensor in tensors]
        if set(sample) != set(names):
            raise ModelError(f"inputs {', '.join(sorted(sample))} where {', '.join(names)} belong", where=where)
        arrays = [sample[name] for name in names]
    else:
        arrays = list(sample)
    if len(arrays) != len(tensors):
        raise ModelError(f"{len(arrays)} inputs where {len(tensors)} belong", where=where)
    errors: list[EtError] = []
    for tensor, array in zip(tensors, arrays, strict=True):
        if np.dtype(array.dtype) != tensor.dtype.numpy or array.shape != tensor.shape:
            what = f"input {tensor.name} is {array.dtype}{list(array.shape)} here and {tensor.dtype.numpy}{list(tensor.shape)} on the board"
            errors.append(ModelError(what, where=where))
    raise_all(errors)
    return arrays


def _count(count: Count, ticks: int) -> int:
    """Ticks in the counter's unit, rounded to the nearest."""
    return (2 * ticks * count.numerator + count.denominator) // (2 * count.denominator)


def _counters(board: Board, count: Count, results: Sequence[Result], url: str) -> tuple[int, ...]:
    """The count of each run, without what counting nothing takes: the least of all runs, since on the host an interrupt may have come
    between. DeviceLostError where the program took less than nothing; the host's clock is uneven, so that a few operators may take less
    there, down to half of it: they count as one tick."""
    overhead = min((result.overhead for result in results), default=0)
    is_uneven = board.simulator is not None and board.simulator.kind == "host"
    least = overhead // 2 if is_uneven else overhead
    for number, result in enumerate(results, 1):
        if not least <= result.ticks < _MOST_TICKS:
            what = f"a count that cannot be: {result.ticks:,} ticks for sample {number}, and {overhead:,} for nothing"
            raise DeviceLostError(what, where=url, hint=f"is {board.counter.driver} the counter of this board?")
    taken = (max(result.ticks, overhead + 1) if is_uneven else result.ticks for result in results)
    return tuple(_count(count, ticks) - _count(count, overhead) for ticks in taken)


def _steps(board: Board, count: Count, result: Result, mark: int, url: str) -> tuple[int, ...]:
    """Counts of each step from the ticks at its marks (32 bits, they may wrap), without those of a mark itself."""
    taken = [(after - before) & 0xFFFFFFFF for before, after in pairwise(result.probes[:-1])]
    for step, ticks in enumerate(taken):
        if ticks > result.ticks:
            what = f"a count that cannot be: {ticks:,} ticks for step {step}, of {result.ticks:,} for all"
            raise DeviceLostError(what, where=url, hint=f"is {board.counter.driver} the counter of this board?")
    return tuple(_count(count, max(ticks - mark, 0)) for ticks in taken)
