"""Boards that lie under good CRCs, flood the line or start again for ever: a named error, soon, and little memory."""

from __future__ import annotations

import random
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cobs import cobs

from etexport.board import Board as BoardFile
from etexport.device import Run, link, run, session
from etexport.device.messages import Message, decode, encode, layout
from etexport.errors import DeviceFaultError, DeviceLostError, EtError
from tests.device.conftest import Firmware
from tests.device.liar import Board, served
from tests.device.tiny import expected, sample

MOST_S = 20.0
"""Of any of these at the limits of `impatient`, which add up to five seconds, on a machine that does other things
too."""
MOST_BYTES = 100 << 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IDENTIFY_S", 2.0)
    monkeypatch.setattr(link, "_SILENCE_S", 1.5)
    monkeypatch.setattr(link, "_RESET_S", 0.5)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


def told(elf: Path, board: BoardFile, url: str, **options: Any) -> str:
    """The error of two runs on the board at `url`."""
    start = time.monotonic()
    with pytest.raises(EtError) as caught:
        run(elf, board, [sample(0), sample(1)], url=url, timeout_s=1.5, **options)
    assert time.monotonic() - start < MOST_S
    assert isinstance(caught.value, DeviceLostError | DeviceFaultError), caught.value
    assert caught.value.exit_code in (3, 4) and len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.fixture
def tiny(firmware: Firmware) -> tuple[BoardFile, Path]:
    return firmware("host")


def right(done: Run) -> None:
    for index, outputs in enumerate(done.outputs):
        for got, wanted in zip(outputs, expected(sample(index), index + 1), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("pty", [False, True])
def test_an_honest_one_is_believed(tiny: tuple[BoardFile, Path], pty: bool) -> None:
    board, elf = tiny
    with served(Board(elf), pty=pty) as url:
        done = run(elf, board, [sample(0), sample(1)], url=url)
    right(done)
    assert done.counters == (480, 480) and done.asked_again == 0


HELLOS: list[tuple[dict[str, Any], str]] = [
    ({"methods": 255}, "255 methods and 3 steps"),
    ({"methods": 0}, "0 methods and 3 steps"),
    ({"steps": 0xFFFFFFFF}, "4294967295 steps"),
    ({"chunk": 0}, "takes 0 bytes at once"),
    ({"runs": 0xFFFFFFFF}, "has run 4,294,967,295 times"),
    ({"init_ticks": (1 << 64) - 1}, "its start took 18,446,744,073,709,551,615 ticks"),
    ({"board": "\x1b[2J\r\nhost"}, "built for \N{REPLACEMENT CHARACTER}[2J"),
    ({"program": "x" * 255, "program_hash": 1}, "runs another program"),
    ({"version": 9}, "version 9 of the link"),
    ({"features": 0xFF, "steps": 2}, "2 steps"),
]


@pytest.mark.parametrize(
    ("hello", "what"), HELLOS, ids=[next(iter(hello)) + str(at) for at, (hello, _) in enumerate(HELLOS)]
)
def test_a_hello_that_cannot_be(tiny: tuple[BoardFile, Path], hello: dict[str, Any], what: str) -> None:
    board, elf = tiny
    with served(Board(elf, hello)) as url:
        assert what in told(elf, board, url)


@pytest.mark.parametrize("counts", [(65535, 2), (0, 2), (2, 65535)])
def test_a_method_that_cannot_be(tiny: tuple[BoardFile, Path], counts: tuple[int, int]) -> None:
    board, elf = tiny
    with served(Board(elf, method={"inputs": counts[0], "outputs": counts[1]})) as url:
        assert (
            f"its methods have {counts[0]} inputs and {counts[1]} outputs; in the firmware's file they have 2 inputs"
            in told(elf, board, url)
        )


TENSORS: list[tuple[dict[str, Any], str]] = [
    ({"dtype": 99}, "type 99"),
    ({"dtype": 5}, "type 5"),
    ({"sizes": (-2, -3), "size": 24, "dtype": 6, "dim_order": (0, 1)}, "its shape is [-2, -3]"),
    (
        {"sizes": (1 << 30, 1), "size": 0xFFFFFFFF, "dtype": 1, "dim_order": (0, 1)},
        "4,294,967,295 bytes, but int8[1073741824, 1] has 1073741824",
    ),
    (
        {"sizes": (1 << 30, 1), "size": 1 << 30, "dtype": 1, "dim_order": (0, 1)},
        "1,073,741,824 bytes, but all of the firmware",
    ),
    ({"sizes": (1,) * 200, "dim_order": tuple(range(200)), "size": 4, "dtype": 6}, "200 dimensions"),
    ({"sizes": (1 << 30,) * 60, "dim_order": tuple(range(60)), "size": 0, "dtype": 6}, "it has 0 bytes, but float32"),
    ({"dim_order": (0, 0), "sizes": (2, 3), "size": 24, "dtype": 6}, "order of dimensions is [0, 0]"),
    ({"dim_order": (7, 9), "sizes": (2, 3), "size": 24, "dtype": 6}, "order of dimensions is [7, 9]"),
    ({"size": 25}, "25 bytes"),
    (
        {"least": (3, 3), "sizes": (2, 3), "size": 24, "dtype": 6, "dim_order": (0, 1)},
        "its least sizes are [3, 3], its largest [2, 3]",
    ),
]


@pytest.mark.parametrize(("tensor", "what"), TENSORS, ids=[what for _, what in TENSORS])
def test_a_tensor_that_cannot_be(tiny: tuple[BoardFile, Path], tensor: dict[str, Any], what: str) -> None:
    board, elf = tiny
    with served(Board(elf, tensor=tensor)) as url:
        assert what in told(elf, board, url)


def replacing(kind: str, answer: Any) -> Any:
    """A lie: questions of this kind are answered by `answer(question, honest answer)`."""
    return lambda asked, honest: answer(asked, honest) if asked.kind == kind else honest


def other_data(asked: Message, size: int = 0) -> bytes:
    """An answer to READ, or a part of that to RUN, of another content."""
    index, offset = (asked["index"], asked["offset"]) if asked.kind == "READ" else (1, 0)
    return encode(
        "DATA", asked.sequence, run=1, role=1, index=index, offset=offset, data=b"z" * (size or asked["length"])
    )


def trace_frame(number: int, **changed: int) -> bytes:
    return encode(
        "TRACE",
        number,
        **{"run": 1, "step": 0, "output": 0, "size": 1 << 31, "offset": 0, "data": b"y" * 500} | changed,
    )


ANSWERS: dict[str, tuple[Any, str]] = {
    "no end of BUSY": (replacing("RUN", lambda asked, _: [encode("BUSY", asked.sequence, run=1)] * 5),
    "did not finish within 1.5 s"), "nothing after BUSY": (replacing("RUN", lambda _, honest: honest[:1]),
    "run 1 did not finish within 1.5 s"), "nothing at RUN": (replacing("RUN", lambda *_: []),
    "did not start run 1 within 1.5 s"), "nothing at INPUT": (replacing("INPUT", lambda *_: []),
    "no answer to INPUT in 2 s"), "nothing at DESCRIBE": (replacing("DESCRIBE", lambda *_: []),
    "no answer to DESCRIBE"), "another tensor": (
        replacing("DESCRIBE", lambda asked, _: [encode("ACCEPTED", asked.sequence, run=0)]),
        "no answer to DESCRIBE in 2 s, though"
    ),
    "an output of a tensor that is not there": (
        replacing("RUN", lambda asked, _: [encode("DATA", asked.sequence, run=1, role=1, index=60000, offset=0,
        data=b"x")]), "did not start run 1",
    ),
    "an output beyond its end": (
        replacing(
            "RUN", lambda asked, honest: [encode("DATA", asked.sequence, run=1, role=1, index=0, offset=1 << 31,
            data=b"x"), honest[-1]]
        ),
        "no answer to READ",
    ),
    "outputs that are not those of the CRC": (  # neither as they come nor when asked for
        lambda asked, honest: [*honest[:2], other_data(asked, 2400), *honest[3:]] if asked.kind == "RUN" else
        [other_data(asked)] if asked.kind == "READ" else honest,
        "do not have the CRC that the board says",
    ),
    "a count below that for nothing": (
        replacing("RUN", lambda asked, honest: [*honest[:-1], done(asked, ticks=3, overhead=900)]),
        "a count that cannot be: 3 ticks"
    ),
    "a count without an end": (
        replacing("RUN", lambda asked, honest: [*honest[:-1], done(asked, ticks=(1 << 64) - 1, overhead=0)]),
        "a count that cannot be"
    ),
    "refusing without an end": (
        replacing("RUN", lambda asked, _: [encode("REFUSED", asked.sequence, reason=8, item=0, board=0, host=0)]),
        "not what was sent, 4 times",
    ),
    "an unknown refusal": (
        replacing("INPUT", lambda asked, _: [encode("REFUSED", asked.sequence, reason=77, item=0, board=0, host=0)]),
        "does not know"
    ),
    "a fault of no core": (
        replacing("RUN", lambda *_: [encode("FAULT", 0, core=99, run=1, step=7, count=0, registers=(), stack=b"")]),
        "fault, in run 1"
    ),
    "a fault without registers": (
        replacing("RUN", lambda *_: [encode("FAULT", 0, core=1, run=1, step=1 << 31, count=1, registers=(7,),
        stack=b"\1" * 3000)]), "fault, told without lr",
    ),
    "answers that nobody asked for": (
        replacing("INPUT", lambda asked, _: [encode("ACCEPTED", (asked.sequence + 5000) & 0xFFFF, run=1)] * 20),
        "no answer to INPUT"
    ),
}  # fmt: skip


def done(asked: Message, ticks: int, overhead: int) -> bytes:
    outputs = b"".join(array.tobytes() for array in expected(sample(asked["run"] - 1), asked["run"]))
    return encode(
        "DONE", asked.sequence, run=asked["run"], method=0, ticks=ticks, overhead=overhead, crc=zlib.crc32(outputs)
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_cannot_be(tiny: tuple[BoardFile, Path], name: str) -> None:
    board, elf = tiny
    lie, what = ANSWERS[name]
    with served(Board(elf, lie=lie)) as url:
        assert what in told(elf, board, url)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, "did not finish"),
        ({"size": 100}, "streams 500 bytes at 0 of 100"),
        ({"step": 1 << 31}, "from step 2147483648 of 3"),
        ({"offset": 4}, "at 4 of"),
        ({"data": b""}, "streams 0 bytes"),
    ],
)
def test_a_trace_that_cannot_be(tiny: tuple[BoardFile, Path], changed: dict[str, Any], what: str) -> None:
    board, elf = tiny
    lie = replacing("RUN", lambda asked, honest: [honest[0], trace_frame(1, **changed)])
    with served(Board(elf, {"features": 2}, lie=lie)) as url:
        assert what in told(elf, board, url)


def test_a_board_that_starts_again_in_each_first_run(tiny: tuple[BoardFile, Path]) -> None:
    """Its memory keeps the inputs, so it begins the run whenever it is asked to."""
    board, elf = tiny
    peer = Board(elf)

    def lie(asked: Message, honest: list[bytes]) -> list[bytes]:
        if asked.kind == "RUN":
            peer.boot, peer.runs = peer.boot + 1, 0
            return honest[:1]
        return honest

    peer.lie = lie
    with served(peer) as url:
        assert "was reset during run 1: it has started" in told(elf, board, url)


FLOODS = {
    "zeros": bytes(65536),
    "no zeros": b"\x55" * 65536,
    "text": b"the quick brown fox\r\n" * 3000,
    "noise": random.Random(1).randbytes(65536),
    "frames": encode("ACCEPTED", 9, run=1) * 3000,
    "broken frames": encode("ACCEPTED", 9, run=1)[:-3] * 3000,
    "BUSY": encode("BUSY", 2, run=1) * 3000,
    "DONE": encode("DONE", 3, run=1, method=0, ticks=1, overhead=1, crc=1) * 3000,
}  # fmt: skip


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("pty", [False, True])
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood(tiny: tuple[BoardFile, Path], tmp_path: Path, kind: str, pty: bool, honest: bool) -> None:
    """With a board beneath it or none; the log does not fill the disk."""
    board, elf = tiny
    start = time.monotonic()
    with served(Board(elf) if honest else None, FLOODS[kind], pty) as url:
        try:
            right(run(elf, board, [sample(0)], url=url, timeout_s=1.5, log=tmp_path / "wire.log"))
        except DeviceLostError as error:
            assert "came" in str(error) or "did not" in str(error) or "takes no bytes" in str(error), error
    assert time.monotonic() - start < MOST_S
    assert (tmp_path / "wire.log").stat().st_size < 40 << 20


def test_nothing_that_a_board_can_say_is_an_error_of_ours(
    tiny: tuple[BoardFile, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well-formed answers of any kind with fields of any value, at any place: outputs that are right, or a named
    error."""
    monkeypatch.setattr(session, "IDENTIFY_S", 0.3)
    monkeypatch.setattr(link, "_SILENCE_S", 0.3)
    monkeypatch.setattr(link, "_RESET_S", 0.1)
    board, elf = tiny
    ended = {True: 0, False: 0}
    for seed in range(40):
        rng = random.Random(seed)
        places = count()
        wrong = rng.randrange(12)

        def lie(
            asked: Message,
            honest: list[bytes],
            rng: random.Random = rng,
            places: Iterator[int] = places,
            wrong: int = wrong,
        ) -> list[bytes]:
            return [damaged(frame, rng) if next(places) == wrong else frame for frame in honest]

        with served(Board(elf, lie=lie)) as url:
            try:
                right(run(elf, board, [sample(0)], url=url, timeout_s=0.3))
                ended[True] += 1
            except (DeviceLostError, DeviceFaultError):
                ended[False] += 1
    assert min(ended.values()) > 3, ended


def damaged(frame: bytes, rng: random.Random) -> bytes:
    """The frame with a few bytes of its content replaced or its end cut, under a CRC that is right again."""
    content = bytearray(cobs.decode(frame.strip(b"\0"))[:-4])
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(3, len(content)) if rng.random() < 0.9 else 0
        content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256), 0x81 + rng.randrange(9)))
    if rng.random() < 0.2:
        del content[rng.randrange(3, len(content) + 1) :]
    seed = 0 if content[0] in (0x01, 0x81) else layout().hash
    return b"\0" + cobs.encode(bytes(content) + struct.pack("<I", zlib.crc32(content, seed))) + b"\0"


def test_the_damage_is_understood() -> None:
    """What the test above sends are frames."""
    frame = encode("DONE", 3, run=1, method=0, ticks=5, overhead=2, crc=9)
    assert sum(decode(damaged(frame, random.Random(seed)).strip(b"\0")) is not None for seed in range(100)) > 50
