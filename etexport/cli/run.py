"""Start the board, or attach to it, and stream inputs and outputs: run.json, outputs.npz, wire.log."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import board_of, existing, program_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument("--board", help="a name of `etexport boards`, or a path to a .toml (default: what the folder was built for)")
    parser.add_argument("--inputs", type=Path, metavar="X.npz", help="input_0, input_1, ... (default: beside the program)")
    parser.add_argument("--samples", type=int, metavar="N", help="only the first N")
    parser.add_argument("--port", metavar="URL", help="a serial port as pyserial takes it, instead of starting the board's simulator")


def main(args: argparse.Namespace) -> int:
    from etexport.board import load_board

    inputs = existing(args.inputs or program_of(args.folder, None).with_suffix(".npz"))
    board = load_board(board_of(args.folder, args.board))
    print(board, inputs)
    return 0
