"""A board that answers: found or started by its URL, opened exclusively, greeted, and known to run the firmware that it
should."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

from etexport.board import Board, load_board
from etexport.device.elf import memory_bytes, program_counts, program_hash
from etexport.device.fault import decode, error
from etexport.device.hello import Hello
from etexport.device.image import image
from etexport.device.launch import Running, launch
from etexport.device.link import FaultReported, Link
from etexport.device.port import Lines, Port, matching, serial_ports
from etexport.device.wire_log import WireLog
from etexport.errors import BoardError, DeviceLostError, EtError, raise_all

IDENTIFY_S = 20.0
"""How long a board may take to answer HELLO."""
_OPEN_S = 30.0
_SIMULATED_WINDOW = 8
"""Questions under way to a simulator, which loses nothing. Real ports may lack a receive buffer, and get one."""
_SIMULATORS = ("host", "qemu", "renode", "program")
"""Schemes of URLs that start the simulator of the board that they name."""

Waiting = Callable[[str], None]


class OtherFirmwareError(DeviceLostError):
    """The board is there, and runs something else: waiting does not help."""


@dataclass(frozen=True)
class Line:
    """How a board is reached. `url` is a port as pyserial takes it, `qemu://BOARD` (whatever kind of simulator the
    board has), or "" for what the board's file says: its simulator, its own `url`, or the port that its USB ids are
    found at."""

    url: str = ""
    baud: int = 0
    """Bits a second; 0 for what the board's file says."""
    reset: bool = False
    """Reset the board first, by the serial port's lines as its file says."""


@dataclass
class Session:
    """A conversation with a board that is known to run `elf`."""

    link: Link
    hello: Hello
    url: str
    running: Running | None
    """The simulator that was launched; None for a port."""
    log: WireLog = field(repr=False)


@dataclass(frozen=True)
class Attached:
    """An open port, and what is known of its other end."""

    port: Port
    running: Running | None

    def link(self, log: WireLog, waiting: Waiting | None = None) -> Link:
        """A link over the port; to a simulator of ours several questions at once, and time by its own clock."""
        simulated = self.running is not None
        return Link(
            self.port, log, window=_SIMULATED_WINDOW if simulated else 1,
            nonce=1 if simulated else secrets.randbelow(1 << 16), lossless=simulated,
            clock=self.running.clock if self.running is not None else time.monotonic, waiting=waiting,
        )  # fmt: skip


def simulated(url: str, board: Board | None) -> tuple[Board, Path | None] | None:
    """The board of `qemu://BOARD[?elf=FILE]` and its firmware, if one is named; None where the URL is a port. EtError
    where the board has no such simulator, or is another than `board`."""
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in _SIMULATORS:
        return None
    name, _, query = rest.partition("?")
    named = load_board(name) if name else board
    if named is None:
        raise BoardError(
            "names no board", where=url, hint=f"{scheme}://BOARD, a name of `etexport boards` or a path to a .toml"
        )
    if named.simulator is None or named.simulator.kind != scheme:
        kind = "no simulator" if named.simulator is None else f"a simulator of kind {named.simulator.kind}"
        raise BoardError(f"{named.name} has {kind}", where=url, hint="`etexport boards` says where each board runs")
    if board is not None and named.name != board.name:
        raise BoardError(
            f"the firmware was built for {board.name}, not for {named.name}",
            where=url,
            hint="name the board it was built for",
        )
    elf = parse_qs(query).get("elf", [""])[0]
    return named, Path(elf) if elf else None


def is_launched(board: Board | None, line: Line) -> bool:
    """Whether the line starts a simulator: one that has ended is not waited for, as a port is that was unplugged."""
    return simulated(line.url, board) is not None or (
        not line.url and board is not None and board.simulator is not None
    )


def port_of(board: Board | None, line: Line) -> str:
    """The URL of a board's port: the one that is given, the board file's, or where its USB ids are found. "" to start
    its simulator."""
    if line.url or board is None:
        return line.url
    if board.simulator is not None:
        return ""
    return board.url or _found(board)


def real_port(board: Board, line: Line) -> str:
    """The URL of a board that is attached, also where it has a simulator, which would be another machine."""
    return line.url or board.url or _found(board)


def _found(board: Board) -> str:
    """The one port of this machine with USB ids of the board's; DeviceLostError where there is none, or several."""
    ids, ports = usb_ids(board), serial_ports()
    found = matching(ids, ports)
    if len(found) == 1:
        return found[0].device
    # one adapter with several ports
    if found and found[0].serial_number and len({port.serial_number for port in found}) == 1:
        at = board.attach.usb_port if board.attach is not None else 0
        return found[min(at, len(found) - 1)].device
    there = ", ".join(f"{port.device} ({port.usb})" if port.usb else port.device for port in found or ports) or "none"
    if found:
        raise DeviceLostError(
            f"{len(found)} ports may be the board: {there}", where=board.name, hint="--port URL says which"
        )
    looked = f"no port has {' or '.join(ids)}" if ids else "its file names no USB ids to find its port by"
    raise DeviceLostError(looked, where=board.name, hint=f"serial ports here: {there}; --port URL names one")


def usb_ids(board: Board) -> tuple[str, ...]:
    """USB ids of the board's serial adapter, as its file states them."""
    return board.attach.usb if board.attach is not None else ()


def lines_of(board: Board | None) -> Lines:
    """What the board's file says of its adapter's control lines."""
    if board is None or board.attach is None:
        return Lines()
    levels: dict[str, bool | None] = {"on": True, "off": False, "keep": None}
    return Lines(levels[board.attach.dtr], levels[board.attach.rts], board.attach.reset)


@contextmanager
def attach(board: Board | None, elf: Path | None, line: Line) -> Iterator[Attached]:
    """Open the port, or start the simulator with `elf` and open that; closed and ended when the block is left."""
    url = port_of(board, line)
    told = simulated(url, board)
    with ExitStack() as stack:
        if told is None and url:
            baud = line.baud or (board.baud if board is not None else 115200)
            port = Port(url, baud, lines_of(board))
            stack.callback(port.close)
            if line.reset:
                port.reset()
            yield Attached(port, None)
            return
        started, own = told or (board, None)
        firmware = own or elf
        if started is None or started.simulator is None:
            raise BoardError("no port is given, and no board", hint="--port URL, or --board")
        if firmware is None:
            raise BoardError("a simulator needs a firmware", where=url, hint=f"{url}?elf=FILE, or a build folder")
        running = stack.enter_context(launch(started, firmware))
        port = _open(running, started)
        stack.callback(port.close)
        yield Attached(port, running)


@contextmanager
def session(
    elf: Path,
    board: Board,
    line: Line,
    *,
    features: frozenset[str] = frozenset(),
    log: Path | None = None,
    waiting: Waiting | None = None,
) -> Iterator[Session]:
    """A board that runs `elf`, with its tensors; DeviceLostError where there is none, or another. What goes wrong
    inside the block gets names: faults the line of the script, a broken connection the simulator's last words."""
    with WireLog(log) as wire, attach(board, elf, line) as attached, translated(elf, board, attached.running):
        link = attached.link(wire, waiting)
        hello = link.greet(IDENTIFY_S)
        check_firmware(hello, elf, board, attached.port.url, features)
        hello = link.describe(hello, program_counts(elf), memory_bytes(elf))
        yield Session(link, hello, attached.port.url, attached.running, wire)


@contextmanager
def translated(elf: Path, board: Board, running: Running | None) -> Iterator[None]:
    """Faults get names, and a connection that broke because the simulator ended says so."""
    try:
        yield
    except FaultReported as reported:
        raise error(decode(reported.message, elf, board)) from None
    except DeviceLostError as lost:
        epitaph = running.epitaph() if running is not None else ""
        if not epitaph:
            raise
        raise DeviceLostError(f"{lost.what}; {epitaph}", where=lost.where, hint=lost.hint) from lost


def _open(running: Running, board: Board) -> Port:
    """The port of a simulator that was just started: one that was told which port to take may not have it open yet."""
    end = running.clock() + _OPEN_S
    while True:
        try:
            return Port(running.url, board.baud)
        except DeviceLostError:
            if running.clock() > end or running.exit_status is not None:
                raise
            time.sleep(0.05)


def check_firmware(hello: Hello, elf: Path, board: Board, url: str, features: frozenset[str] = frozenset()) -> None:
    """The board runs this very file; OtherFirmwareError with both sides of everything that differs."""
    errors: list[EtError] = []
    hint = "write the firmware again"
    if hello.board != board.name:
        errors.append(
            OtherFirmwareError(
                f"the firmware there was built for {hello.board}, not for {board.name}", where=url, hint=hint
            )
        )
    expected = program_hash(elf)
    if expected is not None and hello.program_hash != expected:
        what = (
            f"the board runs another program: {hello.program} {hello.program_hash:016x}; {elf.name} has {expected:016x}"
        )
        errors.append(OtherFirmwareError(what, where=url, hint=hint))
    else:
        told, counts = (hello.method_count, hello.steps), program_counts(elf)
        if counts is not None and told != (own := (len(counts.tensors), counts.steps)):
            there, here = ("{} methods and {} steps".format(*numbers) for numbers in (told, own))
            what = f"the board says that its program has {there}; that of {elf.name} has {here}"
            errors.append(OtherFirmwareError(what, where=url, hint=hint))
        file = image(elf)
        if (file.crc, file.size) != (hello.image_crc, hello.image_bytes):
            there, here = (
                f"{hello.image_bytes} bytes with CRC {hello.image_crc:08x}",
                f"{file.size} with {file.crc:08x}",
            )
            what = f"the board runs another firmware: {there}; {elf.name} has {here}"
            errors.append(OtherFirmwareError(what, where=url, hint=hint))
    if missing := sorted(features - hello.features):
        errors.append(
            OtherFirmwareError(
                f"the firmware was built without {' and '.join(missing)}", where=url, hint="build it with them"
            )
        )
    raise_all(errors)
