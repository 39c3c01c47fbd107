"""Compare the outputs of a run with eager PyTorch's; exit code 2 names the first sample that differs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from etexport.cli.options import board_of, folder_arguments, program_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    parser.add_argument(
        "--trace",
        action="store_true",
        help="run a build with traces: name the instruction where outputs first differ, and of an int8 program check every operator on the "
        "board's own operands",
    )
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON, if all outputs agree")


def main(args: argparse.Namespace) -> int:
    from etexport.emit.write import write_whole
    from etexport.inspect.compare import require_equal
    from etexport.inspect.replay import require_right
    from etexport.inspect.report import compared, plain
    from etexport.inspect.results import replayed, validate

    program = program_of(args.folder, args.program)
    comparison = validate(args.folder, program, args.reference)
    if args.trace and (comparison.mismatched or comparison.tolerance_lsb is not None):
        trace = _traced(args.folder, args.reference or program.with_suffix(".npz"))
        comparison = validate(args.folder, program, args.reference, trace)
        if comparison.tolerance_lsb is not None:
            checked = replayed(args.folder, program, trace, args.reference)
            require_right(checked, str(args.folder))
            worst = max((one.worst for one in checked if one.in_steps), default=0.0)
            print(f"{args.folder}: each of {len(checked)} results is right by its own operands, integers within {worst:.4f} steps of exact")
    require_equal(comparison, str(args.folder))
    print(f"{args.folder}: all {comparison.samples} samples agree with {comparison.against}, largest error {comparison.max_abs_error:.3g}")
    if args.out:
        write_whole(args.out, (json.dumps(plain(compared(comparison)), indent=1) + "\n").encode())
    return 0


def _traced(folder: Path, reference: Path) -> Path:
    """Build the sources in the folder once more, with traces, and run the first sample: `trace/trace.npz`."""
    import numpy as np

    from etexport.board import load_board
    from etexport.cli.run import npz, read_samples
    from etexport.device import run
    from etexport.emit.write import write_whole
    from etexport.resources import kernel_folders
    from etexport.toolchain import gcc

    board = load_board(board_of(folder, None))
    made = gcc.build(folder, board, kernel_folders(), build_dir=folder / "trace", trace=True)
    done = run(made.elf, board, read_samples(reference, 1), trace=True, log=folder / "trace" / "wire.log")
    results = {f"step_{step}": np.frombuffer(data, np.uint8) for (step, output), data in done.trace[0].items() if output == 0}
    write_whole(folder / "trace" / "trace.npz", npz(results))
    return folder / "trace" / "trace.npz"
