"""Watch a board's port: text as it comes, frames of the link a line each, faults with the line of the model script;
with `--port -` the same of bytes on standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etexport.cli.options import built_board_argument, port_arguments, seconds
from etexport.errors import ModelError

EXAMPLE = "etexport monitor build/nucleo --port /dev/ttyACM0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="DIR", help="the firmware's build folder: faults get names"
    )
    built_board_argument(parser)
    port_arguments(parser)
    parser.add_argument(
        "--for", dest="span", type=seconds, metavar="S", help="stop after so many seconds (default: at Ctrl-C)"
    )
    parser.add_argument(
        "--log", type=Path, metavar="X.log", help="keep the raw bytes of both directions, as wire.log has them"
    )


def main(args: argparse.Namespace) -> int:
    from etexport.board import load_board
    from etexport.device.monitor import tell, watch
    from etexport.device.session import Line
    from etexport.stages.origin import board_of

    def show(text: str) -> None:
        print(text, flush=True)

    if args.port == "-":
        if args.folder or args.board or args.baud or args.reset or args.span or args.log:
            raise ModelError("shows what comes on standard input, and takes nothing beside it", where="--port -")
        tell(sys.stdin.fileno(), show)
        return 0
    elf = args.folder / "firmware.elf" if args.folder is not None else None
    named = board_of(args.folder, args.board) if args.folder is not None else args.board
    watch(
        Line(args.port or "", args.baud or 0, args.reset), load_board(named) if named else None, elf,
        show, lambda text: print(f"-- {text}", file=sys.stderr, flush=True),
        seconds=args.span, log=args.log,
    )  # fmt: skip
    return 0
