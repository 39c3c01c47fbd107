"""Which boards a program fits on: planned and compiled for each, with what it takes of flash and RAM."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from etexport.cli.options import optimize_argument
from etexport.stages.origin import existing

_EVERYWHERE = "host"
"""A process has room for anything."""


EXAMPLE = "etexport fits model.pte --quick"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="X.pte")
    parser.add_argument("board", nargs="*", help="only these; a path to a .toml works too")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compile nothing: arena, stack and constants alone, without code and static data",
    )
    optimize_argument(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.board import board_names
    from etexport.program import pte

    pte.load(existing(args.program))  # what is no program fits nowhere, and is told once
    boards = args.board or [name for name in board_names() if name != _EVERYWHERE]
    width = max(map(len, boards))
    fitting = 0
    for name in boards:
        with tempfile.TemporaryDirectory() as folder:
            fits, said = _tried(args.program, name, Path(folder), args.optimize, args.quick)
        fitting += fits
        print(f"{name:{width}}  {'fits' if fits else 'no  '}  {said}", flush=True)
    return 0 if fitting else 1


def _tried(pte: Path, name: str, out: Path, optimize: str, quick: bool) -> tuple[bool, str]:
    """Whether it fits one board, and what it takes there or what it lacks."""
    from etexport.artifacts.memory import project_in, read_memory
    from etexport.board import load_board
    from etexport.errors import EtError, PlanError, ToolMissingError
    from etexport.resources import include_folders
    from etexport.stages.generate import generate
    from etexport.toolchain import gcc
    from etexport.toolchain.check import footprint

    board = load_board(name)
    flash = next(region.size for region in board.memory if region.kind == "flash")
    ram = sum(region.size for region in board.memory if region.kind == "ram")
    try:
        generate(pte, name, out, optimize=optimize, name="model")
        if quick:
            arena = read_memory(out).arena.size
            constants = (out / "constants.bin").stat().st_size
            return (
                True,
                f"constants {constants:,} of {flash:,} bytes of flash; arena and stack {arena + board.stack:,} of "
                f"{ram:,} of RAM",
            )
        made = gcc.build(out, board, include_folders(project_in(out)), build_dir=out)
        found = footprint(made.elf, made.map, made.objects, board).sizes
    except ToolMissingError:
        raise
    except PlanError as error:
        return False, error.what
    except EtError as error:
        return False, str(error).splitlines()[0]
    used = found.arena + found.static_total + found.stack
    return True, f"{found.flash_total:,} of {flash:,} bytes of flash; {used:,} of {ram:,} of RAM"
