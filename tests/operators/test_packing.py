"""The layout of packed weights, element by element."""

from __future__ import annotations

import numpy as np
import pytest

from etexport_kernels.convolution.packing import pack_rows, pack_vector, padded_rows
from etexport_kernels.few_bits.stored import as_float16


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 9, 12, 15, 16, 17, 31, 40])
def test_every_weight_has_its_place(rows: int, lanes: int) -> None:
    matrix = np.arange(1, rows * 5 + 1, dtype=np.float32).reshape(rows, 5)
    packed = pack_rows(matrix, lanes)
    assert packed.size == padded_rows(rows, lanes) * 5
    found = 0
    for row in range(rows):
        width = lanes if row < rows // lanes * lanes else 4
        first = (
            row // width * width if width == lanes else rows // lanes * lanes + (row - rows // lanes * lanes) // 4 * 4
        )
        for k in range(5):
            assert packed[first * 5 + k * width + row - first] == matrix[row, k]
            found += 1
    assert np.count_nonzero(packed) == found  # the rest is zeros


def test_bias_is_filled_up_and_its_nans_are_positive() -> None:
    bias = np.array([0xFFC00000, 0xFF812345, 0xBF800000], np.uint32).view(np.float32)
    packed = pack_vector(bias, 8)
    assert packed.shape == (4,) and packed[2:].tolist() == [-1.0, 0.0]
    assert not np.signbit(packed[:2]).any() and np.isnan(packed[:2]).all()


@pytest.mark.parametrize(("least", "same"), [(2.0**-20, True), (2.0**-32, True), (2.0**-50, False)])
def test_bfloat16_as_float16_is_exact_or_left(least: float, same: bool) -> None:
    """Times a power of two; what is far smaller than the largest weight has no float16 then."""
    real = np.array([[-1.9921875, 0.0, least, -1.5]], np.float32) * np.float32(2.0**40)
    bfloat = (real.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    found = as_float16(bfloat)
    assert (found is not None) is same
    if found is not None:
        np.testing.assert_array_equal(found[0].astype(np.float32) * np.float32(found[1]), real)
