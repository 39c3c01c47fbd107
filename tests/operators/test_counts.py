"""Kernels of int8 and of weights in few bits stay as fast as docs/kernels.md and docs/bench.md say: instructions are
counted in a simulator, so they are the same in every run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etexport.board import load_board
from etexport.kernel.library import Library

from .counts import FEW_BITS, LINES, LONG, TRAINED, counts

REACHED = {
    "qemu_mps2_an386": {
        "add, 16384 elements": 5.50, "mul, 16384 elements": 6.00, "matmul 1x32x64x32": 1.16, "linear 1x640x128": 0.93,
        "linear 16x250x64": 0.82, "average 25x5/1 pad 0 of [1, 64, 25, 5]": 1.20,
        "maximum 2x2/2 pad 0 of [1, 16, 32, 32]": 2.14, "average 3x3/1 pad 1 of [1, 16, 16, 16]": 2.59,
        "mean, global, contiguous": 1.53, "quantise, 2000 elements": 6.26, "dequantise, 2000 elements": 4.51,
        "softmax 1x12": 23.3, "argmax, 1000 elements": 5.28, "cat, channels last": 2.19,
        "depthwise 3x3 pad 1, 64 to 64, of 25x5": 1.94, "depthwise 3x3 pad 1, 128 to 128, of 6x6": 1.80,
        "depthwise 3x3/2 pad 1, 128 to 128, of 12x12": 2.68, "conv 10x4/2 pad 1, 1 to 64, of 49x10": 1.07,
        "conv 3x3 pad 1, 32 to 32 in 4 groups, of 12x12": 1.25, "depthwise 5x5 pad 2, 32 to 32, of 12x12": 1.63,
        "depthwise 7x7 pad 3, 32 to 32, of 14x14": 1.30,
        "conv 1x1, 64 to 64, of 12x12, dead": 0.86, "conv 1x1, 64 to 64, of 12x12, large bias": 0.90,
        "conv 1x1, 64 to 64, of 12x12, large scale": 0.91, "conv 3x3 pad 1, 32 to 32 in 4 groups, of 12x12, dead": 1.26,
        "conv 3x3 pad 1, 3 to 16, of 32x32, large bias": 1.30, "linear 1x256x64, dead": 0.96,
        "linear 1x256x64, large scale": 0.98, "transposed 2x2/2 pad 0, 16 to 16, of 8x8, dead": 1.37,
        "depthwise 3x3 pad 1, 64 to 64, of 12x12, dead": 1.71,
        "depthwise 3x3/2 pad 1, 64 to 64, of 12x12, large scale": 2.78, "conv 3x3 pad 1, 128 to 32, of 6x6": 0.81,
        "linear 1x1024x64": 0.95, "linear 1x4096x64, healthy": 0.94,
        "conv 3x3 pad 1, 512 to 16 in 2 groups, of 4x4": 0.89,
        "linear in 4 bits, 1x64x256": 1.65, "linear in 8 bits, 1x64x256": 1.73, "linear in 16 bits, 1x64x256": 2.51,
        "linear in 4 bits, 1x192x64": 1.79, "linear in 8 bits, 1x192x64": 1.76, "dynamic in 4 bits, 1x64x256": 1.72,
    },
    "qemu_mps2_an385": {
        "conv 1x1, 64 to 64, of 25x5": 2.53, "conv 3x3 pad 1, 64 to 64, of 8x8": 2.26,
        "conv 3x3 pad 1, 3 to 16, of 32x32": 3.92, "depthwise 3x3 pad 1, 8 to 8, of 48x48": 4.95,
        "linear 1x640x128": 2.51, "linear 8x64x64": 2.49,
    },
    "qemu_virt_rv32": {
        "conv 1x1, 64 to 64, of 25x5": 2.74, "conv 3x3 pad 1, 64 to 64, of 8x8": 2.58,
        "conv 3x3 pad 1, 3 to 16, of 32x32": 3.38, "depthwise 3x3 pad 1, 8 to 8, of 48x48": 3.69,
        "depthwise 3x3/2 pad 1, 128 to 128, of 12x12": 4.87, "depthwise 3x3 pad 1, 64 to 64, of 25x5": 4.32,
        "matmul 1x32x64x32": 3.98, "linear 1x640x128": 3.15, "linear 8x64x64": 2.74,
        "average 25x5/1 pad 0 of [1, 64, 25, 5]": 3.02, "maximum 2x2/2 pad 0 of [1, 16, 32, 32]": 6.27,
        "argmax, 1000 elements": 4.05, "pad, channels last": 1.00,
    },
}  # fmt: skip
"""Instructions an element or a multiply-accumulate, as gcc 12 makes them."""

OTHER_COMPILERS = 1.05


@pytest.mark.parametrize("board", REACHED)
def test_as_fast_as_ever(board: str, library: Library, tmp_path: Path) -> None:
    simulator = load_board(board).simulator
    assert simulator is not None
    if shutil.which(simulator.program) is None:
        pytest.skip(f"{simulator.program} is not installed")
    lines = [line for line in (*LINES, *TRAINED, *LONG, *FEW_BITS) if line.name in REACHED[board]]
    found = {count.line.name: count.instructions / count.line.work for count in counts(board, lines, library, tmp_path)}
    assert found.keys() == REACHED[board].keys()
    slower = {name: each for name, each in found.items() if each > OTHER_COMPILERS * REACHED[board][name]}
    assert not slower, (
        "instructions each, and what was reached: "
        f"{ {name: (each, REACHED[board][name]) for name, each in slower.items()} }"
    )
