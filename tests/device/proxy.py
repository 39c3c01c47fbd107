"""A noisy line between pyserial and a running firmware: it flips, drops, doubles and delays bytes, by a seed, in both
directions."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Noise:
    """Probabilities for each byte. `first` bytes of a direction pass untouched. A delay holds back everything behind it
    too."""

    flip: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    delay_s: float = 0.3
    drop_run: float = 0.0
    """Of losing a stretch of 1 to 300 bytes."""
    repeat_run: float = 0.0
    """Of the last 1 to 300 bytes coming once more."""


QUIET = Noise()


@dataclass
class Proxy:
    url: str
    done: dict[str, int] = field(default_factory=dict)
    """How often each kind of damage was done, over both directions."""


@contextlib.contextmanager
def proxy(
    target: str, *, to_board: Noise = QUIET, to_host: Noise = QUIET, seed: int = 0, before: bytes = b""
) -> Iterator[Proxy]:
    """Listen on a port of the loopback interface, and pass on to `target` ("socket://host:port"). `before` comes to the
    host first."""
    listener = socket.create_server(("127.0.0.1", 0))
    result = Proxy(f"socket://127.0.0.1:{listener.getsockname()[1]}")
    host, _, port = target.removeprefix("socket://").partition(":")
    board_side = socket.create_connection((host, int(port)))
    threads: list[threading.Thread] = []
    sockets = [listener, board_side]

    def serve() -> None:
        with contextlib.suppress(OSError):
            host_side, _ = listener.accept()
            sockets.append(host_side)
            host_side.sendall(before)
            for a, b, noise, number in ((host_side, board_side, to_board, 0), (board_side, host_side, to_host, 1)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                damage = _damager(noise, random.Random(2 * seed + number), result.done)
                thread = threading.Thread(target=_pump, args=(a, b, damage), daemon=True)
                threads.append(thread)
                thread.start()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield result
    finally:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in (server, *threads):
            thread.join(timeout=5)


def _pump(source: socket.socket, to: socket.socket, damage: Callable[[bytes], bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if damaged := damage(data):
                to.sendall(damaged)
        to.shutdown(socket.SHUT_RDWR)


def _damager(noise: Noise, rng: random.Random, done: dict[str, int]) -> Callable[[bytes], bytes]:
    """The same bytes are damaged in the same way, however they are cut into pieces."""
    history = bytearray()
    losing = 0

    def count(kind: str) -> None:
        done[kind] = done.get(kind, 0) + 1

    def damage(data: bytes) -> bytes:
        nonlocal losing
        out = bytearray()
        for byte in data:
            dice = [rng.random() for _ in range(6)]
            length = rng.randint(1, 300)
            bit = rng.randrange(8)
            history.append(byte)
            if losing:
                losing -= 1
                continue
            if dice[0] < noise.drop_run:
                count("drop_run")
                losing = length
                continue
            if dice[1] < noise.drop:
                count("drop")
                continue
            if dice[2] < noise.flip:
                count("flip")
                byte ^= 1 << bit
            out.append(byte)
            if dice[3] < noise.double:
                count("double")
                out.append(byte)
            if dice[4] < noise.repeat_run:
                count("repeat_run")
                out += history[-length:]
            if dice[5] < noise.delay:
                count("delay")
                time.sleep(noise.delay_s)
        del history[:-300]
        return bytes(out)

    return damage


class Pty:
    """A terminal device whose other end is the board at `target`: what a serial port looks like to pyserial. `unplug`
    takes it away."""

    def __init__(self, target: str | None) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        self._board: socket.socket | None = None
        if target is not None:
            host, _, port = target.removeprefix("socket://").partition(":")
            self._board = socket.create_connection((host, int(port)))
            for pump in (self._to_board, self._to_host):
                threading.Thread(target=pump, daemon=True).start()

    def say(self, data: bytes) -> None:
        """To the host, as if it came from the board."""
        os.write(self._master, data)

    def tell(self, data: bytes) -> None:
        """To the board, as if a host had sent it."""
        assert self._board is not None
        self._board.sendall(data)

    def unplug(self) -> None:
        for one in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(one)
        self._master = self._slave = -1  # the numbers may be others' by the next time

    def __enter__(self) -> Pty:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.shutdown(socket.SHUT_RDWR)
            self._board.close()

    def _to_board(self) -> None:
        assert self._board is not None
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 4096):
                self._board.sendall(data)

    def _to_host(self) -> None:
        assert self._board is not None
        with contextlib.suppress(OSError):
            while data := self._board.recv(4096):
                os.write(self._master, data)
