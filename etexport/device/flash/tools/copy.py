"""Copies a file to the drive that a board shows: a UF2 loader in BOOTSEL, DAPLink, the drive of an ST-LINK or J-Link.

DAPLink leaves FAIL.TXT where it did not write; a UF2 loader has INFO_UF2.TXT, and goes away when it has taken
everything.
"""

from __future__ import annotations

import fnmatch
import os
import time
from pathlib import Path

from etexport.board import Board
from etexport.device.flash.tool import CHIP, PROBE, WRITE, Job, Tool, failure
from etexport.errors import BoardError

_MOUNTS = Path("/proc/self/mounts")
_FAILS_WITHIN_S = 3.0
"""DAPLink shows its drive again, with FAIL.TXT, after it has tried."""


def command(job: Job) -> tuple[str, ...]:
    attach = job.board.attach
    if attach is None or not attach.drive:
        raise BoardError(
            "'attach.drive' is missing", where=job.board.name, hint='drive = "RPI-RP2", drive_format = "uf2"'
        )
    return ("copy", str(job.image), job.place or f"the drive {attach.drive}")


def drive_of(label: str) -> Path | None:
    """Where the drive with this label is mounted; `*` stands for any characters."""
    mounted = (
        [Path(line.split()[1].replace("\\040", " ")) for line in _MOUNTS.read_text().splitlines()]
        if _MOUNTS.is_file()
        else []
    )
    return next((path for path in mounted if fnmatch.fnmatchcase(path.name, label) and str(path) != "/"), None)


def act(job: Job) -> None:
    attach = job.board.attach
    assert attach is not None, "command() was asked first"
    drive = Path(job.place) if job.place else drive_of(attach.drive)
    if drive is None or not drive.is_dir():
        raise failure(
            TOOL,
            job,
            PROBE,
            f"no drive {attach.drive} is mounted; a Pico shows it when BOOTSEL is held while it is plugged in",
        )
    _check_chip(job, drive)
    fail = drive / "FAIL.TXT"
    before = fail.read_text(errors="replace") if fail.is_file() else None
    try:
        with (drive / job.image.name).open("wb") as file:
            file.write(job.image.read_bytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise failure(TOOL, job, WRITE, f"{drive}: {error.strerror}") from error
    end = time.monotonic() + _FAILS_WITHIN_S
    while time.monotonic() < end and drive.is_dir():
        if fail.is_file() and (said := fail.read_text(errors="replace")) != before:
            raise failure(TOOL, job, WRITE, said)
        time.sleep(0.1)


def _check_chip(job: Job, drive: Path) -> None:
    """A UF2 loader takes blocks of its own family only, and says nothing of others: what it says of itself is looked at
    first."""
    info = drive / "INFO_UF2.TXT"
    if not info.is_file() or job.board.attach is None:
        return
    lines = [line for line in info.read_text(errors="replace").splitlines() if line.startswith("Board-ID:")]
    label = job.board.attach.drive
    if lines and not fnmatch.fnmatchcase(lines[0].split(":", 1)[1].strip(), label):
        raise failure(TOOL, job, CHIP, f"{lines[0]}, and the board's file says {label}")


def is_ready(board: Board) -> bool:
    return board.attach is not None and bool(board.attach.drive) and drive_of(board.attach.drive) is not None


TOOL = Tool("copy", "drive", command, act=act, is_ready=is_ready)
