"""A program to firmware: generate, compile, link; ELF, bin, hex and map."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import (
    board_argument,
    existing,
    model_name,
    name_argument,
    note_origin,
    optimize_argument,
    planner_argument,
    rounding_argument,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="X.pte")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sources", type=Path, metavar="DIR", help="compile what `generate` wrote there instead of generating")
    parser.add_argument(
        "--probes", action="store_true", help="count every step of the program; of one in int8 also stream every result, to be checked"
    )
    parser.add_argument("--trace", action="store_true", help="stream every step's result while the program runs")
    parser.add_argument("--sanitize", action="store_true", help="address and undefined-behaviour sanitizers (host only)")
    parser.add_argument("--poison", action="store_true", help="overwrite dead memory round each step, to test the plan")
    planner_argument(parser)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    board_argument(parser)
    optimize_argument(parser)
    rounding_argument(parser)
    name_argument(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.alone import alone_in

    with alone_in(args.out):
        return _build(args)


def _build(args: argparse.Namespace) -> int:
    import json

    from etexport.artifacts.files import write_whole
    from etexport.artifacts.memory import quantization_of
    from etexport.board import load_board
    from etexport.cli.generate import generate
    from etexport.resources import kernel_folders
    from etexport.toolchain import gcc
    from etexport.toolchain.check import as_json, footprint

    board = load_board(args.board)
    gcc.tool(board, "g++")  # before the work, not after it
    sources = args.sources or args.out
    existing(args.program)
    for file in ("build.json", "firmware.elf"):  # what says that a build is whole; others may be left by one that was killed
        (args.out / file).unlink(missing_ok=True)
    if args.sources is None:
        generate(
            args.program, args.board, args.out, optimize=args.optimize, name=model_name(args.program, args.name), poison=args.poison,
            planner=args.planner, rounding=args.rounding,
        )  # fmt: skip
    memory = json.loads((sources / "memory.json").read_text())
    made = gcc.build(
        sources, board, kernel_folders(), build_dir=args.out, probe_count=len(memory["steps"]) + 1 if args.probes else 0,
        trace=args.trace or (args.probes and quantization_of(memory) == "int8"), sanitize=args.sanitize, jobs=args.jobs,
    )  # fmt: skip
    sizes = as_json(footprint(made.elf, made.map, made.objects, board))
    write_whole(args.out / "sizes.json", (json.dumps(sizes, indent=1) + "\n").encode())
    note_origin(args.out, args.program, args.board)
    print(f"{made.elf}: {made.bin.stat().st_size:,} bytes to load")
    return 0
