"""The house rule of requantisation beside exact rounding and TFLite's double rounding: the figures of
docs/quantization.md."""

from __future__ import annotations

import numpy as np
import pytest

from etexport.kernel.quantized import multiplier_shift, requantize, requantize_tflm, tie_to_even, word_multiplier

DRAWS, ACCUMULATORS = 40, 100_000


def shares(size: float) -> tuple[float, float, float]:
    """Shares of results that differ: house and exact, TFLite and exact, house and TFLite; scales round `size`, results
    in -140 .. 140."""
    generator = np.random.default_rng(0)
    counts = np.zeros(3)
    for _ in range(DRAWS):
        scale = size * generator.uniform(0.7, 1.4)
        sums = generator.integers(-int(140 / scale), int(140 / scale), ACCUMULATORS)
        exact = np.floor(sums * scale + 0.5).astype(np.int64)
        house = requantize(sums, *word_multiplier(*multiplier_shift(scale)))
        twice = requantize_tflm(sums, *multiplier_shift(scale))
        assert max(np.abs(house - exact).max(), np.abs(twice - exact).max()) <= 1
        counts += [(house != exact).sum(), (twice != exact).sum(), (house != twice).sum()]
    return tuple(counts / (DRAWS * ACCUMULATORS))  # type: ignore[return-value]


@pytest.mark.parametrize(("size", "house", "twice"), [(1e-2, 0.0, 7.3e-3), (2e-3, 1e-5, 1.5e-3), (2e-4, 3e-5, 1.6e-4)])
def test_the_house_rule_is_nearer_to_exact_rounding(size: float, house: float, twice: float) -> None:
    ours, theirs, between = shares(size)
    assert ours <= house and theirs == pytest.approx(twice, rel=0.3) and between <= ours + theirs


def test_scales_keep_30_bits_or_what_is_left_of_the_word() -> None:
    for exponent in range(-25, 8):
        scale = 1.37 * 2.0**exponent
        word, left = word_multiplier(*multiplier_shift(scale))
        assert 0 < word < 2**31 and left >= 0
        assert abs(word * 2.0 ** (left - 32) / scale - 1) <= max(2.0**-30, 2.0 ** (-32 - exponent))


@pytest.mark.parametrize("count", [2, 3, 4, 6, 7, 10, 14, 49, 64, 126, 1000])
def test_averages_that_keep_their_scale_are_rounded_to_even(count: int) -> None:
    """As PyTorch rounds them, and whichever way the multiplier's own rounding pushes a tie."""
    totals = np.arange(-128 * count, 128 * count)
    word, left = word_multiplier(*multiplier_shift(1 / count))
    nearest = requantize(totals, word, left)
    np.testing.assert_array_equal(tie_to_even(nearest, totals, count), np.rint(totals / count))
    assert (nearest != np.rint(totals / count)).any() == (count % 2 == 0)
