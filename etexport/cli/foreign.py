"""Compile the C and C++ that a program's kernels and delegates bring beside their headers into one object."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import built_board_argument
from etexport.stages.origin import board_of

EXAMPLE = "etexport foreign build/m4 -o build/m4/obj/foreign.o"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="X.o")
    built_board_argument(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.memory import project_in, read_memory
    from etexport.board import load_board
    from etexport.resources import include_folders
    from etexport.toolchain import gcc

    board, linked = load_board(board_of(args.folder, args.board)), read_memory(args.folder).sources
    gcc.foreign_object(linked, board, include_folders(project_in(args.folder)), args.out)
    return 0
