"""A program to C++ sources for one board: specialise, plan, emit."""

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

EXAMPLE = "etexport generate model.pte --board qemu_mps2_an386 -o build/generated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="X.pte")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--poison", action="store_true", help="overwrite dead memory round each step, to test the plan")
    planner_argument(parser)
    board_argument(parser)
    optimize_argument(parser)
    rounding_argument(parser)
    name_argument(parser)
    project_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.alone import alone_in
    from etexport.stages.generate import generate
    from etexport.stages.origin import model_name

    with alone_in(args.out):
        generate(
            args.program, args.board, args.out, optimize=args.optimize, name=model_name(args.program, args.name),
            poison=args.poison, planner=args.planner, rounding=args.rounding, project=project_given(args),
        )  # fmt: skip
    return 0
