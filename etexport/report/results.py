"""What a build folder holds, compared and reported: the work behind the verbs `validate`, `report` and `bench`.

A folder `build/<board>/<model>-<quantization>[-size]/` has `memory.json` (from emit), `sizes.json` (from toolchain),
`run.json` and `outputs.npz` (from device), and in `profile/` the `run.json` of a run with probes. The program
`model.pte` lies elsewhere, with `model.npz` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etexport.artifacts.files import write_whole
from etexport.artifacts.memory import MemoryMap, read_memory
from etexport.artifacts.records import write_record
from etexport.artifacts.runs import RunRecord, read_run
from etexport.artifacts.sizes import SizeRecord, read_sizes
from etexport.board import Board
from etexport.errors import ModelError
from etexport.judge.against_float import warning
from etexport.judge.compare import Comparison
from etexport.judge.folder import profiled
from etexport.judge.verdict import Verdict
from etexport.plan.picture import picture
from etexport.plan.problem import Buffer, Place, Problem, Region, Solution
from etexport.report import bench as bench_room
from etexport.report import summary
from etexport.report.bench import Benched
from etexport.report.code import Code
from etexport.report.page import layer_names, page
from etexport.report.profile import check_counts, counts_by_method, measured, median, profile, same_twice
from etexport.report.quality import quality, reasons, warned
from etexport.report.report import (
    MethodFigures,
    Report,
    compared,
    in_float,
    layers,
    plan_figures,
    ram_figures,
    saturation,
    to_json,
)
from etexport.report.ways import never, ways


def memory_picture(memory: MemoryMap) -> str:
    """The plan as an SVG element."""
    problem = Problem(
        tuple(Buffer(buffer.name, buffer.size, buffer.live) for buffer in memory.buffers),
        tuple(Region(region.name, region.capacity) for region in memory.regions),
    )
    solution = Solution(
        {buffer.name: Place(buffer.region, buffer.offset) for buffer in memory.buffers},
        {region.name: region.size for region in memory.regions},
        {region.name: region.bound for region in memory.regions},
        memory.arena.proof,
    )
    kinds = {buffer.name: buffer.role for buffer in memory.buffers}
    notes = {buffer.name: buffer.source for buffer in memory.buffers if buffer.source}
    return picture(
        problem,
        solution,
        steps=[step.name for step in memory.steps],
        kinds=kinds,
        notes=notes,
        labels=layer_names(memory),
    )


def report(
    folder: Path,
    program: Path,
    board: Board,
    reference: Path | None = None,
    verdict: Verdict | None = None,
    clock_hz: int | None = None,
    code: Sequence[Code] = (),
) -> Report:
    """Write `report.json`, `report.html` and `report.txt` into the folder. What was not run or compared is None in the
    report; `verdict` is that on the run there, None where there is nothing to compare with. The same build and run give
    the same bytes: what a clock measured goes to `timing.json` (`timing`).

    ModelError where a file is missing or cannot be read, where run and build are of different programs, or for counts
    that cannot be.
    """
    memory, sizes, run = read_memory(folder), read_sizes(folder), read_run(folder)
    if run.program_hash != memory.program_hash:
        what = f"the run was of program {run.program_hash}, the folder holds {memory.program_hash}"
        raise ModelError(what, where=str(folder / "run.json"), hint="run it again")
    steps, quantization = memory.steps, memory.quantization
    samples = reference or program.with_suffix(".npz")
    stays = same_twice(run.counter)
    count, counts, init_count = None, None, None
    probed, executions = per_step(folder, memory)
    if stays:
        count, counts, init_count = measured(run), probed, run.init_count
        check_counts(count, counts, init_count, [step.name for step in steps], run.counter, str(folder / "run.json"))
    probing = profiled(folder, memory)
    ran = () if probing is None or probing.traced != tuple(range(len(probing.traced))) else probing.executions
    taken = () if run.calls else ways(steps, ran)
    ops = profile(steps, counts, board.core, quantization, run.counter, executions)
    macs = sum(op.macs for op in ops)
    alike = (
        bool(run.calls) or len(set(ran)) <= 1
    )  # one sample's work says nothing of another's count where their ways part
    comparison = None if verdict is None else verdict.comparison
    activations = layers(memory, quality(samples)) if samples.is_file() else ()
    lost = "" if comparison is None or quantization == "float32" else warning(comparison.against_float, activations)
    made = Report(
        model=memory.model,
        board=board.name,
        core=board.core,
        program_hash=memory.program_hash,
        quantization=quantization,
        optimize=memory.optimize,
        macs=macs,
        counter=run.counter,
        count=count,
        count_per_mac=count / macs if count is not None and macs and alike else None,
        init_count=init_count,
        flash=sizes.flash,
        ram=ram_figures(memory, sizes),
        plan=plan_figures(memory),
        methods=method_figures(run, comparison) if run.calls else (),
        compare=compared(comparison) if comparison else None,
        ops=ops,
        in_float=in_float(memory, reasons(samples) if samples.is_file() else {}),
        quality=activations,
        exact=None if verdict is None else verdict.exact,
        missing="" if verdict is None else verdict.missing,
        ways=taken,
        warnings=(
            *filter(None, (lost, saturation(activations))),
            *never(taken, len(ran)),
            *(warned(samples) if samples.is_file() else ()),
        ),
        clock_hz=clock_hz,
        code=tuple(code),
    )
    write_whole(folder / "report.json", to_json(made).encode())
    write_whole(folder / "report.txt", summary.text(made).encode())
    origin = reference_origin(samples)
    shown = page(made, memory, comparison, memory_picture(memory), provenance(made, run, sizes, memory, origin))
    write_whole(folder / "report.html", shown.encode())
    return made


def method_figures(run: RunRecord, comparison: Comparison | None) -> tuple[MethodFigures, ...]:
    """Of each method in the order of its first call."""
    stays, beyond = same_twice(run.counter), () if comparison is None else comparison.beyond
    return tuple(
        MethodFigures(
            name=name,
            calls=len(counts),
            count=median(counts) if stays else None,
            largest=max(counts) if stays else None,
            mismatched=None if comparison is None else sum(run.calls[call] == name for call in beyond),
        )
        for name, counts in counts_by_method(run).items()
    )


@dataclass(frozen=True)
class Timing:
    """`timing.json`: what is not the same twice. Counts are those of a clock: None where it counted nothing, and of
    events, which `report.json` has."""

    plan_seconds: float
    asked_again: int
    """Questions repeated on the line."""
    bad_frames: int
    counter: str
    count: int | None
    init_count: int | None
    steps: tuple[int | None, ...] | None


def timing(folder: Path, plan_seconds: float) -> Timing:
    """Write `timing.json`; `plan_seconds` is what the planner took."""
    memory, run = read_memory(folder), read_run(folder)
    clock = not same_twice(run.counter)
    counts = per_step(folder, memory)[0] if clock else None
    found = Timing(
        plan_seconds=plan_seconds,
        asked_again=run.link.asked_again,
        bad_frames=run.link.bad_frames,
        counter=run.counter,
        count=_positive(measured(run)) if clock else None,
        init_count=_positive(run.init_count) if clock else None,
        steps=None if counts is None else tuple(map(_positive, counts)),
    )
    write_record(folder / "timing.json", found)
    return found


def _positive(count: int | None) -> int | None:
    """A clock's count; None for one that cannot be, as of a clock that was set back: below 0, which in 32 bits is just
    below 2^32."""
    return count if count is not None and count > 0 and not 0 < (1 << 32) - count < 1 << 24 else None


def per_step(folder: Path, memory: MemoryMap) -> tuple[Sequence[int] | None, Sequence[int] | None]:
    """Of one sample of the run with probes the count of each step, and how often it ran; None where there was none, or
    it was of another build."""
    run = profiled(folder, memory)
    if run is None:
        return None, None
    if not run.executions or len(run.executions[0]) != len(memory.steps):
        return None, None
    # a step of a method among several ran in a call of that one
    first = [next((at for at, ran in enumerate(run.executions) if ran[step]), 0) for step in range(len(memory.steps))]
    counts, executions = (
        [every[at][step] for step, at in enumerate(first)] if run.calls and every else next(iter(every), None)
        for every in (run.probes, run.executions)
    )
    return counts, executions


def reference_origin(path: Path) -> str:
    """Where the samples come from, as `model.npz` says."""
    if not path.is_file():
        return ""
    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["origin"]) if "origin" in arrays else ""


def provenance(
    made: Report, run: RunRecord, sizes: SizeRecord, memory: MemoryMap, origin: str
) -> tuple[tuple[str, str], ...]:
    """(what, where it comes from), for the end of the page."""
    probed = "; operators from one run with probes" if any(op.count is not None for op in made.ops) else ""
    depth = f"{made.ram.stack:,} bytes reserved"
    depth += f"; computed bound {sizes.stack_bound:,}" if sizes.stack_bound is not None else ""
    depth += f"; deepest seen {run.stack.used:,}" if run.stack.used else ""
    return (
        ("counts", f"{made.counter}: the median of {run.samples} runs without probes{probed}")
        if made.count is not None
        else ("times", f"{made.counter}, not the same twice: `etexport report` writes them to timing.json"),
        ("image", f"{run.image_bytes:,} bytes, CRC-32 {run.image_crc}, as the board computed it"),
        ("flash and RAM", "the ELF's segments and sections, by the linker's map"),
        ("stack", depth),
        ("plan", f"bound proven by: {memory.arena.proof}"),
        ("samples", origin or "not given"),
        ("signal to noise", _signal(made)),
        ("serial link", f"version {run.link.version}"),
        ("simulator", f"{' '.join(run.command)}; exit status {run.exit_status}")
        if run.command
        else ("board", "hardware"),
    )


def _signal(made: Report) -> str:
    compare = made.compare
    if compare is None:
        return "nothing was compared"
    if compare.snr_missing or compare.against_float is None:
        return f"not known: {compare.snr_missing}"
    return f"on {compare.against_float.on}, against the float network"


def bench(reports: Sequence[Path], out: Path) -> list[Benched]:
    """Write `bench.json`, a list of the reports, and the table as `.txt` beside it; returns what the table needs of
    them."""
    read = bench_room.read_reports(reports)
    write_whole(out, bench_room.bench_json(reports).encode())
    write_whole(out.with_suffix(".txt"), bench_room.text(read).encode())
    return read
