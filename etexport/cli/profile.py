"""Where the instructions go, by function and by line of the script: profile.json for Perfetto, profile.collapsed for
flame graphs.

In QEMU any image is counted as it is, by a plugin. Elsewhere a run with probes is told, in the unit of the board's
counter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from etexport.cli.options import built_board_argument, positive
from etexport.stages.origin import alone_there, board_of, existing, program_of

_LISTED = 12


EXAMPLE = "etexport profile build/m4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    built_board_argument(parser)
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="X.npz",
        help="input_0, input_1, ..., samples first (default: beside the program)",
    )
    parser.add_argument(
        "--sample",
        type=positive,
        metavar="N",
        help="from 1 (default: the one whose count the report tells, or the first)",
    )
    parser.add_argument(
        "--probes",
        action="store_true",
        help="tell the run with probes in DIR or DIR/profile, also where QEMU could count",
    )


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _profile(args)


def _profile(args: argparse.Namespace) -> int:
    from etexport.artifacts.reference import read_samples
    from etexport.board import load_board
    from etexport.cli.progress import progress
    from etexport.report.stacks import by_function, by_source
    from etexport.stages.profile import in_qemu, of_probes

    folder, board = args.folder, load_board(board_of(args.folder, args.board))
    sample = args.sample - 1 if args.sample else None
    if args.probes or board.simulator is None or board.simulator.kind != "qemu":
        found = of_probes(folder, board, sample)
    else:
        inputs = existing(args.inputs or program_of(folder, None, "--inputs and --board").with_suffix(".npz"))
        with progress(f"{folder.name} on {board.name}") as report:
            found = in_qemu(folder, board, read_samples(inputs, None), sample, report)
    _table(found.unit, "function", by_function(found.stacks), found.count)
    _table(found.unit, "line of the script", by_source(found.stacks), found.count)
    print(f"{found.count:14,}  100%   {found.beside}\n{folder / 'profile.json'}")
    return 0


def _table(unit: str, title: str, rows: Sequence[tuple[str, int]], whole: int) -> None:
    print(f"{unit:>14}  share  {title}")
    rest = sum(count for _, count in rows[_LISTED:])
    for name, count in [*rows[:_LISTED], *([(f"{len(rows) - _LISTED} more", rest)] if rest else [])]:
        print(f"{count:14,}  {count / max(whole, 1):5.1%}  {name}")
