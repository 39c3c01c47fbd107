"""Whatever the bytes: a valid program or a ProgramError, in less than a second and 256 MB.

Every cut of a file, every byte of its flatbuffer with 8 values each, and seeded random damage. `ETEXPORT_MUTATIONS`
sets how much of the last (100,000 unless told).
"""

from __future__ import annotations

import os
import random
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etexport.errors import ProgramError
from etexport.program import pte, wire
from etexport.program.verify import verify
from tests.pace import pace
from tests.program.programs import PROGRAMS
from tests.program.test_pte import RELU, file, kernel, tensor

FILES = {name: pte.write(program) for name, program in PROGRAMS.items()}
MUTATIONS = int(os.environ.get("ETEXPORT_MUTATIONS", "100000"))
SEED = 20261122
ROOT = Path(__file__).parents[2]
SECONDS = 1.0
PEAK_BYTES = 256 << 20


def program_bytes(data: bytes) -> int:
    size: int = struct.unpack_from("<Q", data, 16)[0]
    return size


def survives(data: bytes) -> bool:
    """Whether the bytes are a program; anything but a program or a ProgramError, in time, fails the test."""
    start = time.process_time()
    try:
        program = pte.read(data)
    except ProgramError as error:
        assert error.what
        return False
    finally:
        seconds = time.process_time() - start
        assert seconds < SECONDS or seconds < SECONDS * pace()
    verify(program)
    return True


@pytest.mark.parametrize("name", FILES)
def test_every_cut(name: str) -> None:
    data = FILES[name]
    for size in range(len(data)):
        assert not survives(data[:size]), size


@pytest.mark.parametrize("name", FILES)
def test_every_byte_of_the_flatbuffer(name: str) -> None:
    data = FILES[name]
    for at in range(program_bytes(data)):
        for byte in eight_values(data[at]):
            damaged = bytearray(data)
            damaged[at] = byte
            survives(bytes(damaged))


def eight_values(byte: int) -> set[int]:
    """The extremes, neighbours and single bits of a byte."""
    return {0, 1, 0x7F, 0xFF, byte ^ 1, byte ^ 0x80, (byte + 1) % 256, (byte - 1) % 256}


def damage(data: bytes, rng: random.Random) -> bytes:
    """A cut, or one to three wrong bits, bytes, words or swapped stretches in the flatbuffer."""
    if rng.random() < 0.1:
        return data[: rng.randrange(len(data))]
    damaged, end = bytearray(data), program_bytes(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        # the header takes its share of the damage, and no more: an error there hides all others
        at = rng.randrange(40) if rng.random() < 0.03 else rng.randrange(40, end)
        kind = rng.randrange(4)
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at] = rng.randrange(256)
        elif kind == 2:
            word = at // 4 * 4
            (old,) = struct.unpack_from("<I", damaged, word)
            new = rng.choice(
                (
                    0,
                    1,
                    2**31 - 1,
                    2**31,
                    2**32 - 1,
                    old + 1,
                    old - 1,
                    old * 2,
                    rng.randrange(2**32),
                    rng.randrange(100),
                    end - word,
                )
            )
            struct.pack_into("<I", damaged, word, new % 2**32)
        else:
            other, length = rng.randrange(40, end), rng.randrange(1, 9)
            damaged[at : at + length] = data[other : other + length]
            damaged = damaged[: len(data)] + data[len(damaged) :]
    return bytes(damaged)


def test_random_damage() -> None:
    names = sorted(FILES)
    accepted = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(MUTATIONS):
        rng = random.Random(SEED + number)
        accepted += survives(damage(FILES[names[number % len(names)]], rng))
    assert 0.02 < accepted / MUTATIONS < 0.6, "damage that is always or never found tests nothing"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < PEAK_BYTES


# ---- files that are made to be expensive -----------------------------------------------------------------------------

INT = {"val": ("Int", {"int_val": 1})}


def long_argument_lists() -> bytes:
    """2,000 calls with the same list of 1,000 tensors as each of 100 arguments."""
    values = [tensor(4, at=0), tensor(4, at=64), {"val": ("TensorList", {"items": (0,) * 1000})}]
    return file(values, [kernel(0, *[2] * 100, 1, 1)] * 2_000, [RELU], (0,), (1,))


def long_result_lists() -> bytes:
    values = [tensor(4, at=0), *[{"val": ("TensorList", {"items": (0,) * 10_000})}] * 2]
    return file(values, [kernel(0, 0, 1, 2)] * 3_000, ["aten::split_copy.Tensor_out"], (0,), (0,))


def many_values() -> bytes:
    """A chain of 7,900 calls, each result at its own address."""
    values = [tensor(4, at=16 * k) for k in range(7_901)]
    calls = [kernel(0, k, k + 1, k + 1) for k in range(7_900)]
    return file(values, calls, [RELU], (0,), (7_900,), non_const_buffer_sizes=(0, 16 * 7_901))


def one_address() -> bytes:
    """13,000 views of one input."""
    values = [tensor(4, at=0)] * 13_000
    return file(values, [], [], (0,), tuple(range(13_000)))


def nested_loops() -> bytes:
    values = [
        tensor(dtype=11, at=0),
        tensor(dtype=11, at=16),
        *[tensor(dtype=11, at=32 + 16 * k) for k in range(4_000)],
    ]
    calls = [kernel(0, 0, 1, 1), *[kernel(0, 0, 2 + k, 2 + k) for k in range(4_000)]]
    calls += [
        {"instr_args": ("JumpFalseCall", {"cond_value_index": 0, "destination_instruction": 256 - k})}
        for k in range(255)
    ]
    return file(values, calls, [RELU], (0,), (1,), non_const_buffer_sizes=(0, 1 << 20))


def long_texts() -> bytes:
    frame = {"filename": "x" * 100_000, "name": "y" * 100_000}
    chain = {"instructions": [kernel(0, 0, 1, 1)], "stacktrace": [{"items": [frame] * 1_000}]}
    return file([tensor(4, at=0), tensor(4, at=64)], [], [RELU], (0,), (1,), chains=[chain])


def large_constants() -> bytes:
    """Reading does not copy: 64 MB that 1,000 values share."""
    values = [tensor(4096, 4096, entry=1, dim_order=bytes((1, 0)))] * 1_000
    return file(values, [], [], (), tuple(range(1_000)), bytes(64 << 20), (0, 0))


EXPENSIVE = [
    long_argument_lists,
    long_result_lists,
    many_values,
    one_address,
    nested_loops,
    long_texts,
    large_constants,
]


@pytest.mark.parametrize("make", EXPENSIVE)
def test_an_expensive_file(make: Callable[[], bytes]) -> None:
    """In a process of its own, so that the peak is the reader's; how fast the machine is, is asked on both sides of
    it."""
    probe = (
        "import resource, sys, time\n"
        "from etexport.program import pte\n"
        "from etexport.errors import ProgramError\n"
        "from tests.pace import pace\n"
        "data = sys.stdin.buffer.read()\n"
        "paces = [pace()]\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "start = time.process_time()\n"
        "try:\n    pte.read(data); what = 'a program'\n"
        "except ProgramError as error:\n    what = str(error)[:200]\n"
        "seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(seconds / max(*paces, pace()), peak - before, what)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], input=make(), capture_output=True, check=True, cwd=ROOT)
    seconds, kilobytes, what = done.stdout.decode().split(" ", 2)
    assert float(seconds) < SECONDS, what
    assert int(kilobytes) * 1024 < PEAK_BYTES, what


def test_damaged_constants_change_numbers_and_nothing_else() -> None:
    data = bytearray(FILES["convolution"])
    base: int = struct.unpack_from("<Q", data, 24)[0]
    data[base] ^= 0xFF
    weight = next(one for one in pte.read(bytes(data)).method().values.values() if one.name == "conv_weight")
    good = next(one for one in PROGRAMS["convolution"].method().values.values() if one.name == "conv_weight")
    assert weight.data is not None and good.data is not None
    assert np.count_nonzero(weight.data != good.data) == 1
    assert len(wire.read(bytes(data)).segments) == 1
