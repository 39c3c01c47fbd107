"""What a build folder holds, compared and reported: the work behind the verbs `validate`, `report` and `bench`.

A folder `build/<board>/<model>-<quantization>[-size]/` has `memory.json` (from emit), `sizes.json` (from toolchain), `run.json` and
`outputs.npz` (from device), and in `profile/` the `run.json` of a run with probes.
The program `model.pte` lies elsewhere, with `model.npz` beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from etexport.board import Board
from etexport.errors import ModelError
from etexport.inspect import bench as bench_room
from etexport.inspect import compare as compare_room
from etexport.inspect import summary
from etexport.inspect.against_float import warning
from etexport.inspect.compare import Traced
from etexport.inspect.page import page
from etexport.inspect.profile import check_counts, measured, profile, quantization_of, same_twice
from etexport.inspect.quality import quality, reasons, warned
from etexport.inspect.report import (
    Report,
    compared,
    flash_figures,
    in_float,
    json_text,
    layers,
    plan_figures,
    ram_figures,
    saturation,
    to_json,
)
from etexport.inspect.verdict import Evidence, Question, Verdict, by_outputs, verdict, wanted
from etexport.op import load_ops
from etexport.plan.picture import picture
from etexport.plan.problem import Buffer, Problem, Region, Solution
from etexport.program import pte
from etexport.program.model import Array, Role, Source

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


Trace = Callable[[tuple[int, ...]], Path]
"""Runs these samples (of a program with a state these and no others, in order) on an image with traces, and says in which folder."""


def question_of(folder: Path, program: Path, reference: Path | None = None) -> Question:
    """The run in `folder`, to be judged; `reference` is the `.npz` beside the program where it is not given.

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
    compare_room.check_form(got, against.outputs)
    method = pte.read(program.read_bytes()).method()
    memory = read_json(folder / "memory.json", "`etexport build` writes it") if (folder / "memory.json").is_file() else None
    handles = set() if memory is None else {step["handle"] for step in memory["steps"]}
    return Question(
        method=method,
        library=load_ops(),
        reference=against,
        got=got,
        keeps_state=any(value.role is Role.STATE for value in method.values.values()),
        rounding="nearest" if memory is None else memory["rounding"],
        handles={instruction.handle for instruction in method.instructions} & handles,
    )


def judged(question: Question, folder: Path, trace: Trace | None = None, *, anew: bool = False) -> Verdict:
    """The verdict on the run in `folder`. What runs with traces left there is used where it is of this image and has the samples that are
    needed; else, or `anew`, `trace` makes it. Without `trace`, what cannot be seen is said in `missing`."""
    memory = read_json(folder / "memory.json", "`etexport build` writes it") if (folder / "memory.json").is_file() else None
    comparison = by_outputs(question)
    if memory is None:
        return Verdict(comparison, None, f"there is no {folder / 'memory.json'}, so no operator was computed again")
    samples = wanted(question, comparison, most_traced(memory))
    if anew and not question.keeps_state and comparison.beyond:
        samples = tuple(sorted({0, *samples}))  # sample 0 tells which instruction is the first that differs
    if not samples:
        return Verdict(comparison)
    made = None if anew else next((one for name in TRACED if covers(one := folder / name, folder, memory, samples)), None)
    if made is None and trace is not None:
        made = trace(samples)
    if made is None:
        return Verdict(comparison, None, "no run with probes is there, so no operator was computed again")
    return verdict(question, read_evidence(made, memory))


TRACED = ("profile", "trace")
"""Where runs with traces leave what they saw: the one that also counts every step, and what `validate` makes where that is not there."""

MOST_TRACED = 32 << 20
"""How many bytes of results the runs of one verdict may stream."""


def most_traced(memory: Json) -> int:
    """How many samples in a row may be traced."""
    results = [one for step in memory["steps"] for one in step["results"]]
    size: int = sum(math.prod(one["shape"]) * np.dtype(one["dtype"]).itemsize for one in results)
    return max(1, MOST_TRACED // max(size, 1))


def covers(made: Path, folder: Path, memory: Json, samples: Sequence[int]) -> bool:
    """Is in `made` what runs of these samples left, by the program in `folder`, compiled from what its image there is?"""
    if not (made / "run.json").is_file() or not (made / "trace.npz").is_file():
        return False
    run = read_json(made / "run.json", "`etexport run --probes` writes it")
    beside = read_json(folder / "run.json", "`etexport run` writes it") if (folder / "run.json").is_file() else {}
    traced = run.get("traced", ())
    return (
        run["program_hash"] == memory["program_hash"]
        and run.get("beside") == beside.get("image_crc")
        and set(samples) <= set(traced if isinstance(traced, list) else ())
    )


def read_evidence(made: Path, memory: Json) -> Evidence:
    """What a run with traces left: `run.json` says of which samples, `outputs.npz` has their outputs, `trace.npz` the results of steps."""
    samples = read_json(made / "run.json", "`etexport run --probes` writes it")["traced"]
    outputs = compare_room.read_outputs(made / "outputs.npz")
    if not isinstance(samples, list) or any(len(one) != len(samples) for one in outputs):
        raise ModelError("is not of the samples that run.json names", where=str(made / "outputs.npz"), hint="run it again")
    by_sample = {sample: [one[at] for one in outputs] for at, sample in enumerate(samples)}
    with compare_room.opened(made / "trace.npz") as arrays:
        return Evidence({sample: read_trace(arrays, memory, sample) for sample in samples}, by_sample)


def profiled(folder: Path, memory: Json) -> tuple[Path, Json] | None:
    """The folder and `run.json` of the run with probes; None where there was none, or it was of another program."""
    for name in TRACED:
        path = folder / name / "run.json"
        if path.is_file():
            run = read_json(path, "`etexport run --probes` writes it")
            if run["program_hash"] == memory["program_hash"]:
                return path.parent, run
    return None


def read_trace(arrays: Mapping[str, Array], memory: Json, sample: int) -> tuple[Traced, ...]:
    """The results of one sample that a run with traces left: arrays `step_<n>_<result>_of_<sample>` of bytes, laid out as `memory.json`
    says."""
    found = []
    for step in memory["steps"]:
        results = [_result(arrays, f"step_{step['step']}_{at}_of_{sample}", one) for at, one in enumerate(step["results"])]
        if not results or results[0] is None:
            continue
        file, _, line = step["source"].rpartition(":")
        source = Source(file, int(line), step["code"]) if file else None
        found.append(Traced(step["handle"], step["name"], source, results[0], tuple(results[1:])))
    return tuple(found)


def _result(arrays: Mapping[str, Array], name: str, described: Json) -> Array | None:
    if name not in arrays:
        return None
    order = described["dim_order"]
    shape = [described["shape"][dim] for dim in order]
    content = arrays[name].tobytes()
    if len(content) != math.prod(shape) * np.dtype(described["dtype"]).itemsize:
        raise ModelError(f"{name} has {len(content)} bytes where memory.json has {shape} of {described['dtype']}", hint="run it again")
    laid_out = np.frombuffer(content, described["dtype"]).reshape(shape)
    return np.array(np.transpose(laid_out, np.argsort(order)) if order else laid_out, order="C")  # keeps a shape of ()


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


def report(folder: Path, program: Path, board: Board, reference: Path | None = None, verdict: Verdict | None = None) -> Report:
    """Write `report.json`, `report.html` and `report.txt` into the folder. What was not run or compared is None in the report; `verdict` is
    that on the run there, None where there is nothing to compare with. The same build and run give the same bytes: what a clock measured
    goes to `timing.json` (`timing`).

    ModelError where a file is missing or cannot be read, where run and build are of different programs, or for counts that cannot be.
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
    macs = sum(step["macs"] for step in steps)
    stays = same_twice(run["counter"])
    count, counts, init_count = None, None, None
    if stays:
        count, counts, init_count = measured(run), step_counts(folder, memory), run["init_count"]
        check_counts(count, counts, init_count, [step["name"] for step in steps], run["counter"], str(folder / "run.json"))
    comparison = None if verdict is None else verdict.comparison
    activations = layers(memory, quality(samples)) if samples.is_file() else ()
    lost = "" if comparison is None or quantization != "int8" else warning(comparison.against_float, activations)
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
        init_count=init_count,
        flash=flash_figures(sizes),
        ram=ram_figures(memory, sizes),
        plan=plan_figures(memory),
        compare=compared(comparison) if comparison else None,
        ops=profile(steps, counts, board.core, quantization, run["counter"]),
        in_float=in_float(memory, reasons(samples) if samples.is_file() else {}),
        quality=activations,
        exact=None if verdict is None else verdict.exact,
        missing="" if verdict is None else verdict.missing,
        warnings=(*filter(None, (lost, saturation(activations))), *(warned(samples) if samples.is_file() else ())),
    )
    write(folder / "report.json", to_json(made))
    write(folder / "report.txt", summary.text(made))
    origin = reference_origin(samples)
    write(folder / "report.html", page(made, memory, comparison, memory_picture(memory), provenance(made, run, sizes, memory, origin)))
    return made


def timing(folder: Path, plan_seconds: float) -> Json:
    """Write `timing.json`: what is not the same twice. Seconds of the planner, questions repeated on the line, and the counts of a clock
    (None where it counted nothing, and of events, which `report.json` has)."""
    memory = read_json(folder / "memory.json", "`etexport build` writes it")
    run = read_json(folder / "run.json", "`etexport run` writes it")
    clock = not same_twice(run["counter"])
    counts = step_counts(folder, memory) if clock else None
    found = {
        "plan_seconds": plan_seconds,
        "asked_again": run["link"]["asked_again"],
        "bad_frames": run["link"]["bad_frames"],
        "counter": run["counter"],
        "count": _positive(measured(run)) if clock else None,
        "init_count": _positive(run["init_count"]) if clock else None,
        "steps": None if counts is None else [_positive(count) for count in counts],
    }
    write(folder / "timing.json", json_text(found))
    return found


def _positive(count: int | None) -> int | None:
    """A clock's count; None for one that cannot be, as of a clock that was set back: below 0, which in 32 bits is just below 2^32."""
    return count if count is not None and count > 0 and not 0 < (1 << 32) - count < 1 << 24 else None


def step_counts(folder: Path, memory: Json) -> tuple[int, ...] | None:
    """The count of each step from the run with probes, of one sample; None where there was none, or it was of another build."""
    found = profiled(folder, memory)
    if found is None or not found[1].get("probes"):
        return None
    counts = tuple(int(count) for count in found[1]["probes"][0])
    return counts if len(counts) == len(memory["steps"]) else None


def reference_origin(path: Path) -> str:
    """Where the samples come from, as `model.npz` says."""
    if not path.is_file():
        return ""
    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["origin"]) if "origin" in arrays else ""


def provenance(made: Report, run: Json, sizes: Json, memory: Json, origin: str) -> tuple[tuple[str, str], ...]:
    """(what, where it comes from), for the end of the page."""
    stack = run["stack"]
    bound = sizes.get("stack_bound")
    profiled = "; operators from one run with probes" if any(op.count is not None for op in made.ops) else ""
    depth = f"{made.ram.stack:,} bytes reserved"
    depth += f"; computed bound {bound:,}" if bound is not None else ""
    depth += f"; deepest seen {stack['used']:,}" if stack["used"] else ""
    found = [
        ("counts", f"{made.counter}: the median of {run['samples']} runs without probes{profiled}")
        if made.count is not None
        else ("times", f"{made.counter}, not the same twice: `etexport report` writes them to timing.json"),
        ("image", f"{run['image_bytes']:,} bytes, CRC-32 {run['image_crc']}, as the board computed it"),
        ("flash and RAM", "the ELF's segments and sections, by the linker's map"),
        ("stack", depth),
        ("plan", f"bound proven by: {memory['arena']['proof']}"),
        ("samples", origin or "not given"),
        ("signal to noise", _signal(made)),
        ("serial link", f"version {run['link']['version']}"),
    ]
    found.append(
        ("simulator", f"{' '.join(run['command'])}; exit status {run['exit_status']}") if run["command"] else ("board", "hardware")
    )
    return tuple(found)


def _signal(made: Report) -> str:
    compare = made.compare
    if compare is None:
        return "nothing was compared"
    if compare.snr_missing or compare.against_float is None:
        return f"not known: {compare.snr_missing}"
    return f"on {compare.against_float.on}, against the float network"


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
