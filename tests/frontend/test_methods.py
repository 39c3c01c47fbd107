"""A script of several methods: what they share in PyTorch they share in the program, and calls are judged in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.frontend import export
from etexport.program import pte
from etexport.program.model import Role
from tests.frontend.scripts import script

TEXT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)
        self.b.weight.data *= scale
        self.register_buffer("kept", torch.arange(4.0))

class Put(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.other_name = net
    def forward(self, x):
        self.other_name.kept.copy_(self.other_name.a(x))

class Get(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, x):
        return self.net.b(self.net.kept + x)

class Count(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.zeros(1, dtype=torch.long))
    def forward(self):
        self.kept.add_(1)
        return self.kept * 1

def methods():
    torch.manual_seed(0)
    net = Net(SCALE)
    count = Count()
    return {"put": (Put(net), torch.ones(3)), "get": (Get(net), (torch.ones(4),)), "count": (count, ()),
            "again": (count, ()), "other": (Count(), ()), "limit": 3, "sizes": (3, 4), "about": "a test"}
"""
CALLS = """
def calls():
    x = torch.linspace(-1, 1, 4)
    return [("get", x), ("count", ()), ("put", x[:3]), ("again", ()), ("get", (x,)), ("other", ()), ("init", ()),
            ("get", x), ("count", ())]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    for name, scale, calls in (("right", 1, CALLS), ("wrong", 1.5, CALLS), ("drawn", 1, "")):
        export(script(folder, TEXT.replace("SCALE", str(scale)) + calls, f"{name}.py"), folder / f"{name}.pte")
    return folder


def test_what_is_one_tensor_in_pytorch_is_one_value(folder: Path) -> None:
    program = pte.load(folder / "right.pte")
    methods = {one.name: one for one in program.methods}
    assert list(methods) == ["put", "get", "count", "again", "other"] and not methods["put"].outputs
    assert methods["put"].shared == methods["get"].shared != methods["count"].shared == methods["again"].shared
    assert not methods["other"].shared
    counts = [[v for v in methods[name].values.values() if v.role is Role.STATE] for name in ("count", "other")]
    assert [len(one) for one in counts] == [1, 1] and counts[0][0].name != counts[1][0].name
    assert program.constant_methods == {"limit": (3,), "sizes": (3, 4)} and program.metadata == {"about": "a test"}
    (kept,) = (program.states[one] for one in methods["get"].shared)
    assert kept.data is not None and kept.data.tolist() == [0, 1, 2, 3]


def test_calls_are_eager_pytorchs_in_order(folder: Path) -> None:
    with np.load(folder / "right.npz") as arrays:
        assert [str(arrays[f"call_{at}_name"]) for at in (0, 6)] == ["get", "init"]
        assert [arrays[f"call_{at}_output_0"].tolist() for at in (1, 3, 5, 8)] == [[1], [2], [1], [1]]
        first, second, anew = (arrays[f"call_{at}_output_0"] for at in (0, 4, 7))
        assert np.array_equal(first, anew) and not np.array_equal(first, second)
    with np.load(folder / "drawn.npz") as arrays:
        assert sum(name.endswith("_name") for name in arrays.files) == 8 * 5


def test_calls_run_and_the_method_and_layer_that_differ_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "host" / "right"
    assert main(["build", str(folder / "right.pte"), "--board", "host", "-o", str(out), "--sanitize", "--poison"]) == 0
    assert main(["run", str(out)]) == 0 and main(["validate", str(out)]) == 0
    assert "all 8 samples agree with PyTorch" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    told = capsys.readouterr().out
    assert "count: 2 calls" in told and "get: 3 calls" in told and "init" not in told
    assert "<li>again: 1 call</li>" in (out / "report.html").read_text()
    assert main(["validate", str(out), "--reference", str(folder / "wrong.npz"), "--trace"]) == 2
    told = capsys.readouterr().err
    assert "3 of 8 samples differ from PyTorch; first: call 0 (get), output 0[0]" in told
    assert "first wrong in net_b at wrong.py:" in told or "first wrong in net_b at right.py:" in told
