"""Start the board, or attach to it, and stream inputs and outputs: run.json, outputs.npz, wire.log; with probes
trace.npz."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etexport.cli.options import built_board_argument, port_arguments, positive, seconds
from etexport.errors import ModelError
from etexport.stages.origin import alone_there, board_of, existing, program_of

EXAMPLE = "etexport run build/m4 --samples 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    built_board_argument(parser)
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="X.npz",
        help="input_0, input_1, ..., samples first, or calls of methods: call_0_name, call_0_input_0, ... (default: "
        "beside the program)",
    )
    parser.add_argument("--samples", type=positive, metavar="N", help="only the first N")
    parser.add_argument(
        "--only",
        type=Path,
        metavar="X.json",
        help="with --probes, only the samples that `etexport furthest` wrote down",
    )
    parser.add_argument(
        "--probes",
        action="store_true",
        help="the firmware counts every step (`build --probes`): counts in run.json, results in trace.npz",
    )
    port_arguments(parser)
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for one run of the program")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from etexport.artifacts.reference import read_calls, read_samples
    from etexport.board import load_board
    from etexport.cli.progress import progress
    from etexport.stages.run import listed, run_in

    folder: Path = args.folder
    if args.only is not None and (args.samples or not args.probes):
        raise ModelError(
            "is for runs with --probes and without --samples", where="--only", hint="it says which samples by itself"
        )
    inputs = existing(args.inputs or program_of(folder, None, "--inputs and --board").with_suffix(".npz"))
    samples = read_samples(inputs, args.samples)
    calls = read_calls(inputs, args.samples)
    if calls:
        samples = [given for _, given in calls]
    traced: tuple[int, ...] = (0,)
    if args.only is not None:
        traced = listed(args.only, len(samples))
        samples = [samples[sample] for sample in traced]
        calls = [calls[call] for call in traced] if calls else []
    board = load_board(board_of(folder, args.board))
    with progress(f"{folder.name} on {board.name}") as report:
        run_in(
            folder, board, samples, calls=[name for name, _ in calls], probes=args.probes, traced=traced,
            beside=None if args.only is None else args.only.parent,
            url=args.port, baud=args.baud or 0, reset=args.reset, timeout_s=args.timeout, progress=report,
            waiting=lambda text: print(text, file=sys.stderr, flush=True),
        )  # fmt: skip
    return 0
