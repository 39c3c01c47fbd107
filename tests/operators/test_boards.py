"""Every operator against eager PyTorch, on the host and on each simulated core, through the whole pipeline.

The host runs its programs in the form that is small, the documented and a fifth of the drawn cases under the address and
undefined-behaviour sanitizers, which take three times as long; the cores take turns with the two forms, so that each variant of a kernel
is built in both. Dead memory is poisoned everywhere.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from etexport.board import load_board
from etexport.kernel.call import Call, Target
from etexport.kernel.library import Library, load_ops
from etexport.kernel.op import Op
from etexport.resources import kernel_folders
from etexport.specialise.pipeline import specialise

from .batch import batch
from .boards import Bench
from .cases import Sample, documented, families, fused_samples, random_samples

FAMILIES = families(load_ops().ops.values())
HOST_CASES = 200
SANITIZED_CASES = 40
CORE_CASES = 20
FUSED_CASES = 24
M4 = Target(frozenset({"arm", "thumb2", "dsp", "fpu"}))
M3 = Target(frozenset({"arm", "thumb2"}))


def calls(op: Op, target: Target) -> list[Call]:
    return [op.lower(node, target) for node in batch(documented(op)).nodes] if op.lower is not None else []


def reached(header: str) -> set[str]:
    """The texts of a kernel's header and of all that it includes from kernel folders."""
    (file,) = (folder / header for folder in kernel_folders() if (folder / header).is_file())
    text = file.read_text("utf-8")
    inside = [name for name in re.findall(r'#include "([^"]+)"', text) if not name.startswith("et/")]
    return {text}.union(*map(reached, inside))


def has_code_for_size(op: Op) -> bool:
    headers = {header if "/" in header else f"{op.family}/{header}" for header in (call.header for call in calls(op, M4))}
    return any("ET_OPTIMIZE_SIZE" in text for header in headers for text in reached(header))


def has_code_without_fpu(op: Op) -> bool:
    return bool(op.absorbs) and [call.function for call in calls(op, M4)] != [call.function for call in calls(op, M3)]


SMALLER = [family for family, ops in FAMILIES.items() if any(map(has_code_for_size, ops))]
"""Families whose code for the M4 is other code where it is to be small."""
WITHOUT_FPU = [family for family, ops in FAMILIES.items() if any(map(has_code_without_fpu, ops))]
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
    assert not failures, f"{len(failures)} of {len(samples)} fused cases differ from PyTorch:\n" + "\n".join(failures[:10])


def test_what_is_tried_on_top_is_what_was_meant() -> None:
    assert (SMALLER, WITHOUT_FPU) == (["convolution", "linear"], ["convolution", "linear"])


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
    assert not specialised.calls
    (got,) = bench.run(specialised, whole.inputs, library)
    assert np.array_equal(got.ravel(), whole.inputs[0].ravel())


@pytest.mark.parametrize("family", [family for family, ops in FAMILIES.items() if any(op.absorbs for op in ops)])
@pytest.mark.parametrize(("board", "optimize"), [("host", "size"), ("qemu_mps2_an386", "speed")])
def test_fused(family: str, board: str, optimize: str, library: Library, bench_of: Benches) -> None:
    """Activations and residuals behind an operator become part of its kernel, and the result is that of both."""
    compare_fused(bench_of(board, optimize), library, FAMILIES[family])
