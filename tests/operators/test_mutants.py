"""The harness finds broken kernels: in a copy of each family a line of C++ is changed; the cases must tell wherever an
output changes."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from etexport.errors import EtError
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.kernel.op import Op
from etexport.specialise.pipeline import specialise

from .boards import Bench, bench, differences
from .cases import documented, families, random_samples
from .completeness import calls

OURS = Path(__file__).parents[2] / "kernels"
SWAPS = (
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " + "),
    (" > ", " <= "),
    (" < ", " >= "),
    (" / ", " * "),
    ("return ", "return -"),
)
TRIES = 4
"""Mutants of a family, at least one of each header; some do not compile or change nothing."""
DRAWN = 4
"""Cases of an operator, beside the documented ones."""
FAMILIES = [
    family for family, ops in families(load_ops().ops.values()).items() if any(op.lower is not None for op in ops)
]


def mutants(header: Path) -> list[tuple[str, str]]:
    """A line of arithmetic with one operator changed, and the header with that line, in a random order that is the same
    in every run."""
    lines = header.read_text().splitlines(keepends=True)
    found = []
    for at, line in enumerate(lines):
        code = line.partition("//")[0]
        # a loop that never ends, or a template that is no more, says nothing about the harness
        if re.search(r"\b(for|while|template|static_assert|constexpr|#)", code) or line.startswith(
            ("#", "//", "template")
        ):
            continue
        for old, new in SWAPS:
            if old in code:
                changed = code.replace(old, new, 1) + line[len(code) :]
                found.append((changed.strip(), "".join([*lines[:at], changed, *lines[at + 1 :]])))
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
    """Whatever changes a byte of an output of the right kernels is told, not only some of it."""
    copy = tmp_path / "kernels"
    shutil.copytree(OURS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    library = Library(load_ops().ops, (copy,))
    ops = [op for op in library.ops.values() if op.family == family and op.lower is not None]
    whole = host.batch([one for op in ops for one in (*documented(op), *random_samples(op, DRAWN))])
    out = host.generated(specialise(whole.program, Target(host.board.features, host.optimize), library), library)
    (right,) = host.results(out, library, [whole.inputs])
    assert not differences(whole, right)
    headers = host_headers(ops)
    found, missed = 0, []
    for header in headers:
        for line, text in mutants(OURS / header)[: -(-TRIES // len(headers))]:
            (copy / header).write_text(text)
            try:
                (got,) = host.results(out, library, [whole.inputs])
            except EtError:
                continue  # it did not compile, or fell over: no word about the comparison
            if any(one.tobytes() != other.tobytes() for one, other in zip(got, right, strict=True)):
                found += 1
                if not differences(whole, got):
                    missed.append(f"{header}: {line}")
        shutil.copy(OURS / header, copy / header)
    assert found, f"none of the mutants of {family} changes an output"
    assert not missed, "they change an output, and nobody sees it:\n" + "\n".join(missed)
