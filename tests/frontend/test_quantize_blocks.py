"""int8 in branches and loops: what meets has one scale, boards give the bytes of the host, and the float network is
near."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.program.model import MOVE, ROW, SET_ROW, DType, Program
from tests.frontend.scripts import exported
from tests.frontend.test_branches import Net

RV32 = "qemu_virt_rv32"

HEAD = """
import torch
from torch import nn
from torch._higher_order_ops.map import map as loop_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

quantize = "int8"


def drawn(count, seed):
    return (torch.randn(count, {shape}, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2),)


def example_inputs():
    return (torch.zeros({shape}),)


def calibration():
    return drawn(96, 1)


def samples():
    return drawn(12, 2)


def model():
    torch.manual_seed(0)
    return Net().eval()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third, self.out = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.register_buffer("last", torch.zeros(6, 16))

    def forward(self, x):
"""  # noqa: E501

EVERYTHING = """
        y = torch.relu(self.first(x))

        def round(h, row):
            h = torch.tanh(self.second(h) + row)
            return h, h.clone()

        def deep(y):
            ways = lambda y: torch.sigmoid(self.third(y)), lambda y: self.third(torch.relu(self.second(y)))
            return torch.cond(x[0, 0] > 0, *ways, (y,))

        h, rows = scan(round, torch.zeros(16), y)
        z = torch.cond(x.sum() > 0, deep, lambda y: torch.relu(self.second(y)), (y,))
        swapped = lambda n, a, b: (n + 1, b.clone(), torch.tanh(self.third(a)))
        count, a, b = while_loop(lambda n, a, b: n < 3, swapped, (torch.tensor(0), y, z))
        return self.out(h), self.out(rows), self.out(z), a, b, loop_map(lambda row: torch.relu(self.out(row)), z), count
"""
"""Scan, branches in branches, carries that change places, map; one value given to several, weights read inside and
outside."""


def net(folder: Path, forward: str, shape: str = "6, 8") -> tuple[Net, dict[str, np.ndarray]]:
    path = folder / "net.py"
    path.write_text(HEAD.replace("{shape}", shape) + textwrap.indent(textwrap.dedent(forward), " " * 8))
    program, arrays = exported(path, folder / "model.pte")
    return Net(folder, program), arrays


def of(program: Program, *ops: str) -> list[tuple[DType, tuple[int, ...]]]:
    """Type and shape of what these instructions give."""
    method = program.method()
    specs = [method.values[one.outs[0]].spec for one in method.instructions if one.op in ops]
    return [(spec.dtype, spec.shape) for spec in specs]


def snr_db(real: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((real**2).sum() / ((real - got) ** 2).sum()))


def test_blocks_of_all_kinds_in_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but the count is handed on in float; boards give the host's bytes, poisoned memory changes nothing, and
    each operator within the blocks is checked."""
    made, arrays = net(tmp_path, EVERYTHING)
    handed = of(made.program, MOVE, ROW, SET_ROW)
    assert len(handed) >= 10 and {dtype for dtype, shape in handed if shape} == {DType.INT8}
    folder = tmp_path / "checked"
    assert main(["build", str(made.pte), "--board", "host", "-o", str(folder)]) == 0
    assert main(["run", str(folder)]) == 0 and main(["validate", str(folder)]) == 0
    assert "operators agree with exact arithmetic" in capsys.readouterr().out
    with np.load(folder / "outputs.npz") as outputs:
        host = [outputs[f"output_{at}"] for at in range(7)]
    for at, got in enumerate(host[:6]):
        assert snr_db(arrays[f"float_output_{at}"], got) > 28, at
    for board, poison, optimize in (
        ("host", True, "speed"),
        ("qemu_mps2_an386", False, "speed"),
        (RV32, False, "size"),
    ):
        other = made.built(board, poison=poison, optimize=optimize).outputs
        for at, got in enumerate(host):
            assert np.stack([row[at] for row in other]).tobytes() == got.tobytes(), (board, at)


SHY = """
        y = torch.relu(self.first(x))
        z = torch.cond(x.sum() < 1000, lambda y: torch.relu(self.second(y)), lambda y: torch.relu(self.third(y)), (y,))
        return self.out(z)
"""


def test_a_branch_that_never_ran_stays_in_float_with_its_reason(tmp_path: Path) -> None:
    made, arrays = net(tmp_path, SHY)
    reasons = {str(one) for one in arrays["float_reasons"]}
    assert any("never came to this branch" in one for one in reasons), reasons
    operators = {one.handle: one.op for one in made.program.method().instructions}
    never = [
        operators[int(handle)]
        for handle, reason in zip(arrays["float_handles"], arrays["float_reasons"], strict=True)
        if "never came" in str(reason)
    ]
    assert any("addmm" in op or "linear" in op for op in never), never


def test_a_loop_that_grows_without_bound_is_exported_in_float(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One scale for all rounds has no room for the first ones, and there is nothing else in the network."""
    made, _ = net(
        tmp_path,
        """
        more = lambda n, a: (n < 30) & (a.sum() < 5000)
        n, a = while_loop(more, lambda n, a: (n + 1, a * 1.6 + 0.1), (torch.tensor(0), x))
        return a, n
        """,
    )
    assert "computed in int8, so that it is exported in float: " in capsys.readouterr().err
    assert not [one for one in made.program.method().instructions if "quantize" in one.op]
