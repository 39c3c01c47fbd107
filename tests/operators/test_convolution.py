"""ReLU behind convolutions where a sum is a NaN whose sign bit is set: fast kernels take that bit for a minus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from etexport.kernel.cases import T
from etexport.kernel.library import Library

from .boards import Bench
from .cases import Sample, Tensor, sample


def with_nans(plain: Sample) -> Sample:
    """The sample with two negative NaNs, one of them signalling, and an infinity of each sign; ReLU behind it."""
    data = plain.args[0].data.copy()
    flat = data.reshape(-1)
    flat[[0, flat.size // 2]] = np.array([0xFFC12345, 0xFF812345], np.uint32).view(np.float32)
    flat[[flat.size // 3, flat.size - 1]] = -np.inf, np.inf
    return replace(plain, args=(Tensor(plain.args[0].of, data), *plain.args[1:]), bounds=(0.0, np.inf))


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386", "qemu_mps2_an385", "qemu_virt_rv32"])
def test_relu_keeps_nans(board: str, library: Library, bench_of: Callable[[str, str], Bench]) -> None:
    op = library.ops["aten::convolution.out"]
    big = [case for case in op.cases if isinstance(case.args[0], T) and np.prod(case.args[0].shape) > 8]
    samples = [with_nans(sample(op, case, seed)) for seed, case in enumerate(big)]
    failures = bench_of(board, "speed").mismatches(samples, library)
    assert not failures, "\n".join(failures)
