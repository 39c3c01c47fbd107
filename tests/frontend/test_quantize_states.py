"""States in int8: cells, filters, rings and caches, run as sequences, and what is made of them on the target side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from etexport.kernel.library import load_ops
from etexport.program.model import Array, DType, Method, Program, Role
from etexport.specialise.integer import fuse_integers
from etexport.specialise.model import InFloat
from tests.frontend.scripts import exported, run, script

SCRIPT = """\
import torch
from torch import nn
from torch.nn import functional as F
quantize = "int8"
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.fc, self.out = nn.Linear(8, 8), nn.Linear(8, 4)
        {init}
    def state(self, name, *shape, fill=0.0):
        self.register_buffer(name, torch.full(shape, fill))
    def forward(self, x):
        {forward}
def model():
    return Net()
def stream(n, seed):
    noise = torch.randn(n, 1, 8, generator=torch.Generator().manual_seed(seed))
    t = torch.arange(n)[:, None, None] / 5
    return torch.sin(t * (1 + torch.arange(8) / 7) + torch.arange(8)) + 0.3 * noise + 0.2
def example_inputs():
    return (stream(1, 0)[0],)
def samples():
    return stream(60, 1)
def calibration():
    return stream(150, 2)
"""


@dataclass(frozen=True)
class Case:
    """`floats` are the states that stay in float, `least` the dB that all outputs reach at least."""

    init: str
    forward: str
    floats: tuple[str, ...] = ()
    least: float = 27.0


H = "self.state('h', 1, 8)"
CASES = {
    "LSTMCell": Case(f"self.cell = nn.LSTMCell(8, 8); {H}; self.state('c', 1, 8)",
        "h, c = self.cell(x, (self.h, self.c)); self.h.copy_(h); self.c.copy_(c); return self.out(h)"),
    "GRUCell": Case(f"self.cell = nn.GRUCell(8, 8); {H}", "h = self.cell(x, self.h); self.h.copy_(h); return "
        "self.out(h)"),
    "RNNCell": Case(f"self.cell = nn.RNNCell(8, 8); {H}", "h = self.cell(x, self.h); self.h.copy_(h); return "
        "self.out(h)"),
    "RNNCell with relu": Case(f"self.cell = nn.RNNCell(8, 8, False, 'relu'); {H}",
        "h = self.cell(x, self.h); self.h.copy_(h); return self.out(h)"),
    "written by hand": Case(H, "h = torch.tanh(self.fc(x) + 0.9 * self.h); self.h.copy_(h); return self.out(h)"),
    "a matrix on the left": Case("self.state('m', 8, 8, fill=0.1)",
        "y = (self.m @ x.t()).t(); self.m.copy_(torch.tanh(0.3 * self.m + self.fc(x).t() @ x)); return y"),
    "a matrix on the right": Case("self.state('m', 8, 8, fill=0.1)",
        "y = x @ self.m; self.m.copy_(torch.tanh(0.3 * self.m + self.fc(x).t() @ x)); return y"),
    "a layer's weight": Case("self.state('m', 8, 8, fill=0.1)",
        "y = F.linear(x, self.m); self.m.copy_(torch.tanh(0.3 * self.m + self.fc(x).t() @ x)); return y"),
    "a slow average": Case(H, "self.h.lerp_(self.fc(x), 0.02); return self.out(self.h)", ("h",)),
    "an integrator": Case(H, "self.h += 0.01 * self.fc(x); return self.out(self.h)", ("h",)),
    "a biquad": Case("[self.state(name, 1, 8) for name in ('x1', 'x2', 'y1', 'y2')]",
        "y = 0.02 * x + 0.04 * self.x1 + 0.02 * self.x2 + 1.56 * self.y1 - 0.64 * self.y2; self.x2.copy_(self.x1); "
        "self.x1.copy_(x); "
        "self.y2.copy_(self.y1); self.y1.copy_(y); return self.out(y)", ("x1", "x2", "y1", "y2")),
    "a biquad of rows": Case("self.state('xs', 3, 8); self.state('ys', 2, 8); self.b = nn.Buffer(torch.tensor([[0.02], "
        "[0.04], [0.02]])); "
        "self.a = nn.Buffer(torch.tensor([[1.56], [-0.64]]))",
        "xs = torch.cat([x, self.xs[:2]]); y = (self.b * xs).sum(0, keepdim=True) + (self.a * self.ys).sum(0, "
        "keepdim=True); "
        "self.xs.copy_(xs); self.ys.copy_(torch.cat([y, self.ys[:1]])); return self.out(y)", ("ys",)),
    "a biquad, transposed": Case("self.state('s1', 1, 8); self.state('s2', 1, 8)",
        "y = 0.02 * x + self.s1; s1 = 0.04 * x + 1.56 * y + self.s2; s2 = 0.02 * x - 0.64 * y; self.s1.copy_(s1); "
        "self.s2.copy_(s2); "
        "return self.out(y)", ("s1", "s2")),
    "a state space": Case(f"{H}; self.m = nn.Buffer(0.97 * torch.eye(8))",
        "h = F.linear(self.h, self.m) + 0.1 * x; self.h.copy_(h); return self.out(h)", ("h",)),
    "a quick average": Case(H, "self.h.mul_(0.5).add_(torch.relu(self.fc(x))); return self.out(self.h)"),
    "a ring of rows": Case("self.conv = nn.Conv1d(8, 8, 4); self.state('rows', 1, 8, 3)",
        "w = torch.cat([self.rows, x.unsqueeze(2)], 2); self.rows.copy_(w[:, :, 1:]); return "
        "self.out(self.conv(w).relu().flatten(1))"),
    "a ring by index": Case("self.head = nn.Linear(32, 4); self.state('rows', 4, 8); self.register_buffer('at', "
        "torch.tensor([2]))",
        "self.rows.index_copy_(0, self.at % 4, x); self.at.add_(1); return self.head(self.rows.reshape(1, -1))"),
    "a cache": Case(
        "self.q, self.v = nn.Linear(8, 8), nn.Linear(8, 8); self.state('k', 1, 6, 8); self.state('values', 1, 6, 8); "
        "self.register_buffer('at', torch.tensor([0]))",
        "p = self.at % 6; self.k[:, p] = self.fc(x).unsqueeze(1); self.values[:, p] = self.v(x).unsqueeze(1); self.at "
        "+= 1; "
        "return (torch.softmax(self.q(x).unsqueeze(1) @ self.k.transpose(1, 2) / 2.8, -1) @ self.values).squeeze(1)"),
    "a chain": Case("self.state('a', 1, 8, fill=0.5); self.state('b', 1, 8)",
        "y = x + 0.5 * self.a - 0.3 * self.b; self.b.copy_(self.a); self.a.copy_(x); return "
        "self.out(torch.relu(self.fc(y)))"),
    "read before and behind": Case(H, "a = self.out(self.h); self.h.copy_(torch.relu(self.fc(x))); return a + "
        "self.out(self.h)"),
    "given out": Case(H, "h = torch.tanh(self.fc(x) + self.h); old = self.h.clone(); self.h.copy_(h); return "
        "self.out(h), old"),
    "begins beyond": Case("self.state('h', 1, 8, fill=5.0)",
        "h = torch.tanh(self.fc(x) + 0.2 * self.h); self.h.copy_(h); return self.out(h)"),
    "decays by itself": Case("self.state('gain', 1, fill=2.0)",
    "self.gain.mul_(0.5); return self.out(self.fc(x)) * self.gain", least=12.0),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "reason"), [
    ("h = F.linear(self.h, self.m) + 0.1 * x; self.h.copy_(h); return h.clone()", "the state h adds up"),
    ("y = 0.5 * self.h + 0.2 * x; self.h.copy_(x - 0.2 * y); return y", "it is a filter by itself"),
])  # fmt: skip
def test_nothing_but_a_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str], forward: str, reason: str) -> None:
    """A filter that int8 would ruin, or make larger, stays the float program that it is, and that is said."""
    init = f"del self.fc, self.out; {H}; self.m = nn.Buffer(0.97 * torch.eye(8))"
    path = script(tmp_path, SCRIPT.format(init=init, forward=forward))
    program, arrays = exported(path)
    assert not any("quantize" in one.op for one in program.method().instructions)
    assert any(reason in str(one) for one in arrays["float_reasons"])
    assert f"exported in float: {reason}" in capsys.readouterr().err


def test_a_sequence_that_goes_further(tmp_path: Path) -> None:
    """Than calibration's did, by a fifth: there is room for that."""
    case = CASES["a ring of rows"]
    further = SCRIPT.replace("return stream(60, 1)", "return 1.2 * stream(60, 1)")
    _, arrays = exported(script(tmp_path, further.format(init=case.init, forward=case.forward)))
    assert decibels(arrays["float_output_0"], arrays["output_0"]) > 35


def integers(program: Program) -> tuple[Method, tuple[InFloat, ...]]:
    return fuse_integers(program.method(), load_ops())


def decibels(real: Array, got: Array) -> float:
    real, got = real.astype(float), got.astype(float)
    return float(10 * np.log10((real**2).sum() / max(((real - got) ** 2).sum(), 1e-30)))


@pytest.mark.parametrize("name", CASES)
def test_states(name: str, tmp_path: Path) -> None:
    """Near the float network on a sequence that was not calibrated with; the integer program computes what torchao's
    network does; every state but accumulators is int8, and nothing else stays in float."""
    case = CASES[name]
    program, arrays = exported(script(tmp_path, SCRIPT.format(init=case.init, forward=case.forward)))
    method, in_float = integers(program)
    outputs, _ = run(replace(program, methods=(method,)), [[one] for one in arrays["input_0"]])
    for at in range(len(method.outputs)):
        real, converted = arrays[f"float_output_{at}"], arrays[f"output_{at}"]
        assert decibels(real, converted) > case.least, "the converted network"
        assert decibels(real, np.stack([one[at] for one in outputs])) > case.least - 1, "its integers"
    dtypes = {value.name: value.spec.dtype for value in method.values.values() if value.role is Role.STATE}
    assert {name for name, dtype in dtypes.items() if dtype is DType.FLOAT32} == set(case.floats)
    assert case.floats or not in_float, in_float


def test_what_an_accumulator_keeps_in_float_says_so(tmp_path: Path) -> None:
    case = CASES["an integrator"]
    _, arrays = exported(script(tmp_path, SCRIPT.format(init=case.init, forward=case.forward)))
    assert any(
        "the state h adds up what is less than a step of int8" in str(reason) for reason in arrays["float_reasons"]
    )


def test_all_steps_of_a_recurrent_layer_have_one_scale(tmp_path: Path) -> None:
    """So the tables of the gates are the same for 4 steps as for 8, and no larger than the layer's own weights."""
    for layer, tables in (("LSTM", 3), ("GRU", 3), ("RNN", 1)):
        init = f"self.layer = nn.{layer}(1, 8); self.head = nn.Linear(8, 4)"
        forward = "y = self.layer(x.reshape(8, 1, 1))[0]; return self.head(y[-1])"
        program, arrays = exported(script(tmp_path / layer, SCRIPT.format(init=init, forward=forward)))
        method, in_float = integers(program)
        used = [
            method.values[one.reads[1]] for one in method.instructions if one.op == "cortex_m::quantized_activation.out"
        ]
        different = {value.data.tobytes() for value in used if value.data is not None}
        assert len(different) <= tables + 1, f"{layer}: the first step may have a table of its own"
        assert not in_float and decibels(arrays["float_output_0"], arrays["output_0"]) > 25
