"""The host's side of the serial link: questions, asked again until they are answered, and what a run brings.

`schema/link.md` is the protocol. Whatever the bytes on the way do, a value that leaves here is one that the board sent,
or an error says what went wrong. Whatever the board sends, the error comes in the stated time, and little is kept of
it.
"""

from __future__ import annotations

import operator
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from etexport.device.elf import Counts
from etexport.device.hello import Entry, Hello, hello_of, in_logical_order, in_memory, tensor_of
from etexport.device.messages import LONGEST_BLOCK, Message, decode, encode, layout
from etexport.device.port import Port
from etexport.device.stream import is_text
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceLostError, ModelError
from etexport.program.model import Array

ASK_AGAIN_S = 0.25
"""First pause after which a question is asked again, until it is known how fast the board answers."""
_SHORTEST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_ROUND_TRIPS = (8, 2)
"""A board that takes so many times as long as the slowest answer of late is asked again: the second on a line that
loses."""
_GROWTH = (2.0, 1.25)
"""Of the pause with each that was for nothing: where no loss was seen, so that the board may be slow, and on a line
that loses."""
_FORGET = 0.98
"""What remains of the slowest answer with each that comes after it."""
_LOSSLESS_PAUSE_S = 5.0
"""The same where the line loses nothing: an answer that does not come is late."""
_RUN_PAUSE_S = (2.0, 8.0)
"""Shortest and longest pause while a program runs, until it is known how long that takes. Where something was lost, it
begins as with other questions, and doubles."""
_RUN_TIMES = 4
"""A run that takes so many times as long as the longest yet is asked for."""
_SILENCE_S = 20.0
"""A board that should answer at once and does not for so long is lost."""
_RESET_S = 1.0
"""How long it is asked whether it was reset, once something went wrong."""
_FLOOD_BYTES = 4 << 20
"""A board that says so much and nothing that was asked for is not one of ours."""
_NAP_S = 0.0005
"""Between looks at a frame that is coming: a simulator sends byte by byte, and a look at each would cost more than the
frame."""
_SIGN_S = 1.0
"""After which a first sign of life is given; the next one after twice the time."""
_READ_BYTES = 128
"""Of one READ. It is asked where a longer piece was lost, so the line is bad."""
_ATTEMPTS = 4


@dataclass(frozen=True)
class Probes:
    """Of each step the ticks of all its executions (32 bits, they may wrap), and how many these were; what one mark
    costs."""

    ticks: tuple[int, ...]
    executions: tuple[int, ...]
    mark: int


@dataclass(frozen=True, eq=False)
class Result:
    """One run: outputs in logical order, ticks of the counter over the program and over nothing."""

    outputs: tuple[Array, ...]
    ticks: int
    overhead: int
    probes: Probes | None = None
    trace: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    """(step, output) -> bytes as they lie in memory, those of each execution of the step behind the others; empty
    without traces."""


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
    fields: Mapping[str, Any]
    frame: bytes
    order: int = 0
    """Place among everything sent, for the last time it was."""
    sent: float = 0.0
    once: bool = True
    """It was not sent again."""

    def is_answered_by(self, message: Message) -> bool:
        """What the two have in common is the same: run, tensor, offset."""
        return all(message[name] == value for name, value in self.fields.items() if name in message.fields)


class Nobody:
    """What has come from a port, as far as it tells why nobody answers."""

    def __init__(self) -> None:
        self.bytes = 0
        self._first = b""

    def heard(self, data: bytes) -> None:
        self.bytes += len(data)
        self._first = (self._first + data[:80])[:80]

    def beginning(self) -> str:
        return repr(self._first[:40])[1:]

    def error(self, timeout_s: float | None, url: str, baud: int, heard: int | None = None) -> DeviceLostError:
        """No bytes, text of another firmware, or another speed. `heard` bytes of all came in this time."""
        count = self.bytes if heard is None else heard
        span = "" if timeout_s is None else f" in {timeout_s:.0f} s"
        if count == 0:
            return DeviceLostError(f"no bytes came{span}", where=url, hint="is the board on, and is it this port?")
        told = f"{count:,} bytes came{span}, but no frame of the link"
        if is_text(self._first):
            what = f"{told}: they are text, and begin {self.beginning()}"
            hint = "another firmware runs there; `etexport monitor` shows what it says"
            return DeviceLostError(what, where=url, hint=hint)
        speed = (
            f"the line has another speed than {baud} baud (`baud` in the board's .toml, --baud), or"
            if baud
            else "is it the board's port? else"
        )
        what = f"{told}, nor text; they begin {self.beginning()}"
        return DeviceLostError(what, where=url, hint=f"{speed} another firmware runs there")


def other_version(version: int, other_layout: int, url: str) -> DeviceLostError:
    """The board speaks another version of the link, or another layout of this one."""
    page = layout()
    older = "an older" if version < page.version else "a newer" if version > page.version else "another"
    what = (
        f"the board speaks version {version} of the link (layout {other_layout:08x}), "
        f"this is version {page.version} (layout {page.hash:08x})"
    )
    return DeviceLostError(
        what, where=url, hint=f"the firmware there is of {older} etexport: build it with this one and write it again"
    )


class Link:
    """A conversation over an open port. `window` questions may be under way at once; a board without a receive buffer
    takes one.

    `lossless` says that the line loses nothing, and `clock` gives the seconds by which the board's silence is measured:
    of a simulator its own. `waiting(text)` is called now and then while nobody has answered HELLO.
    """

    def __init__(
        self, port: Port, log: WireLog, *, window: int = 1, nonce: int = 1, lossless: bool = False,
        clock: Callable[[], float] = time.monotonic, waiting: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self._port = port
        self._log = log
        self._window = window
        self._sequence = nonce
        self._lossless = lossless
        self._clock = clock
        self._waiting = waiting
        self._order = 0
        self._pending = b""
        self._inbox: deque[Message] = deque()
        self.bytes_received = 0
        self.bad_frames = 0
        """Pieces between delimiters that were no frames."""
        self._lossy = False
        """It has shown: one of these came since the board was known, or a question that was sent again was answered as
        soon as others."""
        self.asked_again = 0
        self._heard = Nobody()
        self._unasked_bytes = 0
        """Received since the last frame that was of use."""
        self._slowest = 0.0
        """Seconds, the longest that an answer took of late that was asked for once."""
        self._quickest = _SHORTEST_PAUSE_S
        """The shortest: what comes sooner after a question was not its answer."""
        self._longest_wait = 0.0
        """Seconds, the longest from one message of a run to the next, of those that nobody asked for."""

    # ---- one level down: frames ----

    def _send(self, frame: bytes) -> int:
        self._log.sent(frame)
        self._port.write(frame)
        self._order += 1
        return self._order

    def _receive(self, until: float) -> Message | None:
        """The next good frame, `_NOISE` where one may have been, or None at `until` on the clock. A fault is raised,
        whenever it comes."""
        while not self._inbox:
            left = until - self._clock()
            data = self._port.read(max(left, 0.0))
            if data:
                self._take(data)
            if self._inbox:
                break
            if left <= 0:
                return None
            if data:
                time.sleep(_NAP_S)
        message = self._inbox.popleft()
        if message.kind == "FAULT":
            raise FaultReported(message)
        return message

    def _take(self, data: bytes) -> None:
        self._log.received(data)
        self.bytes_received += len(data)
        self._unasked_bytes += len(data)
        self._heard.heard(data)
        if self._unasked_bytes > _FLOOD_BYTES:
            first = self._heard.beginning()
            what = (
                f"{self._unasked_bytes:,} bytes came, and nothing among them that was asked for; the first of all "
                f"were {first}"
            )
            raise DeviceLostError(what, where=self._port.url, hint="another firmware, or another speed of the line")
        *blocks, self._pending = (self._pending + data).split(b"\0")
        for block in filter(None, blocks):
            message = decode(block)
            if message is None:
                self.bad_frames += 1
                self._inbox.append(_NOISE)
            else:
                self._inbox.append(message)
        if len(self._pending) > LONGEST_BLOCK:
            self._pending = self._pending[: LONGEST_BLOCK + 1]  # no frame, however it goes on

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFF
        return self._sequence

    # ---- questions and answers ----

    def _ask(self, questions: Iterable[tuple[str, Mapping[str, Any]]], answer: str) -> list[Message]:
        """Ask all, again where no answer comes, and give the answers in the same order. `answer` is the kind that is
        right."""
        waiting = deque(enumerate(questions))
        answers: dict[int, Message] = {}
        count = len(waiting)
        under_way: dict[int, _Open] = {}
        pause = self._pause()
        heard = self._clock()
        noise = 0
        while len(answers) < count:
            while waiting and len(under_way) < self._window:
                index, (kind, fields) = waiting.popleft()
                sequence = self._next_sequence()
                question = _Open(index, kind, fields, encode(kind, sequence, **fields), sent=self._clock())
                question.order = self._send(question.frame)
                under_way[sequence] = question
            oldest = min(under_way.values(), key=lambda question: question.order)
            on_the_line = self._port.seconds_for(sum(len(question.frame) for question in under_way.values()))
            message = self._receive(max(heard, oldest.sent) + on_the_line + pause)
            now = self._clock()
            if now - heard > _SILENCE_S:
                raise self._silent(oldest.kind)
            if message is None:
                # The oldest alone: its answer shows which of the others were lost too, and a line that is only slow is
                # not filled up.
                pause = self._longer(pause, _LONGEST_PAUSE_S)
                self._send_again([oldest])
                noise = 0
                continue
            if message is _NOISE:
                # Answers keep the order of questions, so it was the oldest's, if it was an answer.
                self._lossy = True
                if noise < _ATTEMPTS or now - oldest.sent > self._quickest / 2:
                    self._send_again([oldest])
                noise += 1
                continue
            question = under_way.get(message.sequence)  # type: ignore[assignment]
            if question is None or message.kind not in (answer, "REFUSED") or not question.is_answered_by(message):
                continue
            heard = now
            noise = 0
            self._unasked_bytes = 0
            if message.kind == "REFUSED":
                raise _Refused(message)
            del under_way[message.sequence]
            answers[question.index] = message
            if question.once:
                self._slowest = max(_FORGET * self._slowest, now - question.sent)
                self._quickest = min(self._quickest, now - question.sent)
            quick = now - question.sent < 2 * self._slowest
            if question.once or quick:
                self._lossy |= not question.once
                pause = self._pause()
            # Else it is not known which of the two was answered: a board that became slow answers the first, and the
            # longer pause stays. The line keeps the order, so what was asked earlier and is not answered yet was lost
            # on its way.
            self._send_again([other for other in under_way.values() if other.order < question.order])
        return [answers[index] for index in range(count)]

    def _send_again(self, questions: Sequence[_Open]) -> None:
        for question in questions:
            question.order = self._send(question.frame)
            question.sent = self._clock()
            question.once = False
            self.asked_again += 1

    def _pause(self) -> float:
        """How long to wait for an answer: `ASK_AGAIN_S`, then by how quick the board has shown itself."""
        if self._lossless:
            return _LOSSLESS_PAUSE_S
        if not self._slowest:
            return ASK_AGAIN_S
        return min(max(_ROUND_TRIPS[self._lossy] * self._slowest, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)

    def _longer(self, pause: float, most: float) -> float:
        """The pause after one that was for nothing. Where the line loses it hardly grows, since what was lost was not
        late."""
        return max(pause, min(_GROWTH[self._lossy] * pause, most))

    def _silent(self, kind: str) -> DeviceLostError:
        other = f", though {self._unasked_bytes:,} bytes of something else came" if self._unasked_bytes else ""
        return DeviceLostError(
            f"the board stopped answering: no answer to {kind} in {_SILENCE_S:.0f} s{other}", where=self._port.url
        )

    # ---- HELLO ----

    def identify(self, timeout_s: float) -> Hello:
        """Who is there, with its tensors."""
        return self.describe(self.greet(timeout_s))

    def greet(self, timeout_s: float) -> Hello:
        """Who is there; DeviceLostError that tells apart no bytes, bytes that are no frames, and another version of the
        link."""
        page = layout()
        sequence = self._next_sequence()
        frame = encode("IDENTIFY", sequence, version=page.version, layout=page.hash)
        start = self._clock()
        end, sign, pause = start + timeout_s, start + _SIGN_S, self._pause() if self._lossy else ASK_AGAIN_S
        heard_before = self.bytes_received
        while (now := self._clock()) < end:
            self._send(frame)
            again = min(now + pause, end)
            while (now := self._clock()) < again:
                if self._waiting is not None and now >= sign:
                    self._waiting(self._sign(now - start, timeout_s, self.bytes_received - heard_before))
                    sign = now + max(now - start, _SIGN_S)
                message = self._receive(again)
                if message is _NOISE and self._lossy:
                    again = min(again, self._clock() + _SHORTEST_PAUSE_S)  # it was the answer, as likely as not
                if message is None or message.kind != "HELLO":
                    continue
                if len(message.fields) == 2:
                    raise other_version(message["version"], message["layout"], self._port.url)
                if message.sequence == sequence:
                    self._unasked_bytes = 0
                    return hello_of(message, self._port.url)
            pause = self._longer(pause, _LONGEST_PAUSE_S / 2)
        heard = self.bytes_received - heard_before
        raise self._heard.error(timeout_s, self._port.url, self._port.baud, heard)

    def _sign(self, waited_s: float, timeout_s: float, heard: int) -> str:
        came = f"{heard:,} bytes, no frame of the link" if heard else "no bytes"
        return f"waiting for {self._port.url}{self._speed()}: {came} yet ({waited_s:.0f} of {timeout_s:.0f} s)"

    def _speed(self) -> str:
        return f" at {self._port.baud} baud" if self._port.baud else ""

    def describe(self, hello: Hello, counts: Counts | None = None, most_bytes: int | None = None) -> Hello:
        """Its methods with their inputs and outputs; DeviceLostError for what cannot be, and where their numbers are
        not the `counts` of the ELF. `most_bytes` is what all the firmware takes in memory."""
        role = layout().roles["method"]
        told = self._described(
            [{"method": number, "role": role, "index": 0} for number in range(hello.method_count)], "METHOD"
        )
        tensors = tuple((one["inputs"], one["outputs"]) for one in told)
        if counts is not None and tensors != counts.tensors:
            what = (
                f"the board says that its methods have {_in_words(tensors)}; in the firmware's file they have "
                f"{_in_words(counts.tensors)}"
            )
            raise DeviceLostError(what, where=self._port.url, hint="write the firmware again")
        return replace(hello, methods=tuple(self._entry(number, one, most_bytes) for number, one in enumerate(told)))

    def _entry(self, number: int, told: Message, most_bytes: int | None) -> Entry:
        inputs, outputs = (
            tuple(
                tensor_of(one.fields, f"{role} {index}", most_bytes, self._port.url)
                for index, one in enumerate(
                    self._described(
                        [
                            {"method": number, "role": layout().roles[role], "index": index}
                            for index in range(told[f"{role}s"])
                        ],
                        "TENSOR",
                    )
                )
            )
            for role in ("input", "output")
        )
        return Entry(told["name"], inputs, outputs)

    def _described(self, asked: Sequence[Mapping[str, Any]], answer: str) -> Sequence[Message]:
        try:
            return self._ask([("DESCRIBE", one) for one in asked], answer)
        except _Refused as refused:
            raise self._told_off(refused) from None

    def reset(self, number: int) -> None:
        """Give the state its first content again, before run `number`."""
        try:
            self._ask([("RESET", {"run": number})], "ACCEPTED")
        except _Refused as refused:
            raise self._told_off(refused) from None

    def _was_reset(self, hello: Hello, number: int, wait_s: float) -> None:
        """DeviceLostError if the board answers within this time and has started again since `hello`."""
        signs, self._waiting = self._waiting, None
        try:
            now = self.greet(wait_s)
        except DeviceLostError:
            return
        finally:
            self._waiting = signs
        if now.boot != hello.boot or now.runs < number - 1:
            raise self._reset(hello, now, number)

    def _reset(self, hello: Hello, now: Hello, number: int) -> DeviceLostError:
        what = (
            f"the board was reset during run {number}: it has started {now.boot} times and run {now.runs} programs "
            "since, "
            f"before it was {hello.boot} times; cause: {now.reset_cause}"
        )
        return DeviceLostError(what, where=self._port.url)

    # ---- runs ----

    def run(self, hello: Hello, number: int, inputs: Sequence[Array], timeout_s: float, *, method: int = 0) -> Result:
        """Send the inputs (logical order) of a method, run it as run `number`, and bring what it made."""
        entry = hello.methods[method]
        arrays = [in_memory(tensor, array) for tensor, array in zip(entry.inputs, inputs, strict=True)]
        # the board says whether it takes these sizes
        given = tuple(
            tensor.sized(array.shape) if tensor.least else tensor
            for tensor, array in zip(entry.inputs, inputs, strict=True)
        )
        methods = list(hello.methods)
        methods[method] = replace(entry, inputs=given)
        hello = replace(hello, methods=tuple(methods))
        for _ in range(_ATTEMPTS):
            try:
                self._send_inputs(hello, number, method, arrays)
                return self._run(hello, number, method, arrays, timeout_s)
            except _Refused as refused:
                if refused.reason in ("run", "crc"):
                    self._was_reset(hello, number, _RESET_S)
                if refused.reason != "crc":
                    raise self._told_off(refused) from None
                # Something that was not an input frame of this run wrote there; once more from the start.
        raise DeviceLostError(
            f"the board's inputs are not what was sent, {_ATTEMPTS} times",
            where=self._port.url,
            hint="something else writes to its memory",
        )

    def _send_inputs(self, hello: Hello, number: int, method: int, arrays: Sequence[Array]) -> None:
        questions: list[tuple[str, Mapping[str, Any]]] = []
        for index, (tensor, array) in enumerate(zip(hello.methods[method].inputs, arrays, strict=True)):
            described = {
                "dtype": tensor.dtype.code, "rank": len(tensor.shape), "sizes": tensor.shape,
                "dim_order": tensor.dim_order,
            }  # fmt: skip
            questions.append(("INPUT", {"run": number, "method": method, "index": index, **described}))
            data = array.tobytes()
            for offset in range(0, len(data), hello.chunk):
                chunk = data[offset : offset + hello.chunk]
                questions.append(
                    ("WRITE", {"run": number, "method": method, "index": index, "offset": offset, "data": chunk})
                )
        self._ask(questions, "ACCEPTED")

    def _run(self, hello: Hello, number: int, method: int, arrays: Sequence[Array], timeout_s: float) -> Result:
        crc, entry = 0, hello.methods[method]
        for tensor, array in zip(entry.inputs, arrays, strict=True):
            head = (
                bytes([tensor.dtype.code, len(tensor.shape)])
                + np.array(tensor.shape, "<i4").tobytes()
                + bytes(tensor.dim_order)
            )
            crc = zlib.crc32(array.tobytes(), zlib.crc32(head, crc))
        parts = [_Parts(tensor.size) for tensor in entry.outputs]
        shapes = [_Parts(4 * len(tensor.shape) * entry.is_sized) for tensor in entry.outputs]
        trace: dict[tuple[int, int], _Traced] = {}
        done = self._wait_for_run(hello, number, method, crc, {"output": parts, "sizes": shapes}, trace, timeout_s)
        if any(len(result.data) % result.size for result in trace.values()):
            raise DeviceLostError(f"results of run {number} did not come whole", where=self._port.url)
        if entry.is_sized:
            entry = self._in_use(number, entry, shapes)
            for part, tensor in zip(parts, entry.outputs, strict=True):
                part.cut(tensor.size)
        for _ in range(_ATTEMPTS):
            self._fetch_missing(number, "output", parts)
            if zlib.crc32(b"".join(part.data for part in parts)) == done["crc"]:
                break
            parts = [_Parts(tensor.size) for tensor in entry.outputs]
        else:
            raise DeviceLostError(
                f"the outputs of run {number} do not have the CRC that the board says", where=self._port.url
            )
        probes: Probes | None = None
        if "probes" in hello.features:
            words = _Parts(4 * (2 * (hello.steps + 1) + 1))
            self._fetch_missing(number, "probes", [words])
            if words.missing():
                raise DeviceLostError(f"the counts of run {number} did not come whole", where=self._port.url)
            *counts, mark = (int(word) for word in np.frombuffer(bytes(words.data), "<u4"))
            probes = Probes(tuple(counts[:-2:2]), tuple(counts[1:-2:2]), mark)
        outputs = tuple(
            in_logical_order(tensor, bytes(part.data)) for tensor, part in zip(entry.outputs, parts, strict=True)
        )
        return Result(
            outputs, done["ticks"], done["overhead"], probes, {key: bytes(result.data) for key, result in trace.items()}
        )

    def _in_use(self, number: int, entry: Entry, shapes: Sequence[_Parts]) -> Entry:
        """The method with the sizes that its outputs have; DeviceLostError for those that cannot be."""
        self._fetch_missing(number, "sizes", shapes)
        outputs = []
        for tensor, part in zip(entry.outputs, shapes, strict=True):
            sizes = tuple(np.frombuffer(bytes(part.data), "<i4").tolist())
            least = tensor.least or tensor.shape
            if (
                part.missing()
                or not all(map(operator.le, least, sizes))
                or not all(map(operator.le, sizes, tensor.shape))
            ):
                what = f"output {tensor.name} of run {number} has sizes {list(sizes)}, of at most {list(tensor.shape)}"
                raise DeviceLostError(what, where=self._port.url)
            outputs.append(tensor.sized(sizes))
        return replace(entry, outputs=tuple(outputs))

    def _wait_for_run(
        self,
        hello: Hello,
        number: int,
        method: int,
        crc: int,
        parts: Mapping[str, Sequence[_Parts]],
        trace: dict[tuple[int, int], _Traced],
        timeout_s: float,
    ) -> Message:
        """From RUN to DONE: outputs go to `parts`, traced results to `trace`."""
        sequence = self._next_sequence()
        frame = encode("RUN", sequence, run=number, method=method, crc=crc)
        self._send(frame)
        begun = traced = asked = 0
        now = self._clock()
        last, sent, end, pause = now, now, now + timeout_s, self._pause()
        ask_at = now + pause
        while True:
            message = self._receive(min(ask_at, end))
            now = self._clock()
            if (
                message is not None
                and message.kind in ("DATA", "DONE", "TRACE")
                and message["run"] == number
                and sent <= last
            ):
                self._longest_wait = max(self._longest_wait, now - last)
            if (
                message is not None
                and message.sequence == sequence
                and message.kind == "DONE"
                and message["run"] == number
            ):
                if message["method"] != method:
                    what = f"run {number} was of method {message['method']} on the board, of {method} here"
                    raise DeviceLostError(what, where=self._port.url, hint="something else runs programs there")
                self._unasked_bytes = 0
                return message
            if now >= end:
                raise self._overdue(hello, number, begun, timeout_s)
            if message is None or message is _NOISE:
                self._lossy |= message is _NOISE
                if message is None:
                    pause = self._longer(pause, _long_pause(timeout_s))
                    ask_at = now + pause
                elif now - sent < self._quickest / 2 and asked:
                    continue  # noise without an end is not answered by as many questions
                self._send(frame)
                asked, sent = asked + 1, now
                self.asked_again += 1
                continue
            useful = False
            if message.kind == "TRACE" and message["run"] == number:
                if message.sequence == (traced + 1) & 0xFFFF:
                    useful, traced, begun = True, traced + 1, max(begun, 1)
                    self._add_traced(hello, message, trace)
                self._send(encode("CONTINUE", message.sequence))
            elif message.sequence != sequence:
                continue
            elif message.kind == "REFUSED":
                raise _Refused(message)
            elif message.kind == "BUSY" and message["run"] == number:
                begun += 1
                useful = begun == 1
                if begun > 1 and asked and not traced:  # it began twice, unless the line doubled the frame
                    self._was_reset(hello, number, _RESET_S)
            elif message.kind == "DATA" and message["run"] == number and message["index"] < len(parts["output"]):
                told = parts["sizes" if message["role"] == layout().roles["sizes"] else "output"]
                self._unasked_bytes *= not told[message["index"]].add(message["offset"], message["data"])
                pause = self._pause()  # it has ended, and DONE comes at once
                ask_at = now + pause
            if useful:
                last, end, pause = now, now + timeout_s, self._run_pause(timeout_s)
                ask_at = now + pause
                self._unasked_bytes = 0

    def _run_pause(self, timeout_s: float) -> float:
        """How long a program may take before it is asked whether it has ended."""
        if self._lossless:
            return timeout_s
        if self.asked_again:
            return max(_RUN_TIMES * self._longest_wait, self._pause())
        return max(_RUN_TIMES * self._longest_wait, _RUN_PAUSE_S[0]) if self._longest_wait else _long_pause(timeout_s)

    def _add_traced(self, hello: Hello, message: Message, trace: dict[tuple[int, int], _Traced]) -> None:
        """A piece of a result behind the others; DeviceLostError for what no program streams."""
        step, output, size, data = message["step"], message["output"], message["size"], message["data"]
        result = trace.setdefault((step, output), _Traced(size))
        known = len(result.data)
        left = size - known % size if size else 0
        if (
            step >= hello.steps
            or not data
            or message["offset"] != known % max(size, 1)
            or size != result.size
            or len(data) > left
        ):
            what = (
                f"the board streams {len(data)} bytes at {message['offset']} of {size:,} from step {step} of "
                f"{hello.steps}, after {known}"
            )
            raise DeviceLostError(what, where=self._port.url, hint="it does not run the program that it says")
        result.data += data

    def _overdue(self, hello: Hello, number: int, begun: int, timeout_s: float) -> DeviceLostError:
        self._was_reset(hello, number, _RESET_S)
        if begun:
            again = f"; it said {begun} times that it began" if begun > 1 else ""
            what = f"run {number} did not finish within {timeout_s:g} s{again}"
            return DeviceLostError(
                what, where=self._port.url, hint="it hangs, or it needs longer: give a longer time (--timeout)"
            )
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
        except (DeviceLostError, _Refused):
            return

    def _told_off(self, refused: _Refused) -> DeviceLostError | ModelError:
        """A refusal in words, with both sides."""
        message = refused.message
        name, meaning = layout().reasons.get(message["reason"], ("?", "for a reason that this version does not know"))
        sides = f"{meaning} (item {message['item']}): {message['board']} on the board, {message['host']} here"
        if name == "size":
            what = (
                f"the board refuses the inputs: size {message['item']} is {message['host']}, where {message['board']} "
            )
            return DeviceLostError(what + "is the nearest that it takes", where=self._port.url)
        if name in ("dtype", "rank", "order"):
            return ModelError(f"the board refuses an input: {sides}", where=self._port.url)
        return DeviceLostError(
            f"the board refuses: {sides}", where=self._port.url, hint="board and host are of different versions?"
        )


def _in_words(tensors: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{inputs} inputs and {outputs} outputs" for inputs, outputs in tensors)


def _long_pause(timeout_s: float) -> float:
    """Before a run is asked for that nothing is known of."""
    shortest, longest = _RUN_PAUSE_S
    return min(max(timeout_s / 8, shortest), longest)


@dataclass
class _Traced:
    """What a step gave, as far as it has come: `size` bytes each time."""

    size: int
    data: bytearray = field(default_factory=bytearray)


class _Parts:
    """A stretch of memory that comes in pieces."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self._known = bytearray(size)

    def add(self, offset: int, piece: bytes) -> bool:
        """True if that was not known."""
        end = offset + len(piece)
        if end > len(self.data) or self._known.find(b"\0", offset, end) < 0:
            return False
        self.data[offset:end] = piece
        self._known[offset:end] = b"\1" * len(piece)
        return True

    def cut(self, size: int) -> None:
        """It is no longer than that."""
        del self.data[size:], self._known[size:]

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
