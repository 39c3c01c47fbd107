"""Runs that leave traces, for verbs that judge: of the samples that they ask for, on an image built for it where there
is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etexport.artifacts.memory import project_in, read_memory
from etexport.artifacts.reference import read_calls, read_samples
from etexport.artifacts.runs import read_run
from etexport.board import Board
from etexport.errors import ToolMissingError
from etexport.judge.calls import Calls
from etexport.judge.folder import Trace, calls_of, judged, most_traced, question_of
from etexport.judge.verdict import Verdict, by_outputs, wanted
from etexport.resources import include_folders
from etexport.stages.origin import existing
from etexport.stages.run import run_in
from etexport.toolchain import gcc


def verdict_of(folder: Path, program: Path, reference: Path | None, board: Board, *, anew: bool = False) -> Verdict:
    """The verdict on the run in `folder`; what operators gave is looked for in a run with probes, which is made where
    there is none.

    Of a real board's run there may be none: writing another image to it is for its owner. Then `missing` says so.
    """
    samples = (reference or program.with_suffix(".npz")).absolute()

    def trace(wanted: tuple[int, ...]) -> Path:
        listed = ", ".join(map(str, wanted[:8])) + (", ..." if len(wanted) > 8 else "")
        what = "call" if isinstance(question, Calls) else "sample"
        print(f"{folder}: built with traces and run again, {what}{'s' if len(wanted) > 1 else ''} {listed}", flush=True)
        return run_traced(folder, samples, board, wanted)

    can: Trace | None = trace if board.simulator is not None else None
    question = calls_of(folder, program, reference) or question_of(folder, program, reference)
    try:
        return judged(question, folder, can, anew=anew)
    except ToolMissingError as error:
        found = judged(question, folder)
        return found if not found.missing else type(found)(found.comparison, None, f"{found.missing}: {error.what}")


MOST_COUNTED = 100
"""Samples whose steps are counted where they may take different ways."""


def furthest(folder: Path, program: Path, reference: Path) -> tuple[int, ...]:
    """The samples of the run in the folder that a verdict on it looks into; the first, where it looks into none."""
    memory = read_memory(folder)
    if calls := read_run(folder).calls:  # up to where each method was called once
        firsts = {name: at for at, name in reversed(list(enumerate(calls)))}
        return tuple(range(min(max(firsts.values()) + 1, MOST_COUNTED)))
    if any(step.condition for step in memory.steps):  # which way each took
        return tuple(range(min(read_run(folder).samples, MOST_COUNTED)))
    if memory.quantization != "int8":  # an image of floats has no traces
        return (0,)
    question = question_of(folder, program, existing(reference))
    return wanted(question, by_outputs(question), most_traced(memory)) or (0,)


def run_traced(folder: Path, reference: Path, board: Board, wanted: Sequence[int]) -> Path:
    """Build the sources in the folder once more, with traces and probes, and run these samples: `trace/run.json`,
    `outputs.npz`, `trace.npz`."""
    steps = len(read_memory(folder).steps)
    out = folder / "trace"
    gcc.build(folder, board, include_folders(project_in(folder)), build_dir=out, probe_count=steps + 1, trace=True)
    calls = read_calls(reference, None)
    given = [inputs for _, inputs in calls] or read_samples(reference, None)
    names = [calls[at][0] for at in wanted] if calls else ()
    run_in(
        out, board, [given[sample] for sample in wanted], calls=names, probes=True, trace=True, traced=wanted,
        beside=folder,
    )  # fmt: skip
    return out
