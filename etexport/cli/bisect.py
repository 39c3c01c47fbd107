"""Which layer of an int8 network costs its accuracy: each alone in float, judged on samples(), with their labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.cli.options import positive

if TYPE_CHECKING:
    from etexport.frontend.quantize.layers import Bisected

EXAMPLE = "etexport bisect model.py -o bisect.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", type=Path, help="a model script with calibration()")
    parser.add_argument("--weights", type=Path, metavar="X.npz", help="trained weights for model(weights)")
    parser.add_argument(
        "--board", help="a simulated board runs an image for each layer (default: PyTorch is asked, which is quick)"
    )
    parser.add_argument(
        "--layers", type=positive, metavar="N", help="on a board only those N that gain most in PyTorch"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="X.html", help="write a page with a picture")
    parser.add_argument("--csv", type=Path, metavar="X.csv", help="write the table")


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.board import load_board
    from etexport.frontend import bisect
    from etexport.stages.bisect import on_board, picture, rows, table

    board = None if args.board is None else load_board(args.board)
    found = bisect(args.script, args.weights, _told)
    if board is not None:
        found = on_board(found, args.script, args.weights, board, args.board, args.layers, _told)
    if args.csv is not None:
        write_whole(args.csv, table(rows(found)).encode())
    if args.out is not None:
        write_whole(args.out, picture(found, args.script.stem).encode())
    _show(found)
    return 0


def _told(what: str) -> None:
    print(f"try {what}", flush=True)


def _show(found: Bisected) -> None:
    from etexport.frontend.quantize.layers import decibels
    from etexport.stages.bisect import rows

    listed = rows(found)
    width = max((len(row.name) for row in listed), default=5)
    right = f"  right of {found.labelled}" if found.labelled else ""
    counts = "         count" if found.int8.count is not None else ""
    print(f"{'in float':{width}}  signal to noise  gain{right}{counts}")
    for name, figure, gain in [
        ("nothing", found.int8, ""),
        *((one.name, one.figure, f"{found.gain_db(one):+.1f}") for one in found.by_gain),
    ]:
        line = f"{name:{width}}  {decibels(figure.snr_db):>15}  {gain:>4}"
        line += f"  {figure.right:>{len(right) - 2}}" if found.labelled else ""
        print(line + (f"  {figure.count:>12,}" if figure.count is not None else ""))
    print(f"on {found.judged_on}" + (f"; float has {found.in_float} right" if found.labelled else ""))
    if listed and listed[0].gain_db >= WORTH_DB:
        print(f'keep_float = ["{listed[0].name}"] in the script gains {listed[0].gain_db:.1f} dB')
    else:
        print(f"no layer alone gains {WORTH_DB:g} dB: the noise is of all of them")


WORTH_DB = 2.0
"""What a layer in float must gain to be named: it computes many times as long."""
