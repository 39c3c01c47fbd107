"""Many `report.json` as one `bench.json`, and a table beside other systems."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "etexport bench build/*/*/report.json -o build/bench.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", nargs="+", type=Path, metavar="report.json")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="bench.json", help="the table goes beside it, as bench.txt"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="write the files, print nothing")


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.report.bench import text
    from etexport.report.results import bench

    table = text(bench(args.report, args.out))
    write_whole(args.out.with_suffix(".txt"), table.encode())
    if not args.quiet:
        print(table, end="")
    return 0
