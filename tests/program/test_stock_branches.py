"""Branches and loops across the waist: stock ExecuTorch runs our files, and firmware is built from its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.program import pte
from etexport.program.model import JUMPS
from tests.frontend.test_branches import NETS, Net, net
from tests.frontend.test_loops import NETS as LOOPS
from tests.program import stock

SCAN = {
    "a cell by scan": (
        "6, 1, 3",
        """
        from torch._higher_order_ops.scan import scan


        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell, self.out = nn.GRUCell(3, 4), nn.Linear(4, 2)

            def forward(self, x):
                def step(h, x):
                    h = self.cell(x, h)
                    return h, self.out(h)

                return scan(step, torch.zeros(1, 4), x)
        """,
    ),
}
"""What ExecuTorch can write: it takes one row and gives one."""


def folder_of(tmp_path: Path, at: int) -> Path:
    folder = tmp_path / f"net{at}"
    folder.mkdir()
    return folder


def test_stock_executorch_runs_our_branches(tmp_path: Path) -> None:
    """Two in a row too, of which its own planner loses a result, and the loop that it cannot write. A state is left as
    it is, sample after sample."""
    every = {**NETS, **LOOPS}
    nets = [net(name, folder_of(tmp_path, at), 12, every) for at, name in enumerate(every)]
    found = stock.run({one.pte: one.inputs() for one in nets}, tmp_path)
    for one, name in zip(nets, every, strict=True):
        with np.load(one.folder / "model.npz") as arrays:
            for at in range(len(found[one.pte][0])):
                got = np.stack([outputs[at] for outputs in found[one.pte]])
                np.testing.assert_allclose(
                    got, arrays[f"output_{at}"], rtol=1e-5, atol=1e-5, err_msg=f"{name}, output {at}"
                )


@pytest.mark.parametrize(
    "name", ["weights in branches", "a residual and an activation behind a branch", "a cell by scan"]
)
def test_files_of_stock_executorch_are_built(name: str, tmp_path: Path) -> None:
    ours = net(name, tmp_path, 8, {**NETS, **SCAN})
    theirs = stock.export({"theirs": tmp_path / "net.py"}, tmp_path)["theirs"]
    ours.pte.write_bytes(theirs.read_bytes())
    program = pte.load(ours.pte)
    assert any(one.op in JUMPS for one in program.method().instructions)
    made = Net(tmp_path, program)
    made.agrees(made.built("host", poison=True))
