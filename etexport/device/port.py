"""A byte stream to a board: whatever pyserial opens by URL. The only file that imports pyserial."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import termios
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import serial
from serial.tools import list_ports

from etexport.errors import DeviceLostError

_AT_ONCE = 65536
_WRITE_TIMEOUT_S = 10.0
_PULSE_S = 0.1
"""How long a line is held to reset a board, and a break lasts."""


@dataclass(frozen=True)
class Lines:
    """What a board's serial adapter does with its control lines. None leaves a line as the system opens it."""

    dtr: bool | None = None
    rts: bool | None = None
    reset: str = ""
    """What resets the board: a pulse on "dtr" or "rts", a "break", or "" for nothing that a port can do."""


@dataclass(frozen=True)
class SerialPort:
    """A port of this machine. `usb` is "0483:374b", "" where it is not on USB."""

    device: str
    usb: str
    serial_number: str
    description: str


def serial_ports() -> tuple[SerialPort, ...]:
    """What the operating system knows of."""
    found = (
        SerialPort(
            port.device,
            f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None and port.pid is not None else "",
            port.serial_number or "",
            port.description if port.description not in (None, "n/a") else "",
        )
        for port in list_ports.comports()
    )
    return tuple(sorted(found, key=lambda port: port.device))


def matching(ids: Sequence[str], ports: Sequence[SerialPort]) -> tuple[SerialPort, ...]:
    """The ports on USB with one of these ids, as "0483:374b"; "1366:*" is any product of that vendor."""
    wanted = {one.lower() for one in ids}
    return tuple(port for port in ports if port.usb and wanted & {port.usb, f"{port.usb.partition(':')[0]}:*"})


class Port:
    """Opened exclusively; DeviceLostError, with who holds it where that is known."""

    def __init__(self, url: str, baud: int = 115200, lines: Lines | None = None) -> None:
        self.url = url
        self.baud = 0 if url.startswith(("socket://", "loop://")) else baud
        """Bits a second; 0 of a line that has no speed."""
        self._lines = lines or Lines()
        device = _device_of(url)
        # pyserial's RFC 2217 refuses the limit, and starts its thread in an old way that warns.
        write_timeout_s = None if url.startswith("rfc2217://") else _WRITE_TIMEOUT_S
        try:
            self._serial = serial.serial_for_url(
                device, baudrate=baud, timeout=0, write_timeout=write_timeout_s, exclusive=True, do_not_open=True
            )
            for name in ("dtr", "rts"):
                if (level := getattr(self._lines, name)) is not None:
                    setattr(self._serial, name, level)
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                self._serial.open()
        except (serial.SerialException, ValueError, OSError, termios.error) as error:
            raise _cannot_open(url, device, error) from error
        self._descriptor = self._serial.fileno() if device.partition("://")[0] in (device, "socket") else -1
        if "://" not in device and (held := _others(device)):
            self._serial.close()
            raise _in_use(url, held)
        self._hold(True)

    def _hold(self, held: bool) -> None:
        """The kernel too lets nobody else open a serial device meanwhile: pyserial's lock is known only to those who
        ask for it. Not of a pseudo terminal, where the mark would outlive us for as long as its other end holds it."""
        if (
            self._descriptor >= 0
            and os.isatty(self._descriptor)
            and not os.ttyname(self._descriptor).startswith("/dev/pts/")
        ):
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._descriptor, termios.TIOCEXCL if held else termios.TIOCNXCL)

    def read(self, wait_s: float) -> bytes:
        """What has come, waiting at most `wait_s` for the first byte; b"" if nothing has."""
        try:
            if self._descriptor >= 0:  # past pyserial, which asks the system three times a read
                if not select.select([self._descriptor], [], [], max(wait_s, 0.0))[0]:
                    return b""
                if data := os.read(self._descriptor, _AT_ONCE):
                    return data
                raise OSError("its other end is gone")
            self._serial.timeout = max(wait_s, 0.0)
            first = self._serial.read(1)
            return bytes(first + self._serial.read(self._serial.in_waiting)) if first else b""
        except BlockingIOError:
            return b""
        except (serial.SerialException, OSError) as error:
            raise DeviceLostError(
                f"the connection broke: {error}", where=self.url, hint=_broken_hint(self.url)
            ) from error

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException as error:
            what = f"the board takes no bytes: {len(data)} could not be sent in {_WRITE_TIMEOUT_S:.0f} s"
            raise DeviceLostError(what, where=self.url, hint="flow control, or nobody at the other end") from error
        except (serial.SerialException, OSError) as error:
            raise DeviceLostError(
                f"the connection broke: {error}", where=self.url, hint=_broken_hint(self.url)
            ) from error

    def reset(self) -> None:
        """Reset the board by the port's lines; DeviceLostError where the board's file names none that does."""
        how = self._lines.reset
        if not how:
            hint = "press the board's reset button; `reset` in [attach] of the board's .toml names a line that does it"
            raise DeviceLostError("no line of this port resets the board", where=self.url, hint=hint)
        try:
            if how == "break":
                self._serial.send_break(_PULSE_S)
            else:
                setattr(self._serial, how, True)
                time.sleep(_PULSE_S)
                setattr(self._serial, how, False)
            self._serial.reset_input_buffer()
        except (serial.SerialException, OSError, termios.error) as error:
            raise DeviceLostError(
                f"the port has no line {how}: {error}", where=self.url, hint="a terminal or socket has none"
            ) from error

    def seconds_for(self, count: int) -> float:
        """How long so many bytes are on the way: ten bits each."""
        return 10 * count / self.baud if self.baud else 0.0

    def close(self) -> None:
        self._hold(False)
        # behind which pyserial waits 0.3 s, for servers that cannot take a next one at once
        if self.url.startswith("socket://"):
            threading.Thread(target=self._serial.close, daemon=True).start()
        else:
            self._serial.close()


def holders(device: str) -> Iterator[str]:
    """Who has the device file open, as `name (pid N)`; of other users' processes only root learns."""
    yield from (name for name, _ in _holding(device))


def _holding(device: str) -> Iterator[tuple[str, Path]]:
    wanted = os.path.realpath(device)
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if int(process.name) != os.getpid() and any(
                os.path.realpath(link) == wanted for link in (process / "fd").iterdir()
            ):
                yield f"{(process / 'comm').read_text().strip()} (pid {process.name})", process
        except OSError:
            continue  # gone meanwhile, or another user's


def _others(device: str) -> list[str]:
    """Who else reads a device that could be opened all the same: they would take half of what the board says. Of a
    pseudo terminal, who has its other end open as well is the board, not another user."""
    found = []
    is_pseudo = os.path.realpath(device).startswith("/dev/pts/")
    for name, process in _holding(device):
        with contextlib.suppress(OSError):
            if is_pseudo and any(
                os.path.realpath(link) in ("/dev/ptmx", "/dev/pts/ptmx") for link in (process / "fd").iterdir()
            ):
                continue
        found.append(name)
    return found


def _device_of(url: str) -> str:
    """The device file where `hwgrep://PATTERN` finds one port, as pyserial searches: in its name, description and USB
    ids."""
    scheme, mark, pattern = url.partition("://")
    if not mark or scheme != "hwgrep":
        return url
    pattern, _, options = pattern.partition("&")
    try:
        found: list[str] = sorted(str(port.device) for port in list_ports.grep(pattern))
    except re.error as error:
        raise DeviceLostError(
            f"is no pattern: {error}", where=url, hint="a regular expression, as hwgrep://0483:374b"
        ) from None
    wanted = re.fullmatch(r"n=(\d+)", options)
    if wanted and 1 <= int(wanted[1]) <= len(found):
        return found[int(wanted[1]) - 1]
    if len(found) != 1:
        some = f"{len(found)} ports match: {', '.join(found)}" if found else "no port matches"
        raise DeviceLostError(some, where=url, hint=_ports_hint() if not found else f"{url}&n=1 takes the first")
    return found[0]


def _in_use(url: str, held: Sequence[str]) -> DeviceLostError:
    return DeviceLostError(f"the port is in use by {', '.join(held)}", where=url, hint="close that program")


def _cannot_open(url: str, device: str, error: Exception) -> DeviceLostError:
    if "://" not in device and Path(device).exists():
        held = list(holders(device))
        if held:
            return _in_use(url, held)
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == 13:
            return DeviceLostError(
                "the port may not be opened", where=url, hint="sudo usermod -aG dialout $USER, then log in again"
            )
    return DeviceLostError(f"cannot open the port: {error}", where=url, hint=_ports_hint())


def _ports_hint() -> str:
    return f"serial ports here: {', '.join(port.device for port in serial_ports()) or 'none'}"


def _broken_hint(url: str) -> str:
    return "the simulator ended" if url.startswith("socket://") else "unplugged, or another program reads the same port"
