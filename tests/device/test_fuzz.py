"""A hundred thousand damaged inputs for each parser; `scons fuzz` has a hundred times as many."""

from __future__ import annotations

import re

from tests.device import fuzz

COUNT = 100_000


def test_the_firmware_s_receiver() -> None:
    status, said = fuzz.firmware(COUNT, 1)
    assert status == 0, said
    assert int(re.search(r"(\d+) damaged", said)[1]) > COUNT // 2  # type: ignore[index]


def test_the_protocol_of_mlperf_tiny() -> None:
    status, said = fuzz.firmware(COUNT, 1, "mlperf")
    assert status == 0 and said == f"{COUNT} inputs: 0 wrong", said


def test_the_host_s() -> None:
    wrong, said = fuzz.host(COUNT, 1)
    assert wrong == 0, said
    assert int(re.search(r"([\d,]+) frames taken", said)[1].replace(",", "")) > COUNT // 6, said  # type: ignore[index]
