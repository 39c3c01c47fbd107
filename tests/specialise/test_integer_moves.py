"""What moves, chooses or compares elements between dequantise and quantise: the bytes are those of the float operators,
whatever the scales, and no float is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from etexport.kernel.library import load_ops
from etexport.kernel.supported import errors_of
from etexport.program.model import Array, DType, Program, Ref
from etexport.specialise.integer import fuse_integers
from tests.specialise.graph import Graph, evaluate

LIBRARY = load_ops()
QUANTIZE = "cortex_m::quantize_per_tensor.out"
DEQUANTIZE = "cortex_m::dequantize_per_tensor.out"
TABLE = "cortex_m::quantized_activation.out"
RANGE = (-128, 127, DType.INT8.code)
RANDOM = np.random.default_rng(11)


class Quantised(Graph):
    """A graph with int8 inputs, or float ones that are quantised in it."""

    def stored(self, *shape: int, scale: float, zero: int) -> Ref:
        """An input, dequantised."""
        return self.call(DEQUANTIZE, self.input(*shape, dtype=DType.INT8), scale, zero, *RANGE)

    def result(self, real: Ref, scale: float, zero: int) -> Ref:
        return self.call(QUANTIZE, real, scale, zero, *RANGE)

    def fused(self, *outputs: Ref) -> Counter[str]:
        """The operators of the integer form, after comparing what both forms give for random inputs."""
        program = self.program(*outputs)
        method, in_float = fuse_integers(program.method(), LIBRARY)
        assert not in_float, in_float
        assert not errors_of(method, LIBRARY)
        specs = [self.values[value].spec for value in self.inputs]
        ranges = {DType.INT8: (-128.0, 128.0), DType.FLOAT32: (-9.0, 9.0)}
        inputs: list[Array] = [
            np.floor(RANDOM.uniform(*ranges[spec.dtype], spec.shape)).astype(spec.dtype.numpy) for spec in specs
        ]
        for got, wanted in zip(
            evaluate(Program((method,)), LIBRARY, inputs), evaluate(program, LIBRARY, inputs), strict=True
        ):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)
        return Counter(instruction.op for instruction in method.instructions)


A, B, C = (0.05, 3), (0.02, -100), (0.11, 20)


@pytest.mark.parametrize(
    ("scales", "tables"),
    [((A, A, A), 0), ((A, A, B), 1), ((A, B, B), 1), ((A, B, C), 2), ((A, B, A), 1)],
    ids=["one", "behind all", "before one", "before each", "before the other"],
)
def test_concatenation_of_scales(scales: tuple[tuple[float, int], ...], tables: int) -> None:
    graph = Quantised(LIBRARY)
    first, second = (
        graph.stored(2, size, 4, scale=scale, zero=zero) for size, (scale, zero) in zip((3, 5), scales, strict=False)
    )
    steps = graph.fused(graph.result(graph.call("aten::cat.out", (first, second), 1), *scales[2]))
    assert steps == Counter({"aten::cat.out": 1, TABLE: tables} if tables else {"aten::cat.out": 1})


def test_concatenation_with_constants_and_itself() -> None:
    graph = Quantised(LIBRARY)
    x = graph.stored(2, 3, scale=0.05, zero=3)
    both = graph.call("aten::cat.out", (x, graph.weight(2, 4), x), 1)
    assert graph.fused(graph.result(both, 0.02, 7)) == Counter({TABLE: 1, "aten::cat.out": 1})


SHAPE = (2, 8, 5, 6)
PLACES = np.array([2, 0, 2, 1])
ONE: dict[str, Callable[[Quantised, Ref], Ref]] = {
    "flip": lambda g, x: g.call("aten::flip.out", x, (1, 3)),
    "repeat": lambda g, x: g.call("aten::repeat.out", x, (1, 2, 1, 1)),
    "index_select": lambda g, x: g.call("aten::index_select.out", x, 1, g.constant(PLACES)),
    "index": lambda g, x: g.call("aten::index.Tensor_out", x, (None, g.constant(PLACES))),
    "gather": lambda g, x: g.call("aten::gather.out", x, 3, g.constant(np.zeros((2, 8, 5, 2), np.int64)), False),
    "amax": lambda g, x: g.call("aten::amax.out", x, (2, 3), True),
    "amin": lambda g, x: g.call("aten::amin.out", x, (1,), False),
    "max of all": lambda g, x: g.call("aten::max.unary_out", x),
    "max and its place": lambda g, x: g.call("aten::max.dim_max", x, 1, False),
    "pad with a number": lambda g, x: g.call("aten::constant_pad_nd.out", x, (1, 1, 0, 2), -0.4),
    "resize": lambda g, x: g.call("aten::upsample_nearest2d.vec_out", x, (7, 9), None),
    "slice": lambda g, x: g.call("aten::slice_copy.Tensor_out", x, 1, 2, 6, 2),
    "view": lambda g, x: g.call("aten::view_copy.out", x, (2, 4, 60)),
}


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("scales", [(A, A), (A, B)], ids=["same", "other"])
@pytest.mark.parametrize("clamp", [False, True], ids=["", "clamped"])
def test_of_one_tensor(name: str, scales: tuple[tuple[float, int], ...], clamp: bool) -> None:
    """One operator on int8, and a table where the scale changes or something is clamped."""
    graph = Quantised(LIBRARY)
    moved = ONE[name](graph, graph.stored(*SHAPE, scale=scales[0][0], zero=scales[0][1]))
    moved = graph.call("aten::hardtanh.out", moved, -0.3, 0.8) if clamp else moved
    steps = graph.fused(graph.result(moved, *scales[1]))
    assert steps.total() == 1 + (scales[0] != scales[1] or clamp)
    assert sum(count for op, count in steps.items() if op != TABLE) == 1


@pytest.mark.parametrize("name", [*ONE, "adaptive max", "sorted"])
def test_behind_a_layer_in_float(name: str) -> None:
    """What moves is quantised first, whatever further results the operator has."""
    graph = Quantised(LIBRARY)
    more = {
        "adaptive max": lambda g, x: g.call("aten::adaptive_max_pool2d.out", x, (3, 4)),
        "sorted": lambda g, x: g.call("aten::sort.values", x, 1, False),
    }
    steps = graph.fused(graph.result((ONE | more)[name](graph, graph.input(*SHAPE)), *A))
    assert steps[QUANTIZE] == 1
    assert steps.total() == 2


TWO: dict[str, Callable[[Quantised, Ref, Ref], Ref]] = {
    "maximum": lambda g, x, y: g.call("aten::maximum.out", x, y),
    "minimum": lambda g, x, y: g.call("aten::minimum.out", x, y),
    "where": lambda g, x, y: g.call("aten::where.self_out", g.call("aten::gt.Scalar_out", x, 0.2), x, y),
    "where mask": lambda g, x, y: g.call(
        "aten::where.self_out", g.constant(np.arange(12).reshape(3, 4) % 3 == 0), x, y
    ),
    "scatter": lambda g, x, y: g.call(
        "aten::slice_scatter.out", x, g.call("aten::slice_copy.Tensor_out", y, 1, 0, 2, 1), 1, 1, 3, 1
    ),
}


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("scales", [(A, A, A), (A, B, C), (A, B, B)], ids=["same", "all differ", "one differs"])
def test_of_two_tensors(name: str, scales: tuple[tuple[float, int], ...]) -> None:
    graph = Quantised(LIBRARY)
    first, second = (graph.stored(3, 4, scale=scale, zero=zero) for scale, zero in scales[:2])
    steps = graph.fused(graph.result(TWO[name](graph, first, second), *scales[2]))
    assert steps[TABLE] == sum(one != scales[2] for one in scales[:2])


@pytest.mark.parametrize(
    ("condition", "operator"),
    [
        (lambda g, x: g.call("aten::gt.Scalar_out", x, 0.2), "aten::ge.Scalar_out"),
        (lambda g, x: g.call("aten::le.Scalar_out", x, -0.1), "aten::le.Scalar_out"),
        (lambda g, x: g.call("aten::eq.Scalar_out", x, -np.inf), "aten::gt.Scalar_out"),
        (lambda g, x: g.call("aten::ne.Scalar_out", x, 0.0), "aten::ne.Scalar_out"),
        (
            lambda g, x: g.call("aten::lt.Scalar_out", g.call("aten::mul.Scalar_out", x, -2.0), 0.3),
            "aten::ge.Scalar_out",
        ),
    ],
    ids=["greater", "less or equal", "minus infinity", "not zero", "of a chain"],
)
def test_conditions_compare_stored_values(condition: Any, operator: str) -> None:
    graph = Quantised(LIBRARY)
    assert graph.fused(condition(graph, graph.stored(3, 40, scale=0.05, zero=3))) == Counter({operator: 1})


def test_a_condition_that_one_number_does_not_say_stays_in_float() -> None:
    graph = Quantised(LIBRARY)
    x = graph.stored(3, 40, scale=0.05, zero=3)
    inside = graph.call("aten::gt.Scalar_out", graph.call("aten::abs.out", x), 0.5)
    _, in_float = fuse_integers(graph.program(inside).method(), LIBRARY)
    assert {one.instruction.op for one in in_float} == {"aten::abs.out", "aten::gt.Scalar_out"}


def test_a_choice_by_its_own_operand_is_a_table() -> None:
    graph = Quantised(LIBRARY)
    x = graph.stored(3, 40, scale=0.05, zero=3)
    chosen = graph.call(
        "aten::where.self_out", graph.call("aten::gt.Scalar_out", x, 0.2), x, graph.constant(np.array(-0.3, np.float32))
    )
    assert graph.fused(graph.result(chosen, *B)) == Counter({TABLE: 1})
