"""Weight layouts that kernel folders share. The packer is the definition of a layout: portable kernels read the same bytes."""

from __future__ import annotations

import numpy as np

from etexport.op import Target
from etexport.program.model import Array


def tiles_for(target: Target) -> tuple[str, str, int]:
    """Of the float kernels for a core: the variant's name, its C++ type, and how many channels a block of packed weights has."""
    if {"arm", "fpu"} <= target.features:
        return "m4f", "M4f", 8
    if {"riscv", "fpu"} <= target.features:
        return "rv32f", "Rv32f", 16
    return "portable", "Plain<2, 4>", 4


def padded_rows(rows: int, lanes: int) -> int:
    """Rows after filling up to whole blocks: blocks of `lanes`, and of 4 for what is left."""
    return rows // lanes * lanes + -(-(rows % lanes) // 4) * 4


def pack_rows(matrix: Array, lanes: int) -> Array:
    """(rows, k) -> one dimension: blocks of `lanes` rows, in each block [k][lanes]; the rows left over in blocks of 4, zeros at the end.

    A kernel that makes `lanes` results at once reads its weights from first to last.
    """
    assert lanes % 4 == 0
    rows, length = matrix.shape
    filled = np.zeros((padded_rows(rows, lanes), length), matrix.dtype)
    filled[:rows] = matrix
    whole = rows // lanes * lanes
    blocks = (filled[:whole].reshape(-1, lanes, length), filled[whole:].reshape(-1, 4, length))
    return np.concatenate([block.transpose(0, 2, 1).reshape(-1) for block in blocks])


def pack_vector(vector: Array, lanes: int) -> Array:
    """One entry a row (a bias), filled up as `pack_rows` does. NaNs become the positive one: cores that take the sign bit for the sign
    see a number there."""
    clean = np.where(np.isnan(vector), np.array(np.nan, vector.dtype), vector) if vector.dtype.kind == "f" else vector
    return np.concatenate([clean, np.zeros(padded_rows(len(vector), lanes) - len(vector), vector.dtype)])
