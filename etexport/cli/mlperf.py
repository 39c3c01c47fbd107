"""Firmware that MLPerf Tiny's runner can talk to, of a build folder; and what it answers to the runner's questions.
Never a score."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.cli.options import (
    built_board_argument,
    folder_arguments,
    name_argument,
    port_arguments,
    positive,
    seconds,
)
from etexport.stages.origin import alone_there, board_of, existing, model_name, program_of

if TYPE_CHECKING:
    from etexport.board import Board
    from etexport.stages.mlperf import Answered, Benchmark


EXAMPLE = "etexport mlperf build/m4 --samples 10 --clock 168000000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    built_board_argument(parser)
    name_argument(parser)
    parser.add_argument(
        "--id", metavar="WORD", help="what the benchmark calls the model (default: kws01 of kws, and so on)"
    )
    parser.add_argument(
        "--input", metavar="ENCODING", help="what a byte of the benchmark's data means: u8:SCALE:ZERO_POINT, "
            "i8:SCALE:ZERO_POINT, f32 "
        "(four bytes), or raw, the input as it lies in memory (default: what is known of the model)"
    )  # fmt: skip
    parser.add_argument(
        "--clock",
        type=positive,
        metavar="HZ",
        help="of the core, to tell times by where they are counted in instructions",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--build", action="store_true", help="build only: write it with `etexport flash DIR/mlperf --no-confirm`"
    )
    part.add_argument("--ask", action="store_true", help="ask only: it is built already")
    port_arguments(parser)
    parser.add_argument("--samples", type=positive, metavar="N", help="only the first N")
    parser.add_argument(
        "--infer", type=positive, default=1, metavar="N", help="inferences of each sample, which are timed together (1)"
    )
    parser.add_argument("--warmups", type=positive, default=0, metavar="N", help="inferences before these (0)")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for one inference")
    parser.add_argument("-o", "--out", type=Path, metavar="X.txt", help="keep what is printed")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.board import load_board
    from etexport.cli.progress import progress
    from etexport.device.session import Line
    from etexport.emit.mlperf import encoding
    from etexport.stages.mlperf import ask_benchmark, benchmark_of, build_benchmark

    folder: Path = args.folder
    argument, program = board_of(folder, args.board), program_of(folder, args.program)
    board, reference = load_board(argument), existing(args.reference or program.with_suffix(".npz"))
    name = model_name(program, args.name)
    what = benchmark_of(folder, reference, name, args.id, encoding(args.input) if args.input else None)
    elf = folder / "mlperf" / "firmware.elf"
    if not args.ask:
        made = build_benchmark(folder, board, what, name, args.clock)
        print(f"{made.elf}: {what.id}, {made.bin.stat().st_size:,} bytes to load", file=sys.stderr)
    if args.build or (board.simulator is None and args.port is None):
        return 0
    with progress(f"{what.id} on {board.name}") as report:
        answered = ask_benchmark(
            elf, board, Line(args.port or "", args.baud or 0, args.reset), what, reference, samples=args.samples,
            count=args.infer, warmups=args.warmups, timeout_s=args.timeout, progress=report,
        )  # fmt: skip
    text = _told(answered, what, board, args)
    if args.out:
        write_whole(args.out, text.encode())
    print(text, end="")
    return 0


def _told(answered: Answered, what: Benchmark, board: Board, args: argparse.Namespace) -> str:
    """What was asked and answered, as lines; and why nothing of it is a score."""
    from etexport.stages.mlperf import tick_of

    times = sorted(one.microseconds for one in answered.inferred)
    each, (_, clock) = times[len(times) // 2] / args.infer, tick_of(board, args.clock)
    if board.attach is not None and args.port is None:
        clock = f"{clock}, in a simulator whose counter is not the board's"
    rounded = f"; of {answered.rounded} the benchmark's bytes cannot say the input exactly" if answered.rounded else ""
    lines = [
        f"{what.id} on {board.name}: {len(times)} samples, each {args.infer} times after {args.warmups} warm-ups",
        f"results: the class that PyTorch gives in {answered.same_class}, largest difference "
        f"{answered.apart:.3g}{rounded}",
        f"an inference takes {each:,.1f} us, the median of samples ({clock})",
        "not a score of MLPerf Tiny: that takes the benchmark's own runner and data, five windows of ten seconds, and "
        "a real board",
    ]
    return "".join(f"{line}\n" for line in lines)
