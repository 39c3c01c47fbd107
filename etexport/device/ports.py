"""What is attached to this machine: its serial ports, the boards whose USB ids they have, and who answers HELLO
there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from etexport.board import Board
from etexport.device.hello import Hello
from etexport.device.port import SerialPort, matching, serial_ports
from etexport.device.session import Line, attach, usb_ids
from etexport.device.wire_log import WireLog
from etexport.errors import EtError

ASK_S = 2.0
"""How long each port is asked who is there."""


@dataclass(frozen=True)
class Seen:
    port: SerialPort
    boards: tuple[str, ...]
    """Whose USB ids the port has."""
    hello: Hello | None
    answer: str
    """Who answers, or why nobody does; "" where nobody was asked."""


def survey(
    boards: Sequence[Board], urls: Sequence[str] = (), *, baud: int = 0, ask_s: float = ASK_S
) -> tuple[Seen, ...]:
    """Every port of the machine, and those at `urls`, each asked for `ask_s` (0: not at all; a port that is opened may
    reset its board)."""
    there = [*serial_ports(), *(SerialPort(url, "", "", "") for url in urls)]
    if not there:
        return ()
    with ThreadPoolExecutor(min(len(there), 32)) as pool:
        return tuple(pool.map(lambda port: _seen(port, boards, baud, ask_s), there))


def _seen(port: SerialPort, boards: Sequence[Board], baud: int, ask_s: float) -> Seen:
    may_be = [board for board in boards if matching(usb_ids(board), [port])]
    names = tuple(board.name for board in may_be)
    if not ask_s:
        return Seen(port, names, None, "")
    try:
        with WireLog(None) as log, attach(may_be[0] if may_be else None, None, Line(port.device, baud)) as attached:
            hello = attached.link(log).greet(ask_s)
    except EtError as error:
        return Seen(port, names, None, error.what)
    return Seen(
        port,
        names,
        hello,
        f"{hello.program} {hello.program_hash:016x} on {hello.board}, started {hello.boot} times, {hello.runs} runs",
    )
