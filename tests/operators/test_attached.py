"""Every operator on the board of `pytest --board NAME --port URL`, in as many images as it has room for: the cases that
the simulated cores have."""

from __future__ import annotations

import pytest

from etexport.kernel.library import Library, load_ops
from tests.desk import Desk

from .boards import Bench
from .cases import documented, families, random_samples
from .parts import shared_out

FAMILIES = families(load_ops().ops.values())
CASES = 20


@pytest.fixture(scope="session")
def attached(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(desk.board, "size", tmp_path_factory.mktemp("attached"), ran=desk.run)


@pytest.mark.on_board
@pytest.mark.parametrize("family", FAMILIES)
def test_operators(family: str, library: Library, attached: Bench) -> None:
    samples = [one for op in FAMILIES[family] for one in (*documented(op), *random_samples(op, CASES))]
    parts = shared_out(samples, attached, library)
    failures = [text for part in parts.parts for text in attached.mismatches(part, library)]
    assert not failures, f"{len(failures)} of {len(samples)} cases differ from PyTorch:\n" + "\n".join(failures[:10])
    if len(parts.left_out) > len(samples) // 10:
        pytest.skip(
            f"{len(parts.left_out)} of {len(samples)} cases are too large for {attached.board.name}; the others agree"
        )
