"""Damaged frames for both parsers of the link, and broken words for that of MLPerf Tiny's protocol, by a seed: `python
-m tests.device.fuzz [COUNT] [SEED]`, ten million each unless told.

No corpus is kept: the seed makes the inputs. A CRC of 32 bits lets one damaged input in four thousand millions through,
so that ten million may not contain one.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

from etexport.device.messages import Message, decode, encode, layout
from etexport.device.stream import Noise, Splitter, Text
from etexport.resources import root

COUNT = 10_000_000
SEED = 2026
_KINDS = ("BUSY", "ACCEPTED", "DONE", "REFUSED", "DATA", "HELLO", "TENSOR", "TRACE", "FAULT", "CAPTURE")


PARSERS = {"frames": "runtime/link.cpp", "mlperf": "mlperf/protocol.cpp"}
"""Files of the firmware, by what throws things at them."""


def built(folder: Path, parser: str) -> Path:
    """A parser of the firmware's, with sanitizers, and what throws things at it."""
    out = folder / f"fuzz_{parser}"
    sources = [Path(__file__).with_name(f"fuzz_{parser}.cpp"), root() / "firmware" / PARSERS[parser]]
    flags = [
        "-std=c++17",
        "-O2",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        f"-I{root() / 'firmware'}",
    ]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(out)], check=True)
    return out


def firmware(count: int, seed: int, parser: str = "frames") -> tuple[int, str]:
    """Exit code and words of the firmware's side."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [built(Path(folder), parser), str(count), str(seed)], capture_output=True, text=True, check=False
        )
    return done.returncode, (done.stdout + done.stderr).strip()


def frames(rng: random.Random) -> list[bytes]:
    """Good frames of every kind that a board sends."""
    made = []
    for kind in _KINDS:
        for _ in range(8):
            fields: dict[str, object] = {}
            for field in layout().messages[kind].fields:
                if field.kind == "bytes":
                    fields[field.name] = rng.randbytes(rng.choice((0, 1, 40, 254, 512)))
                elif field.kind == "text":
                    fields[field.name] = "name" * rng.randrange(4)
                elif field.count:
                    fields[field.name] = tuple(rng.randrange(100) for _ in range(int(str(fields[field.count]))))
                else:
                    fields[field.name] = rng.randrange(5) if field.kind == "u8" else rng.randrange(1 << 16)
            made.append(encode(kind, rng.randrange(1 << 16), **fields))
    return made


def host(count: int, seed: int) -> tuple[int, str]:
    """Wrong answers, and words, of the host's side: `decode` of single blocks, and the splitter of a stream with text
    between them."""
    rng = random.Random(seed)
    good = frames(rng)
    known = {
        (message.kind, message.sequence): message.fields
        for frame in good
        if (message := decode(frame.strip(b"\0"))) is not None
    }
    splitter = Splitter()
    wrong = damaged = seen = 0
    for number in range(count):
        frame = bytearray(rng.choice(good))
        what = number % 5
        if what == 0:
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        elif what == 1:
            del frame[rng.randrange(len(frame)) :]
        elif what == 2:
            del frame[rng.randrange(len(frame))]
        elif what == 3:
            frame = bytearray(rng.randbytes(rng.randrange(60)))
        damaged += what < 4
        for piece in splitter.feed(bytes(frame)):
            if isinstance(piece, Message):
                seen += 1
                wrong += known.get((piece.kind, piece.sequence)) != piece.fields
            else:
                wrong += not isinstance(piece, (Text, Noise))
    wrong += seen < count // 6  # of a fifth; a delimiter that is lost takes the frame behind it along
    return wrong, f"{count:,} inputs, {damaged:,} damaged: {seen:,} frames taken, {wrong} wrong"


def main(count: int, seed: int) -> int:
    status = 0
    for parser in PARSERS:
        failed, said = firmware(count, seed, parser)
        print(f"firmware, {parser}: {said}", flush=True)
        status |= failed
    wrong, told = host(count, seed)
    print(f"host: {told}", flush=True)
    return 1 if status or wrong else 0


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*given, *(COUNT, SEED)[len(given) :]))
