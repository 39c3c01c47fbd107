"""A board is one URL: what starts a simulator, what finds a port, who else holds it, and the verbs that show it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial
import serial.rfc2217
from cobs import cobs

from etexport.__main__ import main
from etexport.board import load_board
from etexport.device import port as port_module
from etexport.device import run
from etexport.device.launch import launch
from etexport.device.messages import encode
from etexport.device.port import Lines, Port, matching, serial_ports
from etexport.errors import BoardError, DeviceFaultError, DeviceLostError
from etexport.hardware import Attach
from etexport.resources import root
from tests.device.conftest import Firmware
from tests.device.proxy import Pty, proxy
from tests.device.test_fault import as_built
from tests.device.test_link import check
from tests.device.test_parser import raw
from tests.device.tiny import WRITE_NOWHERE, sample


def found(device: str, vid: int | None = None, pid: int | None = None, number: str = "") -> SimpleNamespace:
    """A port as pyserial lists it."""
    usb = f"USB VID:PID={vid:04X}:{pid:04X} SER={number}" if vid is not None else "n/a"
    return SimpleNamespace(
        device=device, vid=vid, pid=pid, serial_number=number, description="adapter", hwid=usb, name=device
    )


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """attached(port, ...): the ports that the operating system is to know of. No machine of ours has one."""

    def set_ports(*ports: SimpleNamespace) -> None:
        monkeypatch.setattr(port_module.list_ports, "comports", lambda: list(ports))
        monkeypatch.setattr(port_module.list_ports, "grep", _grep(ports))

    return set_ports


def _grep(ports: tuple[SimpleNamespace, ...]) -> Callable[[str], Iterator[SimpleNamespace]]:
    return lambda pattern: (
        port for port in ports if re.search(pattern, f"{port.device} {port.description} {port.hwid}", re.IGNORECASE)
    )


@pytest.mark.parametrize(
    ("name", "url"), [("host", "host://host"), ("host", "host://"), ("qemu_virt_rv32", "qemu://qemu_virt_rv32")]
)
def test_a_url_starts_the_simulator(firmware: Firmware, name: str, url: str) -> None:
    board, elf = firmware(name)
    done = run(elf, board, [sample(0)], url=url)
    check(done, 1)
    assert done.unit == board.counter.unit and done.command and done.exit_status == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("qemu://qemu_virt_rv32", "the firmware was built for host, not for qemu_virt_rv32"),
        ("qemu://host", "host has a simulator of kind host"),
        ("qemu://nothing_such", "no board is called 'nothing_such'"),
    ],
)
def test_a_url_of_another_board(firmware: Firmware, url: str, said: str) -> None:
    board, elf = firmware("host")
    with pytest.raises(BoardError, match=said):
        run(elf, board, [], url=url)


def test_a_pattern_finds_the_port(firmware: Firmware, attached: Callable[..., None]) -> None:
    board, elf = firmware("host")
    with launch(board, elf) as running, Pty(running.url) as line:
        attached(found("/dev/ttyS9"), found(line.device, 0x1234, 0xABCD))
        check(run(elf, board, [sample(0)], url="hwgrep://1234:abcd"), 1)
        with pytest.raises(DeviceLostError, match="no port matches"):
            run(elf, board, [], url="hwgrep://9999:9999")
        with pytest.raises(DeviceLostError, match=r"2 ports match: .*(.|\n)*&n=1"):
            run(elf, board, [], url="hwgrep://dev")
        with pytest.raises(DeviceLostError, match="is no pattern"):
            run(elf, board, [], url="hwgrep://(")


def test_ports_by_their_usb_ids(attached: Callable[..., None]) -> None:
    attached(found("/dev/b", 0x1366, 0x1051, "77"), found("/dev/a"), found("/dev/c", 0x0483, 0x374B))
    ports = serial_ports()
    assert [(port.device, port.usb, port.serial_number) for port in ports] == [
        ("/dev/a", "", ""),
        ("/dev/b", "1366:1051", "77"),
        ("/dev/c", "0483:374b", ""),
    ]
    assert [port.device for port in matching(["0483:374B"], ports)] == ["/dev/c"]
    assert [port.device for port in matching(["1366:*"], ports)] == ["/dev/b"]
    assert not matching([], ports)


def test_a_board_is_found_by_its_usb_ids(firmware: Firmware, attached: Callable[..., None]) -> None:
    simulated, elf = firmware("host")
    usb = Attach(usb=("0483:374b", "1366:*"), usb_port=1)
    board = dataclasses.replace(simulated, simulator=None, attach=usb)
    with launch(simulated, elf) as running, Pty(running.url) as line:
        attached(found("/dev/ttyS0"), found(line.device, 0x0483, 0x374B, "1"))
        check(run(elf, board, [sample(0)]), 1)
        attached(found("/dev/a", 0x1366, 0x1051, "7"), found(line.device, 0x1366, 0x1051, "7"))
        done = run(elf, board, [sample(1)])
        assert done.hello.runs == 1
        attached(found("/dev/a", 0x1366, 0x1051, "7"), found(line.device, 0x0483, 0x374B, "8"))
        with pytest.raises(DeviceLostError, match=r"2 ports may be the board: /dev/a \(1366:1051\)(.|\n)*--port"):
            run(elf, board, [])
    attached(found("/dev/ttyS0"))
    with pytest.raises(DeviceLostError, match=r"no port has 0483:374b or 1366:\*(.|\n)*/dev/ttyS0"):
        run(elf, board, [])
    with pytest.raises(DeviceLostError, match="names no USB ids"):
        run(elf, dataclasses.replace(board, attach=Attach()), [])


@contextlib.contextmanager
def served_by_rfc2217(target: str) -> Iterator[str]:
    """A port of another machine: pyserial's own half of a server before the board's socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    line = serial.serial_for_url(target, timeout=0)
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            client.settimeout(0.02)
            manager = serial.rfc2217.PortManager(line, SimpleNamespace(write=client.sendall))
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    if not (data := client.recv(4096)):
                        return
                    line.write(b"".join(manager.filter(data)))
                if said := line.read(4096):
                    client.sendall(b"".join(manager.escape(said)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.close()
        thread.join(5)
        line.close()


def test_a_port_of_another_machine(firmware: Firmware) -> None:
    board, elf = firmware("host")
    with launch(board, elf) as running, served_by_rfc2217(running.url) as url:
        check(run(elf, board, [sample(0)], url=url), 1)


@pytest.mark.skipif(shutil.which("sleep") is None, reason="sleep is not installed")
def test_who_reads_a_port_without_a_lock_is_named() -> None:
    """`cat` asks nobody: it would take half of what the board says."""
    with Pty(None) as line, Path(line.device).open("rb") as terminal:
        other = subprocess.Popen(["sleep", "60"], stdin=terminal)
        try:
            with pytest.raises(DeviceLostError, match=rf"in use by sleep \(pid {other.pid}\)"):
                Port(line.device)
        finally:
            other.kill()
            other.wait()
        Port(line.device).close()


def test_two_users_of_one_port(firmware: Firmware) -> None:
    """Ours too: the second is told who the first is, and the first goes on undisturbed."""
    board, elf = firmware("host")
    with launch(board, elf) as running, Pty(running.url) as line:
        refused: list[str] = []

        def second() -> None:
            with pytest.raises(DeviceLostError) as caught:
                run(elf, board, [sample(0)], url=line.device)
            refused.append(str(caught.value))

        code, out, said = monitored("--port", line.device, "--for", "4", say=second)
        assert code == 0 and "HELLO" in out, said
        assert re.search(r"the port is in use by python\S* \(pid \d+\)", refused[0])
        check(run(elf, board, [sample(0)], url=line.device), 1)


def test_reset_where_no_line_does_it() -> None:
    with Pty(None) as line:
        port = Port(line.device)
        with pytest.raises(DeviceLostError, match=r"no line of this port resets the board(.|\n)*reset button"):
            port.reset()
        port.close()
        port = Port(line.device, lines=Lines(reset="dtr"))
        with pytest.raises(DeviceLostError, match="the port has no line dtr"):
            port.reset()
        port.close()


# ---- ports -----------------------------------------------------------------------------------------------------------


def test_ports_tells_who_answers(
    firmware: Firmware, attached: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    board, elf = firmware("host")
    with launch(board, elf) as running, proxy(running.url) as line, Pty(None) as silent:
        attached(found(silent.device, 0x0483, 0x374B, "0667"))
        assert main(["ports", line.url, "--wait", "1"]) == 0
        told = capsys.readouterr().out
        assert f"{silent.device}" in told and "0483:374b  0667  adapter" in told and "no bytes came in 1 s" in told
        assert "answers: tiny 0123456789abcdef on host, started 1 times, 0 runs" in told
    attached()
    assert main(["ports"]) == 0
    assert capsys.readouterr().out == "no serial ports\n"


def test_ports_asks_nobody_when_told(attached: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    attached(found("/dev/ttyThatIsNot", 0x0483, 0x374B))
    assert main(["ports", "--no-ask", "--json"]) == 0
    assert '"answer": ""' in capsys.readouterr().out


# ---- monitor ---------------------------------------------------------------------------------------------------------


def monitored(*arguments: str, say: Callable[[], None] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and error of `etexport monitor`; `say` speaks once it watches."""
    command = [sys.executable, "-m", "etexport", "monitor", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root())
    assert process.stderr is not None
    first = process.stderr.readline()
    if say is not None:
        time.sleep(0.3)
        say()
    out, error = process.communicate(timeout=60)
    return process.returncode, out, first + error


def test_monitor_lets_text_through_and_tells_frames() -> None:
    with Pty(None) as line:

        def say() -> None:
            line.say("booting \N{GREEK SMALL LETTER MU}C\r\nready".encode())
            time.sleep(0.5)
            line.say(
                encode("BUSY", 7, run=3)
                + b"and on\n"
                + encode("DONE", 7, run=3, method=0, ticks=5, overhead=1, crc=0xAB)[:-3]
            )
            time.sleep(0.5)

        code, out, said = monitored("--port", line.device, "--for", "3", say=say)
    assert code == 0, said
    lines = out.splitlines()
    assert lines[:4] == ["booting \N{GREEK SMALL LETTER MU}C", "ready", "BUSY      run 3", "and on"]
    assert lines[4].startswith("? ")


def test_monitor_tells_what_comes_on_standard_input() -> None:
    """To its end, also what a pause cuts; and takes no other option."""
    command = [sys.executable, "-m", "etexport", "monitor", "--port", "-"]
    given = b"ready\r\n" + encode("BUSY", 7, run=3) + b"the end"
    done = subprocess.run(command, input=given, capture_output=True, cwd=root(), check=True)
    assert done.stdout.decode().splitlines() == ["ready", "BUSY      run 3", "the end"]
    done = subprocess.run([*command, "--baud", "9600"], input=b"", capture_output=True, cwd=root(), check=False)
    assert done.returncode == 1 and b"takes nothing beside it" in done.stderr


def other_link() -> bytes:
    body = (
        bytes([0x81])
        + cobs.decode(encode("IDENTIFY", 1, version=0, layout=0xABCDEF12).strip(b"\0"))[1:-4]
        + b"whatever"
    )
    return raw(0x81, 1, body[3:])


@pytest.mark.parametrize(
    ("speaks", "code", "said"),
    [
        (b"", 3, "no bytes came in 3 s"),
        (b"\xf8\x80\xfe\x1c\xe0\xff" * 30, 3, "another speed than 115200 baud"),
        (b"hello\r\n" * 5, 0, "another firmware runs there"),
        (other_link(), 3, "of an older etexport"),
    ],
    ids=["no bytes", "wrong speed", "other firmware", "older link"],
)
def test_monitor_says_what_is_wrong(speaks: bytes, code: int, said: str) -> None:
    with Pty(None) as line:
        got, _, told = monitored("--port", line.device, "--for", "3", say=lambda: line.say(speaks))
    assert (got, said in told) == (code, True), told
    assert speaks or "waiting for" in told, "a sign of life"


def test_monitor_names_the_line_of_a_fault(firmware: Firmware, tmp_path: Path) -> None:
    board, built = firmware("host")
    elf = as_built(tmp_path, built)
    with launch(board, elf) as running, Pty(running.url) as line:
        with pytest.raises(DeviceFaultError, match=r"0x70000000|SIG|UndefinedBehavior"):
            run(elf, board, [sample(0, WRITE_NOWHERE)], url=line.device)
        code, out, said = monitored(str(tmp_path), "--board", "host", "--port", line.device, "--for", "3")
    assert code == 0, said
    assert "FAULT  model.py:12: " in out and "in step 1 misbehave (aten::relu.out)" in out


def test_monitor_waits_for_a_port_that_went_away(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("host")
    link = tmp_path / "port"
    with contextlib.ExitStack() as stack:
        running, first = stack.enter_context(launch(board, elf)), stack.enter_context(Pty(None))
        link.symlink_to(first.device)

        def replug() -> None:
            first.unplug()
            time.sleep(1.2)
            link.unlink()
            link.symlink_to(stack.enter_context(Pty(running.url)).device)

        code, out, said = monitored("--port", str(link), "--for", "5", say=replug)
    assert code == 0, said
    assert "the connection broke" in said and "back after" in said and "HELLO" in out


def test_a_simulator_is_watched_too(firmware: Firmware) -> None:
    _, elf = firmware("qemu_virt_rv32")
    code, out, said = monitored("--port", f"qemu://qemu_virt_rv32?elf={elf}", "--for", "2")
    assert code == 0, said
    assert "HELLO" in out and "board qemu_virt_rv32  program tiny" in out
    assert load_board("qemu_virt_rv32").simulator is not None
