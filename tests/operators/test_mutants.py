"""The harness finds broken kernels: in a copy of each family a line of C++ is changed, and the cases must tell."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from etexport.errors import EtError
from etexport.kernel.library import Library, load_ops
from etexport.kernel.op import Op

from .boards import Bench, bench
from .cases import documented, families, random_samples
from .completeness import calls

OURS = Path(__file__).parents[2] / "kernels"
SWAPS = ((" + ", " - "), (" - ", " + "), (" * ", " + "), (" > ", " <= "), (" < ", " >= "), (" / ", " * "), ("return ", "return -"))
TRIES = 6
"""Some changes do not compile or change nothing; of so many at least one must be found."""
FAMILIES = [family for family, ops in families(load_ops().ops.values()).items() if any(op.lower is not None for op in ops)]


def mutants(header: Path) -> list[str]:
    """The header with one operator of one line of arithmetic changed, in a random order that is the same in every run."""
    lines = header.read_text().splitlines(keepends=True)
    found = []
    for at, line in enumerate(lines):
        code = line.partition("//")[0]
        # a loop that never ends, or a template that is no more, says nothing about the harness
        if re.search(r"\b(for|while|template|static_assert|constexpr|#)", code) or line.startswith(("#", "//", "template")):
            continue
        for old, new in SWAPS:
            if old in code:
                found.append("".join([*lines[:at], code.replace(old, new, 1) + line[len(code) :], *lines[at + 1 :]]))
    random.Random(header.name).shuffle(found)
    return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Without sanitizers, so that what a mutant reads beside its operands does not end the process."""
    return bench("host", "size", tmp_path_factory.mktemp("mutants"))


def host_headers(ops: list[Op]) -> list[Path]:
    """The headers that the host's calls of these operators name, relative to the folder of kernels."""
    names = {Path(call.header) for op in ops for call in calls(op)}
    found = {name if (OURS / name).is_file() else Path(op.family) / name for op in ops for name in names}
    return sorted(name for name in found if (OURS / name).is_file())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_broken_kernel_is_found(family: str, host: Bench, tmp_path: Path) -> None:
    copy = tmp_path / "kernels"
    shutil.copytree(OURS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    library = Library(load_ops().ops, (copy,))
    ops = [op for op in library.ops.values() if op.family == family and op.lower is not None]
    samples = [one for op in ops for one in (*documented(op), *random_samples(op, 8))]
    tried = 0
    for header in host_headers(ops):
        for text in mutants(OURS / header)[:TRIES]:
            (copy / header).write_text(text)
            tried += 1
            try:
                if host.mismatches(samples, library):
                    return
            except EtError:
                pass  # it did not compile, or fell over: no word about the comparison
        shutil.copy(OURS / header, copy / header)
    pytest.fail(f"none of {tried} mutants of {family} was found")
