"""Arguments that several verbs have, and what they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.errors import ModelError

QUANTIZATIONS = ("float32",)
OPTIMIZE = ("speed", "size")


def board_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", required=True, metavar="BOARD", help="a name of `etexport boards`, or a path to a .toml")


def optimize_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--optimize", choices=OPTIMIZE, default="speed", help="fixed kernels for each layer, or shared ones that are smaller")


def name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the model's name (default: from the path, build/model/NAME-float32/model.pte)")


def model_name(path: Path, given: str | None) -> str:
    """`given`, or the name in the path: the file's own unless it is `model.pte`, then its folder's without the quantisation."""
    if given:
        return given
    if path.stem != "model":
        return path.stem
    folder = path.resolve().parent.name
    return next((folder.removesuffix(f"-{word}") for word in QUANTIZATIONS if folder.endswith(f"-{word}")), folder) or "model"


def existing(path: Path) -> Path:
    """The path; ModelError where there is no file."""
    if not path.is_file():
        raise ModelError("no such file", where=str(path))
    return path
