"""The command line as argparse has it: each verb is a file here with `add_arguments`, `main`, an `EXAMPLE`, and a
docstring for its help."""

from __future__ import annotations

import argparse
import difflib
import importlib
import textwrap
from collections.abc import Sequence
from typing import Any

from etexport import __version__

VERBS = (
    "export", "train", "quantize", "bisect", "reference", "bundle", "generate", "build", "foreign", "size", "run",
    "robot", "mlperf", "furthest", "validate", "trace", "report", "profile", "compare", "bench", "sweep", "flash",
    "capture", "ports", "monitor", "library", "boards", "fits", "ops", "doctor", "completion",
)  # fmt: skip
"""In the order of the pipeline, then what tells about it."""

USAGE_ERROR = 1
EXIT_CODES = (
    "exit codes: 0 good, 1 a model or build error, 2 results differ, 3 no device, 4 the device faulted, 5 a "
    "tool is missing"
)


class _Parser(argparse.ArgumentParser):
    """A wrong command line is a user's mistake: exit code 1 (argparse's own 2 means 'results differ' here)."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n  hint: {self.prog} --help\n")


class _Place(argparse.Action):
    """Prints where files lie that come with etexport, and are no Python of its own."""

    def __init__(self, *, const: str, **options: Any) -> None:
        super().__init__(nargs=0, const=const, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from etexport.resources import root

        print(root() / str(self.const))
        parser.exit()


def parse(given: Sequence[str]) -> argparse.Namespace:
    """The arguments of the one verb that is given; only its file is loaded. Ends the process for `--help` and for
    mistakes."""
    chosen = next((word for word in given if not word.startswith("-")), None)
    made = parser((chosen,) if chosen in VERBS else VERBS)
    if chosen is not None and chosen not in VERBS:
        near = difflib.get_close_matches(chosen, VERBS, n=1)
        made.error(
            f"no verb is called {chosen!r}"
            + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(VERBS)}")
        )
    return made.parse_args(given)


def parser(verbs: Sequence[str]) -> argparse.ArgumentParser:
    made = _Parser(
        prog="etexport",
        description="A PyTorch model script in, a verified microcontroller firmware out.",
        epilog=EXIT_CODES,
    )
    made.add_argument("--version", action="version", version=f"etexport {__version__}")
    for option, place, about in (
        ("--cmake-dir", "integrations/cmake", "the folder for CMake's -Detexport_DIR="),
        ("--platformio-script", "integrations/platformio/model.py", "what `extra_scripts = pre:` names"),
        ("--examples", "examples", "the folder of the examples"),
    ):
        made.add_argument(option, action=_Place, const=place, help=f"print {about}")
    made.add_argument("--debug", action="store_true", help="show a traceback with every error")
    choices = made.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in verbs:
        module = importlib.import_module(f"etexport.cli.{verb}")
        about = " ".join((module.__doc__ or "").split())
        module.add_arguments(
            choices.add_parser(
                verb,
                help=(module.__doc__ or "").splitlines()[0],
                description=textwrap.fill(about, 100),
                epilog=f"example:\n  {module.EXAMPLE}\n\n{EXIT_CODES}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return made
