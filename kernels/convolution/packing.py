"""Weight layouts that kernel folders share. The packer is the definition of a layout: portable kernels read the same
bytes."""

from __future__ import annotations

import numpy as np

from etexport.kernel.call import Target
from etexport.program.model import Array

PORTABLE_TILES = ("portable", "Plain<2, 4>", 4)

FIXED_INPUT_BITS = 26
"""Of an input below the largest of its window, kernels/convolution/fixed.h."""


def tiles_for(target: Target, weight: Array, bias: Array) -> tuple[str, str, int]:
    """Of the float kernels for a core: the variant's name, its C++ type, and how many channels a block of packed
    weights has.

    `weight` (..., k) has the sums' length and what is to be multiplied."""
    if {"arm", "fpu"} <= target.features:
        return "m4f", "M4f", 8
    if {"riscv", "fpu"} <= target.features:
        return "rv32f", "Rv32f", 16
    # Cores that multiply 32 by 32 bits; the 64 of a sum must leave enough of them for a weight.
    finite = np.isfinite(weight).all() and np.isfinite(bias).all()
    if target.features & {"thumb2", "riscv"} and finite and _weight_bits(weight.shape[-1]) >= 20:
        return "fixed", "Fixed", 16
    return PORTABLE_TILES


def pack_layer(matrix: Array, bias: Array, variant: str, lanes: int) -> tuple[Array, Array]:
    """Weights (groups, rows, k) and biases (groups, rows) as a variant of `tiles_for` reads them, group after group."""
    if variant == "fixed":
        packed = [_pack_fixed(weights, biases, lanes) for weights, biases in zip(matrix, bias, strict=True)]
    else:
        packed = [
            (pack_rows(weights, lanes), pack_vector(biases, lanes))
            for weights, biases in zip(matrix, bias, strict=True)
        ]
    all_weights, all_biases = zip(*packed, strict=True)
    return np.concatenate(all_weights), np.concatenate(all_biases)


def _weight_bits(length: int) -> int:
    """So that a sum of `length` products, of a weight and an input of less than 2^27, stays below 2^62 and takes a
    bias."""
    return min(30, 62 - (FIXED_INPUT_BITS + 1) - (length - 1).bit_length())


def _pack_fixed(matrix: Array, bias: Array, lanes: int) -> tuple[Array, Array]:
    """Weights as integers with one exponent a row: `pack_rows` of them, and for each block its biases, then its
    exponents.

    The words of both are given as floats, for that is the constant's type. A weight that is not 0 stays so."""
    bits = _weight_bits(matrix.shape[1])
    exponents = np.frexp(np.abs(matrix).max(axis=1, initial=0.0))[1] - bits
    exact = np.ldexp(matrix.astype(np.float64), -exponents[:, None])
    stored = np.where(np.abs(exact) < 1, np.sign(exact), np.rint(exact)).astype(np.int32)
    sizes = [lanes] * (len(matrix) // lanes) + [4] * (-(-(len(matrix) % lanes) // 4))
    blocks = zip(
        *(np.split(pack_vector(of, lanes), np.cumsum(sizes)[:-1]) for of in (bias, exponents.astype(np.int32))),
        strict=True,
    )
    return pack_rows(stored, lanes).view(np.float32), np.concatenate(
        [part.view(np.float32) for block in blocks for part in block]
    )


def padded_rows(rows: int, lanes: int) -> int:
    """Rows after filling up to whole blocks: blocks of `lanes`, and of 4 for what is left."""
    return rows // lanes * lanes + -(-(rows % lanes) // 4) * 4


def pack_rows(matrix: Array, lanes: int) -> Array:
    """(rows, k) -> one dimension: blocks of `lanes` rows, in each block [k][lanes]; the rows left over in blocks of 4,
    zeros at the end.

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
    """One entry a row (a bias), filled up as `pack_rows` does. NaNs become the positive one: cores that take the sign
    bit for the sign see a number there."""
    clean = np.where(np.isnan(vector), np.array(np.nan, vector.dtype), vector) if vector.dtype.kind == "f" else vector
    return np.concatenate([clean, np.zeros(padded_rows(len(vector), lanes) - len(vector), vector.dtype)])
