"""The screen that the README shows is the one with which the demo ends."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, copied, scons

LEARNED = re.compile(r"(accuracy|error|outputs) ")
"""Lines of figures that come of training: another processor's vectors may round otherwise."""
EXACT = re.compile(r"(arena|flash|RAM|start-up) ")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?")

NUMBER_OR_SHARE = re.compile(f"({NUMBER.pattern})(%?)")
"""A share of 3.15 % is 3.1 or 3.2."""


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(line)]


def words(line: str) -> list[str]:
    return NUMBER.sub("0", line).split()


def test_the_screen(tmp_path: Path) -> None:
    """Words and sizes are the same; counts within a hundredth, which is more than other weights make of them."""
    for program in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    (shown,) = [
        block
        for block in (ROOT / "README.md").read_text("utf-8").split("```\n")[1::2]
        if block.startswith("digits float32 on ")
    ]
    done = scons(copied(tmp_path / "house", ("digits",)), "demo")
    assert done.code == 0, done.text
    screen = (tmp_path / "house" / "build" / "qemu_mps2_an386" / "digits-float32" / "report.txt").read_text("utf-8")
    assert [words(line) for line in screen.splitlines()] == [words(line) for line in shown.splitlines()], screen
    for line, other in zip(screen.splitlines(), shown.splitlines(), strict=True):
        if not LEARNED.match(line):
            shares = 0.11 * np.array([match[1] == "%" for match in NUMBER_OR_SHARE.findall(line)])
            exact = EXACT.match(line) is not None
            got, wanted = np.array(numbers(line)), np.array(numbers(other))
            assert np.all(np.abs(got - wanted) <= (0 if exact else 0.01 * wanted + shares)), f"{line}\n{other}"
