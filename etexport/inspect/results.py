"""What a build folder holds, compared and reported: the work behind the verbs `validate`, `report` and `bench`.

A folder `build/<board>/<model>-<quantization>[-size]/` has `memory.json` (from emit), `firmware.elf` (from toolchain), `run.json` and
`outputs.npz` (from device).
The program `model.pte` lies elsewhere, with `model.npz` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etexport.errors import ModelError
from etexport.inspect import bench as bench_room
from etexport.inspect import compare as compare_room
from etexport.inspect.compare import Comparison
from etexport.op import load_ops
from etexport.plan.picture import picture
from etexport.plan.problem import Buffer, Problem, Region, Solution
from etexport.program import pte

Json = Mapping[str, Any]


def read_json(path: Path, hint: str) -> Json:
    """ModelError where the file is missing or is no JSON object; `hint` says which verb makes it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("no such file", where=str(path), hint=hint) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), hint=hint) from None
    if not isinstance(found, dict):
        raise ModelError("is no JSON object", where=str(path), hint=hint)
    return found


def validate(folder: Path, program: Path, reference: Path | None = None) -> Comparison:
    """Compare the outputs in `folder` with those of eager PyTorch; `reference` is the `.npz` beside the program where it is not given.

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
    tolerance = compare_room.relative_tolerance(pte.read(program.read_bytes()).method(), load_ops())
    return compare_room.compare(got, against, tolerance)


def first(reference: compare_room.Reference, samples: int) -> compare_room.Reference:
    """The reference cut down to its first samples."""
    if samples >= reference.samples:
        return reference
    return replace(
        reference,
        inputs=tuple(array[:samples] for array in reference.inputs),
        outputs=tuple(array[:samples] for array in reference.outputs),
        labels=None if reference.labels is None else reference.labels[:samples],
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


def _quantization(memory: Json) -> str:
    """ "int8" where a value of the arena is quantised, else "float32"."""
    types = {value["dtype"] for buffer in memory["buffers"] for value in buffer["values"]}
    return "int8" if "int8" in types and "float32" not in types else "float32"
