"""Each script runs in a copy of this process: whatever it changes (default types, patched functions, limits, folders)
ends with it.

A copy costs some milliseconds, where a new process would cost the seconds of importing torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from etexport.errors import EtError, ModelError

_PR_SET_PDEATHSIG = 1


def alone(work: Callable[[], None], script: Path) -> None:
    """Do `work` in a copy of this process. What it raises is raised here, with the copy's traceback as a note.

    ModelError where the copy ends without a word: the script left the process, or crashed it.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with tempfile.TemporaryFile() as told:
        frozen = gc.get_freeze_count()
        gc.freeze()  # the collector of the copy would walk all that is there, and so have each page of it copied
        copy = os.fork()
        if copy == 0:
            _be_the_copy(work, told)
        if not frozen:  # by whoever called us
            gc.unfreeze()
        try:
            _, status = os.waitpid(copy, 0)
        except BaseException:  # interrupted: the copy may not have been
            os.kill(copy, signal.SIGKILL)
            os.waitpid(copy, 0)
            raise
        told.seek(0)
        content = told.read()
    if not content:
        raise ModelError(
            f"the script {_ending(status)}",
            where=str(script),
            hint="nothing of it may end the process: os._exit, a crash",
        )
    failure, output, errors = pickle.loads(content)
    sys.stdout.write(output)
    sys.stderr.write(errors)
    if failure is not None:
        failure.reraise()


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended the process, with exit code {os.WEXITSTATUS(status)}"


class _Failure:
    """What the copy raised, as far as that can travel, and where: `exception` pickled, None where that cannot be."""

    def __init__(self, error: BaseException) -> None:
        self.text = _formatted(error)
        self.innermost = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)][-1:]
        self.name = type(error).__name__
        self.exception: bytes | None = None
        with contextlib.suppress(Exception):
            content = pickle.dumps(error)
            if type(error).__module__.partition(".")[0] in ("builtins", "etexport", "torch") and type(
                pickle.loads(content)
            ) is type(error):
                self.exception = content

    def reraise(self) -> None:
        if self.exception is None:
            raise RuntimeError(f"{self.name}\n{self.text}")
        error = pickle.loads(self.exception)
        if not isinstance(error, (EtError, KeyboardInterrupt)) and self.innermost:
            file, line = self.innermost[0]
            error.place = f"{Path(file).name}:{line}"
        error.add_note(self.text)  # which --debug shows
        raise error


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # of an exception whose own words fail
        return type(error).__name__


def _be_the_copy(work: Callable[[], None], told: IO[bytes]) -> None:
    """Never returns: what stands on the stack above belongs to the original."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        kept = [_kept(name) for name in ("stdout", "stderr")]
        failure = None
        try:
            work()
        except BaseException as error:
            failure = _Failure(error)
        content = pickle.dumps((failure, *(stream.getvalue() if stream is not None else "" for stream in kept)))
        told.write(content)
        told.flush()
        code = 0
    finally:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):  # the script may have closed it
                stream.flush()  # type: ignore[union-attr]
        os._exit(code)


def _kept(name: str) -> Any:
    """A stand-in for a stream that is no file (a notebook's, a test's), whose text the original then writes; else
    None."""
    try:
        getattr(sys, name).fileno()
    except Exception:
        setattr(sys, name, io.StringIO())
        return getattr(sys, name)
    return None
