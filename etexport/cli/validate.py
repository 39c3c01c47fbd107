"""Outputs of a board against eager PyTorch: exit code 2 names the first sample that differs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="where `run` left outputs.npz")
    parser.add_argument("--program", type=Path, required=True, metavar="X.pte")
    parser.add_argument("--reference", type=Path, metavar="X.npz", help="samples and eager outputs (default: beside the program)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the figures there if all samples agree")


def main(args: argparse.Namespace) -> int:
    from etexport.cli.options import existing
    from etexport.inspect import compare, report, results, summary

    comparison = results.validate(args.folder, existing(args.program), args.reference)
    compare.require_equal(comparison, str(args.folder / "outputs.npz"))
    figures = report.compared(comparison)
    if args.out:
        results.write(args.out, report.json_text(figures))
    print(f"all {figures.samples} samples agree with PyTorch; {summary.error_line(figures)}")
    print(summary.accuracy_line(figures))
    return 0
