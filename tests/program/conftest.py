"""The examples as programs: by our own front end, and by ExecuTorch's default pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Once
from tests.program import stock

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {
    **{name: EXAMPLES / "mlperf_tiny" / f"{name}.py" for name in ("kws", "ic", "vww", "ad")},
    "digits": EXAMPLES / "digits" / "model.py",
    "state": EXAMPLES / "state" / "model.py",
}


@pytest.fixture(scope="session")
def ours(once: Once) -> dict[str, Path]:
    """`.pte` of each example as our own front end writes it, with the `.npz` beside it."""
    from etexport.frontend import export  # imports torch, which most tests of this folder do without

    def fill(folder: Path) -> None:
        for name, script in SCRIPTS.items():
            export(script, folder / f"{name}.pte", stock=True)

    return {name: once("ours", fill) / f"{name}.pte" for name in SCRIPTS}


@pytest.fixture(scope="session")
def theirs(once: Once) -> dict[str, Path]:
    """The same by ExecuTorch's default pipeline."""
    folder = once("theirs", lambda folder: stock.export(SCRIPTS, folder))
    return {name: folder / f"{name}.pte" for name in SCRIPTS}
