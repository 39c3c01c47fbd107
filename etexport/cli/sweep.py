"""Many models, arithmetics, boards and settings, each on many simulated boards at once, to one table; on this machine's
cores, or on a Dask cluster. What is there from another time is not done again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.cli.options import positive

if TYPE_CHECKING:
    from etexport.fleet.steps import Row

EXAMPLE = "etexport sweep plan.toml -o build/sweep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=Path, metavar="plan.toml", help="docs/sweep.md shows one")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("build/sweep"), metavar="DIR", help="(default: %(default)s)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive, metavar="N", help="processes on this machine (default: its cores)")
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://HOST:8786, whose workers see the same files"
    )


def main(args: argparse.Namespace) -> int:
    from etexport.cli.progress import progress
    from etexport.errors import MismatchError, ModelError
    from etexport.fleet import read_plan, sweep

    plan = read_plan(args.plan)
    with progress(args.plan.stem) as report:
        swept = sweep(plan, args.out, scheduler=args.scheduler, workers=args.workers, progress=report)
    for row in swept.rows:
        print(f"{row.model} {row.quantization} on {row.board} for {row.optimize}: {row.error or _figures(row)}")
    print(args.out / "sweep.html")
    if wrong := sum(1 for row in swept.rows if row.error):
        raise ModelError(f"{wrong} of {len(swept.rows)} could not be made", where=str(args.out / "table.csv"))
    if differ := sum(1 for row in swept.rows if row.mismatched):
        raise MismatchError(f"outputs of {differ} of {len(swept.rows)} differ", where=str(args.out / "table.csv"))
    return 0


def _figures(row: Row) -> str:
    shown = f"{row.samples:,} samples, {row.flash:,} bytes of flash, {row.ram:,} of RAM"
    accuracy = "" if row.accuracy is None else f", accuracy {row.accuracy:.1%}"
    return shown + accuracy + ("" if row.count is None else f", {row.count:,} {row.counter}")
