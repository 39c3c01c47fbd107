"""Start the board, or attach to it, and stream inputs and outputs: run.json, outputs.npz, wire.log; with probes trace.npz."""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.cli.options import alone_there, board_of, existing, positive, program_of, seconds
from etexport.errors import ModelError

if TYPE_CHECKING:
    from etexport.device import Run
    from etexport.program.model import Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument("--board", help="a name of `etexport boards`, or a path to a .toml (default: what the folder was built for)")
    parser.add_argument("--inputs", type=Path, metavar="X.npz", help="input_0, input_1, ..., samples first (default: beside the program)")
    parser.add_argument("--samples", type=positive, metavar="N", help="only the first N")
    parser.add_argument(
        "--furthest-of", type=Path, metavar="DIR", help="only the samples that a verdict on the run in this build folder looks into: of a "
        "quantised program those furthest off (all up to these where it has a state), of another one the first"
    )  # fmt: skip
    parser.add_argument(
        "--program", type=Path, metavar="X.pte", help="what DIR was built from, for --furthest-of (default: as memory.json says)"
    )
    parser.add_argument(
        "--probes", action="store_true", help="the firmware counts every step (`build --probes`): counts in run.json, results in trace.npz"
    )
    parser.add_argument("--port", metavar="URL", help="a serial port as pyserial takes it, instead of starting the board's simulator")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for one run of the program")


def main(args: argparse.Namespace) -> int:
    with alone_there(args.folder):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from etexport.board import load_board
    from etexport.cli.progress import progress
    from etexport.cli.traced import write_traced
    from etexport.device import record, run
    from etexport.emit.write import write_whole

    folder: Path = args.folder
    if args.furthest_of is not None and (args.samples or not args.probes):
        raise ModelError("is for runs with --probes and without --samples", where="--furthest-of", hint="it takes samples by itself")
    inputs = existing(args.inputs or program_of(folder, None, "--inputs and --board").with_suffix(".npz"))
    samples = read_samples(inputs, args.samples)
    wanted: tuple[int, ...] = (0,)
    if args.furthest_of is not None:
        wanted = _furthest(args.furthest_of, program_of(args.furthest_of, args.program, "--program"), inputs)
        samples = [samples[sample] for sample in wanted]
    board = load_board(board_of(folder, args.board))
    _check_program(folder)
    with progress(f"{folder.name} on {board.name}") as report:
        done = run(
            folder / "firmware.elf", board, samples, probes=args.probes, url=args.port, log=folder / "wire.log", progress=report,
            waiting=lambda text: print(text, file=sys.stderr, flush=True), timeout_s=args.timeout,
        )  # fmt: skip
    if args.probes and len(wanted) == len(samples):
        write_traced(folder, done, board, wanted, beside=args.furthest_of)
        return 0
    content = record(done, board) | ({"probes": [list(counts) for counts in done.probes]} if args.probes else {})
    (folder / "run.json").unlink(missing_ok=True)  # written last: where it is, the others are of the same run
    write_whole(folder / "outputs.npz", outputs_npz(done))
    if args.probes:
        write_whole(folder / "trace.npz", trace_npz(done, wanted))
    write_whole(folder / "run.json", (json.dumps(content, indent=1) + "\n").encode())
    return 0


def _furthest(folder: Path, program: Path, reference: Path) -> tuple[int, ...]:
    from etexport.inspect.profile import quantization_of
    from etexport.inspect.results import most_traced, question_of, read_json
    from etexport.inspect.verdict import by_outputs, wanted

    memory = read_json(folder / "memory.json", "`etexport build` writes it")
    if quantization_of(memory) != "int8":
        return (0,)  # its image with probes has no traces
    question = question_of(folder, program, reference)
    return wanted(question, by_outputs(question), most_traced(memory)) or (0,)


def _check_program(folder: Path) -> None:
    """The image must be of the program that was generated in this folder: the host compares the board with the image, no more."""
    from etexport.device.elf import program_hash
    from etexport.inspect.results import read_json

    elf, generated = folder / "firmware.elf", folder / "memory.json"
    found = program_hash(elf) if elf.is_file() and generated.is_file() else None
    if found is None:
        return
    wanted = read_json(generated, "`etexport build` writes it")["program_hash"]
    if f"{found:016x}" != wanted:
        raise ModelError(f"is of program {found:016x}, the folder's is {wanted}", where=str(elf), hint="`etexport build` makes it anew")


def read_samples(path: Path, limit: int | None) -> list[tuple[Array, ...]]:
    """The inputs of each sample: arrays `input_0`, `input_1`, ... of the file, whose first axis counts samples."""
    import numpy as np

    inputs: list[Array] = []
    try:
        with np.load(path, allow_pickle=False) as file:
            while f"input_{len(inputs)}" in file:
                inputs.append(file[f"input_{len(inputs)}"])
        count = min((len(one) for one in inputs), default=1)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        hint = "arrays input_0, input_1, ... with samples along the first axis, as `etexport export` writes them"
        raise ModelError(f"cannot be read: {str(error).partition('.')[0]}", where=str(path), hint=hint) from None
    return [tuple(one[index] for one in inputs) for index in range(min(count, limit or count))]


def outputs_npz(run: Run) -> bytes:
    """`output_<i>`, samples first."""
    import numpy as np

    return npz({f"output_{at}": np.stack([sample[at] for sample in run.outputs]) for at in range(len(run.hello.outputs))})


def trace_npz(run: Run, samples: Sequence[int]) -> bytes:
    """What each step gave for these samples, arrays `step_<n>_<result>_of_<sample>` of bytes; none of a firmware without traces."""
    import numpy as np

    traces = zip(samples, run.trace, strict=False)
    return npz(
        {f"step_{step}_{at}_of_{sample}": np.frombuffer(data, np.uint8) for sample, one in traces for (step, at), data in one.items()}
    )


def npz(arrays: dict[str, Array]) -> bytes:
    """The file as numpy writes it, which sets no time."""
    import numpy as np

    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()
