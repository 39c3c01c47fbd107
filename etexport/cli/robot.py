"""Write a Robot test beside a firmware for a board in Renode: its outputs are compared with PyTorch's. `renode-test`
runs it."""

from __future__ import annotations

import argparse

from etexport.cli.options import built_board_argument, folder_arguments, name_argument, positive
from etexport.stages.origin import board_of, existing, model_name, program_of

EXAMPLE = "etexport robot build/renode"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    built_board_argument(parser)
    parser.add_argument("--samples", type=positive, metavar="N", help="only the first N")
    name_argument(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.board import load_board
    from etexport.emit.robot import robot_files

    argument, program = board_of(args.folder, args.board), program_of(args.folder, args.program)
    reference = existing(args.reference or program.with_suffix(".npz"))
    existing(args.folder / "firmware.elf")
    name = model_name(program, args.name)
    files = robot_files(
        load_board(argument), argument, args.folder, program, reference, name=name, samples=args.samples
    )
    for file, content in files.items():
        write_whole(args.folder / file, content)
    print(f"{args.folder}: {', '.join(sorted(files))}\n  renode-test {args.folder / 'firmware.robot'}")
    return 0
