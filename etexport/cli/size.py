"""Flash and RAM of a firmware by part, and the bound of its stack, which must fit."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import built_board_argument
from etexport.stages.origin import board_of, existing

EXAMPLE = "etexport size build/m4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument(
        "--objects", nargs="*", type=Path, help="the objects that were linked (default: obj/*.o in the folder)"
    )
    built_board_argument(parser)
    parser.add_argument("-o", "--out", type=Path, help="write them as JSON")


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.records import write_record
    from etexport.board import load_board
    from etexport.toolchain.check import footprint, record

    folder: Path = args.folder
    objects = args.objects or sorted((folder / "obj").glob("*.o"))
    found = footprint(
        existing(folder / "firmware.elf"), folder / "firmware.map", objects, load_board(board_of(folder, args.board))
    )
    if args.out:
        write_record(args.out, record(found))
        return 0
    sizes = found.sizes
    for title, parts, total in (
        ("flash", sizes.flash, sizes.flash_total),
        ("static RAM", sizes.static, sizes.static_total),
    ):
        print(
            f"{title:10} {total:10,}  " + ", ".join(f"{part.value} {count:,}" for part, count in parts.items() if count)
        )
    print(f"{'arena':10} {sizes.arena:10,}")
    if found.stack is not None:
        print(f"{'stack':10} {sizes.stack:10,}  of which at most {found.stack.bound:,} are used")
    return 0
