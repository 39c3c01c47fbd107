"""What was built and run in a folder, judged and told: report.json, report.html, report.txt, timing.json."""

from __future__ import annotations

import time
from pathlib import Path

from etexport.artifacts.memory import project_in, read_memory
from etexport.board import Board
from etexport.judge.verdict import Verdict
from etexport.kernel.library import load_ops
from etexport.plan import plan
from etexport.plan.problem import Problem, Solution
from etexport.report.report import Report
from etexport.report.results import Timing, report, timing
from etexport.stages.code import code_of
from etexport.stages.place import place
from etexport.stages.verdict import verdict_of


def report_in(
    folder: Path, program: Path, board: Board, reference: Path | None = None, clock_hz: int | None = None
) -> tuple[Report, Timing, Verdict | None]:
    """Write the report, and return it with what is in `timing.json`, and the verdict on the run (None without anything
    to compare with)."""
    can = (reference or program.with_suffix(".npz")).is_file()
    judged = verdict_of(folder, program, reference, board) if can else None
    made = report(folder, program, board, reference, judged, clock_hz, code_of(folder, board))
    return made, timing(folder, _plan_seconds(folder, program, board)), judged


def _plan_seconds(folder: Path, program: Path, board: Board) -> float:
    """How long the planner takes for this program: done again here, as the files of a build hold no times."""
    built, took = read_memory(folder), 0.0

    def timed(problem: Problem) -> Solution:
        nonlocal took
        start = time.perf_counter()
        solution = plan(problem)
        took = time.perf_counter() - start
        return solution

    place(
        [program], board, load_ops(project_in(folder)), optimize=built.optimize, planner=timed, rounding=built.rounding
    )
    return round(took, 6)
