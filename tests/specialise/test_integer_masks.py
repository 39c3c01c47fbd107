"""where(mask, scores, a very low number) before a softmax is one kernel; whatever is not that stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from etexport.kernel.library import load_ops
from etexport.program.model import Array, DType, Program, Ref
from etexport.specialise.integer import fuse_integers
from tests.specialise.graph import evaluate
from tests.specialise.test_integer_moves import LIBRARY, Quantised

WHERE = "aten::where.self_out"
SOFTMAX = "aten::_softmax.out"
MASKED = "etexport::quantized_masked_softmax.out"
SHARES = (1 / 256, -128)
SCALE = (0.05, 3)
LOW = -1e9
RANDOM = np.random.default_rng(5)


def form(graph: Quantised, mask: Ref, *, swapped: bool = False, low: float = LOW, again: bool = False) -> Ref:
    """(2, 3, 5, 5) int8 scores, masked, as shares."""
    scores, number = (
        graph.stored(2, 3, 5, 5, scale=SCALE[0], zero=SCALE[1]),
        graph.constant(np.asarray(low, np.float32)),
    )
    sides = (number, scores) if swapped else (scores, number)
    shares = graph.call(SOFTMAX, graph.call(WHERE, mask, *sides), -1, False)
    if again:
        stored = graph.call(
            "cortex_m::dequantize_per_tensor.out", graph.result(shares, *SHARES), *SHARES, -128, 127, DType.INT8.code
        )
        zero = graph.constant(np.asarray(0.0, np.float32))
        shares = graph.call(WHERE, mask, *((zero, stored) if swapped else (stored, zero)))
    return graph.result(shares, *SHARES)


def compared(graph: Quantised, out: Ref, mask: Array) -> list[str]:
    """The operators of the integer form; its results lie within a step of those of the float form."""
    program = graph.program(out)
    method, in_float = fuse_integers(program.method(), LIBRARY)
    assert not in_float, in_float
    inputs: list[Array] = [
        mask
        if graph.values[one].spec.dtype is DType.BOOL
        else RANDOM.integers(-128, 128, graph.values[one].spec.shape).astype(np.int8)
        for one in graph.inputs
    ]
    (got,), (wanted,) = (evaluate(one, LIBRARY, inputs) for one in (Program((method,)), program))
    assert np.abs(got.astype(int) - wanted).max() <= 1
    return [instruction.op for instruction in method.instructions]


@pytest.mark.parametrize("again", [False, True], ids=["", "and 0 behind it"])
@pytest.mark.parametrize("swapped", [False, True], ids=["keeps", "masks"])
@pytest.mark.parametrize("shape", [(5, 5), (2, 1, 1, 5), (3, 5, 1), (2, 3, 5, 5)])
def test_forms(shape: tuple[int, ...], swapped: bool, again: bool) -> None:
    """Rows that are masked whole among them: all equal, and 0 where it is masked again."""
    graph = Quantised(LIBRARY)
    mask = RANDOM.random(shape) < 0.5
    mask[..., :1, :] = swapped
    assert compared(graph, form(graph, graph.input(*shape, dtype=DType.BOOL), swapped=swapped, again=again), mask) == [
        MASKED
    ]


def test_a_constant_mask() -> None:
    graph = Quantised(LIBRARY)
    mask = np.tri(5) > 0
    assert compared(graph, form(graph, graph.constant(mask)), mask) == [MASKED]


@pytest.mark.parametrize("low", [-20.0, 0.0, -6.0])
def test_a_number_that_counts_is_no_mask(low: float) -> None:
    graph = Quantised(load_ops())
    method, in_float = fuse_integers(
        graph.program(form(graph, graph.input(5, 5, dtype=DType.BOOL), low=low)).method(), LIBRARY
    )
    assert MASKED not in [instruction.op for instruction in method.instructions]
    assert {one.instruction.op for one in in_float} == {WHERE, SOFTMAX} or low >= -6.0


def test_another_mask_behind_it_stays() -> None:
    graph = Quantised(LIBRARY)
    first, second = graph.input(5, 5, dtype=DType.BOOL), graph.input(5, 5, dtype=DType.BOOL)
    shares = graph.call("cortex_m::dequantize_per_tensor.out", form(graph, first), *SHARES, -128, 127, DType.INT8.code)
    out = graph.result(graph.call(WHERE, second, shares, graph.constant(np.asarray(0.0, np.float32))), *SHARES)
    assert compared(graph, out, RANDOM.random((5, 5)) < 0.5) == [MASKED, WHERE]
