"""A program to firmware in a build folder: generate, compile, link, measure."""

from __future__ import annotations

from pathlib import Path

from etexport.artifacts.memory import project_in, read_memory
from etexport.artifacts.records import write_record
from etexport.board import load_board
from etexport.project import NOTHING, Project
from etexport.resources import include_folders
from etexport.stages.generate import generate
from etexport.stages.origin import existing, note_origin
from etexport.toolchain import gcc
from etexport.toolchain.check import footprint, record


def build(
    program: Path, board_name: str, out: Path, *, name: str, optimize: str = "speed", rounding: str | None = None,
    planner: str | None = None, sources: Path | None = None, probes: bool = False, trace: bool = False,
    sanitize: bool = False, poison: bool = False, jobs: int = 2, project: Project = NOTHING,
) -> gcc.Artifacts:  # fmt: skip
    """Leave the firmware of `program` in the folder `out`, with its sizes and where it came from; what `generate` wrote
    in `sources` is compiled instead of generating where that is given. EtError of any stage."""
    board = load_board(board_name)
    gcc.tool(board, "g++")  # before the work, not after it
    existing(program)
    # what says that a build is whole; others may be left by one that was killed
    for file in ("build.json", "firmware.elf"):
        (out / file).unlink(missing_ok=True)
    if sources is None:
        generate(
            program, board_name, out, optimize=optimize, name=name, poison=poison, planner=planner, rounding=rounding,
            project=project,
        )  # fmt: skip
    memory = read_memory(sources or out)
    made = gcc.build(
        sources or out, board, include_folders(project_in(sources or out)), build_dir=out,
        probe_count=len(memory.steps) + 1 if probes else 0,
        trace=trace or (probes and memory.quantization == "int8"), sanitize=sanitize, jobs=jobs,
    )  # fmt: skip
    write_record(out / "sizes.json", record(footprint(made.elf, made.map, made.objects, board)))
    note_origin(out, program, board_name)
    return made
