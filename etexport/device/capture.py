"""Outputs of a board as they come, for hours: what is lost is marked, what is away is waited for, and it goes on from
there.

Two ways. The bundled firmware is given inputs and runs (`stream`). A firmware of one's own runs by itself, and says
what went in and came out with `et::capture` (firmware/et/capture.h): that is listened to (`listen`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from etexport.board import Board
from etexport.device.hello import Tensor, in_logical_order, tensor_of
from etexport.device.link import Nobody
from etexport.device.messages import Message
from etexport.device.run import Sample, match
from etexport.device.session import Line, OtherFirmwareError, Session, attach, is_launched, session
from etexport.device.stream import Splitter, Text
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceLostError, Errors, ModelError
from etexport.program.model import Array

_REOPEN_S = 0.3
_LOOK_S = 0.2
_LONGEST = 1 << 30
"""Bytes of a tensor; a larger one is a lie."""
_MOST_TENSORS = 1024

Notice = Callable[[str], None]


class Sink(Protocol):
    """Where records and gaps go: `etexport.artifacts.captured.CaptureFile`."""

    def record(
        self, sequence: int, time: float, board: str, program_hash: int, boot: int, run: int,
        inputs: tuple[Array, ...], outputs: tuple[Array, ...],
    ) -> None: ...  # fmt: skip

    def gap(self, before: int, time: float, seconds: float, reason: str) -> None: ...


@dataclass
class Total:
    records: int = 0
    gaps: int = 0


class _Breaks:
    """Marks what is missing between records."""

    def __init__(self, out: Sink, total: Total, notice: Notice, wait_s: float) -> None:
        self._out, self._total, self._notice, self._wait_s = out, total, notice, wait_s
        self._reason, self._began, self._clock = "", 0.0, 0.0

    def begin(self, lost: DeviceLostError) -> None:
        """Nothing comes; DeviceLostError once nothing has come for too long."""
        if not self._reason:
            self._reason, self._began, self._clock = lost.what, time.time(), time.monotonic()
            self._notice(f"gap after record {self._total.records}: {lost.what}; waiting")
        elif time.monotonic() - self._clock > self._wait_s:
            what = f"{self._reason}; nothing came back in {self._wait_s:.0f} s, {self._total.records} records are kept"
            raise DeviceLostError(what, where=lost.where, hint=lost.hint)

    def end(self) -> None:
        if self._reason:
            seconds = time.monotonic() - self._clock
            self.mark(self._reason, seconds, self._began)
            self._notice(f"back after {seconds:.1f} s")
            self._reason = ""

    def mark(self, reason: str, seconds: float = 0.0, began: float | None = None) -> None:
        self._total.gaps += 1
        self._out.gap(self._total.records + 1, time.time() - seconds if began is None else began, seconds, reason)


def stream(
    elf: Path, board: Board, line: Line, inputs: Iterator[Sample], out: Sink, notice: Notice, *,
    wait_s: float = 600.0, timeout_s: float = 60.0, log: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Total:  # fmt: skip
    """Run each of `inputs` on the board and write what it made. A reset or a line that breaks is a gap: it is waited
    for up to `wait_s`, and the run that it broke is done again. Raises what `run` does where the board cannot be
    reached at first, runs another firmware, or faults."""
    total = Total()
    breaks = _Breaks(out, total, notice, wait_s)
    pending: Sample | None = next(inputs, None)
    first = True
    while pending is not None:
        try:
            with session(elf, board, line, log=log if first else None, waiting=notice if first else None) as there:
                first = False
                breaks.end()
                number = there.hello.runs
                while pending is not None:
                    number += 1
                    sample = match(pending, there.hello.methods[there.hello.method("")].inputs, total.records)
                    result = there.link.run(there.hello, number, sample, timeout_s)
                    _write(out, total, there, number, sample, result.outputs)
                    if progress is not None:
                        progress(total.records)
                    pending = next(inputs, None)
                if there.running is not None:
                    there.link.exit(0)
        except (OtherFirmwareError, Errors):
            raise
        except DeviceLostError as lost:
            if first or is_launched(board, line):
                raise
            breaks.begin(lost)
            time.sleep(_REOPEN_S)
    return total


def _write(
    out: Sink, total: Total, there: Session, number: int, inputs: Sequence[Array], outputs: Sequence[Array]
) -> None:
    total.records += 1
    hello = there.hello
    out.record(
        total.records, time.time(), hello.board, hello.program_hash, hello.boot, number, tuple(inputs), tuple(outputs)
    )


# ---- a firmware of one's own -----------------------------------------------------------------------------------------


@dataclass
class _Side:
    """The inputs or the outputs of one run, as far as they have come."""

    count: int
    tensors: dict[int, Tensor] = field(default_factory=dict)
    data: dict[int, bytearray] = field(default_factory=dict)

    def add(self, message: Message, where: str) -> None:
        at, told = message["index"], dict(message.fields)
        tensor = tensor_of(told | {"name": ""}, f"tensor {at}", _LONGEST, where)
        known = self.data.setdefault(at, bytearray())
        self.tensors[at] = tensor
        if message["offset"] == len(known) and len(known) + len(message["data"]) <= tensor.size:
            known += message["data"]

    def whole(self) -> tuple[Array, ...] | None:
        if len(self.data) != self.count or any(len(self.data[at]) != self.tensors[at].size for at in self.data):
            return None
        return tuple(in_logical_order(self.tensors[at], bytes(self.data[at])) for at in sorted(self.data))


class _Listener:
    """Makes records of CAPTURE frames: inputs of a run, if they are sent, then its outputs."""

    def __init__(
        self, out: Sink, total: Total, breaks: _Breaks, board: str, program_hash: int | None, where: str
    ) -> None:
        self._out, self._total, self._breaks, self._board, self._hash, self._where = (
            out,
            total,
            breaks,
            board,
            program_hash,
            where,
        )
        self._method: int | None = None
        self._number: int | None = None
        self._last: int | None = None
        self._sides: dict[int, _Side] = {}

    def take(self, message: Message) -> bool:
        """True where it ended a record."""
        if self._hash is not None and message["program_hash"] != self._hash:
            what = f"the board runs another program: {message['program_hash']:016x}; the folder's is {self._hash:016x}"
            raise OtherFirmwareError(what, where=self._where, hint="write the firmware again")
        if not 0 < message["tensors"] <= _MOST_TENSORS or message["index"] >= message["tensors"]:
            return False
        if self._method not in (None, message["method"]):
            what = f"the board captures its methods number {self._method} and {message['method']}; records are of one"
            raise OtherFirmwareError(what, where=self._where, hint="call et::capture for one method")
        self._method = message["method"]
        number, role = message["number"], message["role"]
        if number != self._number:
            self._number, self._sides = number, {}
        side = self._sides.setdefault(role, _Side(message["tensors"]))
        side.add(message, self._where)
        outputs = side.whole() if role == 1 else None
        if outputs is None:
            return False
        self._order(number)
        self._total.records += 1
        inputs = self._sides[0].whole() if 0 in self._sides else ()
        if inputs is None:
            self._breaks.mark(f"the inputs of run {number} did not come whole")
        self._out.record(
            self._total.records, time.time(), self._board, message["program_hash"], 0, number, inputs or (), outputs
        )
        self._last, self._number, self._sides = number, None, {}
        return True

    def _order(self, number: int) -> None:
        """Numbers go up by one: what is missing was lost, and what goes back is a board that started again."""
        if self._last is None or number == self._last + 1:
            return
        if number > self._last:
            self._breaks.mark(f"{number - self._last - 1} runs were lost: {self._last + 1} to {number - 1}")
        else:
            self._breaks.mark(f"the board was reset: after run {self._last} came run {number}")


def listen(
    board: Board, line: Line, elf: Path | None, program_hash: int | None, out: Sink, notice: Notice, *,
    records: int | None = None, seconds: float | None = None, wait_s: float = 600.0, log: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Total:  # fmt: skip
    """Write what a firmware of one's own says with `et::capture`, until so many records have come or so many seconds
    have gone by. Text that it says is passed on to `notice`. What is lost or broken off is marked; a port that goes
    away is waited for."""
    total = Total()
    breaks = _Breaks(out, total, notice, wait_s)
    end = math.inf if seconds is None else time.monotonic() + seconds
    listener: _Listener | None = None
    heard, url, baud = Nobody(), line.url, 0
    with WireLog(log) as wire:
        while time.monotonic() < end and (records is None or total.records < records):
            try:
                with attach(board, elf, line) as attached:
                    port, splitter = attached.port, Splitter()
                    url, baud = port.url, port.baud
                    listener = listener or _Listener(out, total, breaks, board.name, program_hash, port.url)
                    quiet_since, sign_s = time.monotonic(), 1.0
                    while time.monotonic() < end and (records is None or total.records < records):
                        data = port.read(_LOOK_S)
                        wire.received(data)
                        heard.heard(data)
                        for piece in splitter.feed(data) if data else splitter.idle():
                            if isinstance(piece, Text):
                                notice(f"the board says: {piece.line}")
                            elif isinstance(piece, Message) and piece.kind == "CAPTURE":
                                breaks.end()
                                if listener.take(piece) and progress is not None:
                                    progress(total.records)
                                quiet_since, sign_s = time.monotonic(), 1.0
                            if records is not None and total.records >= records:
                                break
                        if time.monotonic() - quiet_since > sign_s:
                            notice(f"waiting for {url}: no record for {time.monotonic() - quiet_since:.0f} s")
                            sign_s *= 2
            except OtherFirmwareError:
                raise
            except DeviceLostError as lost:
                if listener is None or is_launched(board, line):
                    raise
                breaks.begin(lost)
                time.sleep(_REOPEN_S)
    if not total.records:
        raise heard.error(seconds, url, baud)
    return total


def repeated(samples: Sequence[Sample], count: int | None, seconds: float | None) -> Iterator[Sample]:
    """The samples, once; or again and again until there were `count`, or for so many seconds."""
    if not samples:
        raise ModelError("there are no samples to capture with")
    end = math.inf if seconds is None else time.monotonic() + seconds
    total = count if count is not None else len(samples) if seconds is None else None
    at = 0
    while (total is None or at < total) and time.monotonic() < end:
        yield samples[at % len(samples)]
        at += 1
