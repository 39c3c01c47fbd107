"""Arguments that several verbs have, and what they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.errors import ModelError
from etexport.project import LISTS, Project, project_at

OPTIMIZE = ("speed", "size")
ROUNDINGS = ("nearest", "tflm")


def board_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--board", required=True, metavar="BOARD", help="a name of `etexport boards`, or a path to a .toml"
    )


def built_board_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--board", help="a name of `etexport boards`, or a path to a .toml (default: what the folder was built for)"
    )


def port_arguments(parser: argparse.ArgumentParser) -> None:
    """How a board is reached: `etexport.device.session.Line`."""
    parser.add_argument(
        "--port", metavar="URL",
        help="/dev/ttyACM0, hwgrep://0483:374b, socket://HOST:PORT, rfc2217://HOST:PORT, or qemu://BOARD to start its "
            "simulator "
        "(default: the board's simulator, or the port that its USB ids are found at)",
    )  # fmt: skip
    parser.add_argument(
        "--baud", type=positive, metavar="N", help="bits a second (default: what the board's file says)"
    )
    parser.add_argument(
        "--reset", action="store_true", help="reset the board first, by the port's lines as its file says"
    )


def optimize_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--optimize",
        choices=OPTIMIZE,
        default="speed",
        help="fixed kernels for each layer, or shared ones that are smaller",
    )


def rounding_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounding", choices=ROUNDINGS,
        help="of int8 results: once, to the nearest, or TFLite's double rounding (default: tflm for a file made of "
            "cortex_m operators)",
    )  # fmt: skip


def planner_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--planner", metavar="MODULE:FUNCTION", help="another planner, Problem -> Solution (the module on PYTHONPATH)"
    )


def project_arguments(parser: argparse.ArgumentParser) -> None:
    """What `project_given` reads."""
    parser.add_argument(
        "--kernels", type=Path, action="append", default=[], metavar="DIR",
        help="a folder of kernels of your own, beside those in kernels/ beside the script (docs/kernels.md)",
    )  # fmt: skip
    parser.add_argument(
        "--passes", type=Path, action="append", default=[], metavar="DIR",
        help="a folder or file with passes of your own, behind those in passes/ beside the script (docs/passes.md)",
    )  # fmt: skip
    parser.add_argument(
        "--backends", type=Path, action="append", default=[], metavar="DIR",
        help="a folder of delegates of your own, beside those in backends/ beside the script (docs/delegates.md)",
    )  # fmt: skip


def project_given(args: argparse.Namespace) -> Project:
    """ModelError for a folder that is not there."""
    lists = {name: getattr(args, name) for name in LISTS}
    for path in (path for paths in lists.values() for path in paths):
        if not path.exists():
            raise ModelError("no such file or folder", where=str(path))
    return project_at(**lists)


def depfile_argument(parser: argparse.ArgumentParser, of: str) -> None:
    parser.add_argument(
        "--depfile",
        type=Path,
        metavar="X.d",
        help=f"write what {of} was made of, as a rule that Make, Ninja and CMake read",
    )


def name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the model's name (default: from the path, build/model/NAME-float32/model.pte)")


def folder_arguments(parser: argparse.ArgumentParser) -> None:
    """A build folder, and what it was made of where `etexport build` did not note that."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a build folder")
    parser.add_argument("--program", type=Path, metavar="X.pte", help="the program it was built from")
    parser.add_argument(
        "--reference", type=Path, metavar="X.npz", help="samples and eager outputs (default: beside the program)"
    )


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
