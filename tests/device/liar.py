"""A board written in Python, behind a socket or a pty, that answers as the tiny program would and lies where a test
tells it to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from etexport.device.elf import program_hash
from etexport.device.image import image
from etexport.device.messages import Message, decode, encode, layout
from tests.device.tiny import expected, sample

Lie = Callable[[Message, list[bytes]], list[bytes]]
"""(question, honest answer) -> what is sent instead."""


class Board:
    """Honest: the fields of HELLO, METHOD and TENSOR may be replaced, and `lie` may replace any answer."""

    def __init__(
        self,
        elf: Path,
        hello: Mapping[str, Any] = {},
        tensor: Mapping[str, Any] = {},
        method: Mapping[str, Any] = {},
        lie: Lie | None = None,
    ) -> None:
        own, page = image(elf), layout()
        self.runs, self.boot, self.lie = 0, 1, lie
        self.hello = {
            "version": page.version, "layout": page.hash, "reset_cause": 0, "program_hash": program_hash(elf),
            "image_crc": own.crc, "image_bytes": own.size, "methods": 1, "steps": 3, "init_ticks": 1000,
            "stack_bytes": 0, "stack_used": 0, "chunk": 256, "features": 0, "bad_frames": 0, "clock_hz": 0,
            "board": "host", "program": "tiny",
        } | hello  # fmt: skip
        self.tensor, self.method = tensor, method
        x = {"dtype": 6, "size": 24, "sizes": (2, 3), "dim_order": (0, 1), "name": "x"}
        image_tensor = {"dtype": 1, "size": 48, "sizes": (1, 3, 4, 4), "dim_order": (0, 2, 3, 1), "name": "image"}
        total = {"dtype": 6, "size": 8, "sizes": (2,), "dim_order": (0,), "name": "sum"}
        table = {"dtype": 3, "size": 2400, "sizes": (600,), "dim_order": (0,), "name": "table"}
        self.tensors = {(0, 0): x, (0, 1): image_tensor, (1, 0): total, (1, 1): table}

    def answer(self, asked: Message) -> list[bytes]:
        honest = self._honest(asked)
        return honest if self.lie is None else self.lie(asked, honest)

    def _honest(self, asked: Message) -> list[bytes]:
        number = asked.sequence
        if asked.kind == "IDENTIFY":
            return [encode("HELLO", number, **{"boot": self.boot, "runs": self.runs} | self.hello)]
        if asked.kind == "DESCRIBE" and asked["role"] == 3:
            return [
                encode("METHOD", number, **{"method": 0, "inputs": 2, "outputs": 2, "name": "forward"} | self.method)
            ]
        if asked.kind == "DESCRIBE":
            known = self.tensors[asked["role"], asked["index"] % 2] | self.tensor
            rank = len(known["sizes"])
            return [encode("TENSOR", number, **{
                "method": 0, "role": asked["role"], "index": asked["index"], "rank": rank, "least": known["sizes"],
            } | known)]  # fmt: skip
        if asked.kind in ("INPUT", "WRITE"):
            return [encode("ACCEPTED", number, run=asked["run"])]
        if asked.kind == "RUN":
            self.runs = asked["run"]
            outputs = [array.tobytes() for array in expected(sample(self.runs - 1), self.runs)]
            frames = [encode("BUSY", number, run=self.runs)]
            for index, data in enumerate(outputs):
                frames.append(encode("DATA", number, run=self.runs, role=1, index=index, offset=0, data=data))
            return [
                *frames,
                encode(
                    "DONE", number, run=self.runs, method=0, ticks=500, overhead=20, crc=zlib.crc32(b"".join(outputs))
                ),
            ]
        return []


@contextlib.contextmanager
def served(board: Board | None, flood: bytes = b"", pty: bool = False) -> Iterator[str]:
    """The URL of the board; what there is of `flood` is sent without an end, as fast as it is taken."""
    if pty:
        master, slave = os.openpty()
        tty.setraw(slave)
        try:
            threading.Thread(
                target=_serve,
                args=(board, lambda: os.read(master, 4096), lambda data: os.write(master, data), flood),
                daemon=True,
            ).start()
            yield os.ttyname(slave)
        finally:
            os.close(master)
            os.close(slave)
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                line, _ = listener.accept()
                with line:
                    _serve(board, lambda: line.recv(4096), line.sendall, flood)

        threading.Thread(target=accept, daemon=True).start()
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"


def _serve(board: Board | None, read: Callable[[], bytes], write: Callable[[bytes], object], flood: bytes) -> None:
    def pour() -> None:
        with contextlib.suppress(OSError):
            while flood:
                write(flood)

    threading.Thread(target=pour, daemon=True).start()
    pending = b""
    with contextlib.suppress(OSError):
        while data := read():
            *blocks, pending = (pending + data).split(b"\0")
            for asked in filter(None, map(decode, blocks)):
                for frame in board.answer(asked) if board is not None else ():
                    write(frame)
        time.sleep(0.1)
