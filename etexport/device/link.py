"""The host's side of the serial link: questions, asked again until they are answered, and what a run brings.

`schema/link.md` is the protocol. Whatever the bytes on the way do, a value that leaves here is one that the board sent, or an
error says what went wrong.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etexport.device.messages import Message, decode, encode, layout
from etexport.device.port import Port
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceLostError, ModelError
from etexport.program.model import Array, DType

ASK_AGAIN_S = 0.25
"""First pause after which a question is asked again, until it is known how fast the board answers; it doubles up to `_LONGEST_PAUSE_S`."""
_SHORTEST_PAUSE_S = 0.1
_ROUND_TRIPS = 8
"""A board that takes so many times as long as the slowest answer yet is asked again."""
_LONGEST_PAUSE_S = 0.5
_LONGEST_RUN_PAUSE_S = 2.0
"""The same while a program runs, when no answer is what one expects."""
_SILENCE_S = 20.0
"""A board that should answer at once and says nothing for so long is lost."""
_READ_BYTES = 128
"""Of one READ. It is asked where a longer piece was lost, so the line is bad."""
_ATTEMPTS = 4


@dataclass(frozen=True)
class Tensor:
    """An input or output as the board has it: logical shape, dimensions in memory from outermost to innermost."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    dim_order: tuple[int, ...]
    size: int
    """Bytes."""

    @property
    def memory_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[dimension] for dimension in self.dim_order)


@dataclass(frozen=True)
class Hello:
    """What the board says of itself. `inputs` and `outputs` are asked for once, and belong to it."""

    version: int
    layout: int
    boot: int
    reset_cause: str
    runs: int
    """Since the board started."""
    program_hash: int
    image_crc: int
    image_bytes: int
    steps: int
    init_ticks: int
    stack_bytes: int
    stack_used: int
    chunk: int
    features: frozenset[str]
    """"probes", "trace"."""
    bad_frames: int
    board: str
    program: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """One run: outputs in logical order, ticks of the counter over the program and over nothing."""

    outputs: tuple[Array, ...]
    ticks: int
    overhead: int
    probes: tuple[int, ...] = ()
    """Ticks before each step and after the last, and last of all what a mark costs; empty without probes."""
    trace: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    """(step, output) -> bytes as they lie in memory; empty without traces."""


_NOISE = Message("NOISE", -1, {})
"""Stands for bytes between two delimiters that were no frame."""


class FaultReported(Exception):
    """The board sent FAULT: raised here, made a DeviceFaultError with names by `etexport.device.fault`."""

    def __init__(self, message: Message) -> None:
        super().__init__("the board reported a fault")
        self.message = message


class _Refused(Exception):
    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message
        self.reason = layout().reasons.get(message["reason"], ("?", "unknown reason"))[0]


@dataclass
class _Open:
    """A question under way."""

    index: int
    kind: str
    frame: bytes
    order: int = 0
    """Place among everything sent, for the last time it was."""
    asked: float = 0.0
    """When it was first sent; 0 once it was sent again."""


class Link:
    """A conversation over an open port. `window` questions may be under way at once; a board without a receive buffer takes one."""

    def __init__(self, port: Port, log: WireLog, *, window: int = 1, nonce: int = 1) -> None:
        self._port = port
        self._log = log
        self._window = window
        self._sequence = nonce
        self._order = 0
        self._pending = b""
        self._inbox: deque[Message] = deque()
        self.bytes_received = 0
        self.bad_frames = 0
        """Pieces between delimiters that were no frames."""
        self.asked_again = 0
        self._first_bytes = b""
        self._slowest = 0.0
        """Seconds, the longest that an answer took that was asked for once."""

    # ---- one level down: frames ----

    def _send(self, frame: bytes) -> int:
        self._log.sent(frame)
        self._port.write(frame)
        self._order += 1
        return self._order

    def _receive(self, wait_s: float) -> Message | None:
        """The next good frame, `_NOISE` where one may have been, or None after `wait_s`. A fault is raised, whenever it comes."""
        end = time.monotonic() + wait_s
        while not self._inbox:
            data = self._port.read(max(end - time.monotonic(), 0.0))
            if data:
                self._take(data)
            elif time.monotonic() >= end:
                return None
        message = self._inbox.popleft()
        if message.kind == "FAULT":
            raise FaultReported(message)
        return message

    def _take(self, data: bytes) -> None:
        self._log.received(data)
        self.bytes_received += len(data)
        self._first_bytes = (self._first_bytes + data)[:80]
        *blocks, self._pending = (self._pending + data).split(b"\0")
        for block in filter(None, blocks):
            message = decode(block)
            if message is None:
                self.bad_frames += 1
                self._inbox.append(_NOISE)
            else:
                self._inbox.append(message)

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFF
        return self._sequence

    # ---- questions and answers ----

    def _ask(self, questions: Iterable[tuple[str, Mapping[str, Any]]], answer: str) -> list[Message]:
        """Ask all, again where no answer comes, and give the answers in the same order. `answer` is the kind that is right."""
        waiting = deque(enumerate(questions))
        answers: dict[int, Message] = {}
        count = len(waiting)
        under_way: dict[int, _Open] = {}
        pause = self._pause()
        heard = time.monotonic()
        while len(answers) < count:
            while waiting and len(under_way) < self._window:
                index, (kind, fields) = waiting.popleft()
                sequence = self._next_sequence()
                question = _Open(index, kind, encode(kind, sequence, **fields), asked=time.monotonic())
                question.order = self._send(question.frame)
                under_way[sequence] = question
            message = self._receive(pause)
            if message is None:
                if time.monotonic() - heard > _SILENCE_S:
                    raise self._silent(next(iter(under_way.values())).kind)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._send_again(list(under_way.values()))
                continue
            if message is _NOISE:
                # Answers keep the order of questions, so it was the oldest's, if it was an answer.
                self._send_again([min(under_way.values(), key=lambda question: question.order)])
                continue
            heard = time.monotonic()
            if message.sequence not in under_way or message.kind not in (answer, "REFUSED"):
                continue
            if message.kind == "REFUSED":
                raise _Refused(message)
            question = under_way.pop(message.sequence)
            answers[question.index] = message
            if question.asked:
                self._slowest = max(self._slowest, heard - question.asked)
            pause = self._pause()
            # The line keeps the order, so what was asked earlier and is not answered yet was lost on its way.
            self._send_again([other for other in under_way.values() if other.order < question.order])
        return [answers[index] for index in range(count)]

    def _send_again(self, questions: Sequence[_Open]) -> None:
        for question in questions:
            question.order = self._send(question.frame)
            question.asked = 0.0
            self.asked_again += 1

    def _pause(self) -> float:
        """How long to wait for an answer: `ASK_AGAIN_S`, or less once the board has shown that it is quicker."""
        return min(max(_ROUND_TRIPS * self._slowest, _SHORTEST_PAUSE_S), ASK_AGAIN_S) if self._slowest else ASK_AGAIN_S

    def _silent(self, kind: str) -> DeviceLostError:
        return DeviceLostError(f"the board stopped answering: no answer to {kind} in {_SILENCE_S:.0f} s", where=self._port.url)

    # ---- HELLO ----

    def identify(self, timeout_s: float) -> Hello:
        """Who is there; DeviceLostError that tells apart no bytes, bytes that are no frames, and another version of the link."""
        page = layout()
        sequence = self._next_sequence()
        frame = encode("IDENTIFY", sequence, version=page.version, layout=page.hash)
        end = time.monotonic() + timeout_s
        pause = ASK_AGAIN_S
        heard_before = self.bytes_received
        while (left := end - time.monotonic()) > 0:
            self._send(frame)
            again = time.monotonic() + min(pause, left)
            while (wait_s := again - time.monotonic()) > 0:
                message = self._receive(wait_s)
                if message is None or message.kind != "HELLO":
                    continue
                if len(message.fields) == 2:
                    raise DeviceLostError(
                        f"the board speaks version {message['version']} of the link (layout {message['layout']:08x}), "
                        f"this is version {page.version} (layout {page.hash:08x})",
                        where=self._port.url,
                        hint="write the firmware again with this version of etexport",
                    )
                if message.sequence == sequence:
                    return self._hello(message)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise self._nobody(timeout_s, self.bytes_received - heard_before)

    def _nobody(self, timeout_s: float, heard: int) -> DeviceLostError:
        if heard == 0:
            what, hint = f"no bytes came in {timeout_s:.0f} s", "is the board on, and is it this port?"
        else:
            what = f"{heard} bytes came in {timeout_s:.0f} s, but no frame of the link; they begin {self._first_bytes!r}"
            hint = "another firmware, or another baud rate"
        return DeviceLostError(what, where=self._port.url, hint=hint)

    def _hello(self, message: Message) -> Hello:
        page = layout()
        told = dict(message.fields)
        told["features"] = frozenset(name for name, bit in page.features.items() if told["features"] & bit)
        told["reset_cause"] = page.reset_causes.get(told["reset_cause"], f"cause {told['reset_cause']}")
        inputs, outputs = told.pop("inputs"), told.pop("outputs")
        return Hello(**told, inputs=self._tensors("input", inputs), outputs=self._tensors("output", outputs))

    def _tensors(self, role: str, count: int) -> tuple[Tensor, ...]:
        questions = [("DESCRIBE", {"role": layout().roles[role], "index": index}) for index in range(count)]
        try:
            answers = self._ask(questions, "TENSOR")
        except _Refused as refused:
            raise self._told_off(refused) from None
        return tuple(
            Tensor(told["name"], DType.of_code(told["dtype"]), tuple(told["sizes"]), tuple(told["dim_order"]), told["size"])
            for told in answers
        )

    # ---- runs ----

    def run(self, hello: Hello, number: int, inputs: Sequence[Array], timeout_s: float) -> Result:
        """Send the inputs (logical order), run the program as run `number`, and bring what it made."""
        arrays = [in_memory(tensor, array) for tensor, array in zip(hello.inputs, inputs, strict=True)]
        for _ in range(_ATTEMPTS):
            try:
                self._send_inputs(hello, number, arrays)
                return self._run(hello, number, arrays, timeout_s)
            except _Refused as refused:
                if refused.reason != "crc":
                    raise self._told_off(refused, hello) from None
                # Something that was not an input frame of this run wrote there; once more from the start.
        raise DeviceLostError(
            f"the board's inputs are not what was sent, {_ATTEMPTS} times", where=self._port.url, hint="something else writes to its memory"
        )

    def _send_inputs(self, hello: Hello, number: int, arrays: Sequence[Array]) -> None:
        questions: list[tuple[str, Mapping[str, Any]]] = []
        for index, (tensor, array) in enumerate(zip(hello.inputs, arrays, strict=True)):
            described = {
                "dtype": tensor.dtype.code, "rank": len(tensor.shape), "sizes": tensor.shape, "dim_order": tensor.dim_order,
            }  # fmt: skip
            questions.append(("INPUT", {"run": number, "index": index, **described}))
            data = array.tobytes()
            for offset in range(0, len(data), hello.chunk):
                chunk = data[offset : offset + hello.chunk]
                questions.append(("WRITE", {"run": number, "index": index, "offset": offset, "data": chunk}))
        self._ask(questions, "ACCEPTED")

    def _run(self, hello: Hello, number: int, arrays: Sequence[Array], timeout_s: float) -> Result:
        crc = 0
        for tensor, array in zip(hello.inputs, arrays, strict=True):
            head = bytes([tensor.dtype.code, len(tensor.shape)]) + np.array(tensor.shape, "<i4").tobytes() + bytes(tensor.dim_order)
            crc = zlib.crc32(array.tobytes(), zlib.crc32(head, crc))
        parts = [_Parts(tensor.size) for tensor in hello.outputs]
        trace: dict[tuple[int, int], bytearray] = {}
        done = self._wait_for_run(number, crc, parts, trace, timeout_s)
        for _ in range(_ATTEMPTS):
            self._fetch_missing(number, "output", parts)
            if zlib.crc32(b"".join(part.data for part in parts)) == done["crc"]:
                break
            parts = [_Parts(tensor.size) for tensor in hello.outputs]
        else:
            raise DeviceLostError(f"the outputs of run {number} do not have the CRC that the board says", where=self._port.url)
        probes: tuple[int, ...] = ()
        if "probes" in hello.features:
            ticks = _Parts(4 * (hello.steps + 2))
            self._fetch_missing(number, "probes", [ticks])
            probes = tuple(int(tick) for tick in np.frombuffer(bytes(ticks.data), "<u4"))
        outputs = tuple(in_logical_order(tensor, bytes(part.data)) for tensor, part in zip(hello.outputs, parts, strict=True))
        return Result(outputs, done["ticks"], done["overhead"], probes, {key: bytes(data) for key, data in trace.items()})

    def _wait_for_run(
        self, number: int, crc: int, parts: Sequence[_Parts], trace: dict[tuple[int, int], bytearray], timeout_s: float
    ) -> Message:
        """From RUN to DONE: outputs go to `parts`, traced results to `trace`."""
        sequence = self._next_sequence()
        frame = encode("RUN", sequence, run=number, crc=crc)
        self._send(frame)
        busy = False
        traced = 0
        pause = ASK_AGAIN_S
        end = time.monotonic() + timeout_s
        while True:
            message = self._receive(min(pause, max(end - time.monotonic(), 0.01)))
            if message is None:
                if time.monotonic() >= end:
                    raise self._overdue(number, busy, timeout_s)
                pause = min(2 * pause, _LONGEST_RUN_PAUSE_S)
                self._send(frame)
                self.asked_again += 1
            elif message is _NOISE:
                self._send(frame)
                self.asked_again += 1
            elif message.kind == "TRACE" and message["run"] == number:
                if message.sequence == (traced + 1) & 0xFFFF:
                    traced += 1
                    result = trace.setdefault((message["step"], message["output"]), bytearray())
                    result += message["data"]
                    busy, end = True, time.monotonic() + timeout_s
                self._send(encode("CONTINUE", message.sequence))
            elif message.sequence != sequence:
                continue
            elif message.kind == "REFUSED":
                raise _Refused(message)
            elif message.kind == "BUSY":
                busy, end = True, time.monotonic() + timeout_s
            elif message.kind == "DATA":
                parts[message["index"]].add(message["offset"], message["data"])
            elif message.kind == "DONE":
                return message

    def _overdue(self, number: int, busy: bool, timeout_s: float) -> DeviceLostError:
        if busy:
            what = f"run {number} did not finish within {timeout_s:g} s"
            return DeviceLostError(what, where=self._port.url, hint="it hangs, or it needs longer: give a longer time")
        return DeviceLostError(f"the board did not start run {number} within {timeout_s:g} s", where=self._port.url)

    def _fetch_missing(self, number: int, role: str, parts: Sequence[_Parts]) -> None:
        wanted = [(index, offset, length) for index, part in enumerate(parts) for offset, length in part.missing()]
        questions = [
            ("READ", {"run": number, "role": layout().roles[role], "index": index, "offset": offset, "length": length})
            for index, offset, length in wanted
        ]
        for (index, offset, _), message in zip(wanted, self._ask(questions, "DATA"), strict=True):
            parts[index].add(offset, message["data"])

    def exit(self, code: int) -> None:
        """End a simulator. It may be gone before its answer is."""
        try:
            self._ask([("EXIT", {"code": code})], "ACCEPTED")
        except DeviceLostError:
            return

    def _told_off(self, refused: _Refused, hello: Hello | None = None) -> DeviceLostError | ModelError:
        """A refusal in words, with both sides."""
        message = refused.message
        name, meaning = layout().reasons.get(message["reason"], ("?", "for a reason that this version does not know"))
        if name == "run" and hello is not None:
            now = self.identify(_SILENCE_S)
            return DeviceLostError(
                f"the board was reset during the runs: it has started {now.boot} times and run {now.runs} programs, "
                f"before it was {hello.boot} times; cause: {now.reset_cause}",
                where=self._port.url,
            )
        sides = f"{meaning} (item {message['item']}): {message['board']} on the board, {message['host']} here"
        if name in ("dtype", "rank", "size", "order"):
            return ModelError(f"the board refuses an input: {sides}", where=self._port.url)
        return DeviceLostError(f"the board refuses: {sides}", where=self._port.url, hint="board and host are of different versions?")


class _Parts:
    """A stretch of memory that comes in pieces."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self._known = bytearray(size)

    def add(self, offset: int, piece: bytes) -> None:
        if offset + len(piece) <= len(self.data):
            self.data[offset : offset + len(piece)] = piece
            self._known[offset : offset + len(piece)] = b"\1" * len(piece)

    def missing(self) -> list[tuple[int, int]]:
        """(offset, length) of what has not come, in pieces that one READ may ask for."""
        found = []
        at = self._known.find(b"\0")
        while at >= 0:
            known = self._known.find(b"\1", at)
            end = min(known if known >= 0 else len(self._known), at + _READ_BYTES)
            found.append((at, end - at))
            at = self._known.find(b"\0", end)
        return found


def in_memory(tensor: Tensor, array: Array) -> Array:
    """A tensor in logical order as it lies in the board's memory."""
    return np.ascontiguousarray(array.reshape(tensor.shape).transpose(tensor.dim_order))


def in_logical_order(tensor: Tensor, data: bytes) -> Array:
    """The opposite: bytes of the board's memory as an array in the script's order."""
    stored = np.frombuffer(data, tensor.dtype.numpy).reshape(tensor.memory_shape)
    return np.array(stored.transpose(np.argsort(tensor.dim_order)), order="C")  # ascontiguousarray would give a scalar a dimension
