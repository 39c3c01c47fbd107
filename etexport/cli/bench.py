"""Reports of several models and boards in one bench.json, and a table beside other systems."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", nargs="+", type=Path, metavar="report.json")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="bench.json", help="the table goes beside it, as .txt")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/bench.md has it")


def main(args: argparse.Namespace) -> int:
    from etexport.inspect import bench, results

    reports = results.bench(args.reports, args.out)
    print(bench.markdown(reports) if args.markdown else f"{args.out}: {len(reports)} reports")
    return 0
