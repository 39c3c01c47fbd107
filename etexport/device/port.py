"""A byte stream to a board: whatever pyserial opens by URL. The only file that imports pyserial."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import serial
from serial.tools import list_ports

from etexport.errors import DeviceLostError

_AT_ONCE = 65536
_WRITE_TIMEOUT_S = 10.0


class Port:
    """Opened exclusively; DeviceLostError, with who holds it where that is known."""

    def __init__(self, url: str, baud: int = 115200) -> None:
        self.url = url
        self.baud = 0 if url.startswith(("socket://", "loop://")) else baud
        """Bits a second; 0 of a line that has no speed."""
        try:
            self._serial = serial.serial_for_url(url, baudrate=baud, timeout=0, write_timeout=_WRITE_TIMEOUT_S, exclusive=True)
        except (serial.SerialException, ValueError, OSError) as error:
            raise _cannot_open(url, error) from error
        self._descriptor = self._serial.fileno() if url.partition("://")[0] in (url, "socket", "hwgrep") else -1

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
            raise DeviceLostError(f"the connection broke: {error}", where=self.url, hint=_broken_hint(self.url)) from error

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException as error:
            what = f"the board takes no bytes: {len(data)} could not be sent in {_WRITE_TIMEOUT_S:.0f} s"
            raise DeviceLostError(what, where=self.url, hint="flow control, or nobody at the other end") from error
        except (serial.SerialException, OSError) as error:
            raise DeviceLostError(f"the connection broke: {error}", where=self.url, hint=_broken_hint(self.url)) from error

    def seconds_for(self, count: int) -> float:
        """How long so many bytes are on the way: ten bits each."""
        return 10 * count / self.baud if self.baud else 0.0

    def close(self) -> None:
        self._serial.close()


def holders(device: str) -> Iterator[str]:
    """Who has the device file open, as `name (pid N)`; of other users' processes only root learns."""
    wanted = os.path.realpath(device)
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if int(process.name) != os.getpid() and any(os.path.realpath(link) == wanted for link in (process / "fd").iterdir()):
                yield f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # gone meanwhile, or another user's


def _cannot_open(url: str, error: Exception) -> DeviceLostError:
    if "://" not in url and Path(url).exists():
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == 13:
            return DeviceLostError("the port may not be opened", where=url, hint="sudo usermod -aG dialout $USER, then log in again")
        held = ", ".join(holders(url))
        if held:
            return DeviceLostError(f"the port is in use by {held}", where=url, hint="close that program")
    known = ", ".join(port.device for port in list_ports.comports()) or "none"
    return DeviceLostError(f"cannot open the port: {error}", where=url, hint=f"serial ports here: {known}")


def _broken_hint(url: str) -> str:
    return "the simulator ended" if url.startswith("socket://") else "unplugged, or another program reads the same port"
