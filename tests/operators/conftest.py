"""What the operator tests share: the library of our own folder, and a bench (a board with a build folder) for each
board and form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etexport.kernel.library import Library, load_ops

from .boards import Bench, bench


@pytest.fixture(scope="session")
def library() -> Library:
    return load_ops()


@pytest.fixture(scope="session")
def bench_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bench]:
    """Benches by board and "speed" or "size"; the host's programs run under the sanitizers unless told otherwise."""
    made: dict[tuple[str, str, bool], Bench] = {}

    def of(board: str, optimize: str, *, sanitize: bool = True) -> Bench:
        key = board, optimize, sanitize and board == "host"
        if key not in made:
            made[key] = bench(board, optimize, tmp_path_factory.mktemp(f"{board}-{optimize}"), sanitize=key[2])
        return made[key]

    return of
