"""What a file of `tools/` declares: a program that writes a board's flash, how it is called, and what it says when that
goes wrong."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from etexport.board import Board
from etexport.errors import BoardError, DeviceFaultError, DeviceLostError, EtError, MismatchError

PROBE, CHIP, WRITE, VERIFY = "probe", "chip", "write", "verify"
"""What can go wrong: nobody answers, it is another chip, writing fails, what is there afterwards is something else."""

_SHOWN_LINES = 6


@dataclass(frozen=True)
class Job:
    """What is to be written to what. `image` is the file in the tool's format."""

    board: Board
    elf: Path
    image: Path
    address: int
    """Of the image's first byte."""
    place: str = ""
    """Where, for tools that are told: HOST:PORT of a debugger, a mounted drive, a file."""


@dataclass(frozen=True)
class Tool:
    """`format` is "elf", "bin", "hex" or "uf2"; "drive" for what the board's file says. `command` gives the program and
    its arguments, and raises BoardError where the board's file says too little. A tool of our own has `act` in place of
    a program, and tells what it does."""

    name: str
    format: str
    command: Callable[[Job], tuple[str, ...]]
    signs: tuple[tuple[str, str], ...] = ()
    """(pattern, what it means), in the order they are looked for in what the program says."""
    programs: tuple[str, ...] = ()
    """Any of these; () for a tool of our own."""
    package: str = ""
    """What brings it, as one would type it."""
    success: str = ""
    """A pattern that the output of a program has when it wrote, where its exit status does not tell."""
    act: Callable[[Job], None] | None = None
    is_ready: Callable[[Board], bool] | None = None
    """Of a tool of our own, whether it has what it writes to; None: it is told by `Job.place`."""

    def program(self) -> str | None:
        return next((name for name in self.programs if shutil.which(name)), None)


def known_tools() -> Mapping[str, Tool]:
    """Every file of `tools/`, by the name of its tool."""
    folder = importlib.import_module("etexport.device.flash.tools")
    modules = [
        importlib.import_module(f"{folder.__name__}.{entry.name}") for entry in pkgutil.iter_modules(folder.__path__)
    ]
    return {module.TOOL.name: module.TOOL for module in modules}


def failure(tool: Tool, job: Job, kind: str, said: str) -> EtError:
    """The error of a kind, each with its own exit code: 3 nobody there, 1 another chip, 4 not written, 2 something else
    is written."""
    words = "\n".join(f"    {line}" for line in [line for line in said.splitlines() if line.strip()][-_SHOWN_LINES:])
    tail = f"\n{words}" if words else ""
    where = f"{tool.name}, board {job.board.name}"
    if kind == PROBE:
        return DeviceLostError(
            f"no probe or board answers{tail}", where=where, hint="is it plugged in and on, and may you open it?"
        )
    if kind == CHIP:
        return BoardError(
            f"the chip is not the one that the board's file names{tail}",
            where=where,
            hint="another board, or another --board",
        )
    if kind == VERIFY:
        return MismatchError(
            f"what is in the flash differs from what was written{tail}",
            where=where,
            hint="write it again; else the flash is worn",
        )
    return DeviceFaultError(
        f"the flash could not be written{tail}", where=where, hint="is it protected, or did the connection break?"
    )


def diagnosed(tool: Tool, job: Job, status: int, said: str) -> EtError | None:
    """What a program's words and exit status mean; None where it wrote and verified."""
    for pattern, kind in tool.signs:
        if re.search(pattern, said, re.IGNORECASE):
            return failure(tool, job, kind, said)
    if status != 0 or (tool.success and not re.search(tool.success, said)):
        return failure(tool, job, WRITE, f"{said}\n{tool.name} ended with status {status}")
    return None
