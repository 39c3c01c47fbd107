"""`etexport <verb>`: one file a verb in `etexport/cli/`; only the chosen verb is loaded."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from etexport.cli.parser import parse
from etexport.errors import EtError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 good, 1 model or build error, 2 results differ, 3 no device, 4 fault, 5
    tool missing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = parse(given)
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
            print(
                f"error: {error.strerror}\n  hint: what was being written is not there; free some room and go on",
                file=sys.stderr,
            )
            # which may be what is full, and is flushed once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        place = getattr(error, "place", "") or _innermost(error)
        said = " ".join(str(error).split())
        print(f"error: {place}: {type(error).__name__}: {said}", file=sys.stderr)
        print(
            "  hint: this is a mistake of etexport's, please report it; --debug before the verb shows the traceback",
            file=sys.stderr,
        )
        return 1


def _innermost(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "etexport"
    return f"{os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}"  # noqa: PTH119


if __name__ == "__main__":
    sys.exit(main())
