"""gcc 12.2 leaves out calls of kernels whose effects it has lost sight of, unless it is told not to look
(`gcc.WISHES`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from etexport.__main__ import main
from etexport.toolchain import gcc

# Attention masks what is -inf everywhere: bool from float, then float by bool. Of the second comparison nothing is
# left.
SCRIPT = """
import torch
from torch import nn


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.MultiheadAttention(8, 2, batch_first=True)
        self.two = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = x + self.one(x, x, x, need_weights=False)[0]
        return self.two(x, x, x, need_weights=False)[0]


def model():
    torch.manual_seed(0)
    return Twice().eval()


def example_inputs():
    torch.manual_seed(1)
    return (torch.randn(1, 5, 8),)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attention")
    (folder / "twice.py").write_text(SCRIPT)
    assert main(["export", str(folder / "twice.py"), "-o", str(folder / "twice.pte")]) == 0
    return folder / "twice.pte"


def outcome(program: Path, out: Path) -> int:
    """Exit code of `validate`: 0 where all outputs are PyTorch's."""
    assert main(["build", str(program), "--board", "host", "-o", str(out)]) == 0
    assert main(["run", str(out)]) == 0
    return main(["validate", str(out)])


def test_every_kernel_is_called(program: Path, tmp_path: Path) -> None:
    assert outcome(program, tmp_path) == 0


def test_the_flags_are_what_it_takes(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above would notice: without them outputs are wrong, with this compiler and these kernels."""
    monkeypatch.setattr(gcc, "WISHES", tuple(flag for flag in gcc.WISHES if not flag.startswith("-fno-ipa-")))
    if outcome(program, tmp_path) == 0:
        pytest.skip("this compiler keeps the calls of this network")
