"""Look inside a run: what each operator gives on the board, by name, and how far it is from what the program means.

With -o values as an .npz, with --csv the table of gaps; on the screen the table, or with --modules its sum by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import built_board_argument, folder_arguments, positive
from etexport.stages.origin import alone_there, board_of, program_of

EXAMPLE = "etexport trace build/m4 --at conv2 -o conv2.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    built_board_argument(parser)
    parser.add_argument(
        "--at", action="append", default=[], metavar="NAME", help="only this operator or layer; block.* is a pattern"
    )
    parser.add_argument("--samples", type=positive, default=8, metavar="N", help="the first N (default: 8)")
    parser.add_argument("-o", "--out", type=Path, metavar="X.npz", help="write the board's values, samples first")
    parser.add_argument("--csv", type=Path, metavar="X.csv", help="write the table of gaps")
    parser.add_argument(
        "--etdump",
        type=Path,
        metavar="X.etdp",
        help="write counts and values for ExecuTorch's Inspector; values in X.bin",
    )
    parser.add_argument("--modules", action="store_true", help="a line a layer instead of one an operator")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _trace(args)


def _trace(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import npz, write_whole
    from etexport.board import load_board
    from etexport.judge.against_float import decibels
    from etexport.judge.gaps import by_module
    from etexport.stages.origin import existing
    from etexport.stages.trace import at, etdump, table, traced_in, values

    program, board = program_of(args.folder, args.program), load_board(board_of(args.folder, args.board))
    reference = existing(args.reference or program.with_suffix(".npz"))
    found, rows = traced_in(args.folder, program, reference, board, args.samples)
    found = at(found, args.at)
    handles = {one.instruction.handle for one in found}
    rows = tuple(row for row in rows if row.handle in handles)
    if args.out is not None:
        write_whole(args.out, npz(values(found)))
    if args.csv is not None:
        write_whole(args.csv, table(rows).encode())
    if args.etdump is not None:
        dump, inside = etdump(args.folder, reference, board, found)
        write_whole(args.etdump, dump)
        write_whole(args.etdump.with_suffix(".bin"), inside)
    if args.modules:
        width = max((len(name) for name, *_ in by_module(rows, found)), default=6)
        print(f"{'layer':{width}}  operators  signal to noise  worst element")
        for name, count, ratio, worst in by_module(rows, found):
            print(f"{name:{width}}  {count:9}  {decibels(ratio):>15}  {worst:13.3g}")
        return 0
    width = max((len(row.name) for row in rows), default=8)
    print(f"{'operator':{width}}  signal to noise  against float  worst element  source")
    for row in rows:
        lost = "" if row.float_snr_db is None else decibels(row.float_snr_db)
        print(f"{row.name:{width}}  {decibels(row.snr_db):>15}  {lost:>13}  {row.worst:13.3g}  {row.source}")
    return 0
