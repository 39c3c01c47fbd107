"""Compare the outputs of a run with eager PyTorch's; exit code 2 names the first sample that differs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from etexport.cli.options import folder_arguments, program_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON, if all outputs agree")


def main(args: argparse.Namespace) -> int:
    from etexport.emit.write import write_whole
    from etexport.inspect.compare import require_equal
    from etexport.inspect.report import compared, plain
    from etexport.inspect.results import validate

    comparison = validate(args.folder, program_of(args.folder, args.program), args.reference)
    require_equal(comparison, str(args.folder))
    print(f"{args.folder}: all {comparison.samples} samples agree, largest error {comparison.max_abs_error:.3g}")
    if args.out:
        write_whole(args.out, (json.dumps(plain(compared(comparison)), indent=1) + "\n").encode())
    return 0
