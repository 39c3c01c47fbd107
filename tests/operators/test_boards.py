"""Every operator against eager PyTorch, on the host and on each simulated core, through the whole pipeline.

The host runs its programs in the form that is small, the documented and a fifth of the drawn cases under the address and
undefined-behaviour sanitizers, which take three times as long; the cores take turns with the two forms, so that each variant of a kernel
is built in both. Dead memory is poisoned everywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest

from etexport.board import load_board
from etexport.op import Library, Op, Target, load_ops
from etexport.resources import kernel_folders
from etexport.target.pipeline import specialise

from .batch import batch
from .boards import Bench
from .cases import Sample, documented, families, fused_samples, random_samples

FAMILIES = families(load_ops().ops.values())
HOST_CASES = 200
SANITIZED_CASES = 40
CORE_CASES = 20
FUSED_CASES = 24
SMALLER = sorted(
    {path.parent.name for kernels in kernel_folders() for path in kernels.glob("*/*.h") if "ET_OPTIMIZE_SIZE" in path.read_text("utf-8")}
)
"""Families whose code for the M4 is other code where it is to be small."""
WITHOUT_FPU = sorted(
    {path.parent.name for kernels in kernel_folders() for path in kernels.glob("*/op.py") if "tiles_for" in path.read_text("utf-8")}
)
"""Families with float code of its own where there is no FPU."""
CORES = [("qemu_mps2_an386", "speed"), ("qemu_mps2_an385", "size"), ("qemu_virt_rv32", "speed")]
Benches = Callable[..., Bench]


def compare(bench: Bench, library: Library, ops: list[Op], count: int) -> None:
    compare_samples(bench, library, [one for op in ops for one in (*documented(op), *random_samples(op, count))])


def compare_samples(bench: Bench, library: Library, samples: list[Sample]) -> None:
    failures = bench.mismatches(samples, library)
    assert not failures, f"{len(failures)} of {len(samples)} cases differ from PyTorch:\n" + "\n".join(failures[:10])


def compare_fused(bench: Bench, library: Library, ops: list[Op]) -> None:
    samples = [one for op in ops if op.absorbs for one in fused_samples(op, FUSED_CASES)]
    failures = bench.mismatches(samples, library, fused=True)
    assert not failures, f"{len(failures)} of {len(samples)} fused cases differ from PyTorch:\n" + "\n".join(failures[:10])


@pytest.mark.parametrize("family", FAMILIES)
def test_host(family: str, library: Library, bench_of: Benches) -> None:
    compare(bench_of("host", "size"), library, FAMILIES[family], SANITIZED_CASES)
    every = [one for op in FAMILIES[family] for one in random_samples(op, HOST_CASES)]
    compare_samples(bench_of("host", "size", sanitize=False), library, every)


@pytest.mark.parametrize("family", FAMILIES)
def test_host_with_fixed_geometry(family: str, library: Library, bench_of: Benches) -> None:
    compare(bench_of("host", "speed"), library, FAMILIES[family], 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("board", "optimize"), CORES)
def test_core(family: str, board: str, optimize: str, library: Library, bench_of: Benches) -> None:
    program = load_board(board).simulator
    assert program is not None
    if shutil.which(program.program) is None:
        pytest.skip(f"{program.program} is not installed")
    compare(bench_of(board, optimize), library, FAMILIES[family], CORE_CASES)


@pytest.mark.parametrize("family", WITHOUT_FPU)
def test_fused_without_fpu(family: str, library: Library, bench_of: Benches) -> None:
    compare_fused(bench_of("qemu_mps2_an385", "speed"), library, FAMILIES[family])


@pytest.mark.parametrize("family", SMALLER)
def test_code_that_is_smaller_for_size(family: str, library: Library, bench_of: Benches) -> None:
    test_core(family, "qemu_mps2_an386", "size", library, bench_of)


@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_addresses_alone(optimize: str, library: Library, bench_of: Benches) -> None:
    """A program of views has no steps."""
    bench, whole = bench_of("host", optimize), batch(documented(library.ops["aten::view_copy.out"])[:1])
    specialised = specialise(whole.program, Target(bench.board.features, optimize), library)
    assert not specialised.steps
    (got,) = bench.run(specialised, whole.inputs, library)
    assert np.array_equal(got.ravel(), whole.inputs[0].ravel())


@pytest.mark.parametrize("family", [family for family, ops in FAMILIES.items() if any(op.absorbs for op in ops)])
@pytest.mark.parametrize(("board", "optimize"), [("host", "size"), ("qemu_mps2_an386", "speed")])
def test_fused(family: str, board: str, optimize: str, library: Library, bench_of: Benches) -> None:
    """Activations and residuals behind an operator become part of its kernel, and the result is that of both."""
    compare_fused(bench_of(board, optimize), library, FAMILIES[family])
