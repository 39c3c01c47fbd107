"""Maximum pooling whose indices nobody reads, as in every network: no memory for them, and the kernel that sweeps
rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from etexport.errors import ModelError
from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.program.model import DType, Program
from etexport.specialise.pipeline import specialise
from tests.specialise.graph import Graph

from .batch import batch
from .boards import Bench
from .cases import documented, random_samples
from .oracle import difference, expected


@pytest.mark.parametrize("operator", ["aten::max_pool2d_with_indices.out", "aten::adaptive_max_pool2d.out"])
@pytest.mark.parametrize(("board", "optimize", "count"), [("host", "size", 60), ("qemu_mps2_an386", "speed", 20)])
def test_without_indices(
    operator: str, board: str, optimize: str, count: int, library: Library, bench_of: Callable[[str, str], Bench]
) -> None:
    bench = bench_of(board, optimize)
    op = library.ops[operator]
    samples = [*documented(op), *random_samples(op, count)]
    whole = batch(samples)
    method = whole.program.methods[0]
    values_only = replace(method, outputs=tuple(method.outputs[maximum] for maximum, _ in whole.results))
    specialised = specialise(Program((values_only,)), Target(bench.board.features, optimize), library)
    functions = {step.call.function.partition("<")[0] for step in specialised.calls.values()}
    assert "max_pool" in functions and "max_pool_with_indices" not in functions
    results = bench.run(specialised, whole.inputs, library)
    for sample, node, got in zip(samples, whole.nodes, results, strict=True):
        assert not difference(sample, node, 0, np.asarray(got), expected(sample)[0]), sample


@pytest.mark.parametrize(
    ("operator", "args", "what"),
    [
        (
            "quantized_avg_pool2d",
            ((3, 3), (1, 1), (1, 1), False, True, 2**31, 4, 4, 2**30, 1, -128, 127),
            f"divisor_override is {2**31}",
        ),
        (
            "quantized_avg_pool2d",
            ((3, 3), (1, 1), (1, 1), False, True, None, 2**62, 4, 2**30, 1, -128, 127),
            f"zero points {2**62}, 4",
        ),
        ("quantized_adaptive_avg_pool2d", ((3, 5), 3, -129, 2**30, 1, -128, 127), "zero points 3, -129"),
    ],
)
def test_numbers_that_no_int8_layer_has_are_refused(
    operator: str, args: tuple[object, ...], what: str, library: Library
) -> None:
    graph = Graph(library)
    with pytest.raises(ModelError, match=what):
        graph.call(f"etexport::{operator}.out", graph.input(1, 4, 7, 7, dtype=DType.INT8), *args)
