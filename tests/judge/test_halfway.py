"""What PyTorch may round to the other side of the middle, and what it may not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from etexport.judge.halfway import OTHERS, Found, Halfway
from etexport.judge.verdict import _apart_from
from etexport.kernel.library import load_ops
from etexport.program.model import Array, DType, Method
from tests.specialise.graph import Graph

LIBRARY = load_ops()
BITS = (-128, 127, DType.INT8.code)
GROUPS, PER_GROUP = 8, 4


def program(*, remembers: bool = False) -> Method:
    """Means of four whole numbers, stored with a scale of 1, and a norm of each four of them, which makes much of one
    step."""
    graph = Graph(LIBRARY)
    x = graph.input(1, GROUPS, 2, 2 * PER_GROUP)
    y = graph.call("aten::avg_pool2d.out", x, (2, 2), (2, 2), (0, 0), False, True, None)
    kept = graph.state(np.zeros((1, GROUPS, 1, PER_GROUP), np.float32))
    if remembers:
        y = graph.add(y, kept)
    stored = graph.call("quantized_decomposed::quantize_per_tensor.out", y, 1.0, 0, *BITS)
    y = graph.call("quantized_decomposed::dequantize_per_tensor.out", stored, 1.0, 0, *BITS, None)
    if remembers:
        graph.call("aten::copy_", kept, y, False, into=kept)
    return graph.program(
        graph.call("aten::native_group_norm.out", y, None, None, 1, GROUPS, PER_GROUP, GROUPS, 1e-5)
    ).method()


def image(means: Array) -> Array:
    """Of which these are the means."""
    spread = np.repeat(np.repeat(means.reshape(1, GROUPS, 1, PER_GROUP), 2, 2), 2, 3)
    spread[..., 0, ::2] += 3
    spread[..., 1, 1::2] -= 3
    return spread.astype(np.float32)


def normed(stored: Array) -> Array:
    grouped = stored.reshape(GROUPS, PER_GROUP).astype(np.float64)
    apart = grouped - grouped.mean(1, keepdims=True)
    return (
        (apart / np.sqrt((apart**2).mean(1, keepdims=True) + 1e-5)).reshape(1, GROUPS, 1, PER_GROUP).astype(np.float32)
    )


def found(method: Method, means: Array, wanted: Array, allowed: float = 1e-3) -> Found:
    return Halfway(method, LIBRARY).sample(
        [image(means)], partial(_apart_from, [wanted], [np.full(wanted.shape, allowed)])
    )


@pytest.fixture
def means() -> Array:
    """The first of each group lies half-way (2.5, whose even neighbour is 2), the others do not."""
    rest = np.random.default_rng(1).integers(0, 4, (GROUPS, PER_GROUP)).astype(np.float64)
    rest[:, 1] = rest[:, 2] + 2
    rest[:, 0] = 2.5
    return rest


def test_what_lies_half_way_may_go_either_way(means: Array) -> None:
    method = program()
    assert found(method, means, normed(np.rint(means))) == Found(True, 0, ())
    for turned in ([3], [0, 5, 7], list(range(GROUPS))):
        stored = np.rint(means)
        stored[turned, 0] = 3
        assert found(method, means, normed(stored)) == Found(True, len(turned), ())
        assert found(method, means, normed(stored), 10.0) == Found(True, 0, ()), (
            "what is near enough needs no other rounding"
        )


def test_nothing_else_may(means: Array) -> None:
    """One step elsewhere, or two where one is free: no rounding of PyTorch's explains these outputs."""
    method = program()
    for at, step in (((2, 1), 1), ((2, 1), -1), ((6, 0), 2), ((6, 0), -1)):
        stored = np.rint(means)
        stored[4, 0] = 3
        stored[at] += step
        assert not found(method, means, normed(stored)).near, (at, step)
    away = means.copy()
    away[:, 0] = 2.25
    assert not found(method, away, normed(np.ceil(away))).near, "a quarter is no half"


def test_a_few_of_them(means: Array) -> None:
    """The more are free, the more could be explained by them."""
    means[:] = (0.5, 2.5, 4.5, 8.0)
    method, stored = program(), np.rint(means)
    stored[: OTHERS // 2, :2] += 1
    assert found(method, means, normed(stored)) == Found(True, OTHERS, ())
    stored[0, 2] += 1
    assert not found(method, means, normed(stored)).near


def test_a_state_keeps_what_was_found(means: Array) -> None:
    """The next sample begins with what PyTorch's rounding has left: 3 and 2, where exact arithmetic has 2 and 2."""
    method, whole = program(remembers=True), np.round(means + 0.25)
    whole[:, 0] = 1
    stored = np.rint(means)
    stored[[1, 6], 0] = 3
    after = stored + whole
    computing = Halfway(method, LIBRARY)
    for means_of, wanted, others in ((means, stored, 2), (whole, after, 0)):
        limit = [np.full((1, GROUPS, 1, PER_GROUP), 1e-3)]
        assert computing.sample([image(means_of)], partial(_apart_from, [normed(wanted)], limit)) == Found(
            True, others, ()
        )
