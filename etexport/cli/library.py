"""A model as a folder for another build: sources, kernels, constants, manifests of Make, CMake, PlatformIO, Arduino,
Zephyr and others."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.cli.options import (
    depfile_argument,
    name_argument,
    optimize_argument,
    planner_argument,
    project_arguments,
    project_given,
    rounding_argument,
)
from etexport.stages.origin import existing, model_name, project_of

if TYPE_CHECKING:
    from etexport.board import Board


EXAMPLE = "etexport library model.pte --core m4f -o lib/gesture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        type=Path,
        nargs="+",
        metavar="X.pte|SCRIPT",
        help="several share one arena, each in its folder of DIR",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--core", metavar="CORE", help="m4f, cortex-m0, rv32imafc, host: a core of `etexport boards`")
    where.add_argument("--board", metavar="BOARD", help="a board's core, with the plan held against its memory")
    parser.add_argument(
        "--between-steps",
        action="store_true",
        help="run() calls a function of yours before each step, which may end it",
    )
    optimize_argument(parser)
    rounding_argument(parser)
    planner_argument(parser)
    depfile_argument(parser, "DIR/README.md")
    name_argument(parser)
    project_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.alone import alone_in
    from etexport.artifacts.files import write_whole
    from etexport.board import load_board
    from etexport.emit.names import identifier
    from etexport.errors import ModelError
    from etexport.kernel.library import load_ops
    from etexport.library import README, library
    from etexport.project import joined
    from etexport.script_files import depfile, local_files
    from etexport.stages.place import place, planned

    for program in args.program:
        existing(program)
    if args.name and len(args.program) > 1:
        raise ModelError("names one program, and here are several", where="--name", hint="their files name them")
    board = load_board(args.board) if args.board else _with_core(args.core)
    project = project_given(args)
    names = [model_name(program, args.name) for program in args.program]
    if len(set(map(identifier, names))) < len(names):
        raise ModelError(
            f"two programs have one name: {', '.join(names)}", where="library", hint="their files name them"
        )
    with tempfile.TemporaryDirectory() as aside, alone_in(args.out):
        programs = []
        for at, program in enumerate(args.program):
            if program.suffix != ".pte":
                from etexport.frontend import export

                export(program, Path(aside) / str(at) / "model.pte", project=project)
                program = Path(aside) / str(at) / "model.pte"
            programs.append(program)
        project = joined(*(project_of(program, project) for program in programs))
        placed, kernels = place(
            programs,
            board,
            load_ops(project),
            optimize=args.optimize,
            planner=planned(args.planner),
            rounding=args.rounding,
        )
        folders = [args.out / identifier(name) for name in names] if len(names) > 1 else [args.out]
        for name, folder, (methods, program_hash) in zip(names, folders, placed, strict=True):
            files = library(
                methods, board, kernels, model_name=name, program_hash=program_hash, out=folder,
                between=args.between_steps, arena=names[0],
            )  # fmt: skip
            print(f"{folder}: {len(files)} files for {board.core}; README.md says how")
    if len(names) > 1:
        (first, _), *_ = placed
        print(f"{', '.join(names)}: one arena of {sum(first[0].solution.size.values()):,} bytes")
    if args.depfile is not None:
        made_of = [file for program in args.program for file in (program, *local_files(program, Path()))]
        made_of += project.files
        write_whole(args.depfile, depfile([folder / README for folder in folders], made_of).encode())
    return 0


def _plain(core: str) -> str:
    """`cortex-m4f`, `M4F` and `Cortex-M4F of an STM32F446` are one core."""
    return re.sub(r"[^a-z0-9]", "", core.lower().split(" of ")[0].removeprefix("arm")).removeprefix("cortex")


def _with_core(core: str) -> Board:
    """The board with that core which has most RAM; ModelError with those that there are."""
    from etexport.board import board_names, load_board
    from etexport.errors import ModelError

    boards = [load_board(name) for name in board_names()]
    found = [
        board for board in boards if _plain(core) in (_plain(board.core), board.name if board.name == "host" else "")
    ]
    if not found:
        known = sorted({board.core for board in boards if "host" not in board.features})
        raise ModelError(f"no board has a core {core!r}", where="--core", hint=f"known: {', '.join(known)}, host")
    return max(
        found, key=lambda board: (sum(memory.size for memory in board.memory if memory.kind == "ram"), board.name)
    )
