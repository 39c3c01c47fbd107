"""Arguments that several verbs have, and what they stand for."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path

from etexport.alone import alone_in
from etexport.errors import ModelError

QUANTIZATIONS = ("float32", "int8")
OPTIMIZE = ("speed", "size")
ROUNDINGS = ("nearest", "tflm")


def board_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", required=True, metavar="BOARD", help="a name of `etexport boards`, or a path to a .toml")


def port_arguments(parser: argparse.ArgumentParser) -> None:
    """How a board is reached: `etexport.device.session.Line`."""
    parser.add_argument(
        "--port", metavar="URL",
        help="/dev/ttyACM0, hwgrep://0483:374b, socket://HOST:PORT, rfc2217://HOST:PORT, or qemu://BOARD to start its simulator "
        "(default: the board's simulator, or the port that its USB ids are found at)",
    )  # fmt: skip
    parser.add_argument("--baud", type=positive, metavar="N", help="bits a second (default: what the board's file says)")
    parser.add_argument("--reset", action="store_true", help="reset the board first, by the port's lines as its file says")


def optimize_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--optimize", choices=OPTIMIZE, default="speed", help="fixed kernels for each layer, or shared ones that are smaller"
    )


def rounding_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounding", choices=ROUNDINGS,
        help="of int8 results: once, to the nearest, or TFLite's double rounding (default: tflm for a file made of cortex_m operators)",
    )  # fmt: skip


def planner_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--planner", metavar="MODULE:FUNCTION", help="another planner, Problem -> Solution (the module on PYTHONPATH)")


def name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the model's name (default: from the path, build/model/NAME-float32/model.pte)")


def model_name(path: Path, given: str | None) -> str:
    """`given`, or the name in the path: the file's own unless it is `model.pte`, then its folder's without the quantisation.

    What no screen can show (line ends, bytes that are no text) stands in it as U+FFFD."""
    name = given or _name_in(path)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _name_in(path: Path) -> str:
    if path.stem != "model":
        return path.stem
    folder = path.resolve().parent.name
    return next((folder.removesuffix(f"-{word}") for word in QUANTIZATIONS if folder.endswith(f"-{word}")), folder) or "model"


def folder_arguments(parser: argparse.ArgumentParser) -> None:
    """A build folder, and what it was made of where `etexport build` did not note that."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument("--program", type=Path, metavar="X.pte", help="the program it was built from")
    parser.add_argument("--reference", type=Path, metavar="X.npz", help="samples and eager outputs (default: beside the program)")


def alone_there(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a build folder while the block runs; where there is none nothing is made, and the error about it is the verb's."""
    return alone_in(folder) if folder.is_dir() else contextlib.nullcontext()


def note_origin(folder: Path, program: Path, board: str) -> None:
    """Leave `build.json`, so that later verbs need the folder only."""
    from etexport.artifacts.files import write_whole

    origin = {"program": os.path.relpath(program, folder), "board": os.path.relpath(board, folder) if board.endswith(".toml") else board}
    write_whole(folder / "build.json", (json.dumps(origin, indent=1) + "\n").encode())


def _origin(folder: Path, key: str, option: str) -> str:
    try:
        return str(json.loads((folder / "build.json").read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, KeyError, TypeError):
        hint = f"give {option}; `etexport build` notes it in the folder"
        raise ModelError("it is not known what this was built from", where=str(folder / "build.json"), hint=hint) from None


def program_of(folder: Path, given: Path | None, option: str = "--program") -> Path:
    """`given`, or what the folder was built from; `option` is what a person would give instead."""
    return existing(given or Path(os.path.normpath(folder / _origin(folder, "program", option))))


def board_of(folder: Path, given: str | None) -> str:
    """`given`, or what the folder was built for: as `etexport build` noted it, or by the name that the generated files have."""
    if given:
        return given
    if not (folder / "build.json").is_file() and (folder / "memory.json").is_file():
        from etexport.artifacts.files import read_json

        return str(read_json(folder / "memory.json", "`etexport build` writes it")["board"])
    board = _origin(folder, "board", "--board")
    return os.path.normpath(folder / board) if board.endswith(".toml") else board


def positive(text: str) -> int:
    """A whole number from 1 up, as argparse reads it."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def seconds(text: str) -> float:
    """A time above 0, as argparse reads it."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time")
    return number


def decibels(text: str) -> float:
    """A ratio in decibels, as argparse reads it."""
    number = float(text)
    if not float("-inf") < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of decibels")
    return number


def existing(path: Path) -> Path:
    """The path; ModelError where there is no file."""
    if not path.is_file():
        raise ModelError("no such file", where=str(path))
    return path
