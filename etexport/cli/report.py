"""What was built, run and compared: `report.json`, a page `report.html`, and one screen, `report.txt`."""

from __future__ import annotations

import argparse

from etexport.cli.options import board_of, folder_arguments, program_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    parser.add_argument("--board", help="a name of `etexport boards`, or a path to a .toml (default: what the folder was built for)")
    parser.add_argument("-q", "--quiet", action="store_true", help="write the files, print nothing")


def main(args: argparse.Namespace) -> int:
    from etexport.board import load_board
    from etexport.inspect.results import report
    from etexport.inspect.summary import show

    board = load_board(board_of(args.folder, args.board))
    made = report(args.folder, program_of(args.folder, args.program), board, args.reference)
    if not args.quiet:
        show(made)
    return 0
