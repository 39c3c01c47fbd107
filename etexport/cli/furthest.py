"""The samples that a verdict on a run looks into, as a JSON list for `run --probes --only`: of a quantised program
those furthest off."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import folder_arguments
from etexport.stages.origin import alone_there, program_of

EXAMPLE = "etexport furthest build/m4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="X.json", help="where to write (default: furthest.json in DIR)"
    )


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.records import write_record
    from etexport.artifacts.runs import Furthest
    from etexport.stages.verdict import furthest

    folder: Path = args.folder
    with alone_there(folder):
        program = program_of(folder, args.program)
        samples = furthest(folder, program, args.reference or program.with_suffix(".npz"))
        write_record(args.out or folder / "furthest.json", Furthest(samples))
    return 0
