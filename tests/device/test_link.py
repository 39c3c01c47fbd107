"""The link between real firmware and pyserial, with a bad line between them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from etexport.board import Board
from etexport.device import Run, run
from etexport.device.launch import launch
from etexport.device.link import Link, _Parts
from etexport.device.messages import decode, encode, layout
from etexport.device.port import Port
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceLostError, EtError
from etexport.resources import root
from tests.device.conftest import Firmware
from tests.device.proxy import QUIET, Noise, Proxy, Pty, proxy
from tests.device.tiny import HANG, expected, sample

KINDS = {
    "flipped": Noise(flip=1 / 1200),
    "dropped": Noise(drop=1 / 1200),
    "doubled": Noise(double=1 / 1200),
    "delayed": Noise(delay=1 / 1500),
    "stretches lost": Noise(drop_run=1 / 1500),
    "stretches repeated": Noise(repeat_run=1 / 1200),
    "all at once": Noise(
        flip=1 / 3000, drop=1 / 3000, double=1 / 3000, delay=1 / 6000, drop_run=1 / 6000, repeat_run=1 / 3000
    ),
}


def check(done: Run, count: int) -> None:
    for index in range(count):
        for got, wanted in zip(done.outputs[index], expected(sample(index), index + 1), strict=True):
            np.testing.assert_array_equal(got, wanted)


@contextlib.contextmanager
def noisy(
    board: Board, elf: Path, to_board: Noise, to_host: Noise, seed: int = 0, before: bytes = b""
) -> Iterator[Proxy]:
    with (
        launch(board, elf) as running,
        proxy(running.url, to_board=to_board, to_host=to_host, seed=seed, before=before) as line,
    ):
        yield line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["to the board", "to the host", "both"])
@pytest.mark.parametrize("name", ["host", "qemu_mps2_an386"])
def test_whatever_the_line_does_the_outputs_are_right(firmware: Firmware, name: str, direction: str, kind: str) -> None:
    board, elf = firmware(name)
    to_board, to_host = (
        KINDS[kind] if direction in (way, "both") else QUIET for way in ("to the board", "to the host")
    )
    with noisy(board, elf, to_board, to_host, seed=len(direction + kind)) as line:
        done = run(elf, board, [sample(index) for index in range(6)], url=line.url)
    check(done, 6)
    if direction != "to the board" and kind != "delayed":
        assert line.done, "the line was not noisy at all"


@pytest.mark.parametrize("seed", range(4))
def test_a_line_that_hardly_works_gives_right_outputs_or_a_named_error(firmware: Firmware, seed: int) -> None:
    board, elf = firmware("host")
    awful = Noise(flip=1 / 400, drop=1 / 400, double=1 / 400, drop_run=1 / 2000, repeat_run=1 / 800)
    with noisy(board, elf, awful, awful, seed=seed) as line:
        try:
            check(run(elf, board, [sample(index) for index in range(2)], url=line.url, timeout_s=5), 2)
        except EtError as error:
            assert isinstance(error, DeviceLostError), error
        assert line.done


class TimedPort:
    """A board that answers READ after `seconds(number of the question)`, behind a line that loses; time is counted, not
    spent."""

    url, baud = "timed", 0

    def __init__(self, seconds: Callable[[int], float], lost: float, noisy: bool) -> None:
        self.now = 0.0
        self._seconds, self._lost, self._noisy, self._random = seconds, lost, noisy, random.Random(1)
        self._coming: list[tuple[float, bytes]] = []
        self._asked: list[bytes] = []

    def write(self, frame: bytes) -> None:
        if frame not in self._asked:
            self._asked.append(frame)
        if self._random.random() < self._lost:
            return
        question = decode(frame.strip(b"\0"))
        assert question is not None
        fields = {name: question[name] for name in ("run", "role", "index", "offset")}
        answer = encode("DATA", question.sequence, **fields, data=b"data")
        if self._random.random() < self._lost:
            answer = b"\0lost\0" if self._noisy else b""
        ready = max(self.now, self._coming[-1][0] if self._coming else 0.0) + self._seconds(len(self._asked))
        self._coming.append((ready, answer))

    def read(self, wait_s: float) -> bytes:
        if not self._coming or self._coming[0][0] > self.now + wait_s:
            self.now += wait_s
            return b""
        ready, data = self._coming.pop(0)
        self.now = max(self.now, ready)
        return data

    def seconds_for(self, count: int) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("seconds", "lost", "noisy", "most_s", "most_again"),
    [
        (lambda number: 0.002, 0.5, True, 200, 1300),
        (lambda number: 0.002, 0.5, False, 350, 1300),
        (lambda number: 0.05 if number % 40 == 20 else 0.002, 0.0, False, 2, 0),
        (lambda number: 0.002 if number < 100 else 0.3, 0.0, False, 95, 10),
    ],
    ids=["half is lost", "half is lost without a trace", "it stalls now and then", "it becomes slow"],
)
def test_what_is_lost_is_asked_again_soon_and_what_is_late_hardly_ever(
    seconds: Callable[[int], float], lost: float, noisy: bool, most_s: float, most_again: int
) -> None:
    port = TimedPort(seconds, lost, noisy)
    link = Link(cast(Port, port), WireLog(None), clock=lambda: port.now)
    parts = [_Parts(128 * 400)]
    link._fetch_missing(1, "output", parts)
    assert port.now < most_s
    assert link.asked_again <= most_again


@pytest.mark.parametrize("name", ["host", "qemu_virt_rv32"])
def test_traces_and_probes_come_through_noise(firmware: Firmware, name: str) -> None:
    board, elf = firmware(name, probes=True, trace=True)
    with noisy(board, elf, KINDS["all at once"], KINDS["all at once"], seed=5) as line:
        done = run(elf, board, [sample(index) for index in range(4)], probes=True, trace=True, url=line.url)
    check(done, 4)
    for index in range(4):
        sums, table = expected(sample(index), index + 1)
        assert done.trace[index] == {(0, 0): sums.tobytes(), (2, 0): table.tobytes()}


@pytest.mark.parametrize(
    "before",
    [
        b"ROM boot v1.2\r\nclock 168 MHz\r\n> ",
        encode("DONE", 3, run=1, method=0, ticks=5, overhead=0, crc=0)[5:] + encode("BUSY", 4, run=1),
        b"\0\0\0\xff" + bytes(range(256)) * 3,
    ],
    ids=["boot text", "the rest of a frame", "garbage"],
)
def test_what_comes_before_hello_costs_nothing(firmware: Firmware, before: bytes) -> None:
    board, elf = firmware("host")
    with noisy(board, elf, QUIET, QUIET, before=before) as line:
        check(run(elf, board, [sample(0)], url=line.url), 1)


def test_a_second_host_joins_where_the_first_left(firmware: Firmware) -> None:
    """The first stops in the middle of a frame; the second finds the board, and its runs go on counting."""
    board, elf = firmware("host")
    with launch(board, elf) as running, Pty(running.url) as line:
        check(run(elf, board, [sample(0)], url=line.device), 1)
        line.tell(encode("WRITE", 9, run=2, method=0, index=0, offset=0, data=b"left here")[:-7])
        done = run(elf, board, [sample(7)], url=line.device)
    np.testing.assert_array_equal(done.outputs[0][1], expected(sample(7), 2)[1])


def test_firmware_of_another_program_is_refused_with_both_hashes(firmware: Firmware) -> None:
    board, there = firmware("host", defines=("-DTINY_HASH=0xFEEDFACE12345678",))
    _, here = firmware("host")
    with launch(board, there) as running, pytest.raises(DeviceLostError, match=r"feedface12345678.*0123456789abcdef"):
        run(here, board, [sample(0)], url=running.url)


def test_firmware_of_the_same_program_but_other_bytes_is_refused(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("qemu_mps2_an386")
    changed = tmp_path / "firmware.elf"
    data = elf.read_bytes()
    at = data.index(b"qemu_mps2_an386\0tiny") if b"qemu_mps2_an386\0tiny" in data else data.index(b"tiny\0")
    changed.write_bytes(data[: at + 3] + bytes([data[at + 3] ^ 1]) + data[at + 4 :])
    with launch(board, changed) as running, pytest.raises(DeviceLostError, match=r"another firmware|built for"):
        run(elf, board, [sample(0)], url=running.url)


def test_firmware_of_another_board_is_refused(firmware: Firmware) -> None:
    board, elf = firmware("qemu_mps2_an386")
    host, process = firmware("host")
    with launch(host, process) as running, pytest.raises(EtError, match="built for host, not for qemu_mps2_an386"):
        run(elf, board, [sample(0)], url=running.url)


@pytest.mark.parametrize("name", ["host", "qemu_virt_rv32"])
def test_a_board_that_hangs(firmware: Firmware, name: str) -> None:
    board, elf = firmware(name)
    first_done: list[float] = []
    with pytest.raises(DeviceLostError, match=r"run 2 did not finish within 1\.5 s"):
        run(
            elf,
            board,
            [sample(0), sample(1, HANG)],
            timeout_s=1.5,
            progress=lambda done, of: first_done.append(time.monotonic()),
        )
    assert time.monotonic() - first_done[0] < 15


@pytest.mark.parametrize("name", ["qemu_mps2_an386", "qemu_virt_rv32"])
def test_a_reset_in_the_middle_of_a_run_is_named(firmware: Firmware, name: str) -> None:
    board, elf = firmware(name)
    assert board.simulator is not None
    with socket.create_server(("127.0.0.1", 0)) as qmp_listener:
        qmp = ("-qmp", f"tcp:127.0.0.1:{qmp_listener.getsockname()[1]}")
        simulator = dataclasses.replace(board.simulator, arguments=(*board.simulator.arguments, *qmp))
        with launch(dataclasses.replace(board, simulator=simulator), elf) as running:
            # from the end of the first run, however long that takes to come
            timer = threading.Timer(1.0, _reset, (qmp_listener,))
            with pytest.raises(
                DeviceLostError,
                match="reset during run 2: it has started 2 times and run 0 programs since, before it was 1",
            ):
                run(
                    elf,
                    board,
                    [sample(0), sample(1, HANG)],
                    url=running.url,
                    timeout_s=20,
                    progress=lambda done, of: timer.start(),
                )
            timer.join()


def _reset(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw") as stream:
        stream.readline()
        for command in ("qmp_capabilities", "system_reset"):
            stream.write(json.dumps({"execute": command}) + "\n")
            stream.flush()
            stream.readline()


def test_a_simulator_that_dies_says_how(firmware: Firmware) -> None:
    board, elf = firmware("host")
    assert board.simulator is not None
    with launch(board, elf) as running:
        timer = threading.Timer(0.5, running.process.kill)
        with pytest.raises(DeviceLostError, match="the connection broke"):
            run(
                elf,
                board,
                [sample(0), sample(1, HANG)],
                url=running.url,
                timeout_s=20,
                progress=lambda done, of: timer.start(),
            )


def test_numbers_of_the_page_are_those_of_the_firmware() -> None:
    header = (root() / "firmware" / "runtime" / "link.h").read_text()
    page = layout()
    assert int(re.search(r"kLinkVersion = (\d+)", header)[1]) == page.version  # type: ignore[index]
    assert int(re.search(r"kLinkLayout = (\w+)", header)[1], 0) == page.hash, f"kLinkLayout must be 0x{page.hash:08X}"  # type: ignore[index]
    for prefix, wanted in (
        ("k", {name: message.code for name, message in page.messages.items()}),
        ("kRole", dict(page.roles)),
        ("kFeature", {name.replace("_", ""): bit for name, bit in page.features.items()}),
        ("kReason", {name: code for code, (name, _) in page.reasons.items()}),
        ("kCore", {name.replace("_", ""): code for code, (name, _) in page.registers.items()}),
    ):
        for name, code in wanted.items():
            match = re.search(rf"\b{prefix}{name.lower().title()} = (\w+)", header, re.IGNORECASE)
            assert match and int(match[1], 0) == code, (prefix, name, code)
