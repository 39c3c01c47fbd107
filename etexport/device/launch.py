"""Starts a simulated board, or the host's own process, and says where its serial port is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from etexport.board import Board, Simulator
from etexport.errors import DeviceLostError, ModelError, ToolMissingError
from etexport.resources import root

_START_S = 30.0
_EXIT_S = 10.0
_LOOK_S = 0.05
"""How old the kernel's count of what a simulator has waited may be."""
_SLOWEST = 4
"""A simulator's own clock is so many times as slow as the wall's, at most: one that hangs is to be named on any
machine."""
_WAITING = re.compile(r"waiting for connection on: \S*tcp:127\.0\.0\.1:(\d+)")
_PLAIN_PATH = re.compile(r"[\w./-]+")
_PR_SET_PDEATHSIG = 1
_NOT_INSTALLED = 127
"""Status of a launcher that lacks what it launches, as a shell has it; its last line is `what; hint`."""


@dataclass
class Running:
    """A simulator under way; `exit_status` is known once it has ended."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)
    """What it wrote to standard output and error."""
    reader: threading.Thread | None = None
    """What reads these lines; done a little after the process."""
    ends: bool = True
    """Whether the firmware's exit ends it. Renode goes on, and waiting for it would be in vain."""
    _looked_at: float = field(default_factory=time.monotonic)
    _waited_s: float = 0.0
    _clock: float = 0.0

    @property
    def exit_status(self) -> int | None:
        return self.process.poll()

    def clock(self) -> float:
        """Seconds of its own time: the machine's, without those in which it was ready to go on and other processes had
        the cores. What is measured by it grows with the machine's load, up to fourfold; of a simulator that sleeps or
        is stopped it does not grow."""
        now = time.monotonic()
        since = now - self._looked_at
        if since > _LOOK_S:
            waited = max(_queued_s(self.process.pid), self._waited_s)  # a thread that ends takes its count along
            self._clock += max(since - (waited - self._waited_s), since / _SLOWEST)
            self._looked_at, self._waited_s, since = now, waited, 0.0
        return self._clock + since / _SLOWEST

    def wait(self) -> int | None:
        """Exit status, after waiting for an end that was asked for; None if it did not come."""
        if not self.ends:
            return self.process.poll()
        end = self.clock() + _EXIT_S
        while self.process.poll() is None and self.clock() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
        return self.process.poll()

    def epitaph(self) -> str:
        """How it ended and what it said last, for an error message; "" while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)  # the connection breaks a little before the process ends
        status = self.process.poll()
        if status is None:
            return ""
        if self.reader is not None:
            self.reader.join(timeout=1.0)
        ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        said = [line for line in self.lines if not _WAITING.search(line)]
        return f"the simulator {ended}" + "".join(f"\n    {line}" for line in said[-12:])


def _queued_s(pid: int) -> float:
    """How long a process has waited for a core, as Linux counts for each thread
    (Documentation/scheduler/sched-stats.rst); 0 elsewhere."""
    longest = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            longest = max(longest, int((thread / "schedstat").read_text().split()[1]))
    return longest / 1e9


def command(simulator: Simulator, elf: Path, port: int | None = None) -> tuple[str, ...]:
    """The command line; `port` is needed where an argument has `{port}`. ModelError where a simulator reads the path as
    a part of its own language (Renode's commands, QEMU's lists), and it has characters that mean something there."""
    places = {
        "elf": str(elf),
        "port": str(port),
        "renode": str(root() / "boards" / "renode"),
        "device": str(Path(__file__).parent),
    }
    if simulator.kind == "renode":  # whose Monitor ends a path at a blank that has no backslash before it
        places |= {name: places[name].replace(" ", "\\ ") for name in ("elf", "renode")}
    for name in ("elf", "renode") if simulator.kind != "program" else ():
        inside = [part for part in simulator.arguments if f"{{{name}}}" in part and part != f"{{{name}}}"]
        if inside and not _PLAIN_PATH.fullmatch(places[name].replace("\\ ", "_")):
            what = f"{simulator.program} cannot be told this path: {inside[0]!r} has it between other words"
            raise ModelError(what, where=places[name], hint="letters, digits and . _ - / only: build in another folder")
    return tuple(part.format(**places) for part in (simulator.program, *simulator.arguments))


@contextlib.contextmanager
def launch(board: Board, elf: Path) -> Iterator[Running]:
    """Run the board's simulator with this ELF; it is ended when the block is left, whatever happens."""
    simulator = board.simulator
    assert simulator is not None, f"{board.name} has no simulator"
    elf = elf.resolve()
    if not elf.is_file():
        raise DeviceLostError("there is no such file", where=str(elf), hint="build the firmware first")
    wants_port = any("{port}" in part for part in simulator.arguments)
    port = _free_port() if wants_port else None
    arguments = command(simulator, elf, port)
    if shutil.which(arguments[0]) is None:
        hint = f"sudo apt-get install {simulator.package}" if simulator.package else f"put {arguments[0]} on PATH"
        raise ToolMissingError(f"{arguments[0]} is not installed", where=f"board {board.name}", hint=hint)
    running = Running(arguments, _start(arguments, one_core=simulator.kind == "qemu"), ends=simulator.kind != "renode")
    reader = threading.Thread(target=_read_lines, args=(running.process.stdout, running.lines), daemon=True)
    running.reader = reader
    reader.start()
    try:
        running.url = f"socket://127.0.0.1:{port if port is not None else _announced_port(running)}"
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
        reader.join(timeout=1.0)
        if running.process.stdout is not None:
            running.process.stdout.close()


def _start(arguments: Sequence[str], *, one_core: bool) -> subprocess.Popen[str]:
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        # A simulator that polls its port would otherwise go on for ever when we are killed.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # For each byte that a UART receives QEMU's two threads wait for each other: on one core that takes half the
        # time (0.05 ms). It is the core on which Linux has put the new process, which is the least busy one.
        if one_core and (core := libc.sched_getcpu()) >= 0:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {core})

    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=prepare,
    )


def _read_lines(stream: IO[str] | None, lines: list[str]) -> None:
    assert stream is not None
    with contextlib.suppress(ValueError):  # closed while it was read
        for line in stream:
            lines.append(line.rstrip("\n"))


def _announced_port(running: Running) -> int:
    """The port that the simulator says it waits on. It runs nothing before someone connects, so that no byte is
    lost."""
    end = running.clock() + _START_S
    while running.clock() < end:
        for line in list(running.lines):
            if match := _WAITING.search(line):
                return int(match[1])
        if (status := running.process.poll()) is not None:
            said = running.epitaph()
            if status == _NOT_INSTALLED and running.lines:
                what, _, hint = running.lines[-1].partition("; ")
                raise ToolMissingError(what, where=running.arguments[0], hint=hint)
            raise DeviceLostError(said, where=" ".join(running.arguments))
        time.sleep(0.005)
    raise DeviceLostError(f"the simulator named no port in {_START_S:.0f} s", where=" ".join(running.arguments))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
