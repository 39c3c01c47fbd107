"""Every operator against eager PyTorch, on the host and on each simulated core, through the whole pipeline.

The host runs its programs in the form that is small, the documented and the first of the drawn cases under the address
and undefined-behaviour sanitizers, which take three times as long; the cores take turns with the two forms, so that
each variant of a kernel is built in both. An operator whose code for a core is the host's, where 200 drawn cases are
tried, has few of them there. Dead memory is poisoned everywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from etexport.board import load_board
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.kernel.op import Op
from etexport.specialise.pipeline import specialise

from .batch import batch
from .boards import Bench
from .cases import Sample, documented, families, fused_samples, random_samples

FAMILIES = families(load_ops().ops.values())
HOST_CASES = 200
SANITIZED_CASES = 40
CORE_CASES = 20
PORTABLE_CASES = 4
FUSED_CASES = 24
HOST = Target(load_board("host").features)
M4 = Target(frozenset({"arm", "thumb2", "dsp", "fpu"}))
M3 = Target(frozenset({"arm", "thumb2"}))


def kernels(op: Op, target: Target) -> list[tuple[str, str]]:
    """What `lower` calls for the documented cases."""
    called = [op.lower(node, target) for node in batch(documented(op)).nodes] if op.lower is not None else []
    return [(call.header, call.function) for call in called]


def has_own_code(op: Op, target: Target) -> bool:
    """For this core, in place of what the host runs."""
    return kernels(op, target) != kernels(op, replace(HOST, optimize=target.optimize))


def with_own_code(target: Target) -> list[str]:
    """The families that have an operator with code of its own for this core."""
    return [family for family, ops in FAMILIES.items() if any(has_own_code(op, target) for op in ops)]


OWN = with_own_code(M4)
"""Families that are tried on the M4 in both forms."""
WITHOUT_FPU = [family for family in OWN if any(op.absorbs and has_own_code(op, M3) for op in FAMILIES[family])]
"""Families that fuse, with float code of its own where there is no FPU."""
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
    assert not failures, f"{len(failures)} of {len(samples)} fused cases differ from PyTorch:\n" + "\n".join(
        failures[:10]
    )


def test_what_is_tried_on_top_is_what_was_meant() -> None:
    own = ["binary", "convolution", "few_bits", "linear", "norm", "pooling", "quantize", "recurrent", "reduce"]
    assert (own, ["convolution", "linear"]) == (OWN, WITHOUT_FPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_host(family: str, library: Library, bench_of: Benches) -> None:
    compare(bench_of("host", "size"), library, FAMILIES[family], SANITIZED_CASES)
    others = [one for op in FAMILIES[family] for one in random_samples(op, HOST_CASES)[SANITIZED_CASES:]]
    compare_samples(bench_of("host", "size", sanitize=False), library, others)


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
    bench = bench_of(board, optimize)
    for own, count in ((True, CORE_CASES), (False, PORTABLE_CASES)):
        some = [op for op in FAMILIES[family] if has_own_code(op, Target(bench.board.features, optimize)) is own]
        compare(bench, library, some, count)


@pytest.mark.parametrize("family", WITHOUT_FPU)
def test_fused_without_fpu(family: str, library: Library, bench_of: Benches) -> None:
    compare_fused(bench_of("qemu_mps2_an385", "speed"), library, FAMILIES[family])


@pytest.mark.parametrize("family", OWN)
def test_own_code_for_size(family: str, library: Library, bench_of: Benches) -> None:
    test_core(family, "qemu_mps2_an386", "size", library, bench_of)


@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_addresses_alone(optimize: str, library: Library, bench_of: Benches) -> None:
    """A program of views has no steps."""
    bench, whole = bench_of("host", optimize), batch(documented(library.ops["aten::view_copy.out"])[:1])
    specialised = specialise(whole.program, Target(bench.board.features, optimize), library)
    assert not specialised.calls
    (got,) = bench.run(specialised, whole.inputs, library)
    assert np.array_equal(got.ravel(), whole.inputs[0].ravel())


@pytest.mark.parametrize("family", [family for family, ops in FAMILIES.items() if any(op.absorbs for op in ops)])
@pytest.mark.parametrize(("board", "optimize"), [("host", "size"), ("qemu_mps2_an386", "speed")])
def test_fused(family: str, board: str, optimize: str, library: Library, bench_of: Benches) -> None:
    """Activations and residuals behind an operator become part of its kernel, and the result is that of both."""
    compare_fused(bench_of(board, optimize), library, FAMILIES[family])
