"""Maximum pooling whose indices nobody reads, as in every network: no memory for them, and the kernel that sweeps rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.program.model import Program
from etexport.specialise.pipeline import specialise

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
