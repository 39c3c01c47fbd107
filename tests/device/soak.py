"""Frames without end over a terminal that loses, flips, doubles and delays bytes: `python -m tests.device.soak`.

A million frames against the host's process, a hundred thousand against one simulated core and ten thousand against each
other board that QEMU simulates, unless told: `--board NAME`, `--frames N`, `--seconds S` (it ends sooner), `--seed N`.
Each output of each run is compared, runs are numbered without a gap, and memory stays.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etexport.board import board_names, load_board
from etexport.device.elf import memory_bytes
from etexport.device.launch import launch
from etexport.device.messages import decode
from etexport.device.session import IDENTIFY_S, Line, attach, check_firmware
from etexport.device.wire_log import WireLog
from etexport.errors import EtError
from tests.device.building import build_tiny
from tests.device.proxy import Noise, Pty, proxy
from tests.device.tiny import Array, expected, sample

NOISE = Noise(
    flip=1 / 100_000,
    drop=1 / 100_000,
    double=1 / 100_000,
    delay=1 / 500_000,
    delay_s=0.05,
    drop_run=1 / 500_000,
    repeat_run=1 / 200_000,
)
"""Of each byte, in both directions: about one run in ten is hit."""
FRAMES = {"host": 1_000_000, "qemu_mps2_an386": 100_000}
_OTHERS = 10_000
_WARM = 200
"""Runs after which memory is looked at for the first time."""
_MOST_GROWTH = 4 << 20
"""Bytes, of the host's side and of the board's process, from then to the end."""
_SIGN_S = 10.0

Meaning = Callable[[tuple[Array, Array], int], tuple[Array, Array]]


class Wrong(Exception):
    """What must not happen, on whatever line."""


@dataclass(frozen=True)
class Soaked:
    board: str
    frames: int
    """Whole ones, sent and received."""
    runs: int
    bytes_received: int
    damage: int
    """Done by the line, in either direction."""
    bad_frames: int
    asked_again: int
    grown: tuple[int, int] | None
    """Bytes, of the host's side and of the board's process; None: it ended before memory was looked at."""
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.board}: {self.frames:,} frames in {self.runs:,} runs and {self.seconds:.0f} s, {self.damage:,} "
            "times damaged; "
            f"{self.bad_frames:,} bad frames and {self.asked_again:,} repeated questions, no wrong output, no run "
            "lost; "
            + (
                "memory grew by {:,} bytes here and by {:,} there".format(*self.grown)
                if self.grown
                else "too few runs to look at memory"
            )
        )


class Frames(WireLog):
    """Counts and keeps nothing."""

    def __init__(self) -> None:
        super().__init__(None)
        self.count = 0
        self._rest = b""

    def sent(self, data: bytes) -> None:
        self.count += 1

    def received(self, data: bytes) -> None:
        *blocks, rest = (self._rest + data).split(b"\0")
        self.count += sum(decode(block) is not None for block in blocks if block)
        self._rest = rest[-4096:]


def soak(
    name: str,
    frames: int,
    out: Path,
    *,
    seconds: float = float("inf"),
    seed: int = 1,
    noise: Noise = NOISE,
    meaning: Meaning = expected,
) -> Soaked:
    """At least so many frames with a board's simulator over a lossy terminal; Wrong, or an EtError of the link, where
    it does not hold."""
    board, begun, signed = load_board(name), time.monotonic(), time.monotonic()
    elf = build_tiny(board, out)
    with (
        launch(board, elf) as running,
        proxy(running.url, to_board=noise, to_host=noise, seed=seed) as line,
        Pty(line.url) as terminal,
        attach(board, elf, Line(terminal.device)) as attached,
    ):
        log = Frames()
        link = attached.link(log)
        first = link.greet(IDENTIFY_S)
        check_firmware(first, elf, board, terminal.device)
        hello = link.describe(first, most_bytes=memory_bytes(elf))
        warm, runs = (0, 0), 0
        while log.count < frames and time.monotonic() - begun < seconds:
            runs += 1
            inputs = sample(runs % 97)
            done = link.run(hello, hello.runs + runs, inputs, 60.0)
            for index, (got, wanted) in enumerate(zip(done.outputs, meaning(inputs, hello.runs + runs), strict=True)):
                if got.tobytes() != wanted.tobytes():
                    raise Wrong(
                        f"{name}: output {index} of run {runs:,} is not what the program makes, and was accepted"
                    )
            if runs == _WARM:
                warm = (_resident("self"), _resident(str(running.process.pid)))
            if time.monotonic() - signed > _SIGN_S:
                signed = time.monotonic()
                print(f"{name}: {log.count:,} of {frames:,} frames", file=sys.stderr, flush=True)
        after = link.greet(IDENTIFY_S)
        if (after.boot, after.runs) != (hello.boot, hello.runs + runs):
            raise Wrong(
                f"{name}: {runs:,} runs were made, the board says {after.runs - hello.runs:,}; it has started "
                f"{after.boot} times"
            )
        now = (_resident("self"), _resident(str(running.process.pid)))
        grown = (now[0] - warm[0], now[1] - warm[1]) if runs > _WARM else None
        if grown is not None and max(grown) > _MOST_GROWTH:
            raise Wrong(f"{name}: memory grew by {max(grown):,} bytes from run {_WARM} to run {runs:,}")
        bad = link.bad_frames + after.bad_frames - hello.bad_frames
        return Soaked(
            name,
            log.count,
            runs,
            link.bytes_received,
            sum(line.done.values()),
            bad,
            link.asked_again,
            grown,
            time.monotonic() - begun,
        )


def _is_in_qemu(name: str) -> bool:
    simulator = load_board(name).simulator
    return simulator is not None and simulator.kind == "qemu"


def _resident(process: str) -> int:
    """Bytes in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.device.soak", description=__doc__)
    parser.add_argument(
        "--board", action="append", metavar="NAME", help="one that is simulated (default: host and all in QEMU)"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="(default: as above)")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="S", help="of each board, at most")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for name in args.board or (*FRAMES, *(name for name in board_names() if name not in FRAMES and _is_in_qemu(name))):
        with tempfile.TemporaryDirectory() as folder:
            try:
                frames = args.frames or FRAMES.get(name, _OTHERS)
                print(soak(name, frames, Path(folder), seconds=args.seconds, seed=args.seed), flush=True)
            except (Wrong, EtError) as error:
                print(f"error: {error}", file=sys.stderr)
                return getattr(error, "exit_code", 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
