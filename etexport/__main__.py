"""`etexport <verb>`: one file a verb in `etexport/cli/`; only the chosen verb is loaded."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from etexport import __version__
from etexport.errors import EtError

VERBS = (
    "export", "train", "quantize", "reference", "generate", "build", "size", "run", "robot", "mlperf", "furthest",
    "validate", "report", "profile", "bench", "flash", "capture", "ports", "monitor", "library", "boards", "fits",
    "ops", "doctor",
)  # fmt: skip
"""In the order of the pipeline, then what tells about it."""

USAGE_ERROR = 1


class _Parser(argparse.ArgumentParser):
    """A wrong command line is a user's mistake: exit code 1 (argparse's own 2 means 'results differ' here)."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n  hint: {self.prog} --help\n")


class _CMakeDir(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from etexport.resources import root

        print(root() / "integrations" / "cmake")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 good, 1 model or build error, 2 results differ, 3 no device, 4 fault, 5 tool missing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(given)
    try:
        code: int = importlib.import_module(f"etexport.cli.{args.verb}").main(args)
        sys.stdout.flush()
        return code
    except EtError as error:
        if args.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.debug:
            raise
        if isinstance(error, OSError) and error.filename:  # a folder that may not be written, a full disk
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # a write does not say of what
            print(f"error: {error.strerror}\n  hint: what was being written is not there; free some room and go on", file=sys.stderr)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which may be what is full, and is flushed once more
            return 1
        place = getattr(error, "place", "") or _innermost(error)
        said = " ".join(str(error).split())
        print(f"error: {place}: {type(error).__name__}: {said}", file=sys.stderr)
        print("  hint: this is a mistake of etexport's, please report it; --debug before the verb shows the traceback", file=sys.stderr)
        return 1


def _parse(given: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="etexport", description="A PyTorch model script in, a verified microcontroller firmware out.")
    parser.add_argument("--version", action="version", version=f"etexport {__version__}")
    parser.add_argument("--cmake-dir", action=_CMakeDir, nargs=0, help="print the folder for CMake's -Detexport_DIR=, and exit")
    parser.add_argument("--debug", action="store_true", help="show a traceback with every error")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((word for word in given if not word.startswith("-")), None)
    for verb in VERBS if chosen not in VERBS else (chosen,):
        module = importlib.import_module(f"etexport.cli.{verb}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        module.add_arguments(verbs.add_parser(verb, help=summary, description=module.__doc__))
    return parser.parse_args(given)


def _innermost(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "etexport"
    return f"{os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}"  # noqa: PTH119


if __name__ == "__main__":
    sys.exit(main())
