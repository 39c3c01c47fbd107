"""What a build folder holds, compared and reported: the work behind the verbs `validate`, `report` and `bench`.

A folder `build/<board>/<model>-<quantization>[-size]/` has `memory.json` (from emit), `sizes.json` (from toolchain), `run.json` and
`outputs.npz` (from device), and in `profile/` the `run.json` of a run with probes.
The program `model.pte` lies elsewhere, with `model.npz` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from etexport.board import Board
from etexport.errors import ModelError
from etexport.inspect import bench as bench_room
from etexport.inspect import compare as compare_room
from etexport.inspect import summary
from etexport.inspect.compare import Comparison, Traced
from etexport.inspect.page import page
from etexport.inspect.profile import measured, profile, quantization_of
from etexport.inspect.quality import quality, reasons
from etexport.inspect.replay import Exact, replay, summed_up
from etexport.inspect.report import Report, compared, flash_figures, in_float, layers, plan_figures, ram_figures, to_json
from etexport.op import load_ops
from etexport.plan.picture import picture
from etexport.plan.problem import Buffer, Problem, Region, Solution
from etexport.program import pte
from etexport.program.model import Array, Source

Json = Mapping[str, Any]


class _Fields(dict[str, Any]):
    """An object of a file that anybody may have changed: a field that it lacks is that file's fault."""

    where, hint = "", ""

    def __missing__(self, key: str) -> Any:
        raise ModelError(f"has no {key!r}", where=self.where, hint=self.hint)


def read_json(path: Path, hint: str) -> Json:
    """ModelError where the file is missing, is no JSON object or (when it is looked up) lacks a field; `hint` says which verb makes it."""
    fields = type("Fields", (_Fields,), {"where": str(path), "hint": hint})
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_hook=fields)
    except FileNotFoundError:
        raise ModelError("no such file", where=str(path), hint=hint) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), hint=hint) from None
    if not isinstance(found, dict):
        raise ModelError("is no JSON object", where=str(path), hint=hint)
    return found


def validate(
    folder: Path, program: Path, reference: Path | None = None, trace: Path | None = None, each: Exact | None = None
) -> Comparison:
    """Compare the outputs in `folder` with those of eager PyTorch; `reference` is the `.npz` beside the program where it is not given.
    `trace` (`trace.npz` of a run with traces) lets the first difference name the instruction in which it arose; where `each`, what `exact`
    says of it, finds all operators right, samples may be further off (`compare.RECOMPUTED`).

    Only the samples that were run are compared (`run --samples N` runs the first N). ModelError where a file is missing or does not fit.
    """
    expected = reference or program.with_suffix(".npz")
    if not expected.is_file():
        raise ModelError("there is nothing to compare with", where=str(expected), hint="`etexport export` writes it beside the .pte")
    outputs = folder / "outputs.npz"
    if not outputs.is_file():
        raise ModelError("there are no outputs", where=str(outputs), hint="`etexport run` writes them")
    got = compare_room.read_outputs(outputs)
    against = first(compare_room.read_reference(expected), len(got[0]) if got else 0)
    method, library = pte.read(program.read_bytes()).method(), load_ops()
    tolerance, steps = compare_room.relative_tolerance(method, library), compare_room.steps_of(method, library)
    recomputed = None if trace is None or each is None else _recomputed(got, trace, each)
    comparison = compare_room.compare(got, against, tolerance, steps, recomputed=recomputed)
    if trace is None or comparison.first_difference is None or traced_sample(trace) != 0:  # the reference has the steps of the first one
        return comparison
    traced = read_trace(trace, read_json(folder / "memory.json", "`etexport build` writes it"))
    return compare_room.placed(comparison, compare_room.first_divergence(traced, against.steps, tolerance, steps))


def traced_sample(trace: Path) -> int:
    """Which sample it is of, as the `run.json` beside it says."""
    path = trace.with_name("run.json")
    sample = read_json(path, "`etexport run --probes` writes it").get("sample", 0) if path.is_file() else 0
    if not isinstance(sample, int) or sample < 0:
        raise ModelError(f"sample is {sample!r}", where=str(path), hint="`etexport run --probes` writes it")
    return sample


def _recomputed(got: Sequence[Array], trace: Path, each: Exact) -> int | None:
    """The traced sample, if all of its operators are right and its outputs are those in `got`: the same, by the image without traces."""
    sample = traced_sample(trace)
    outputs = compare_room.read_outputs(trace.with_name("outputs.npz"))
    if each.wrong or each.checked < each.operators or len(outputs) != len(got) or any(sample >= len(one) for one in got):
        return None
    return sample if all(one[0].tobytes() == other[sample].tobytes() for one, other in zip(outputs, got, strict=True)) else None


def exact(folder: Path, program: Path, trace: Path, reference: Path | None = None) -> Exact:
    """Whether the steps of a quantised program are right one by one: each result of the traced run, of one sample, against the program's
    own operators on the operands that the board had. Beside `trace` lie the run's `outputs.npz` and `run.json`."""
    sample, given = traced_sample(trace), compare_room.read_reference(reference or program.with_suffix(".npz")).inputs
    if any(sample >= len(array) for array in given):
        raise ModelError(f"is of sample {sample}, of which there are no inputs", where=str(trace), hint="run it again")
    inputs = [array[sample] for array in given]
    memory = read_json(folder / "memory.json", "`etexport build` writes it")
    method = pte.read(program.read_bytes()).method()
    outputs = [array[0] for array in compare_room.read_outputs(trace.with_name("outputs.npz"))]
    replayed = replay(method, load_ops(), read_trace(trace, memory), inputs, outputs, memory["rounding"])
    handles = {instruction.handle for instruction in method.instructions}
    return summed_up(replayed, handles & {step["handle"] for step in memory["steps"]})


def profiled(folder: Path, memory: Json) -> Json | None:
    """The `run.json` of the run with probes; None where there was none, or it was of another program."""
    path = folder / "profile" / "run.json"
    if not path.is_file():
        return None
    run = read_json(path, "`etexport run --probes` writes it")
    return run if run["program_hash"] == memory["program_hash"] else None


def profiled_trace(folder: Path) -> Path | None:
    """What the run with probes of a quantised program traced, if there was one."""
    memory = read_json(folder / "memory.json", "`etexport build` writes it")
    path = folder / "profile" / "trace.npz"
    return path if quantization_of(memory) == "int8" and path.is_file() and profiled(folder, memory) is not None else None


def read_trace(path: Path, memory: Json) -> tuple[Traced, ...]:
    """The results of one sample that a run with traces left: arrays `step_<n>` of bytes, laid out as `memory.json` says."""
    found = []
    with compare_room.opened(path) as arrays:
        for step in memory["steps"]:
            name = f"step_{step['step']}"
            if name not in arrays or not step["results"]:
                continue
            result = step["results"][0]
            order = result["dim_order"]
            laid_out = np.frombuffer(arrays[name].tobytes(), result["dtype"]).reshape([result["shape"][dim] for dim in order])
            data = np.transpose(laid_out, np.argsort(order)) if order else laid_out
            file, _, line = step["source"].rpartition(":")
            source = Source(file, int(line), step["code"]) if file else None
            found.append(Traced(step["handle"], step["name"], source, np.array(data, order="C")))  # keeps a shape of ()
    return tuple(found)


def first(reference: compare_room.Reference, samples: int) -> compare_room.Reference:
    """The reference cut down to its first samples."""
    if samples >= reference.samples:
        return reference
    return replace(
        reference,
        inputs=tuple(array[:samples] for array in reference.inputs),
        outputs=tuple(array[:samples] for array in reference.outputs),
        labels=None if reference.labels is None else reference.labels[:samples],
        float_outputs=tuple(array[:samples] for array in reference.float_outputs),
        calibrated=None if reference.calibrated is None else reference.calibrated[:samples],
    )


def memory_picture(memory: Json) -> str:
    """The plan of `memory.json` as an SVG element."""
    arena, steps = memory["arena"], memory["steps"]
    buffers = memory["buffers"]
    problem = Problem(
        tuple(Buffer(buffer["name"], buffer["size"], tuple((begin, end) for begin, end in buffer["live"])) for buffer in buffers),
        (Region("ram"),),
    )
    offsets = {buffer["name"]: buffer["offset"] for buffer in buffers}
    solution = Solution(offsets, {"ram": arena["size"]}, {"ram": arena["bound"]}, arena["proof"])
    kinds = {buffer["name"]: buffer["role"] for buffer in buffers}
    notes = {buffer["name"]: buffer["source"] for buffer in buffers if buffer["source"]}
    return picture(problem, solution, steps=[step["name"] for step in steps], kinds=kinds, notes=notes)


def report(folder: Path, program: Path, board: Board, reference: Path | None = None, *, plan_seconds: float | None = None) -> Report:
    """Write `report.json`, `report.html` and `report.txt` into the folder. What was not run or compared is None in the report.

    ModelError where a file is missing or cannot be read, or where run and build are of different programs.
    """
    memory = read_json(folder / "memory.json", "`etexport build` writes it")
    sizes = read_json(folder / "sizes.json", "`etexport build` writes it")
    run = read_json(folder / "run.json", "`etexport run` writes it")
    if run["program_hash"] != memory["program_hash"]:
        what = f"the run was of program {run['program_hash']}, the folder holds {memory['program_hash']}"
        raise ModelError(what, where=str(folder / "run.json"), hint="run it again")
    steps = memory["steps"]
    quantization = quantization_of(memory)
    samples = reference or program.with_suffix(".npz")
    trace = profiled_trace(folder) if samples.is_file() else None
    each = None if trace is None else exact(folder, program, trace, samples)
    comparison = validate(folder, program, reference, trace, each) if samples.is_file() else None
    macs = sum(step["macs"] for step in steps)
    count = measured(run)
    made = Report(
        model=memory["model"],
        board=board.name,
        core=board.core,
        program_hash=memory["program_hash"],
        quantization=quantization,
        optimize=memory["optimize"],
        macs=macs,
        counter=run["counter"],
        count=count,
        count_per_mac=count / macs if count is not None and macs else None,
        init_count=run["init_count"],
        flash=flash_figures(sizes),
        ram=ram_figures(memory, sizes),
        plan=plan_figures(memory, plan_seconds),
        compare=compared(comparison) if comparison else None,
        ops=profile(steps, step_counts(folder, memory), board.core, quantization),
        in_float=in_float(memory, reasons(samples) if samples.is_file() else {}),
        quality=layers(memory, quality(samples)) if samples.is_file() else (),
        exact=each,
    )
    write(folder / "report.json", to_json(made))
    write(folder / "report.txt", summary.text(made))
    origin = reference_origin(samples)
    write(folder / "report.html", page(made, memory, comparison, memory_picture(memory), provenance(made, run, sizes, memory, origin)))
    return made


def step_counts(folder: Path, memory: Json) -> tuple[int, ...] | None:
    """The count of each step from the run with probes, of one sample; None where there was none, or it was of another build."""
    run = profiled(folder, memory)
    if run is None or not run.get("probes"):
        return None
    counts = tuple(int(count) for count in run["probes"][0])
    return counts if len(counts) == len(memory["steps"]) else None


def reference_origin(path: Path) -> str:
    """Where the samples come from, as `model.npz` says."""
    if not path.is_file():
        return ""
    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["origin"]) if "origin" in arrays else ""


def provenance(made: Report, run: Json, sizes: Json, memory: Json, origin: str) -> tuple[tuple[str, str], ...]:
    """(what, where it comes from), for the end of the page."""
    stack, link = run["stack"], run["link"]
    bound = sizes.get("stack_bound")
    profiled = "; operators from one run with probes" if any(op.count is not None for op in made.ops) else ""
    depth = f"{made.ram.stack:,} bytes reserved"
    depth += f"; computed bound {bound:,}" if bound is not None else ""
    depth += f"; deepest seen {stack['used']:,}" if stack["used"] else ""
    found = [
        ("counts", f"{made.counter}: the median of {run['samples']} runs without probes{profiled}"),
        ("image", f"{run['image_bytes']:,} bytes, CRC-32 {run['image_crc']}, as the board computed it"),
        ("flash and RAM", "the ELF's segments and sections, by the linker's map"),
        ("stack", depth),
        ("plan", f"bound proven by: {memory['arena']['proof']}"),
        ("samples", origin or "not given"),
        ("serial link", f"version {link['version']}; {link['asked_again']} questions repeated, {link['bad_frames']} damaged frames"),
    ]
    found.append(
        ("simulator", f"{' '.join(run['command'])}; exit status {run['exit_status']}") if run["command"] else ("board", "hardware")
    )
    return tuple(found)


def bench(reports: Sequence[Path], out: Path) -> list[Json]:
    """Write `bench.json` from the reports, and the table as `.txt` beside it; returns the reports."""
    read = bench_room.read_reports(reports)
    write(out, bench_room.bench_json(read))
    write(out.with_suffix(".txt"), bench_room.text(read))
    return read


def write(path: Path, text: str) -> None:
    """Write aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
