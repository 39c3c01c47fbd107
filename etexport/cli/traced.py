"""Runs that leave traces, for verbs that judge: of the samples that they ask for, on an image built for it where there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.errors import ToolMissingError
from etexport.inspect.results import Trace, judged, question_of, read_json

if TYPE_CHECKING:
    from etexport.board import Board
    from etexport.inspect.verdict import Verdict


def verdict_of(folder: Path, program: Path, reference: Path | None, board: Board, *, anew: bool = False) -> Verdict:
    """The verdict on the run in `folder`; what operators gave is looked for in a run with probes, which is made where there is none.

    Of a real board's run there may be none: writing another image to it is for its owner. Then `missing` says so.
    """
    samples = (reference or program.with_suffix(".npz")).absolute()

    def trace(wanted: tuple[int, ...]) -> Path:
        listed = ", ".join(map(str, wanted[:8])) + (", ..." if len(wanted) > 8 else "")
        print(f"{folder}: built with traces and run again, sample{'s' if len(wanted) > 1 else ''} {listed}", flush=True)
        return run_traced(folder, samples, board, wanted)

    can: Trace | None = trace if board.simulator is not None else None
    question = question_of(folder, program, reference)
    try:
        return judged(question, folder, can, anew=anew)
    except ToolMissingError as error:
        found = judged(question, folder)
        return found if not found.missing else type(found)(found.comparison, None, f"{found.missing}: {error.what}")


def run_traced(folder: Path, reference: Path, board: Board, wanted: Sequence[int]) -> Path:
    """Build the sources in the folder once more, with traces and probes, and run these samples: `trace/run.json`, `outputs.npz`,
    `trace.npz`."""
    from etexport.cli.run import read_samples
    from etexport.device import run
    from etexport.resources import kernel_folders
    from etexport.toolchain import gcc

    steps = len(read_json(folder / "memory.json", "`etexport build` writes it")["steps"])
    out = folder / "trace"
    made = gcc.build(folder, board, kernel_folders(), build_dir=out, probe_count=steps + 1, trace=True)
    given = read_samples(reference, None)
    done = run(made.elf, board, [given[sample] for sample in wanted], probes=True, trace=True, log=out / "wire.log")
    write_traced(out, done, board, wanted, beside=folder)
    return out


def write_traced(out: Path, done: object, board: Board, wanted: Sequence[int], beside: Path | None) -> None:
    """`run.json` last: it says of which samples the others are, and beside which image's outputs they belong."""
    from etexport.cli.run import outputs_npz, trace_npz
    from etexport.device import Run, record
    from etexport.emit.write import write_whole

    assert isinstance(done, Run)
    content = record(done, board) | {"traced": list(wanted), "probes": [list(counts) for counts in done.probes]}
    if beside is not None and (beside / "run.json").is_file():
        content["beside"] = read_json(beside / "run.json", "`etexport run` writes it").get("image_crc")
    write_whole(out / "outputs.npz", outputs_npz(done))
    write_whole(out / "trace.npz", trace_npz(done, wanted))
    write_whole(out / "run.json", (json.dumps(content, indent=1) + "\n").encode())
