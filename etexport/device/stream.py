"""What a board says, cut into text and frames of the link, whoever runs there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from etexport.device.messages import LONGEST_BLOCK, Message, decode, printable


@dataclass(frozen=True)
class Text:
    """A line, without its end; or as much of one as came before a pause."""

    line: str


@dataclass(frozen=True)
class Noise:
    """Bytes that are neither a frame nor text."""

    data: bytes


Piece = Text | Noise | Message

_LINE = re.compile(rb"\r?\n|\r(?!\n)")
_LONGEST_LINE = 1024


class Splitter:
    """Bytes in, pieces out. A frame lies between two bytes 0x00 and begins with its COBS code and a kind from 0x81 up,
    which no text does, so text need not wait for a delimiter that never comes."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[Piece]:
        *blocks, self._pending = (self._pending + data).split(b"\0")
        for block in filter(None, blocks):
            yield from _whole(block)
        if len(self._pending) > LONGEST_BLOCK:  # no frame, however it goes on
            yield from self.idle()
        elif not _may_be_frame(self._pending):
            *lines, rest = _LINE.split(self._pending)
            if lines and all(map(is_text, lines)):
                self._pending = rest
                yield from (Text(printable(line)) for line in lines)

    def idle(self) -> Iterator[Piece]:
        """Nothing came for a while: what is there is all of it, but for a frame that is on its way."""
        if self._pending and (not _may_be_frame(self._pending) or len(self._pending) > LONGEST_BLOCK):
            block, self._pending = self._pending, b""
            yield from _whole(block)

    def end(self) -> Iterator[Piece]:
        """Nothing more comes."""
        block, self._pending = self._pending, b""
        if block:
            yield from _whole(block)


def _may_be_frame(pending: bytes) -> bool:
    return len(pending) < 2 or pending[1] >= 0x80


def _whole(block: bytes) -> Iterator[Piece]:
    message = decode(block)
    if message is not None:
        yield message
    elif is_text(block):
        lines = _LINE.split(block)
        yield from (Text(printable(line[:_LONGEST_LINE])) for line in (lines[:-1] if not lines[-1] else lines))
    else:
        yield Noise(block)


def is_text(data: bytes) -> bool:
    """Lines of letters, whatever their language: what a wrong speed gives is hardly ever all printable."""
    text = data.replace(b"\0", b" ").decode(errors="replace")
    good = sum(
        (letter.isprintable() and letter != "\N{REPLACEMENT CHARACTER}") or letter in "\r\n\t\x1b" for letter in text
    )
    return good >= 0.9 * len(text)
