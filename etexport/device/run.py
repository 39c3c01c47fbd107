"""Run a firmware on a board, simulated or real: inputs go in over the serial link, outputs and counts come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etexport.artifacts.runs import BoardTensor, Clock, LinkUse, RunRecord, StackUse
from etexport.board import Board
from etexport.device.counts import measure, run_counts, start_count, step_counts
from etexport.device.hello import Hello, Tensor
from etexport.device.link import Result
from etexport.device.session import IDENTIFY_S, Line, session
from etexport.errors import DeviceLostError, EtError, ModelError, raise_all
from etexport.program.model import Array
from etexport.program.names import INIT

Sample = Mapping[str, Array] | Sequence[Array]
"""The inputs of one run, by name or in order, in the script's order of dimensions."""


@dataclass(frozen=True, eq=False)
class Run:
    """What came back. Counts are in `unit`, with what the counting itself costs taken off."""

    calls: tuple[str, ...]
    """As they were given: the method of each sample."""
    outputs: tuple[tuple[Array, ...], ...]
    """For each sample the outputs, in the script's order of dimensions; none of an `INIT`, which is nowhere below."""
    counters: tuple[int, ...]
    """For each sample, from the call of the program to its return."""
    probes: tuple[tuple[int, ...], ...]
    """For each sample the count of each step, of all its executions together; empty without probes."""
    executions: tuple[tuple[int, ...], ...]
    """For each sample how often each step ran; empty without probes."""
    trace: tuple[Mapping[tuple[int, int], bytes], ...]
    """For each sample (step, output) -> bytes as they lie in memory, one execution behind the other; empty without
    traces."""
    unit: str
    init_count: int | None
    """From reset until HELLO could be answered; None where the counter is known to stand still, and nothing is
    counted."""
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
    calls: Sequence[str] = (),
    probes: bool = False,
    trace: bool = False,
    url: str | None = None,
    baud: int = 0,
    reset: bool = False,
    log: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    waiting: Callable[[str], None] | None = None,
    timeout_s: float = 60.0,
) -> Run:
    """Run every sample once, in order, on an attached board or a simulator: `url`, `baud` and `reset` are as in
    `session.Line`.

    `calls` names the method of each sample, or `INIT`; without it all are of the only one, or of `forward`. `timeout_s`
    is for one run of the program, of a simulator in its own time (`Running.clock`). `progress(done, of)` is called
    after each, `waiting(text)` now and then while nobody answers. `probes` and `trace` say that the firmware must have
    been built with them; traces of one that was are kept in any case. Raises DeviceLostError, DeviceFaultError,
    ToolMissingError, and ModelError for inputs that do not match.
    """
    line, exit_status = Line(url or "", baud, reset), None
    wanted = frozenset(name for name, asked in (("probes", probes), ("trace", trace)) if asked)
    with session(elf, board, line, features=wanted, log=log, waiting=waiting) as there:
        link, hello, running = there.link, there.hello, there.running
        by = measure(board, launched=running is not None)
        init_count = start_count(by, hello.init_ticks, there.url)
        methods = [None if name == INIT else hello.method(name) for name in calls or [""] * len(inputs)]
        samples = [
            [] if method is None else match(sample, hello.methods[method].inputs, index)
            for index, (sample, method) in enumerate(zip(inputs, methods, strict=True))
        ]
        results: list[Result] = []
        for index, (sample, method) in enumerate(zip(samples, methods, strict=True)):
            number = hello.runs + 1 + len(results)
            if method is None:
                link.reset(number)
            else:
                results.append(link.run(hello, number, sample, timeout_s, method=method))
            if progress is not None:
                progress(index + 1, len(samples))
        after = link.greet(IDENTIFY_S)
        if after.boot != hello.boot:
            what = f"the board was reset after its runs: it has started {after.boot} times, before it was {hello.boot}"
            raise DeviceLostError(what, where=there.url)
        counters = run_counts(by, results, there.url)
        counted = [(result, result.probes) for result in results if probes and result.probes is not None]
        mark = min((counts.mark for _, counts in counted), default=0)
        steps = tuple(step_counts(by, result, counts, mark, there.url) for result, counts in counted if not by.of.still)
        if running is not None:
            link.exit(0)
            exit_status = running.wait()
    done = iter(results)
    return Run(
        calls=tuple(calls),
        outputs=tuple(() if method is None else next(done).outputs for method in methods),
        counters=counters,
        probes=steps,
        executions=tuple(counts.executions for _, counts in counted),
        trace=tuple(result.trace for result in results if "trace" in hello.features),
        unit=by.unit,
        init_count=init_count,
        hello=hello,
        stack_used=after.stack_used,
        log=log,
        command=running.arguments if running is not None else (),
        exit_status=exit_status,
        asked_again=link.asked_again,
        bad_frames=link.bad_frames + after.bad_frames - hello.bad_frames,
    )


def record(run: Run, board: Board) -> RunRecord:
    """What `run.json` says of it."""
    hello = run.hello
    methods = hello.methods if run.calls else (hello.methods[hello.method("")],)
    return RunRecord(
        board=board.name,
        command=tuple(Path(part).name if Path(part).is_absolute() else part for part in run.command),
        exit_status=run.exit_status,
        program=hello.program,
        program_hash=f"{hello.program_hash:016x}",
        image_crc=f"{hello.image_crc:08x}",
        image_bytes=hello.image_bytes,
        link=LinkUse(hello.version, f"{hello.layout:08x}", run.asked_again, run.bad_frames),
        boot=hello.boot,
        reset_cause=hello.reset_cause,
        clock=Clock(hello.clock_hz, "reset_clock" not in hello.features),
        inputs=tuple(_described(tensor) for method in methods for tensor in method.inputs),
        outputs=tuple(_described(tensor) for method in methods for tensor in method.outputs),
        calls=run.calls,
        sized=any(method.is_sized for method in methods),
        samples=len(run.outputs),
        counter=run.unit,
        counters=run.counters,
        init_count=run.init_count,
        stack=StackUse(hello.stack_bytes, run.stack_used),
        probes=run.probes,
        executions=run.executions,
    )


def _described(tensor: Tensor) -> BoardTensor:
    is_permuted = tensor.dim_order != tuple(range(len(tensor.shape)))
    return BoardTensor(tensor.name, str(tensor.dtype.numpy), tensor.shape, tensor.dim_order, is_permuted)


def match(sample: Sample, tensors: Sequence[Tensor], index: int) -> list[Array]:
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
        fits = array.ndim == len(tensor.shape) if tensor.least else array.shape == tensor.shape
        if np.dtype(array.dtype) != tensor.dtype.numpy or not fits:
            what = (
                f"input {tensor.name} is {array.dtype}{list(array.shape)} here and "
                f"{tensor.dtype.numpy}{list(tensor.shape)} on the board"
            )
            errors.append(ModelError(what, where=where))
    raise_all(errors)
    return arrays
