"""The examples as programs: by our own front end, and by ExecuTorch's default pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.program import stock

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {
    **{name: EXAMPLES / "mlperf_tiny" / f"{name}.py" for name in ("kws", "ic", "vww", "ad")},
    "digits": EXAMPLES / "digits" / "model.py",
    "state": EXAMPLES / "state" / "model.py",
}


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`.pte` of each example as our own front end writes it, with the `.npz` beside it."""
    from etexport.frontend import export  # imports torch, which most tests of this folder do without

    folder = tmp_path_factory.mktemp("ours")
    files = {name: folder / f"{name}.pte" for name in SCRIPTS}
    for name, path in files.items():
        export(SCRIPTS[name], path, stock=True)
    return files


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same by ExecuTorch's default pipeline."""
    return stock.export(SCRIPTS, tmp_path_factory.mktemp("theirs"))
