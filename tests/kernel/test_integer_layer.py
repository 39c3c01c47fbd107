"""What the host proves for integer layers: each proof against all that a layer can give."""

from __future__ import annotations

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.integer_layer import Layer, extremes, paired, problem, settled, stored
from etexport.kernel.quantized import multiplier_shift
from etexport.program.model import Array
from etexport_kernels.convolution.quantized_packing import _parts

DSP = frozenset({"arm", "thumb2", "dsp"})


def layer(weights: Array, bias: list[int], scales: list[float]) -> Layer:
    multipliers, shifts = zip(*map(multiplier_shift, scales), strict=True)
    return Layer(
        weights.astype(np.int8), np.array(bias, np.int64), np.array(multipliers, np.int64), np.array(shifts, np.int64)
    )


@pytest.mark.parametrize("rounding", ["nearest", "tflm"])
def test_a_settled_layer_gives_the_same_results(rounding: str) -> None:
    random = np.random.default_rng(0)
    target = Target(DSP, "speed", rounding)
    settled_rows = 0
    for _ in range(300):
        outputs, k = random.integers(1, 9), random.integers(1, 5)
        weights = random.integers(-128, 128, (outputs, k)) * random.integers(0, 2, (outputs, 1))
        bias = np.where(
            random.integers(0, 2, outputs) == 1,
            random.integers(-(2**30), 2**30, outputs),
            random.integers(-999, 999, outputs),
        )
        scales = 2.0 ** random.uniform(-31 if rounding == "nearest" else -30, 7, outputs)
        low, high = np.sort(random.integers(-128, 128, 2))
        store = (int(random.integers(-128, 128)), int(low), int(high))
        before = layer(weights, bias.tolist(), scales.tolist())
        after = settled(before, target, *store)
        changed = np.any(after.weights != before.weights, axis=1) | (after.bias != before.bias)
        settled_rows += int(changed.sum())
        corners = np.stack(np.meshgrid(*[[-128, 127, 3]] * k), axis=-1).reshape(-1, k)
        inputs = np.concatenate([corners, random.integers(-128, 128, (50, k))])
        for row in range(outputs):
            sums = [int(total) for total in inputs @ before.weights[row].astype(np.int64)]
            wanted = [reference(total + int(before.bias[row]), before, row, rounding, store) for total in sums]
            one = after.rows(slice(row, row + 1))
            got = stored(one, (inputs @ one.weights[0].astype(np.int64) + one.bias)[:, None], target, *store)[:, 0]
            if changed[row]:
                assert got.tolist() == wanted
            if not np.any(before.weights[row]):  # one result whatever the scale: in numbers that every kernel takes
                assert abs(after.bias[row]) <= 2048 or problem(before.rows(slice(row, row + 1)))
    assert settled_rows > 200


def test_what_32_bits_do_not_hold_is_settled_only_where_it_saturates() -> None:
    rows = np.zeros((2, 3))
    after = settled(layer(rows, [2**33, 2**33], [2.0**-27, 2.0**-10]), Target(DSP), 0, -128, 127)
    assert after.bias.tolist() == [2**33, 8 * 127]


def reference(total: int, of: Layer, row: int, rounding: str, store: tuple[int, int, int]) -> int:
    """A result in Python's own integers, which have no end."""
    zero, low, high = store
    multiplier, shift = int(of.multipliers[row]), int(of.shifts[row])
    if rounding == "nearest":
        words, left = of.rows(slice(row, row + 1)).words
        scaled = ((total << int(left[0])) * int(words[0]) + 2**31) >> 32
    else:
        product = ((total << max(shift, 0)) * multiplier + 2**30) >> 31
        right = max(-shift, 0)
        half = (1 << right) >> 1
        scaled = (product + half) >> right if product >= 0 else -((-product + half) >> right)
    return min(max(scaled + zero, low), high)


def test_extremes_are_reached() -> None:
    random = np.random.default_rng(1)
    weights = random.integers(-128, 128, (50, 7)).astype(np.int8)
    least, most = extremes(weights)
    worst = np.where(weights > 0, -128, 127)
    assert np.array_equal((weights.astype(int) * worst).sum(axis=1), least)
    assert np.array_equal((weights.astype(int) * np.where(weights > 0, 127, -128)).sum(axis=1), most)


def test_which_core_makes_a_layer() -> None:
    target = Target(DSP)
    rows = np.full((4, 64), 100)
    healthy = layer(rows, [0] * 4, [0.001] * 4)
    assert paired([healthy], target) == "et::Paired8::kNearest"
    assert paired([healthy], Target(DSP, "speed", "tflm")) == "et::Paired8::kTwice"
    assert paired([healthy], Target(frozenset({"arm", "thumb2"}))) == ""
    assert paired([layer(rows, [0, 0, 0, 2**24], [0.001] * 4)], target) == "et::Paired8::kNearestParts"
    # a lower row has 32 bits
    assert paired([layer(rows, [0, 0, 2**24, 0], [0.001] * 4)], target) == "et::Paired8::kNearest"
    assert paired([layer(np.full((4, 660), 100), [0] * 4, [0.001] * 4)], target) == "et::Paired8::kNearestParts"
    assert paired([healthy, layer(rows, [0] * 4, [0.6] * 4)], target) == "et::Paired8::kNearestParts"
    assert paired([layer(rows, [0] * 4, [0.3] * 4)], Target(DSP, "speed", "tflm")) == ""
    assert paired([layer(np.where(np.arange(4)[:, None] % 2 == 1, -128, -1), [0] * 4, [0.001] * 4)], target) == ""


@pytest.mark.parametrize("elements", [4, 508, 512, 516, 1152, 2052, 4608])
@pytest.mark.parametrize("size", [3, 60, 127, 128])
def test_parts_fit_and_are_as_few_as_can_be(elements: int, size: int) -> None:
    upper = np.full((2, elements), size) * np.where(np.arange(elements) % 2, -1, 1)
    first, step = _parts(upper)
    assert first % 4 == 0 and step % 32 == 0 and 0 < first <= elements
    assert (elements - first) % step == 0 if step else first == elements
    longest = max(first, step)
    assert 128 * size * longest < 2**23 + 128 * longest
    count = 1 + (elements - first) // step if step else 1
    assert count == 1 or -(-elements // (count - 1)) * 127 * size > 2**23 - 32 * 128 * size
