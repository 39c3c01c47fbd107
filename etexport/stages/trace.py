"""What the operators of a program give on a board: values by name, and how far each is from what it means."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from etexport.artifacts.memory import project_in, read_memory
from etexport.artifacts.reference import read_samples
from etexport.artifacts.runs import read_run
from etexport.board import Board
from etexport.delegate import library_for
from etexport.errors import ModelError
from etexport.judge.folder import TRACED, covers, most_traced, read_evidence
from etexport.judge.gaps import Gap, Inside, gaps, inside
from etexport.kernel.library import load_ops
from etexport.program import dumped, pte
from etexport.program.model import Array
from etexport.report.quality import quality
from etexport.stages.verdict import run_traced


def traced_in(
    folder: Path, program: Path, reference: Path, board: Board, samples: int
) -> tuple[tuple[Inside, ...], tuple[Gap, ...]]:
    """The first samples through the firmware of a build folder with every result streamed; a run with traces that is
    there already is used. At most as many samples as 32 MB of results are of. ModelError for a real board without such
    a run: writing another image to it is for its owner."""
    content = pte.load(program)
    if content.method().bounded:
        raise ModelError(
            "its samples have sizes of their own, and their values no common table",
            where=str(program),
            hint="`etexport validate --trace` computes every operator again at the sizes of each sample",
        )
    inputs = read_samples(reference, None)
    made, chosen = _traced(folder, reference, board, min(samples, len(inputs)))
    steps = read_evidence(made, read_memory(folder)).traced
    library = library_for(content, load_ops(project_in(folder)))
    found = inside(content.method(), library, {one: steps[one] for one in chosen}, inputs)
    lost = {one.handle: one.snr_db for one in quality(reference)}
    return found, gaps(found, chosen, lost)


def _traced(folder: Path, reference: Path, board: Board, samples: int) -> tuple[Path, tuple[int, ...]]:
    """The folder of the run with traces, which is made where there is none, and the samples that are looked at."""
    memory = read_memory(folder)
    chosen = tuple(range(min(samples, most_traced(memory))))
    made = next((one for name in TRACED if covers(one := folder / name, folder, memory, chosen)), None)
    if made is None:
        if board.simulator is None:
            hint = f"`etexport build --trace --probes -o {folder / 'trace'}`, `etexport flash`, `etexport run --probes`"
            raise ModelError("there is no run with traces", where=str(folder), hint=hint)
        made = run_traced(folder, reference, board, chosen)
    return made, chosen


def etdump(folder: Path, reference: Path, board: Board, found: Sequence[Inside]) -> tuple[bytes, bytes]:
    """The run of which `found` tells, as an ETDump and its values: a count for each step, and what those in `found`
    gave, in the unit of what it stands for."""
    made, chosen = _traced(folder, reference, board, len(found[0].board) if found else 1)
    run, memory = read_run(made), read_memory(folder)
    values = {one.instruction.handle: one for one in found}
    steps = [(at, step) for at, step in enumerate(memory.steps) if step.kind == "call"]
    runs = []
    for number, sample in enumerate(chosen):
        counts = run.probes[run.traced.index(sample)]
        events = [
            dumped.Event(step.handle, step.name, counts[at], _real(values.get(step.handle), number))
            for at, step in steps
        ]
        runs.append(dumped.Execution(sample, sum(counts), tuple(events)))
    return dumped.write("forward", runs)


def _real(one: Inside | None, sample: int) -> Array | None:
    if one is None:
        return None
    stored = one.board[sample]
    return stored if one.scale == 1.0 and not one.zero_point else one.real(stored).astype("float32")


def at(found: Sequence[Inside], names: Sequence[str]) -> tuple[Inside, ...]:
    """Those with these names, or in these layers: `conv1`, `block.*`; all without any. ModelError for a name of
    none."""
    chosen: dict[int, Inside] = {}
    for name in names or ("*",):
        fits = [one for one in found if fnmatchcase(one.name, name) or one.name.startswith(f"{name}.")]
        if not fits:
            there = ", ".join(one.name for one in found)
            raise ModelError(f"nothing that the board computes is called {name}", where="--at", hint=f"known: {there}")
        chosen |= {one.instruction.handle: one for one in fits}
    return tuple(one for one in found if one.instruction.handle in chosen)


def values(found: Sequence[Inside]) -> dict[str, Array]:
    """What the board computed, by name, samples first; of stored integers `NAME.scale` and `NAME.zero_point` say what
    they stand for."""
    import numpy as np

    arrays: dict[str, Array] = {}
    for one in found:
        arrays[one.name] = one.board
        if one.scale != 1.0 or one.zero_point:
            arrays |= {f"{one.name}.scale": np.array(one.scale), f"{one.name}.zero_point": np.array(one.zero_point)}
    return arrays


def table(rows: Sequence[Gap]) -> str:
    """The gaps as CSV."""
    text = io.StringIO()
    lines = csv.DictWriter(text, list(Gap.__dataclass_fields__), lineterminator="\n")
    lines.writeheader()
    for row in rows:
        lines.writerow(asdict(row) | {"index": " ".join(map(str, row.index))})
    return text.getvalue()
