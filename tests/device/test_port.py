"""Serial ports as they go wrong: held by another, silent, noisy, of another version, pulled out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib

import pytest
from cobs import cobs

from etexport.device import link, run, session
from etexport.device.launch import launch
from etexport.device.messages import encode
from etexport.device.port import Port
from etexport.errors import DeviceLostError
from tests.device.conftest import Firmware
from tests.device.proxy import Pty
from tests.device.tiny import HANG, sample


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IDENTIFY_S", 1.0)


def test_a_port_is_opened_once() -> None:
    with Pty(None) as line:
        first = Port(line.device)
        with pytest.raises(DeviceLostError, match="cannot open the port"):
            Port(line.device)
        first.close()
        Port(line.device).close()


def test_who_holds_a_port_is_named() -> None:
    program = (
        "import serial, sys; s = serial.Serial(sys.argv[1], exclusive=True); print('open', flush=True); "
        "sys.stdin.read()"
    )
    with Pty(None) as line:
        other = subprocess.Popen(
            [sys.executable, "-c", program, line.device], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(DeviceLostError, match=rf"in use by \S+ \(pid {other.pid}\)"):
            Port(line.device)
        other.communicate()


def test_no_port_lists_what_there_is() -> None:
    with pytest.raises(DeviceLostError, match="serial ports here"):
        Port("/dev/ttyThatIsNot")


@pytest.mark.usefixtures("impatient")
def test_a_silent_port(firmware: Firmware) -> None:
    board, elf = firmware("host")
    with Pty(None) as line, pytest.raises(DeviceLostError, match="no bytes came in 1 s"):
        run(elf, board, [], url=line.device)


@pytest.mark.usefixtures("impatient")
def test_bytes_that_are_no_frames(firmware: Firmware) -> None:
    board, elf = firmware("host")
    with Pty(None) as line:
        threading.Timer(0.3, line.say, (b"\xf8\x00\x80\xfe\x1c" * 20,)).start()
        with pytest.raises(
            DeviceLostError,
            match=r"100 bytes came in 1 s, but no frame of the link, nor text(.|\n)*another speed than 115200 baud",
        ):
            run(elf, board, [], url=line.device)


@pytest.mark.usefixtures("impatient")
def test_another_version_of_the_link(firmware: Firmware) -> None:
    board, elf = firmware("host")
    frame = encode("IDENTIFY", 1, version=7, layout=0xABCDEF12)
    body = bytes([0x81]) + cobs.decode(frame.strip(b"\0"))[1:-4] + b"whatever version 7 says"
    with Pty(None) as line:
        hello = b"\0" + cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"
        threading.Timer(0.3, line.say, (hello,)).start()
        with pytest.raises(
            DeviceLostError, match=r"speaks version 7 of the link \(layout abcdef12\), this is version 2 \(layout "
        ):
            run(elf, board, [], url=line.device)


def test_unplugged_in_the_middle_of_a_run(firmware: Firmware) -> None:
    board, elf = firmware("host")
    with launch(board, elf) as running, Pty(running.url) as line:
        timer = threading.Timer(1.0, line.unplug)
        with pytest.raises(DeviceLostError, match="the connection broke"):
            run(
                elf,
                board,
                [sample(0), sample(1, HANG)],
                url=line.device,
                timeout_s=20,
                progress=lambda done, of: timer.start(),
            )


def test_a_board_that_falls_silent_is_lost(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers HELLO, then nothing."""
    board, elf = firmware("host")
    with launch(board, elf) as running, Pty(running.url) as line:
        monkeypatch.setattr(link.Link, "_send_inputs", _stop_then(link.Link._send_inputs, running.process, monkeypatch))
        with pytest.raises(DeviceLostError, match="stopped answering: no answer to INPUT in 1 s"):
            run(elf, board, [sample(0)], url=line.device)


def _stop_then(send_inputs: object, process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> object:
    def stopped(*args: object) -> None:
        monkeypatch.setattr(link, "_SILENCE_S", 1.0)
        os.kill(process.pid, signal.SIGSTOP)
        send_inputs(*args)  # type: ignore[operator]

    return stopped
