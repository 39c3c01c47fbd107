"""A program to C++ sources for one board: specialise, plan, emit."""

from __future__ import annotations

from pathlib import Path

from etexport.board import load_board
from etexport.emit import emit
from etexport.errors import doing
from etexport.kernel.library import load_ops
from etexport.project import NOTHING, Project
from etexport.stages.origin import project_of
from etexport.stages.place import place, planned


def generate(
    pte: Path, board_name: str, out: Path, *, optimize: str, name: str, poison: bool = False,
    planner: str | None = None, rounding: str | None = None, project: Project = NOTHING,
) -> list[Path]:  # fmt: skip
    """The whole target side in order; writes sources and memory.json into `out` and returns their paths. `project` adds
    to what is noted beside the program."""
    board = load_board(board_name)
    ((placed, program_hash),), library = place(
        [pte], board, load_ops(project_of(pte, project)), optimize=optimize, planner=planned(planner), rounding=rounding
    )
    with doing(f"{pte}: sources"):
        return emit(placed, board, library, program_hash=program_hash, model_name=name, out=out, poison=poison)
