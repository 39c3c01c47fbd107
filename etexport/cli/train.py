"""Run a model script's `train()` once and keep the weights, for `export --weights`."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "etexport train model.py -o weights.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="X.npz")


def main(args: argparse.Namespace) -> int:
    from etexport.frontend.exporting import train

    train(args.script, args.out)
    return 0
