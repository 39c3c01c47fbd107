"""A program to firmware: generate, compile, link; ELF, bin, hex and map."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import (
    board_argument,
    name_argument,
    optimize_argument,
    planner_argument,
    project_arguments,
    project_given,
    rounding_argument,
)

EXAMPLE = "etexport build model.pte --board qemu_mps2_an386 -o build/m4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="X.pte")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--sources", type=Path, metavar="DIR", help="compile what `generate` wrote there instead of generating"
    )
    parser.add_argument(
        "--probes",
        action="store_true",
        help="count every step of the program; of one in int8 also stream every result, to be checked",
    )
    parser.add_argument("--trace", action="store_true", help="stream every step's result while the program runs")
    parser.add_argument(
        "--sanitize", action="store_true", help="address and undefined-behaviour sanitizers (host only)"
    )
    parser.add_argument("--poison", action="store_true", help="overwrite dead memory round each step, to test the plan")
    planner_argument(parser)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    board_argument(parser)
    optimize_argument(parser)
    rounding_argument(parser)
    name_argument(parser)
    project_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.alone import alone_in
    from etexport.stages.build import build
    from etexport.stages.origin import model_name

    with alone_in(args.out):
        made = build(
            args.program, args.board, args.out, name=model_name(args.program, args.name), optimize=args.optimize,
            rounding=args.rounding, planner=args.planner, sources=args.sources, probes=args.probes, trace=args.trace,
            sanitize=args.sanitize, poison=args.poison, jobs=args.jobs, project=project_given(args),
        )  # fmt: skip
        print(f"{made.elf}: {made.bin.stat().st_size:,} bytes to load")
    return 0
