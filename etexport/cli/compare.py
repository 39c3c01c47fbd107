"""Two builds side by side: what the second takes more or less than the first, by part and by operator."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "etexport compare build/m4/digits-float32 build/m4/digits-int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "before", type=Path, metavar="A", help="a build folder that `etexport report` was in, or a report.json"
    )
    parser.add_argument("after", type=Path, metavar="B", help="another one")


def main(args: argparse.Namespace) -> int:
    from etexport.report.builds import compared

    print(compared(args.before, args.after), end="")
    return 0
