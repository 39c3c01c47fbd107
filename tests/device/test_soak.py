"""The soak (`python -m tests.device.soak`), short: it counts what it does, and says so where an output is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.device.soak import NOISE, Wrong, soak
from tests.device.tiny import Array, expected


def test_outputs_are_right_on_a_line_that_damages_them(tmp_path: Path) -> None:
    noise = replace(NOISE, flip=1 / 4000, drop_run=1 / 20_000)
    done = soak("host", 1_000, tmp_path, noise=noise)
    assert done.frames >= 1_000 and done.runs > 20 and done.damage and done.bad_frames + done.asked_again > 0


def test_a_wrong_output_ends_it(tmp_path: Path) -> None:
    def wrong_in_run_7(inputs: tuple[Array, Array], runs: int) -> tuple[Array, Array]:
        sums, table = expected(inputs, runs)
        return sums, table + (runs == 7)

    with pytest.raises(Wrong, match="output 1 of run 7 "):
        soak("host", 1_000, tmp_path, meaning=wrong_in_run_7)
