"""Write a firmware to a board, verify it, reset it, and have the firmware itself say that it is what runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etexport.cli.options import built_board_argument, port_arguments, seconds
from etexport.stages.origin import alone_there, board_of

EXAMPLE = "etexport flash build/nucleo --port /dev/ttyACM0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    built_board_argument(parser)
    port_arguments(parser)
    parser.add_argument(
        "--tool",
        default="",
        metavar="NAME",
        help="openocd, gdb, copy, ... (default: the first of the board's that is installed)",
    )
    parser.add_argument(
        "--at", default="", metavar="WHERE", help="gdb: HOST:PORT of the debugger; copy: a folder; file: the flash file"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the exact command, and do nothing")
    parser.add_argument(
        "--no-confirm",
        action="store_true",
        help="do not ask the firmware: where the board's serial port is not connected",
    )
    parser.add_argument(
        "--wait", type=seconds, default=20.0, metavar="S", help="seconds that it may take to come back (default: 20)"
    )


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _flash(args)


def _flash(args: argparse.Namespace) -> int:
    from etexport.board import load_board
    from etexport.device.flash import confirm, step_of, write
    from etexport.device.session import Line

    elf = args.folder / "firmware.elf"
    board = load_board(board_of(args.folder, args.board))
    step = step_of(elf, board, wanted=args.tool, place=args.at)
    if args.dry_run:
        print(step)
        return 0
    print(f"{step.tool.name}: {step.job.image.name} to {board.name}", flush=True)
    write(step)
    print(f"{step.tool.name}: written and verified", flush=True)
    if args.no_confirm:
        return 0
    hello = confirm(
        elf, board, Line(args.port or "", args.baud or 0, args.reset), wait_s=args.wait,
        waiting=lambda text: print(text, file=sys.stderr, flush=True),
    )  # fmt: skip
    print(
        f"{board.name}: runs {hello.program} {hello.program_hash:016x}, image {hello.image_bytes:,} bytes with CRC "
        f"{hello.image_crc:08x}"
    )
    return 0
