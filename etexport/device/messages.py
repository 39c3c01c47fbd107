"""Frames of the serial link, as `schema/link.md` lays them out: the page is read, not repeated.

`encode` and `decode` go between a `Message` and the bytes between two delimiters.
"""

from __future__ import annotations

import functools
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cobs import cobs

from etexport.resources import root

_SCALARS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i"}
_HEAD = struct.Struct("<BH")
_CRC = struct.Struct("<I")
_UNSEEDED = ("IDENTIFY", "HELLO")
"""Understood by every version, so their CRC does not start at the layout."""

LONGEST_BLOCK = 4096
"""Bytes between two delimiters; more is no frame. The longest is a TENSOR of 255 dimensions with a name of 255 bytes,
of 2.6 KB."""


@dataclass(frozen=True)
class Field:
    """`kind` is a scalar ("u32"), "text" or "bytes"; `count` names the field that says how many, "" for one."""

    name: str
    kind: str
    count: str = ""


@dataclass(frozen=True)
class MessageType:
    code: int
    name: str
    sender: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Layout:
    """The tables of the page. `hash` seeds the CRC of frames."""

    version: int
    hash: int
    messages: Mapping[str, MessageType]
    roles: Mapping[str, int]
    features: Mapping[str, int]
    reasons: Mapping[int, tuple[str, str]]
    """Code -> (name, meaning)."""
    registers: Mapping[int, tuple[str, tuple[str, ...]]]
    """Core -> (name, registers in the order of FAULT)."""
    reset_causes: Mapping[int, str]

    def of_code(self, code: int) -> MessageType | None:
        return next((message for message in self.messages.values() if message.code == code), None)


@dataclass(frozen=True)
class Message:
    kind: str
    sequence: int
    fields: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


@functools.cache
def layout(path: Path | None = None) -> Layout:
    """Read the page; without a path, the project's own."""
    text = (path or root() / "schema" / "link.md").read_text(encoding="utf-8")
    version = re.search(r"^# The serial link, version (\d+)$", text, re.MULTILINE)
    assert version, "schema/link.md names no version"
    rows = _table(text, "Messages")
    messages = {
        name: MessageType(int(code, 0), name, sender, tuple(map(_field, body.split())))
        for code, name, sender, body in rows
    }
    return Layout(
        version=int(version[1]),
        hash=zlib.crc32("".join(f"{' '.join(row).strip()}\n" for row in rows).encode()),
        messages=messages,
        roles={name: int(code) for code, name in _table(text, "Roles")},
        features={name: int(code) for code, name in _table(text, "Features")},
        reasons={int(code): (name, meaning) for code, name, meaning in _table(text, "Reasons")},
        registers={int(code): (core, tuple(names.split())) for code, core, names in _table(text, "Registers")},
        reset_causes={int(code): name for code, name in _table(text, "Reset causes")},
    )


def _table(text: str, heading: str) -> list[tuple[str, ...]]:
    """The cells of the first table below a heading, white space collapsed, without its two head lines."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(" ".join(cell.split()) for cell in line.strip().strip("|").split("|")) for line in lines[2:]]


def _field(text: str) -> Field:
    match = re.fullmatch(r"(\w+):(\w+)(?:\[(\w+)\])?", text)
    assert match, f"schema/link.md: cannot read the field {text!r}"
    return Field(match[1], match[2], match[3] or "")


def encode(kind: str, sequence: int, **fields: Any) -> bytes:
    """A frame with its delimiters."""
    page = layout()
    message = page.messages[kind]
    assert set(fields) == {field.name for field in message.fields}, (
        f"{kind} has {[field.name for field in message.fields]}"
    )
    body = b"".join(_pack(field, fields[field.name]) for field in message.fields)
    covered = _HEAD.pack(message.code, sequence) + body
    seed = 0 if kind in _UNSEEDED else page.hash
    stuffed: bytes = cobs.encode(covered + _CRC.pack(zlib.crc32(covered, seed)))
    return b"\0" + stuffed + b"\0"


def _pack(field: Field, value: Any) -> bytes:
    if field.kind == "bytes":
        return bytes(value)
    if field.kind == "text":
        data = value.encode()[:255]
        return bytes((len(data), *data))
    values: Sequence[int] = value if field.count else (value,)
    return struct.pack(f"<{len(values)}{_SCALARS[field.kind]}", *values)


def decode(block: bytes) -> Message | None:
    """What lies between two delimiters, if it is a frame; a HELLO of another layout has only `version` and `layout`."""
    page = layout()
    if len(block) > LONGEST_BLOCK:
        return None
    try:
        data = cobs.decode(block)
    except cobs.DecodeError:
        return None
    if len(data) < _HEAD.size + _CRC.size:
        return None
    covered, (crc,) = data[: -_CRC.size], _CRC.unpack(data[-_CRC.size :])
    code, sequence = _HEAD.unpack_from(covered)
    message = page.of_code(code)
    seed = 0 if message is not None and message.name in _UNSEEDED else page.hash
    if message is None or zlib.crc32(covered, seed) != crc:
        return None
    body = covered[_HEAD.size :]
    if message.name == "HELLO" and len(body) >= 6:
        version, other = struct.unpack_from("<HI", body)
        if (version, other) != (page.version, page.hash):
            return Message("HELLO", sequence, {"version": version, "layout": other})
    fields = _unpack(message, body)
    return None if fields is None else Message(message.name, sequence, fields)


def printable(data: bytes) -> str:
    """What a board says, with nothing in it that a terminal would obey."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in data.decode(errors="replace")
    )


def _unpack(message: MessageType, body: bytes) -> dict[str, Any] | None:
    fields: dict[str, Any] = {}
    at = 0
    for field in message.fields:
        if field.kind == "bytes":
            fields[field.name] = body[at:]
            at = len(body)
        elif field.kind == "text":
            end = at + 1 + (body[at] if at < len(body) else 0)
            fields[field.name] = printable(body[at + 1 : end])
            at = end
        else:
            count = fields[field.count] if field.count else 1
            part = struct.Struct(f"<{count}{_SCALARS[field.kind]}")
            if at + part.size > len(body):
                return None
            values = part.unpack_from(body, at)
            fields[field.name] = values if field.count else values[0]
            at += part.size
        if at > len(body):
            return None
    return fields if at == len(body) else None
