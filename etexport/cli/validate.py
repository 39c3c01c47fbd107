"""Compare the outputs of a run with eager PyTorch's; exit code 2 names the first operator that is wrong, or sample that
differs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from etexport.cli.options import built_board_argument, decibels, folder_arguments
from etexport.stages.origin import alone_there, board_of, program_of

EXAMPLE = "etexport validate build/m4 --fail-below 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    built_board_argument(parser)
    parser.add_argument(
        "--trace",
        action="store_true",
        help="look into the operators anew, also where a run with probes is there, and name the first that differs "
        "from PyTorch's",
    )
    parser.add_argument(
        "--fail-below",
        type=decibels,
        metavar="DB",
        help="exit code 2 where an output has less signal to noise than this against the float network, or where that "
        "is not known "
        "(default: min_snr_db of the model script)",
    )
    parser.add_argument(
        "--junit", type=Path, metavar="X.xml", help="write the verdict as JUnit XML, also where outputs differ"
    )
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON, if all outputs agree")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _validate(args)


def _validate(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.artifacts.memory import read_memory
    from etexport.artifacts.runs import read_run
    from etexport.board import load_board
    from etexport.judge.against_float import require_signal, signal_line, warning
    from etexport.judge.verdict import require_right
    from etexport.report.junit import junit
    from etexport.report.quality import quality
    from etexport.report.report import compared, layers, plain
    from etexport.stages.verdict import verdict_of

    program = program_of(args.folder, args.program)
    board = load_board(board_of(args.folder, args.board))
    judged = verdict_of(args.folder, program, args.reference, board, anew=args.trace)
    comparison, each = judged.comparison, judged.exact
    at_least = comparison.min_snr_db if args.fail_below is None else args.fail_below
    if args.junit is not None:
        run = read_run(args.folder)
        said = {key: str(getattr(run, key)) for key in ("program_hash", "image_crc", "counter", "samples")}
        properties = {"model": run.program, "board": board.name, "core": board.core, **said}
        write_whole(args.junit, junit(judged, properties, at_least))
    if each is not None and not each.wrong:
        print(f"{args.folder}: {each}")
    require_right(judged, str(args.folder))
    print(
        f"{args.folder}: all {comparison.samples} samples agree with {comparison.against}, largest error "
        f"{comparison.max_abs_error:.3g}"
    )
    figures = compared(comparison)
    lost = ""
    if comparison.tolerance_lsb is not None:
        print(f"{args.folder}: {signal_line(comparison.against_float, comparison.snr_missing)}")
        memory = read_memory(args.folder)
        lost = warning(comparison.against_float, layers(memory, quality(args.reference or program.with_suffix(".npz"))))
    for word, text in (*(("note", flag) for flag in comparison.flags), ("note", judged.missing), ("warning", lost)):
        if text:
            print(f"{args.folder}: {word}: {text}")
    if at_least is not None:
        require_signal(comparison.against_float, comparison.snr_missing, at_least, str(args.folder))
    if args.out:
        content = plain(figures) | {"exact": plain(each), "missing": judged.missing, "warnings": [lost] if lost else []}
        write_whole(args.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0
