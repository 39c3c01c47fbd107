"""The boards of `pytest --hardware-map FILE`: what is attached, and which of them a test may have.

[[board]]
name = "st_nucleo_f446re"     # of `etexport boards`, or a path to a .toml
serial = "066EFF505282"       # of its USB adapter; the port is found by it
port = "/dev/ttyACM0"         # or a URL; without either: its simulator, or the port that its USB ids are found at
flash_tool = "openocd"        # as `etexport flash --tool`, and `--at`
flash_at = ""
lacks = ["counter"]           # what this one cannot do, beyond what its file says
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from etexport.board import count_of, load_board
from etexport.device.port import serial_ports
from etexport.errors import BoardError, DeviceLostError, EtError, raise_all

CAPABILITIES = ("counter",)
"""What a test may need (`@pytest.mark.on_board(needs=("counter",))`) and a board lack."""


@dataclass(frozen=True)
class Entry:
    name: str
    serial: str = ""
    port: str = ""
    flash_tool: str = ""
    flash_at: str = ""
    lacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Of a test's name and of messages: two boards of a kind differ."""
        return "-".join(filter(None, (Path(self.name).stem, self.serial or self.port)))

    @property
    def url(self) -> str:
        """Its port, found by the serial number; "" where neither is stated."""
        if not self.serial or self.port:
            return self.port
        there = serial_ports()
        found = [port for port in there if port.serial_number == self.serial]
        if not found:
            seen = ", ".join(f"{port.device} ({port.serial_number})" for port in there if port.serial_number) or "none"
            raise DeviceLostError(
                f"no port has serial number {self.serial}", where=str(self), hint=f"attached with a number: {seen}"
            )
        attach = load_board(self.name).attach
        return found[min(attach.usb_port if attach is not None else 0, len(found) - 1)].device


def read_map(path: Path) -> tuple[Entry, ...]:
    """What the file says; BoardError with every mistake in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BoardError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardError(f"is not TOML: {error}", where=str(path)) from error
    errors: list[EtError] = []
    listed = table.get("board")
    if set(table) != {"board"} or not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BoardError(
            "is no list of boards", where=str(path), hint="[[board]] with a name for each: docs/hardware.md"
        )
    entries = [
        entry
        for number, one in enumerate(listed, 1)
        if (entry := _entry(one, f"{path}, board {number}", errors)) is not None
    ]
    known: set[str] = set()
    for entry in entries:
        if str(entry) in known:
            errors.append(
                BoardError(
                    f"two entries are {entry}", where=str(path), hint="serial or port tells two boards of a kind apart"
                )
            )
        known.add(str(entry))
    raise_all(errors)
    return tuple(entries)


def _entry(table: dict[str, Any], where: str, errors: list[EtError]) -> Entry | None:
    keys = [field.name for field in fields(Entry)]
    before = len(errors)
    for key, value in table.items():
        if key not in keys:
            errors.append(BoardError(f"unknown key {key!r}", where=where, hint=f"known: {', '.join(keys)}"))
        elif key == "lacks" and (not isinstance(value, list) or not set(map(str, value)) <= set(CAPABILITIES)):
            errors.append(
                BoardError(f"'lacks' is {value!r}", where=where, hint=f"a list of: {', '.join(CAPABILITIES)}")
            )
        elif key != "lacks" and not isinstance(value, str):
            errors.append(BoardError(f"{key!r} is {value!r}, which is no text", where=where))
    if "name" not in table:
        errors.append(
            BoardError("'name' is missing", where=where, hint="a name of `etexport boards`, or a path to a .toml")
        )
    if len(errors) > before:
        return None
    try:
        load_board(table["name"])
    except EtError as error:
        errors.append(error)
        return None
    return Entry(**{**table, "lacks": tuple(table.get("lacks", ()))})


def unfit(entry: Entry, boards: Sequence[str], needs: Sequence[str]) -> str:
    """Why a test that is for these boards (patterns; none: for all) and needs these capabilities cannot have this one;
    "" if it can."""
    if boards and not any(fnmatch(Path(entry.name).stem, pattern) for pattern in boards):
        return f"not for {entry}: the test is for {', '.join(boards)}"
    lacked = [need for need in needs if need in entry.lacks or (need == "counter" and _is_still(entry))]
    return f"{entry} lacks {', '.join(f'a {need}' for need in lacked)}" if lacked else ""


def _is_still(entry: Entry) -> bool:
    board = load_board(entry.name)
    return count_of(board, simulated=not (entry.port or entry.serial) and board.simulator is not None).still
