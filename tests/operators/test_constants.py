"""Numbers that Python and C++ must agree on: those of packing and of choosing beside the kernels', by the compiler of
each kind of core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from etexport.board import load_board
from etexport.kernel.call import Target
from etexport.kernel.integer_layer import Layer
from etexport.kernel.library import load_ops
from etexport.toolchain import gcc
from etexport_kernels.convolution import packing, quantized_dense, quantized_packing
from etexport_kernels.grid_sample import op as grid_sample

BOARDS = ("host", "qemu_mps2_an386", "qemu_mps2_an385", "qemu_microbit", "qemu_virt_rv32")
Agreed = tuple[str, str, int]
"""A header of a family, what it says in C++, and what Python says."""


def layer(inputs: int) -> Layer:
    scales = np.full(4, 2**30, np.int64), np.full(4, -4, np.int64)
    return Layer(np.ones((4, inputs), np.int8), np.zeros(4, np.int64), *scales)


def float_tiles(target: Target) -> list[Agreed]:
    weight, bias = np.ones((4, 8), np.float32), np.zeros(4, np.float32)
    variant, core, lanes = packing.tiles_for(target, weight, bias)
    header = f"convolution/{'convolution' if variant == 'portable' else variant}.h"
    found = [(header, f"et::{core}::kLanes", lanes)]
    if variant == "fixed":
        packed = packing.pack_layer(
            np.ones((1, lanes, 8), np.float32), np.zeros((1, lanes), np.float32), variant, lanes
        )
        found += [
            (header, "et::kInputBits", packing.FIXED_INPUT_BITS),
            (header, f"et::{core}::kBiasWords", packed[1].size // lanes),
        ]
    return found


def integer_tiles(target: Target) -> list[Agreed]:
    """Of cores without DSP instructions: positions of a tile, and what a block of 4 outputs has beside its weights and
    biases."""
    tile, blocks = quantized_packing.tile_for(target), "convolution/quantized_blocks.h"
    found = [
        (tile.header, f"{tile.core}::kPositions", tile.positions),
        (blocks, "et::kMostStretches", quantized_packing.MOST_STRETCHES),
    ]
    for name in ("kNearest", "kShifted", "kTwice"):
        scale, rounding = f"et::Scale8::{name}", "tflm" if name == "kTwice" else "nearest"
        packed = quantized_packing.pack_blocks(layer(8), Target(target.features, rounding=rounding), 4, scale)
        found.append((blocks, f"et::kScaleBytes<{scale}>", packed.size - 4 * 8 - 4 * 4))
    return found


def paired_columns(target: Target) -> list[Agreed]:
    """Of cores with DSP instructions: bytes of a block of 4 outputs beside its weights, two of which are a halfword."""
    found = [("convolution/quantized_dsp.h", "et::kMostPairs", quantized_dense._MOST_PAIRS)]
    for name in ("kNearest", "kTwice", "kNearestParts", "kTwiceParts"):
        rounding = "tflm" if name.startswith("kTwice") else "nearest"
        core, head = f"et::Paired8::{name}", 8 if name.endswith("Parts") else 0
        packed = quantized_packing.pack_pairs(layer(8), Target(target.features, rounding=rounding), core)
        found.append(("convolution/quantized_columns_dsp.h", f"et::kPairedBytes<{core}>", packed.size - head - 4 * 8))
    return found


def agreed(board: str) -> list[Agreed]:
    target = Target(load_board(board).features)
    words = {
        "kPadZeros": grid_sample._ZEROS,
        "kPadBorder": grid_sample._BORDER,
        "kPadReflection": grid_sample._REFLECTION,
    }
    found = [
        *float_tiles(target),
        *(("grid_sample/grid_sample.h", f"et::{name}", value) for name, value in words.items()),
    ]
    return found + (paired_columns(target) if "dsp" in target.features else integer_tiles(target))


def compiled(board: str, rows: list[Agreed], folder: Path) -> str:
    """The compiler's words, "" where it finds that all agree."""
    place, source = load_board(board), folder / "agreed.cpp"
    lines = [f'#include "{header}"' for header in dict.fromkeys(header for header, _, _ in rows)]
    lines += [
        f'static_assert(({expression}) == {value}, "{expression} is not {value}");' for _, expression, value in rows
    ]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    includes = [f"-I{path}" for path in gcc.include_dirs(folder, load_ops().include_dirs)]
    command = [gcc.tool(place, "g++"), *gcc.compile_flags(place), *includes, "-fsyntax-only", str(source)]
    # in the folder: what -fstack-usage leaves lies where the compiler is called
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=folder)
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("board", BOARDS)
def test_python_and_the_kernels_agree(board: str, tmp_path: Path) -> None:
    if shutil.which(f"{load_board(board).toolchain.prefix}g++") is None:
        pytest.skip(f"no compiler for {board} is installed")
    rows = agreed(board)
    assert len(rows) >= 8, rows
    assert compiled(board, rows, tmp_path) == ""
    header, expression, value = rows[0]
    assert f"{expression} is not {value + 1}" in compiled(board, [(header, expression, value + 1)], tmp_path), (
        "the check sees a difference"
    )
