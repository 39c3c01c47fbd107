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
        help="build with traces and run that, instead of taking what the run with probes left: name the instruction where outputs first "
        "differ, and of an int8 program check every operator on the board's own operands",
    )
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON, if all outputs agree")


def main(args: argparse.Namespace) -> int:
    from etexport.emit.write import write_whole
    from etexport.inspect.compare import require_equal
    from etexport.inspect.replay import require_right
    from etexport.inspect.report import compared, plain
    from etexport.inspect.results import exact, profiled_trace, validate

    program = program_of(args.folder, args.program)
    comparison = validate(args.folder, program, args.reference)
    quantised, each = comparison.tolerance_lsb is not None, None
    trace = profiled_trace(args.folder)
    if args.trace and (comparison.mismatched or quantised):
        trace = _traced(args.folder, args.reference or program.with_suffix(".npz"))
    if trace is not None and quantised:
        each = exact(args.folder, program, trace, args.reference)
        require_right(each, str(args.folder))
        print(f"{args.folder}: {each}")
    if trace is not None and comparison.mismatched:
        comparison = validate(args.folder, program, args.reference, trace, each)
    require_equal(comparison, str(args.folder))
    print(f"{args.folder}: all {comparison.samples} samples agree with {comparison.against}, largest error {comparison.max_abs_error:.3g}")
    if args.out:
        figures = plain(compared(comparison)) | {"exact": plain(each)}
        write_whole(args.out, (json.dumps(figures, indent=1) + "\n").encode())
    return 0


def _traced(folder: Path, reference: Path) -> Path:
    """Build the sources in the folder once more, with traces, and run the first sample: `trace/trace.npz`."""
    from etexport.board import load_board
    from etexport.cli.run import outputs_npz, read_samples, trace_npz
    from etexport.device import run
    from etexport.emit.write import write_whole
    from etexport.resources import kernel_folders
    from etexport.toolchain import gcc

    board = load_board(board_of(folder, None))
    made = gcc.build(folder, board, kernel_folders(), build_dir=folder / "trace", trace=True)
    done = run(made.elf, board, read_samples(reference, 1), trace=True, log=folder / "trace" / "wire.log")
    write_whole(folder / "trace" / "outputs.npz", outputs_npz(done))
    write_whole(folder / "trace" / "trace.npz", trace_npz(done))
    return folder / "trace" / "trace.npz"
