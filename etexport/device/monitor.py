"""Watch a port: text as it comes, frames of the link a line each, faults in the terms of the script, and why nothing
comes."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from etexport.board import Board
from etexport.device.fault import decode as decode_fault
from etexport.device.fault import error as fault_error
from etexport.device.hello import Hello, hello_of
from etexport.device.link import Nobody, other_version
from etexport.device.messages import Message, encode, layout
from etexport.device.session import Attached, Line, attach, is_launched
from etexport.device.stream import Noise, Piece, Splitter, Text
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceLostError, EtError

_LOOK_S = 0.2
"""Between looks; text that comes without the end of a line is shown after it."""
_NO_FRAME_S = 1.0
"""A frame does not pause for so long: what is there is none."""
_ASK_AGAIN_S = 1.0
_REOPEN_S = 0.5
_ENOUGH_NOISE = 64
"""Bytes after which a line that says nothing is called one of another speed."""
_SHOWN_BYTES = 16

Say = Callable[[str], None]


def watch(
    line: Line,
    board: Board | None,
    elf: Path | None,
    show: Say,
    notice: Say,
    *,
    seconds: float | None = None,
    log: Path | None = None,
) -> None:
    """Show what comes until `seconds` have gone by (for ever, if None). `show` gets what the board says, `notice` what
    is to be said of it.

    A port that goes away is waited for. Raises DeviceLostError where the port cannot be opened at first, and at the end
    where nothing of use came: no bytes, another speed, an older link.
    """
    end = None if seconds is None else time.monotonic() + seconds
    watcher = _Watcher(board, elf, show, notice)
    first, gone = True, 0.0
    with WireLog(log) as wire:
        while end is None or time.monotonic() < end:
            try:
                with attach(board, elf, line) as attached:
                    notice(f"watching {attached.port.url}" if first else f"back after {time.monotonic() - gone:.1f} s")
                    first = False
                    watcher.listen(attached, wire, end)
            except DeviceLostError as lost:
                if first or is_launched(board, line):
                    raise
                if not gone or not watcher.waiting:
                    notice(f"{lost.what}; waiting for it to come back")
                    gone, watcher.waiting = time.monotonic(), True
                time.sleep(_REOPEN_S)
            else:
                break
    watcher.verdict(seconds)


def tell(stream: int, show: Say) -> None:
    """Show what the bytes of an open file say, to its end."""
    splitter = Splitter()
    while True:
        is_quiet = not select.select([stream], [], [], _LOOK_S)[0]
        data = b"" if is_quiet else os.read(stream, 65536)
        at_end = not is_quiet and not data
        for piece in splitter.end() if at_end else splitter.feed(data) if data else splitter.idle():
            show(_said(piece))
        if at_end:
            return


def _said(piece: Piece) -> str:
    """One line."""
    if isinstance(piece, Text):
        return piece.line
    if isinstance(piece, Noise):
        more = f" ... ({len(piece.data):,} bytes)" if len(piece.data) > _SHOWN_BYTES else ""
        return f"? {piece.data[:_SHOWN_BYTES].hex(' ')}{more}"
    return in_words(piece)


class _Watcher:
    def __init__(self, board: Board | None, elf: Path | None, show: Say, notice: Say) -> None:
        self._board, self._elf, self._show, self._notice = board, elf, show, notice
        self._nobody = Nobody()
        self._frames = 0
        self._text = 0
        self._noise = 0
        self._said: set[str] = set()
        self._other: DeviceLostError | None = None
        self._hello: Hello | None = None
        self.waiting = False
        """For a port that went away."""
        self._url, self._baud = "", 0

    def listen(self, attached: Attached, wire: WireLog, end: float | None) -> None:
        """Until the end, or DeviceLostError when the port goes away."""
        port, splitter = attached.port, Splitter()
        self._url, self._baud, self.waiting = port.url, port.baud, False
        began = last = time.monotonic()
        ask_at, sign_s, sequence = began, 1.0, 0
        answered = False
        page = layout()
        while end is None or time.monotonic() < end:
            now = time.monotonic()
            if not answered and now >= ask_at and self._other is None:
                sequence += 1
                question = encode("IDENTIFY", sequence, version=page.version, layout=page.hash)
                wire.sent(question)
                port.write(question)
                ask_at = now + _ASK_AGAIN_S * min(sequence, 10)
            data = port.read(_LOOK_S)
            wire.received(data)
            self._nobody.heard(data)
            quiet = splitter.end() if time.monotonic() - last > _NO_FRAME_S else splitter.idle()
            for piece in splitter.feed(data) if data else quiet:
                self._tell(piece)
                answered |= isinstance(piece, Message)
            now = time.monotonic()
            last = now if data else last
            if now - last >= sign_s and not answered:
                self._notice(
                    f"waiting for {port.url}: {'nothing more' if self._nobody.bytes else 'no bytes'} for "
                    f"{now - last:.0f} s"
                )
                sign_s *= 2
            self._judge()
        for piece in splitter.end():
            self._tell(piece)

    def _tell(self, piece: Piece) -> None:
        self._show(self._fault(piece) if isinstance(piece, Message) and piece.kind == "FAULT" else _said(piece))
        if isinstance(piece, Text):
            self._text += 1
        elif isinstance(piece, Noise):
            self._noise += len(piece.data)
        else:
            self._frames += 1
            if piece.kind == "HELLO":
                self._greeted(piece)

    def _fault(self, message: Message) -> str:
        if self._board is None or self._elf is None:
            names = layout().registers.get(message["core"], ("", ()))[1]
            registers = "  ".join(
                f"{name} {value:08x}" for name, value in zip(names, message["registers"], strict=False)
            )
            return f"FAULT  {registers}\n  hint: with the build folder its line of the script is named"
        try:
            return f"FAULT  {fault_error(decode_fault(message, self._elf, self._board))}"
        except EtError as error:
            return f"FAULT  which cannot be read: {error}"

    def _greeted(self, message: Message) -> None:
        if len(message.fields) == 2:
            self._other = other_version(message["version"], message["layout"], self._url)
            self._once("version", str(self._other))
            return
        try:
            hello = hello_of(message, self._url)
        except DeviceLostError as error:
            self._once("hello", str(error))
            return
        if self._hello is not None and hello.boot != self._hello.boot:
            self._notice(f"the board was reset: it has started {hello.boot} times, before it was {self._hello.boot}")
        self._hello = hello

    def _judge(self) -> None:
        if self._frames:
            return
        if self._noise >= _ENOUGH_NOISE and not self._text:
            self._once("speed", str(self._nobody.error(None, self._url, self._baud)))
        elif self._text >= 3:
            self._once("text", "it says text, and has not answered HELLO: another firmware runs there, or it is busy")

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._notice(text)

    def verdict(self, seconds: float | None) -> None:
        """At the end: DeviceLostError where nothing of use came."""
        if self._other is not None:
            raise self._other
        if not self._frames and not self._text:
            raise self._nobody.error(seconds, self._url, self._baud)


def in_words(message: Message) -> str:
    """One line about a frame."""
    fields = dict(message.fields)
    words = [f"{message.kind:8}"]
    for name, value in fields.items():
        if isinstance(value, bytes):
            words.append(
                f"{name} {len(value):,} bytes {value[:_SHOWN_BYTES].hex()}{'...' if len(value) > _SHOWN_BYTES else ''}"
            )
        elif name in ("program_hash",):
            words.append(f"{name} {value:016x}")
        elif name in ("layout", "image_crc", "crc"):
            words.append(f"{name} {value:08x}")
        elif name == "reason":
            words.append(f"{name} {layout().reasons.get(value, (str(value), ''))[0]}")
        elif name == "reset_cause":
            words.append(f"{name} {layout().reset_causes.get(value, str(value))}")
        elif name == "role":
            words.append(next((role for role, code in layout().roles.items() if code == value), f"role {value}"))
        elif isinstance(value, tuple):
            words.append(f"{name} [{', '.join(map(str, value))}]")
        else:
            words.append(f"{name} {value}")
    return "  ".join(words)
