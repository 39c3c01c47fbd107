"""`report.json`, `report.html` and `report.txt` of a run."""

from __future__ import annotations

import argparse

from etexport.cli.options import folder_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    parser.add_argument("--board", help="default: what the folder was built for")
