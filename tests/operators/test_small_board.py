"""Every operator on a Cortex-M0 with 16 KB of RAM, in as many images as that takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from etexport.board import load_board
from etexport.kernel.library import Library, load_ops
from etexport.kernel.op import Op

from .boards import Bench
from .cases import documented, families, random_samples
from .parts import shared_out

FAMILIES = families(load_ops().ops.values())
BOARD = "qemu_microbit"
CASES, QUANTIZED_CASES = 6, 20
"""Drawn for an operator. The board is there for integers; floating point is thousands of instructions an element."""


def count(op: Op) -> int:
    return QUANTIZED_CASES if op.name.startswith(("cortex_m::", "etexport::")) else CASES


@pytest.mark.parametrize("family", FAMILIES)
def test_small_board(family: str, library: Library, bench_of: Callable[[str, str], Bench]) -> None:
    simulator = load_board(BOARD).simulator
    assert simulator is not None
    if shutil.which(simulator.program) is None:
        pytest.skip(f"{simulator.program} is not installed")
    bench = bench_of(BOARD, "size")
    samples = [one for op in FAMILIES[family] for one in (*documented(op), *random_samples(op, count(op)))]
    parts = shared_out(samples, bench, library)
    failures = [text for part in parts.parts for text in bench.mismatches(part, library)]
    assert not failures, f"{len(failures)} of {len(samples)} cases differ:\n" + "\n".join(failures[:10])
    assert len(parts.left_out) <= len(samples) // 10, f"too large for the board: {[str(one) for one in parts.left_out]}"
