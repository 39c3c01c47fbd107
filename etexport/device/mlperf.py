"""The host's end of MLPerf Tiny's serial protocol: what the benchmark's runner sends, and what it reads of the
answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etexport.board import Board
from etexport.device.session import Attached, Line, attach
from etexport.errors import DeviceFaultError, DeviceLostError

READY = "m-ready"
BYTES_EACH = 31
"""Of an input in one command, as the runner has it where no power is measured."""
_DRAIN_S = 0.3
"""What a port still holds of before is let go for so long."""
_ANSWER_S = 5.0


@dataclass(frozen=True)
class Inferred:
    """What one `infer` said: of several inferences the microseconds of all together, and the last one's results."""

    microseconds: int
    results: tuple[float, ...]


class Dut:
    """A board that speaks the protocol. DeviceLostError where it does not answer in time, or not as the runner reads
    it."""

    def __init__(self, attached: Attached) -> None:
        self._port = attached.port
        self._clock = attached.running.clock if attached.running is not None else time.monotonic
        self._heard = b""
        if attached.running is None:
            self._drain()
        self._port.write(b"%timestamp%")  # behind half a command, if one is there
        while not any(line.startswith("m-lap-us-") for line in self._answer("timestamp", _ANSWER_S)):
            pass  # of the start, if that was not lost before the port was open

    def ask(self, command: str, timeout_s: float = _ANSWER_S) -> list[str]:
        """The lines of an answer, without `m-ready` behind them."""
        self._port.write(f"{command}%".encode())
        return self._answer(command, timeout_s)

    def model(self) -> str:
        """The benchmark's word for the network; the name and profile are asked for as the runner does."""
        self._said(self.ask("name"), r"m-name-dut-\[([^]]+)]")
        answer = self.ask("profile")
        self._said(answer, r"m-profile-\[([^]]+)]")
        return self._said(answer, r"m-model-\[([^]]+)]")[0]

    def load(self, content: bytes) -> None:
        """Send one input."""
        answer = self.ask(f"db load {len(content)}")
        self._said(answer, r"m-\[Expecting (\d+) bytes]")
        for at in range(0, len(content), BYTES_EACH):
            answer = self.ask(f"db {content[at : at + BYTES_EACH].hex()}")
        self._said(answer, r"(m-load-done)")

    def infer(self, count: int, warmups: int, timeout_s: float) -> Inferred:
        answer = self.ask(f"infer {count} {warmups}", timeout_s)
        results = self._said(answer, r"m-results-\[([^]]+)\]")[0]
        start, end = (int(lap) for lap in self._said(answer, r"m-lap-us-([0-9]+)", 2))
        return Inferred(end - start, tuple(map(float, results.split(","))))

    def _said(self, answer: Sequence[str], pattern: str, times: int = 1) -> list[str]:
        found = [match[1] for line in answer if (match := re.fullmatch(pattern, line))]
        if len(found) != times:
            what = f"its answer is not what the benchmark reads: {' / '.join(answer) or 'nothing'}"
            raise DeviceLostError(
                what, where=self._port.url, hint="`etexport mlperf` builds firmware that speaks the protocol"
            )
        return found

    def _answer(self, command: str, timeout_s: float) -> list[str]:
        lines: list[str] = []
        end = self._clock() + timeout_s
        while (left := end - self._clock()) > 0:
            line, mark, rest = self._heard.partition(b"\n")
            if not mark:
                self._heard += self._port.read(min(left, 0.2))
                continue
            self._heard = rest
            text = line.decode("ascii", "replace").strip()
            if text == READY:
                return lines
            if text.startswith("e-[Fault:"):
                raise DeviceFaultError(f"the board faulted after {command}: {text}", where=self._port.url)
            lines += [text] if text else []
        what = f"no answer to {command} in {timeout_s:.0f} s; heard: {' / '.join(lines) or 'nothing'}"
        raise DeviceLostError(
            what, where=self._port.url, hint="is it firmware of `etexport mlperf`, and the speed of the line right?"
        )

    def _drain(self) -> None:
        end = self._clock() + _DRAIN_S
        while (left := end - self._clock()) > 0:
            self._port.read(left)


@contextmanager
def dut(elf: Path, board: Board, line: Line) -> Iterator[Dut]:
    """The board with this firmware, at a port or in its simulator."""
    with attach(board, elf, line) as attached:
        yield Dut(attached)
