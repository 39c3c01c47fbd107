"""What goes wrong for a user, as types: each says what, where and what to do, and carries the exit code of the command.

A user's mistake is an `EtError`; a mistake of ours is an `assert`. Foreign exceptions are translated where they enter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb


class EtError(Exception):
    """What went wrong (`what`), `where` it is (a file and line, a node, a port), and a `hint` at what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class ModelError(EtError):
    """The model script, or the program made of it, cannot become firmware."""


class ProgramError(EtError):
    """A `.pte` file or a Program is malformed."""


class PlanError(EtError):
    """The program does not fit the board's memory, or a plan is wrong."""


class BoardError(EtError):
    """A board file is malformed, or no board has that name."""


class PackageError(EtError):
    """An installed package that adds kernels, boards or passes cannot be used."""


class BuildError(EtError):
    """A compiler, linker or another tool of the build failed."""


class MismatchError(EtError):
    """Outputs differ from what they are compared with."""

    exit_code = 2


class DeviceLostError(EtError):
    """No device, a device that stopped answering, or a device that runs something else."""

    exit_code = 3


class DeviceFaultError(EtError):
    """The device reported a fault."""

    exit_code = 4


class ToolMissingError(EtError):
    """A program that the step needs is not installed."""

    exit_code = 5


class Errors(EtError):
    """Several errors of one kind, reported together instead of one a run."""

    def __init__(self, errors: Sequence[EtError]) -> None:
        assert errors, "no error to report"
        super().__init__(f"{len(errors)} errors")
        self.errors = tuple(errors)
        self.exit_code = max(error.exit_code for error in errors)

    def __reduce__(self) -> tuple[type[Errors], tuple[tuple[EtError, ...]]]:
        return type(self), (self.errors,)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class InternalError(EtError):
    """A mistake of ours, told like any other error; its cause has the traceback."""


@contextmanager
def doing(where: str) -> Iterator[None]:
    """The net beneath all checks: what is raised inside and is no EtError becomes one that says `where` (a stage, an
    instruction)."""
    try:
        yield
    except (EtError, OSError):  # a full disk is nobody's mistake
        raise
    except Exception as error:
        frame = extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
        hint = "this is a mistake of etexport's, please report it; --debug before the verb shows the traceback"
        raise InternalError(f"{said} ({Path(frame.filename).name}:{frame.lineno})", where=where, hint=hint) from error


def raise_all(errors: Sequence[EtError]) -> None:
    """Raise what was collected: nothing, the one error itself, or all of them as `Errors`."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Errors(errors)
