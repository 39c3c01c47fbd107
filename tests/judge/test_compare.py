"""The comparison finds what differs and nothing else, and says which sample, output and element it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etexport.artifacts.reference import Reference, noise_of, read_reference
from etexport.artifacts.runs import read_outputs
from etexport.errors import MismatchError, ModelError
from etexport.judge import compare as c
from etexport.judge.steps import Steps
from etexport.program.model import Source


def scores(samples: int = 20, classes: int = 5, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(samples, 1, classes))
    return (np.exp(raw) / np.exp(raw).sum(axis=-1, keepdims=True)).astype(np.float32)


def reference(*outputs: np.ndarray, labels: np.ndarray | None = None) -> Reference:
    return Reference((np.zeros((len(outputs[0]), 1), np.float32),), outputs, labels)


def test_equal_outputs_agree() -> None:
    expected = scores()
    result = c.compare([expected.copy()], reference(expected), 1e-5)
    assert (result.samples, result.mismatched, result.max_abs_error, result.first_difference) == (20, 0, 0.0, None)
    assert result.same_class == 20 and result.accuracy is None and result.flags == ()
    c.require_equal(result, "board")


def test_one_wrong_element_is_named() -> None:
    expected = scores()
    got = expected.copy()
    got[13, 0, 2] += 1e-3
    result = c.compare([got], reference(expected), 1e-5)
    assert result.mismatched == 1
    assert result.first_difference is not None
    assert (result.first_difference.sample, result.first_difference.output, result.first_difference.index) == (
        13,
        0,
        (0, 2),
    )
    assert result.first_difference.got == pytest.approx(result.first_difference.expected + 1e-3, rel=1e-3)
    assert result.worst[0].sample == 13 and result.worst[0].share > 1
    with pytest.raises(
        MismatchError, match=r"1 of 20 samples differ from PyTorch; first: sample 13, output 0\[0, 2\]"
    ) as caught:
        c.require_equal(result, "board")
    assert caught.value.exit_code == 2


@settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(1, 6),
    shape=st.lists(st.integers(1, 4), max_size=3),
    data=st.data(),
    factor=st.floats(1.5, 1e6),
    tolerance=st.floats(1e-7, 1e-3),
)
def test_any_element_beyond_its_limit_is_found(
    samples: int, shape: list[int], data: st.DataObject, factor: float, tolerance: float
) -> None:
    expected = np.random.default_rng(1).uniform(1, 2, size=(samples, *shape))
    at = tuple(data.draw(st.integers(0, size - 1)) for size in expected.shape)
    limit = float(np.broadcast_to(c.allowed_error(expected, tolerance), expected.shape)[at])
    got = expected.copy()
    got[at] += factor * limit
    result = c.compare([got], reference(expected), tolerance)
    assert result.mismatched == 1 and result.first_difference is not None
    assert (result.first_difference.sample, *result.first_difference.index) == at
    got[at] = expected[at] + 0.5 * limit
    assert c.compare([got], reference(expected), tolerance).mismatched == 0


def test_not_a_number_equals_itself_and_nothing_else() -> None:
    expected = np.array([[np.nan, 1.0], [np.inf, 2.0], [-np.inf, 3.0], [4.0, 5.0]], np.float32)
    same = c.compare([expected.copy()], reference(expected), 1e-5)
    assert same.mismatched == 0
    assert "output 0 from board has NaN in 1 of 4 samples" in same.flags
    assert "output 0 from PyTorch has infinities in 2 of 4 samples" in same.flags
    for row, value in ((0, 1.0), (1, -np.inf), (2, 0.0), (3, np.nan), (3, np.inf)):
        got = expected.copy()
        got[row, 0] = value
        result = c.compare([got], reference(expected), 1e-5)
        assert result.mismatched == 1 and result.max_abs_error == np.inf, (row, value)
        assert result.first_difference is not None and result.first_difference.sample == row


def test_a_huge_sample_does_not_excuse_the_others() -> None:
    expected = np.ones((9, 4), np.float32)
    expected[0] = 1e20
    got = expected.copy()
    got[5, 1] += 1e-3
    assert c.compare([got], reference(expected), 1e-5).mismatched == 1


def test_cancellation_to_almost_nothing_is_judged_by_the_other_samples() -> None:
    expected = np.ones((9, 4), np.float32)
    expected[3] = 0.0
    got = expected.copy()
    got[3] += 1e-7
    assert c.compare([got], reference(expected), 1e-5).mismatched == 0


def test_integers_must_be_equal() -> None:
    expected = np.array([[-128, 3], [127, 4]], np.int8)
    got = np.array([[127, 3], [127, 5]], np.int8)
    result = c.compare([got], reference(expected), 1e-5)
    assert (result.mismatched, result.max_lsb_error, result.max_abs_error) == (2, 255, 255.0)
    wide = np.array([[np.iinfo(np.int64).min], [0]], np.int64)
    other = np.array([[np.iinfo(np.int64).max], [0]], np.int64)
    assert c.compare([other], reference(wide), 1e-5).mismatched == 1
    assert c.compare([np.array([True])], reference(np.array([False])), 1e-5).mismatched == 1


def test_classes_and_accuracy() -> None:
    expected = scores(10, 4)
    labels = expected[:, 0].argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 4
    got = expected.copy()
    got[5, 0] = np.roll(got[5, 0], 1)
    result = c.compare([got], reference(expected, labels=labels), 1e-5)
    assert (
        result.accuracy_eager == pytest.approx(0.7) and result.accuracy == pytest.approx(0.6) and result.same_class == 9
    )


def test_an_output_that_never_changes_is_flagged() -> None:
    constant = np.ones((5, 1, 3), np.float32)
    assert "output 0 is the same for all 5 samples" in c.compare([constant], reference(constant), 1e-5).flags


def test_another_form_is_refused() -> None:
    expected = scores()
    for got in ([], [expected, expected], [expected[:19]], [expected.astype(np.float64)], [expected.reshape(20, 5)]):
        with pytest.raises(ModelError):
            c.compare(got, reference(expected), 1e-5)


def test_files_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    outputs = {f"output_{index}": np.full((2, 1), index, np.float32) for index in range(12)}
    np.savez(path, input_0=np.zeros((2, 3), np.float32), labels=np.array([1, 0]), **outputs)
    read = read_reference(path)
    assert [float(output[0, 0]) for output in read.outputs] == list(range(12))
    assert len(read.inputs) == 1 and read.labels is not None and read.samples == 2


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive", b"\x93NUMPY"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outputs.npz"
    path.write_bytes(content)
    for read in (read_outputs, read_reference):
        with pytest.raises(ModelError, match=r"outputs.npz: cannot be read"):
            read(path)


def test_the_first_divergence_is_the_first_in_order() -> None:
    eager = {handle: np.ones((2, 3), np.float32) * (handle + 1) for handle in range(4)}

    def run(**wrong: float) -> list[c.Traced]:
        made = []
        for handle, array in eager.items():
            data = array.copy()
            data[1, 2] += wrong.get(f"op{handle}", 0.0)
            made.append(c.Traced(handle, f"op{handle}", Source("model.py", 10 + handle), data))
        return made

    assert c.first_divergence(run(), eager, 1e-5) is None
    number = c.Traced(0, "op0", None, np.array(1.0, np.float32))
    assert c.first_divergence([number], {0: np.array(1.0, np.float32)}, 1e-5) is None
    assert c.first_divergence([number], {0: np.array(1.5, np.float32)}, 1e-5) is number
    found = c.first_divergence(run(op2=0.1, op3=5.0), eager, 1e-5)
    assert found is not None and found.name == "op2"
    del eager[2]
    assert c.first_divergence(run(op2=0.1), eager, 1e-5) is None

    expected = scores()
    got = expected.copy()
    got[4, 0, 1] += 1
    named = c.placed(c.compare([got], reference(expected), 1e-5), found)
    with pytest.raises(MismatchError, match=r"sample 4.*first wrong in op2 at model.py:12"):
        c.require_equal(named, "board")


def quantized(steps: np.ndarray, scale: float) -> np.ndarray:
    return steps.astype(np.float32) * np.float32(scale)


def test_samples_whose_operators_are_right_are_no_mismatches() -> None:
    """Those that are excused, and no others; the furthest comes first."""
    expected = np.zeros((9, 1, 4), np.int8)
    got = expected.copy()
    got[3, 0, 1], got[7, 0, 2] = 3, 4
    steps = Steps(2, (1.0,))
    found = c.compare([got], reference(expected), 0.0, steps)
    assert (found.mismatched, found.rounded, found.beyond) == (2, 0, (7, 3))
    one = c.compare([got], reference(expected), 0.0, steps, excused=(7,), notes=("why",))
    assert (one.mismatched, one.rounded, one.beyond, one.flags[-1:]) == (1, 1, (7, 3), ("why",))
    assert one.first_difference is not None and one.first_difference.sample == 3
    both = c.compare([got], reference(expected), 0.0, steps, excused=(3, 7))
    assert (both.mismatched, both.rounded, both.first_difference) == (0, 2, None)


def test_quantized_outputs_are_compared_in_steps() -> None:
    whole = np.random.default_rng(3).integers(-128, 128, size=(9, 1, 6))
    for scale in (1 / 256, 0.0893, 3.7):
        expected = quantized(whole, scale)
        allowed = Steps(3, (scale,))
        near = quantized(whole + 3, scale)
        result = c.compare([near], reference(expected), 0.0, allowed)
        assert (result.mismatched, result.max_lsb_error, result.tolerance_lsb) == (0, 3, 3), scale
        far = near.copy()
        far[4, 0, 2] += np.float32(scale)
        result = c.compare([far], reference(expected), 0.0, allowed)
        assert (result.mismatched, result.max_lsb_error) == (1, 4) and result.first_difference is not None, scale
        assert (result.first_difference.sample, result.first_difference.index) == (4, (0, 2))
    stored = whole.astype(np.int8)
    off = np.where(stored > 0, stored - 2, stored + 2).astype(np.int8)
    assert c.compare([off], reference(stored), 0.0, Steps(2, (1.0,))).mismatched == 0
    assert c.compare([off], reference(stored), 0.0, Steps(1, (1.0,))).mismatched == 9


def test_a_network_that_amplifies_rounding_may_be_further_off() -> None:
    """Three times its own distance from the float network, each output for itself; stored integers count in steps
    too."""
    generator = np.random.default_rng(8)
    whole = generator.integers(-100, 100, size=(40, 1, 6))
    real = quantized(whole, 0.05)
    noisy = (real + generator.normal(0, 2.3 * 0.05, real.shape)).astype(np.float32)
    arrays = {
        "output_0": real, "float_output_0": noisy, "output_1": whole.astype(np.int8),
        "float_output_1": noisy - np.float32(0.15), "output_2": whole, "float_output_2": whole,
        "output_scales": np.array([np.nan, 0.05, np.nan]), "output_zero_points": np.array([0, 3, 0]),
    }  # fmt: skip
    noise = noise_of(arrays)
    assert noise == (pytest.approx(2.3 * 0.05, rel=0.1), pytest.approx(2.3, rel=0.1), None)
    told = replace(reference(real, whole.astype(np.int8), real), noise=(noise[0], noise[1], 0.2 * 0.05))
    steps = Steps(5, (0.05, 1.0, 0.05))
    for output, far in ((0, 6), (1, 6), (2, 5)):
        got = [real.copy(), whole.astype(np.int8), real.copy()]
        got[output][7, 0, 1] += np.asarray(far * (steps.sizes[output] or 0)).astype(got[output].dtype)
        result = c.compare(got, told, 0.0, steps)
        assert result.mismatched == 0 and 7 <= (result.tolerance_lsb or 0) <= 8, output
        got[output][7, 0, 1] += np.asarray(3 * (steps.sizes[output] or 0)).astype(got[output].dtype)
        assert c.compare(got, told, 0.0, steps).mismatched == 1, output
    far_from_float = c.compare(told.outputs, told, 0.0, replace(steps, allowed=2))
    assert far_from_float.tolerance_lsb == 4, "twice what is allowed to any network, and no more"


def test_an_index_is_no_quantized_number() -> None:
    expected = np.array([[3], [4]], np.int64)
    assert c.compare([expected + 1], reference(expected), 0.0, Steps(4, (None,))).mismatched == 2
    assert c.compare([expected], reference(expected), 0.0, Steps(4, (None,))).mismatched == 0


def test_what_is_computed_in_float_at_the_end_is_judged_by_its_range() -> None:
    expected = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    got = expected + np.float32(3.9 / 255 * 2)
    assert c.compare([got], reference(expected), 0.0, Steps(4, (None,))).mismatched == 0
    got[6, 1] += np.float32(0.01)
    assert c.compare([got], reference(expected), 0.0, Steps(4, (None,))).mismatched == 1
    got[6, 1] = np.nan
    broken = c.compare([got], reference(expected), 0.0, Steps(4, (None,)))
    assert broken.mismatched == 1 and broken.max_lsb_error == 2**31 - 1


def test_classes_of_a_quantized_network_are_the_float_network_s_on_new_samples() -> None:
    expected = quantized(np.eye(4, dtype=np.int64)[np.arange(10) % 4] * 100, 0.01)
    float_outputs = expected.copy()
    float_outputs[7] = np.roll(float_outputs[7], 1)
    float_outputs[1] = np.roll(float_outputs[1], 1)  # calibrated with, so it does not count
    labels = expected.argmax(axis=1)
    calibrated = np.arange(10) < 4
    told = Reference(
        (np.zeros((10, 1), np.float32),), (expected,), labels, float_outputs=(float_outputs,), calibrated=calibrated
    )
    result = c.compare([expected.copy()], told, 0.0, Steps(2, (0.01,)))
    assert (result.samples, result.judged, result.same_class) == (10, 6, 5)
    assert result.accuracy == 1.0 and result.accuracy_eager == pytest.approx(5 / 6)
    nothing_new = c.compare([expected], replace(told, calibrated=np.ones(10, bool)), 0.0, Steps(2, (0.01,)))
    assert (nothing_new.judged, nothing_new.accuracy, nothing_new.same_class) == (0, None, 0)


def test_a_reconstruction_votes_for_nothing() -> None:
    expected = scores(6, 5)
    told = Reference((np.zeros((6, 5), np.float32),), (expected,))
    assert c.compare([expected], told, 1e-5).same_class is None
    assert c.compare([expected], replace(told, labels=np.zeros(6, np.int64)), 1e-5).same_class == 6
