"""`wire.log`: every byte of both directions, a line a frame.

`> RUN 7 <hex>` went to the board, `< DONE 7 <hex>` came from it; what is no frame is called `?`. No times, so that two
logs can be compared. Of what is no frame, `MOST_NOISE` bytes are kept and the rest is counted: a line that is flooded
fills no disk.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from etexport.device.messages import LONGEST_BLOCK, decode

MOST_NOISE = 8 << 20
"""Bytes; four minutes of the fastest UART."""


class WireLog:
    """Writes to `path`, or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("w", encoding="ascii", buffering=1) if path is not None else None
        self._pending = {">": b"", "<": b""}
        self._noise = 0

    def sent(self, data: bytes) -> None:
        self._add(">", data)

    def received(self, data: bytes) -> None:
        self._add("<", data)

    def close(self) -> None:
        if self._file is not None:
            for direction, pending in self._pending.items():
                self._add_noise(direction, pending)
            if self._noise > MOST_NOISE:
                self._file.write(f"? {self._noise - MOST_NOISE:,} further bytes that were no frames are left out\n")
            self._file.close()
            self._file = None

    def __enter__(self) -> WireLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, direction: str, data: bytes) -> None:
        """A line ends behind the delimiter that ends a frame; the one before a frame begins it."""
        if self._file is None:
            return
        pending = self._pending[direction] + data
        while (end := pending.find(b"\0", len(pending) - len(pending.lstrip(b"\0")))) >= 0:
            line, pending = pending[: end + 1], pending[end + 1 :]
            message = decode(line.strip(b"\0"))
            if message is not None:
                self._file.write(f"{direction} {message.kind} {message.sequence} {line.hex()}\n")
            else:
                self._add_noise(direction, line)
        if len(pending) > LONGEST_BLOCK:  # a flood without delimiters: it is no frame, however it goes on
            self._add_noise(direction, pending)
            pending = b""
        self._pending[direction] = pending

    def _add_noise(self, direction: str, data: bytes) -> None:
        kept = data[: max(MOST_NOISE - self._noise, 0)]
        self._noise += len(data)
        if kept and self._file is not None:
            self._file.write(f"{direction} ? {kept.hex()}\n")
