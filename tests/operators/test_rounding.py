"""Programs that round as TFLite does: the kernels against the double rounding in numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.specialise.pipeline import specialise

from .batch import batch
from .boards import Bench
from .cases import documented, random_samples
from .oracle import expected

NAMES = (
    "cortex_m::quantized_conv2d.out",
    "cortex_m::quantized_depthwise_conv2d.out",
    "cortex_m::quantized_transpose_conv2d.out",
    "cortex_m::quantized_linear.out",
)


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386"])
def test_double_rounding(
    board: str, library: Library, bench_of: Callable[[str, str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some results must differ from those of the house rule, or this shows nothing."""
    samples = [
        sample for name in NAMES for sample in (*documented(library.ops[name]), *random_samples(library.ops[name], 12))
    ]
    once = [expected(sample)[0] for sample in samples]
    for name in NAMES:
        reference = library.ops[name].reference
        assert reference is not None
        # not by the module's name, which another reading of the folders may have given to another module
        shared = reference.__globals__.get("finished")  # by the forms of convolution
        rounds = (shared or reference).__globals__
        assert rounds["Target"] is not None
        monkeypatch.setitem(rounds, "Target", partial(Target, rounding="tflm"))
    twice = [expected(sample)[0] for sample in samples]
    assert any(np.any(one != two) for one, two in zip(once, twice, strict=True))
    bench = bench_of(board, "speed")
    whole = batch(samples, stored=bench.stored)
    specialised = specialise(whole.program, Target(bench.board.features, "speed", "tflm"), library)
    outputs = bench.run(specialised, whole.inputs, library)
    for sample, positions, wanted in zip(samples, whole.results, twice, strict=True):
        assert np.array_equal(outputs[positions[0]], wanted), str(sample)
