"""What was built, run and compared: `report.json`, a page `report.html`, one screen `report.txt`; what took how long:
`timing.json`."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.cli.options import built_board_argument, decibels, folder_arguments, positive
from etexport.stages.origin import alone_there, board_of, program_of

EXAMPLE = "etexport report build/m4 --clock 168000000 --markdown summary.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    built_board_argument(parser)
    parser.add_argument(
        "--fail-below", type=decibels, metavar="DB", help="exit code 2, once the files are written, where an output "
            "has less signal to "
        "noise than this against the float network, or where that is not known"
    )  # fmt: skip
    parser.add_argument(
        "--clock",
        type=positive,
        metavar="HZ",
        help="of the core: say how long an inference would take at it, an estimate",
    )
    parser.add_argument("--markdown", type=Path, metavar="X.md", help="write a summary for a CI page as well")
    parser.add_argument("-q", "--quiet", action="store_true", help="write the files, print nothing")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _tell(args)


def _tell(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.board import load_board
    from etexport.judge.against_float import require_signal
    from etexport.report.markdown import markdown
    from etexport.report.profile import unit_of
    from etexport.report.summary import show
    from etexport.stages.report import report_in

    board, program = load_board(board_of(args.folder, args.board)), program_of(args.folder, args.program)
    made, times, judged = report_in(args.folder, program, board, args.reference, args.clock)
    if args.markdown is not None:
        write_whole(args.markdown, markdown(made).encode())
    if not args.quiet:
        show(made)
        if times.count is not None:
            print(f"this time an inference took {times.count:,} {unit_of(made.counter)}")
        print(args.folder / "report.html")
    if args.fail_below is not None:
        compare = None if judged is None else judged.comparison
        missing = "there is nothing to compare with" if compare is None else compare.snr_missing
        require_signal(None if compare is None else compare.against_float, missing, args.fail_below, str(args.folder))
    return 0
