"""Write a firmware to a board: the first tool of the board's file that is installed, then the firmware's own HELLO says
what runs."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from etexport.board import Board
from etexport.device.flash.image_files import write_image
from etexport.device.flash.tool import Job, Tool, diagnosed, known_tools
from etexport.device.hello import Hello
from etexport.device.session import Line, OtherFirmwareError, attach, check_firmware, real_port, translated
from etexport.device.wire_log import WireLog
from etexport.errors import BoardError, DeviceLostError, Errors, ToolMissingError

__all__ = ["Step", "confirm", "step_of", "write"]

_MOST_S = 600.0


@dataclass(frozen=True)
class Step:
    """What writes which image, and how: `command` is exact, or says what a tool of our own does."""

    tool: Tool
    job: Job
    command: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.command)


def step_of(elf: Path, board: Board, *, wanted: str = "", place: str = "") -> Step:
    """The tool, chosen from the board's file (or `wanted`), and the image in its format, which is written beside the
    ELF. BoardError where the file names none, ToolMissingError where none of those is installed."""
    elf = elf.resolve()
    tool = _chosen(board, wanted, place)
    kind = tool.format
    if kind == "drive":
        kind = board.attach.drive_format if board.attach is not None else "bin"
    image, address = write_image(
        elf, kind or "bin", board.attach.uf2_family if board.attach is not None else 0, board.name
    )
    job = Job(board, elf, image, address, place)
    command = tool.command(job)
    program = tool.program()
    return Step(tool, job, (program, *command[1:]) if program else command)


def _chosen(board: Board, wanted: str, place: str) -> Tool:
    known = known_tools()
    names = (wanted,) if wanted else board.attach.flash if board.attach is not None else ()
    if not names:
        hint = (
            f"--tool, one of {', '.join(sorted(known))}; `flash` in [attach] of the board's .toml lists those that "
            "it can use"
        )
        raise BoardError("no tool is known that writes its flash", where=board.name, hint=hint)
    for name in names:
        if name not in known:
            raise BoardError(f"no tool is called {name!r}", where=board.name, hint=f"known: {', '.join(sorted(known))}")
    listed = [known[name] for name in names]
    ready = (
        tool
        for tool in listed
        if tool.program() or (tool.act is not None and (place or tool.is_ready is None or tool.is_ready(board)))
    )
    found = next(ready, next((tool for tool in listed if tool.act is not None), None))
    if found is None:
        hint = "; ".join(f"{tool.name}: {tool.package}" for tool in listed)
        raise ToolMissingError(
            f"{' and '.join(tool.name for tool in listed)} not installed", where=f"board {board.name}", hint=hint
        )
    return found


def write(step: Step) -> None:
    """Write and verify. DeviceLostError where nobody answers, BoardError for another chip, DeviceFaultError where
    writing fails, MismatchError where something else is there afterwards: exit codes 3, 1, 4 and 2."""
    tool, job = step.tool, step.job
    if tool.act is not None:
        tool.act(job)
        return
    try:
        done = subprocess.run(
            step.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=_MOST_S, check=False, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as slow:
        raise DeviceLostError(f"{tool.name} did not end in {_MOST_S:.0f} s", where=job.board.name) from slow
    except OSError as error:
        raise ToolMissingError(
            f"cannot be started: {error.strerror}", where=step.command[0], hint=tool.package
        ) from error
    if failed := diagnosed(tool, job, done.returncode, done.stdout):
        raise failed


def confirm(
    elf: Path, board: Board, line: Line, *, wait_s: float, waiting: Callable[[str], None] | None = None
) -> Hello:
    """What the board itself says, once it has started again: program hash and the CRC of its image are those of the
    ELF. DeviceLostError where it does not come back, or runs something else."""
    line = replace(line, url=real_port(board, line))
    try:
        with WireLog(None) as log, attach(board, elf, line) as attached, translated(elf, board, attached.running):
            hello = attached.link(log, waiting).greet(wait_s)
            check_firmware(hello, elf, board, attached.port.url)
    except (OtherFirmwareError, Errors):
        raise
    except DeviceLostError as lost:
        what = f"the firmware was written, but the board does not come back: {lost.what}"
        hint = lost.hint or "press its reset button; without a serial port there is --no-confirm"
        raise DeviceLostError(what, where=lost.where, hint=hint) from lost
    return hello
