"""Start the board, or attach to it, and stream inputs and outputs: run.json, outputs.npz, wire.log; with probes trace.npz."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etexport.cli.options import alone_there, board_of, existing, port_arguments, positive, program_of, seconds
from etexport.errors import ModelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument("--board", help="a name of `etexport boards`, or a path to a .toml (default: what the folder was built for)")
    parser.add_argument("--inputs", type=Path, metavar="X.npz", help="input_0, input_1, ..., samples first (default: beside the program)")
    parser.add_argument("--samples", type=positive, metavar="N", help="only the first N")
    parser.add_argument("--only", type=Path, metavar="X.json", help="with --probes, only the samples that `etexport furthest` wrote down")
    parser.add_argument(
        "--probes", action="store_true", help="the firmware counts every step (`build --probes`): counts in run.json, results in trace.npz"
    )
    port_arguments(parser)
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for one run of the program")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from etexport.artifacts.reference import read_samples
    from etexport.artifacts.runs import of_samples, write_run
    from etexport.board import load_board
    from etexport.cli.progress import progress
    from etexport.device import counted, record, run

    folder: Path = args.folder
    if args.only is not None and (args.samples or not args.probes):
        raise ModelError("is for runs with --probes and without --samples", where="--only", hint="it says which samples by itself")
    inputs = existing(args.inputs or program_of(folder, None, "--inputs and --board").with_suffix(".npz"))
    samples = read_samples(inputs, args.samples)
    traced: tuple[int, ...] = (0,)
    if args.only is not None:
        traced = _listed(args.only, len(samples))
        samples = [samples[sample] for sample in traced]
    board = load_board(board_of(folder, args.board))
    _check_program(folder)
    with progress(f"{folder.name} on {board.name}") as report:
        done = run(
            folder / "firmware.elf", board, samples, probes=args.probes, url=args.port, baud=args.baud or 0, reset=args.reset,
            log=folder / "wire.log", progress=report,
            waiting=lambda text: print(text, file=sys.stderr, flush=True), timeout_s=args.timeout,
        )  # fmt: skip
    content = record(done, board)
    if args.probes:
        content |= counted(done)
        if len(traced) == len(samples):
            content |= of_samples(traced, args.only.parent if args.only is not None else None)
    write_run(folder, content, done.outputs, len(done.hello.outputs), (done.trace, traced) if args.probes else None)
    return 0


def _listed(path: Path, there: int) -> tuple[int, ...]:
    """The samples that a file of `etexport furthest` names, of `there`."""
    from etexport.artifacts.files import read_json

    found = read_json(path, "`etexport furthest` writes it")["samples"]
    if not isinstance(found, list) or not found or not all(type(one) is int and 0 <= one < there for one in found):
        raise ModelError(f"names no samples of the {there:,} that there are", where=str(path), hint="`etexport furthest` writes it")
    return tuple(found)


def _check_program(folder: Path) -> None:
    """The image must be of the program that was generated in this folder: the host compares the board with the image, no more."""
    from etexport.artifacts.files import read_json
    from etexport.device.elf import program_hash

    elf, generated = folder / "firmware.elf", folder / "memory.json"
    found = program_hash(elf) if elf.is_file() and generated.is_file() else None
    if found is None:
        return
    wanted = read_json(generated, "`etexport build` writes it")["program_hash"]
    if f"{found:016x}" != wanted:
        raise ModelError(f"is of program {found:016x}, the folder's is {wanted}", where=str(elf), hint="`etexport build` makes it anew")
