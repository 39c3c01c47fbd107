"""Capture a board's outputs as they come, to `.npz`, `.csv` or `.jsonl`, over resets and pulled cables; and compare
them with PyTorch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.cli.options import built_board_argument, port_arguments, positive, seconds
from etexport.errors import ModelError
from etexport.stages.origin import alone_there, board_of, existing, program_of

if TYPE_CHECKING:
    from etexport.artifacts.captured import Captured
    from etexport.program.model import Array


EXAMPLE = "etexport capture build/nucleo -o outputs.npz --port /dev/ttyACM0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="the build folder of the firmware")
    parser.add_argument("-o", "--out", type=Path, metavar="X.npz", help="where to: .npz, .csv or .jsonl")
    parser.add_argument("--overwrite", action="store_true", help="a file that is there already is lost")
    built_board_argument(parser)
    port_arguments(parser)
    parser.add_argument(
        "--inputs", type=Path, metavar="X.npz", help="what the board is given (default: beside the program)"
    )
    parser.add_argument(
        "--listen", action="store_true", help="give nothing: a firmware of your own runs there, and calls et::capture"
    )
    parser.add_argument("--records", type=positive, metavar="N", help="stop after so many (default: each input once)")
    parser.add_argument("--for", dest="span", type=seconds, metavar="S", help="stop after so many seconds")
    parser.add_argument(
        "--wait", type=seconds, default=600.0, metavar="S", help="seconds that a board may be away (default: 600)"
    )
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for one run of the program")
    parser.add_argument(
        "--log", type=Path, metavar="X.log", help="keep the raw bytes of both directions, as wire.log has them"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="SCRIPT",
        help="then compare with what the script's network gives for the same inputs",
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="X.npz", help="with --compare: this capture, and no new one"
    )
    parser.add_argument(
        "--recover", type=Path, metavar="X.npz", help="make the .npz of what a capture that was killed left"
    )


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.captured import recover

    if args.recover is not None:
        print(f"{args.recover}: {recover(args.recover)} records")
        return 0
    if args.folder is None or (args.out is None) == (args.source is None):
        raise ModelError(
            "a build folder and -o X.npz belong there, or --compare SCRIPT --from X.npz, or --recover X.npz",
            where="capture",
        )
    if args.compare is not None and args.out is not None and args.out.suffix != ".npz":
        raise ModelError("what is compared is captured to an .npz", where=str(args.out))
    if args.source is not None and args.compare is None:
        raise ModelError("is for --compare", where="--from")
    if args.source is None:
        with alone_there(args.folder):
            _capture(args)
    if args.compare is not None:
        _compare(args.folder, args.source or args.out, existing(args.compare))
    return 0


def _capture(args: argparse.Namespace) -> None:
    from etexport.artifacts.captured import create
    from etexport.artifacts.memory import read_memory
    from etexport.artifacts.reference import read_samples
    from etexport.board import load_board
    from etexport.device.capture import listen, repeated, stream
    from etexport.device.session import Line

    folder: Path = args.folder
    board, line = load_board(board_of(folder, args.board)), Line(args.port or "", args.baud or 0, args.reset)

    def notice(text: str) -> None:
        print(f"-- {text}", file=sys.stderr, flush=True)

    def told(records: int) -> None:
        if records & (records - 1) == 0:  # at 1, 2, 4, ...: a sign of life that fills no log
            print(f"{args.out}: {records} record{'s' if records > 1 else ''}", flush=True)

    inputs = None
    if not args.listen:
        inputs = read_samples(
            existing(args.inputs or program_of(folder, None, "--inputs and --board").with_suffix(".npz")), None
        )
    out = create(args.out, overwrite=args.overwrite)
    try:
        if inputs is None:
            wanted = int(read_memory(folder).program_hash, 16)
            elf = folder / "firmware.elf"
            total = listen(
                board, line, elf if elf.is_file() else None, wanted, out, notice,
                records=args.records, seconds=args.span, wait_s=args.wait, log=args.log, progress=told,
            )  # fmt: skip
        else:
            given = repeated(inputs, args.records, args.span)
            total = stream(
                folder / "firmware.elf", board, line, given, out, notice,
                wait_s=args.wait, timeout_s=args.timeout, log=args.log, progress=told,
            )  # fmt: skip
    finally:
        out.close()
    gaps = f", {total.gaps} gap{'s' if total.gaps > 1 else ''}" if total.gaps else ""
    print(f"{args.out}: {total.records} records of {folder.name} on {board.name}{gaps}")


def _compare(folder: Path, path: Path, script: Path) -> None:
    """Hold captured outputs against what PyTorch gives for the captured inputs: the script is exported again, with
    these for samples."""
    import tempfile

    from etexport.artifacts.captured import read_captured
    from etexport.artifacts.files import npz, write_whole
    from etexport.frontend.exporting import export
    from etexport.judge.compare import require_equal
    from etexport.judge.folder import question_of
    from etexport.judge.verdict import by_outputs
    from etexport.program import pte

    captured = read_captured(path)
    if not captured.inputs:
        raise ModelError(
            "has no inputs, so PyTorch cannot be asked", where=str(path), hint="et::capture(Inputs(), ...) before run()"
        )
    program = program_of(folder, None, "--inputs and --board")
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "model.pte"
        is_int8 = any(one.op.startswith("quantized_decomposed::") for one in pte.load(program).method().instructions)
        export(script, made, quantize="int8" if is_int8 else "float32", inputs=_as_given(captured, program))
        if made.read_bytes() != program.read_bytes():
            raise ModelError(
                "gives another program than the one that was captured",
                where=str(script),
                hint="build, write and capture again",
            )
        write_whole(Path(name) / "outputs.npz", npz({f"output_{at}": one for at, one in enumerate(captured.outputs)}))
        comparison = by_outputs(question_of(Path(name), made))
    require_equal(comparison, str(path))
    for gap in captured.gaps:
        print(f"{path}: note: {gap}")
    print(
        f"{path}: all {comparison.samples} records agree with {comparison.against}, largest error "
        f"{comparison.max_abs_error:.3g}"
    )


def _as_given(captured: Captured, program: Path) -> list[Array]:
    """Captured inputs as the script's network takes them: those that are stored in integers as the reals they stand
    for."""
    from etexport.artifacts.files import opened

    with opened(program.with_suffix(".npz")) as arrays:
        if "input_scales" not in arrays:
            return list(captured.inputs)
        scales = zip(arrays["input_scales"].tolist(), arrays["input_zero_points"].tolist(), strict=True)
        return [
            ((one.astype("float64") - zero_point) * scale).astype("float32") if scale else one
            for one, (scale, zero_point) in zip(captured.inputs, scales, strict=True)
        ]
