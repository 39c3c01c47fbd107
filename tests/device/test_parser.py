"""The firmware's receiver and main loop against whatever bytes come, with sanitizers on."""

from __future__ import annotations

import random
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from etexport.device import wire_log
from etexport.device.launch import launch
from etexport.device.link import Link
from etexport.device.messages import decode, encode, layout
from etexport.device.port import Port
from etexport.device.wire_log import WireLog
from etexport.resources import root
from tests.device.conftest import Firmware
from tests.device.tiny import expected, sample

LONGEST = 3 + 11 + 256 + 4
"""Bytes of the longest frame that a board takes: a full WRITE."""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parser") / "parser"
    sources = [Path(__file__).with_name("parser.cpp"), root() / "firmware" / "runtime" / "link.cpp"]
    flags = [
        "-std=c++17",
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        f"-I{root() / 'firmware'}",
    ]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(out)], check=True)
    return out


def taken(parser: Path, data: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """(kind, sequence, body) of each frame that the firmware takes, and how many pieces it counts as bad."""
    done = subprocess.run([str(parser)], input=data, capture_output=True, check=True)
    *lines, last = done.stdout.decode().splitlines()
    frames = [
        (int(kind), int(sequence), bytes.fromhex(body)) for kind, sequence, body in (line.split(" ") for line in lines)
    ]
    return frames, int(last.split()[1])


def raw(kind: int, sequence: int, body: bytes) -> bytes:
    """A good frame of any kind and body."""
    covered = struct.pack("<BH", kind, sequence) + body
    seed = 0 if kind in (0x01, 0x81) else layout().hash
    return b"\0" + cobs.encode(covered + struct.pack("<I", zlib.crc32(covered, seed))) + b"\0"


def model(data: bytes) -> list[tuple[int, int, bytes]]:
    """What of a stream is good, in the words of Python's own COBS and CRC."""
    found = []
    for block in data.split(b"\0")[:-1]:
        try:
            content = cobs.decode(block)
        except cobs.DecodeError:
            continue
        if 7 <= len(content) <= LONGEST:
            kind, sequence = struct.unpack_from("<BH", content)
            if (
                zlib.crc32(content[:-4], 0 if kind in (0x01, 0x81) else layout().hash)
                == struct.unpack("<I", content[-4:])[0]
            ):
                found.append((kind, sequence, content[3:-4]))
    return found


def damaged(rng: random.Random) -> bytes:
    """Frames, cut, flipped, joined, too long, and noise between them."""
    out = bytearray()
    for _ in range(60):
        body = rng.randbytes(rng.choice((0, 1, 8, 40, 253, 254, 255, 266, 267, 300, 900)))
        if rng.random() < 0.3:
            body = bytes(len(body))
        frame = bytearray(raw(rng.randrange(256), rng.randrange(1 << 16), body))
        what = rng.randrange(6)
        if what == 0:
            del frame[rng.randrange(len(frame)) :]
        elif what == 1:
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        elif what == 2:
            frame = bytearray(rng.randbytes(rng.randrange(700)))
        elif what == 3:
            frame *= 2
        out += frame
    return bytes(out) + b"\0"


@pytest.mark.parametrize("seed", range(25))
def test_the_receiver_takes_what_python_takes(parser: Path, seed: int) -> None:
    data = damaged(random.Random(seed))
    frames, bad = taken(parser, data)
    assert frames == model(data)
    assert len(frames) > 5 and bad > 5


@settings(max_examples=100, deadline=None)
@given(kind=st.integers(0, 255), sequence=st.integers(0, 65535), body=st.binary(max_size=400))
def test_no_body_is_too_strange_to_decode(kind: int, sequence: int, body: bytes) -> None:
    message = decode(raw(kind, sequence, body).strip(b"\0"))
    known = layout().of_code(kind)
    assert message is None or (known is not None and message.sequence == sequence and message.kind == known.name)


def test_a_frame_comes_back_as_it_went() -> None:
    sent = encode("INPUT", 65535, run=7, method=0, index=3, dtype=6, rank=3, sizes=(1, -2, 3), dim_order=(2, 0, 1))
    message = decode(sent.strip(b"\0"))
    assert message is not None
    assert message.fields == {
        "run": 7,
        "method": 0,
        "index": 3,
        "dtype": 6,
        "rank": 3,
        "sizes": (1, -2, 3),
        "dim_order": (2, 0, 1),
    }


@pytest.mark.parametrize("seed", range(6))
def test_the_main_loop_survives_every_well_formed_nonsense(firmware: Firmware, seed: int) -> None:
    """Frames with good CRCs and bodies of any length and content: refused, and afterwards the board works as ever."""
    board, elf = firmware("host", probes=bool(seed % 2))
    rng = random.Random(seed)
    with launch(board, elf) as running:
        port = Port(running.url)
        link = Link(port, WireLog(None), window=4)
        hello = link.identify(10)
        for _ in range(400):
            kind = rng.choice((0x01, 0x02, 0x03, 0x04, 0x04, 0x05, 0x06, 0x06, 0x07, rng.randrange(9, 256)))
            body = b"".join(
                rng.choice((b"\0", b"\1", b"\2", b"\xff", rng.randbytes(1))) for _ in range(rng.randrange(40))
            )
            if rng.random() < 0.7:
                body = struct.pack("<I", rng.choice((0, 1, 2))) + body
            port.write(raw(kind, rng.randrange(1 << 16), body))
            port.read(0)
        hello = link.identify(10)
        assert hello.runs == 0
        result = link.run(hello, 1, sample(4), 10)
        assert result.outputs[1].tolist() == expected(sample(4), 1)[1].tolist()
        port.close()


@pytest.mark.parametrize("seed", range(3))
def test_the_main_loop_survives_noise(firmware: Firmware, seed: int) -> None:
    board, elf = firmware("host")
    with launch(board, elf) as running:
        port = Port(running.url)
        for part in range(10):
            port.write(damaged(random.Random(100 * seed + part)).replace(raw(8, 0, b"\0"), b""))
            port.read(0.01)
        link = Link(port, WireLog(None), nonce=seed)
        hello = link.identify(10)
        assert hello.bad_frames > 20
        assert link.run(hello, hello.runs + 1, sample(4), 10).outputs[1].tolist() == expected(sample(4), 1)[1].tolist()
        port.close()


def test_the_board_itself_refuses_what_does_not_match(firmware: Firmware) -> None:
    """Past the host's own checks: each property of an input, and each bound."""
    board, elf = firmware("host")
    good = {"run": 1, "method": 0, "index": 1, "dtype": 1, "rank": 4, "sizes": (1, 3, 4, 4), "dim_order": (0, 2, 3, 1)}
    wrong = [
        ("INPUT", good | {"dtype": 6}, ("dtype", 1, 1, 6)),
        ("INPUT", good | {"rank": 3, "sizes": (3, 4, 4), "dim_order": (1, 2, 0)}, ("rank", 1, 4, 3)),
        ("INPUT", good | {"sizes": (1, 3, 5, 4)}, ("size", 2, 4, 5)),
        ("INPUT", good | {"dim_order": (0, 1, 2, 3)}, ("order", 1, 2, 1)),
        ("INPUT", good | {"index": 2}, ("index", 0, 2, 2)),
        ("INPUT", good | {"run": 9}, ("run", 0, 1, 9)),
        ("WRITE", {"run": 1, "method": 0, "index": 1, "offset": 40, "data": bytes(9)}, ("bounds", 1, 48, 49)),
        ("WRITE", {"run": 1, "method": 0, "index": 1, "offset": 0xFFFFFFFF, "data": bytes(2)}, ("bounds", 1, 48, 1)),
        ("READ", {"run": 0, "role": 1, "index": 1, "offset": 2400, "length": 1}, ("bounds", 1, 2400, 2401)),
        ("READ", {"run": 0, "role": 2, "index": 0, "offset": 0, "length": 1}, ("index", 2, 0, 0)),
        ("DESCRIBE", {"method": 0, "role": 5, "index": 0}, ("index", 5, 0, 0)),
        ("DESCRIBE", {"method": 1, "role": 3, "index": 0}, ("method", 0, 1, 1)),
        ("INPUT", good | {"method": 7}, ("method", 0, 1, 7)),
        ("RUN", {"run": 1, "method": 1, "crc": 0}, ("method", 0, 1, 1)),
        ("RUN", {"run": 1, "method": 0, "crc": 0}, ("crc", 0)),
        ("RESET", {"run": 0}, ("run", 0, 1, 0)),
    ]
    with launch(board, elf) as running:
        port = Port(running.url)
        link = Link(port, WireLog(None))
        link.identify(10)
        for sequence, (kind, fields, told) in enumerate(wrong, 1000):
            port.write(encode(kind, sequence, **fields))
            message = link._receive(time.monotonic() + 5)
            assert message is not None and message.kind == "REFUSED" and message.sequence == sequence, (kind, fields)
            answer = (layout().reasons[message["reason"]][0], message["item"], message["board"], message["host"])
            assert answer[: len(told)] == told, (kind, fields)
        port.close()


def test_a_log_keeps_frames_and_counts_what_is_noise_without_end(tmp_path: Path) -> None:
    path = tmp_path / "wire.log"
    with WireLog(path) as log:
        for _ in range(3):
            log.received(b"\x55" * wire_log.MOST_NOISE)
        log.received(b"\0" + encode("ACCEPTED", 9, run=1))
    assert path.stat().st_size < 2 * wire_log.MOST_NOISE + 1000
    noise, frame, said = path.read_text().splitlines()
    assert noise.startswith("< ? 5555") and frame.startswith("< ACCEPTED 9 ")
    assert said == f"? {2 * wire_log.MOST_NOISE:,} further bytes that were no frames are left out"
