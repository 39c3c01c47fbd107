"""What the operator tests share: the library of our own folder, and a bench (a board with a build folder) for each board and form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etexport.op import Library, load_ops

from .boards import Bench, bench


@pytest.fixture(scope="session")
def library() -> Library:
    return load_ops()


@pytest.fixture(scope="session")
def bench_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Bench]:
    """Benches by board and "speed" or "size"; the host's programs run under the sanitizers."""
    made: dict[tuple[str, str], Bench] = {}

    def of(board: str, optimize: str) -> Bench:
        if (board, optimize) not in made:
            folder = tmp_path_factory.mktemp(f"{board}-{optimize}")
            made[board, optimize] = bench(board, optimize, folder, sanitize=board == "host")
        return made[board, optimize]

    return of
