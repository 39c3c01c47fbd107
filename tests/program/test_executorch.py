"""Both ways between us and stock ExecuTorch 1.5.1: it runs our files, and we make the same program of its files as of
the script."""

from __future__ import annotations

import random as random_module
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.board import load_board
from etexport.delegate import library_for
from etexport.errors import ModelError, ProgramError
from etexport.kernel import supported
from etexport.kernel.library import load_ops
from etexport.passes import pipeline
from etexport.program import pte
from etexport.program.model import Array, Method, Program, Ref, Role, substitute
from etexport.stages.place import place, planned
from tests.program import stock
from tests.program.conftest import SCRIPTS
from tests.program.programs import PROGRAMS, random
from tests.program.sameness import described
from tests.program.test_fuzz import damage, survives
from tests.specialise.interpret import interpret

RUNS = 5
"""Samples a network; the program with state is judged on a sequence."""

# ---- hand-made programs, which have what networks have not -----------------------------------------------------------

X = random(20, 1, 1, 8, 8)


def convolution(x: Array) -> list[Array]:
    values = {one.name: one.data for one in PROGRAMS["convolution"].method().values.values()}
    weight, bias, fc, fc_bias = (values[name] for name in ("conv_weight", "conv_bias", "fc_weight", "fc_bias"))
    assert weight is not None and bias is not None and fc is not None and fc_bias is not None
    padded = np.pad(x[0, 0], 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).astype(np.float64)
    conv = np.maximum(np.einsum("hwij,oij->ohw", windows, weight[:, 0]) + bias[:, None, None], 0)
    pool = conv.reshape(4, 4, 2, 4, 2).max((2, 4))
    logits = pool.reshape(1, 64) @ fc + fc_bias
    grown = np.exp(logits - logits.max())
    return [grown / grown.sum()]


def expected_loop(x: Array) -> list[Array]:
    while True:
        x = x + x
        if x.sum() > 100:
            return [x]


TABLE = random(8, 2, 3)
STATE_X = [random(k, 3) for k in range(3)]
SUMS = np.cumsum(STATE_X, axis=0)
HAND_MADE: dict[str, tuple[Sequence[Sequence[Array]], Sequence[Sequence[Array]]]] = {
    "convolution": ([[X]], [convolution(X)]),
    "branches": (
        [[np.array([1, 2, 3, 4], np.float32)], [np.array([-1, 2, 3, 4], np.float32)]],
        [[np.array([[2, 4], [6, 8]])], [np.array([[1, 4], [9, 16]])]],
    ),
    "loop": (
        [[np.array([1, 2], np.float32)], [np.array([50, 1], np.float32)]],
        [expected_loop(np.array([1, 2])), [np.array([100, 2])]],
    ),
    "layouts": ([[TABLE_X := random(3, 1, 3, 4, 5)]], [[TABLE_X + random(9, 1, 3, 4, 5)]]),
    "shared": ([[TABLE]], [[TABLE + TABLE, np.zeros(6), TABLE.reshape(6)]]),
    "state": ([[x] for x in STATE_X], [[total, np.array(k + 1)] for k, total in enumerate(SUMS)]),
    "initialised_state": (
        [[x] for x in STATE_X],
        [[total + random(5, 3), np.array(k + 8)] for k, total in enumerate(SUMS)],
    ),
}


def test_hand_made_programs_run_in_executorch(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pte" for name in HAND_MADE}
    for name, path in files.items():
        path.write_bytes(pte.write(PROGRAMS[name], stock=True))
    found = stock.run({files[name]: inputs for name, (inputs, _) in HAND_MADE.items()}, tmp_path)
    for name, (_, outputs) in HAND_MADE.items():
        for run, (ours, expected) in enumerate(zip(found[files[name]], outputs, strict=True)):
            for one, other in zip(ours, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=f"{name}, run {run}")


# ---- the networks ----------------------------------------------------------------------------------------------------


def samples(npz: Path) -> tuple[list[list[Array]], list[list[Array]]]:
    """The first inputs, and eager's outputs for them, [run][input] and [run][output]."""
    with np.load(npz) as arrays:
        columns = {
            stem: [arrays[n] for n in sorted(arrays) if n.startswith(f"{stem}_") and n[len(stem) + 1 :].isdigit()]
            for stem in ("input", "output")
        }
    runs = range(min(RUNS, len(columns["output"][0])))
    inputs = [[column[k] for column in columns["input"]] for k in runs]
    outputs = [[column[k] for column in columns["output"]] for k in runs]
    return inputs, outputs


def assert_eager(name: str, found: list[list[Array]], outputs: list[list[Array]]) -> None:
    for run, (some, expected) in enumerate(zip(found, outputs, strict=True)):
        for one, other in zip(some, expected, strict=True):
            np.testing.assert_allclose(
                one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max(), err_msg=f"{name}, sample {run}"
            )


def test_our_networks_run_in_executorch_like_eager(ours: dict[str, Path], tmp_path: Path) -> None:
    jobs = {path: samples(path.with_suffix(".npz"))[0] for path in ours.values()}
    found = stock.run(jobs, tmp_path)
    for name, path in ours.items():
        assert_eager(name, found[path], samples(path.with_suffix(".npz"))[1])


def test_executorchs_networks_become_the_same_program(ours: dict[str, Path], theirs: dict[str, Path]) -> None:
    """BatchNorm and transposes folded, views found, dead values gone: the same instructions on the same constants."""
    library = load_ops()
    for name in SCRIPTS:
        one = pipeline.run(pte.read(ours[name].read_bytes()), library)
        other = pipeline.run(pte.read(theirs[name].read_bytes()), library)
        assert shape_of(other) == shape_of(one), name
        for first, second in zip(constants(one), constants(other), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6, err_msg=name)


def test_executorchs_networks_survive_our_reading_and_writing(
    ours: dict[str, Path], theirs: dict[str, Path], tmp_path: Path
) -> None:
    """What ExecuTorch computes with its own files and with them read and written by us is the same, bit for bit."""
    jobs: dict[Path, list[list[Array]]] = {}
    for name, path in theirs.items():
        again = tmp_path / f"{name}.pte"
        again.write_bytes(pte.write(pte.read(path.read_bytes()), stock=True))
        jobs[path] = jobs[again] = samples(ours[name].with_suffix(".npz"))[0]
    found = stock.run(jobs, tmp_path)
    for name, path in theirs.items():
        for before, after in zip(found[path], found[tmp_path / f"{name}.pte"], strict=True):
            for one, other in zip(before, after, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)


def shape_of(program: Program) -> list[object]:
    """Operators, arguments and shapes, with values counted in the order of their first use in the place of names and
    ids; what only converts the layout of an input that a script states is left out."""
    method = without_conversions(program.method())
    order = in_order(method)
    return [
        [str(method.values[id_].spec) for id_ in method.inputs],
        [
            (
                one.op,
                tuple(repr(arg) for arg in numbered(one.args, order)),
                tuple((order[out], str(method.values[out].spec)) for out in one.outs),
            )
            for one in method.instructions
        ],
        [order[id_] for id_ in method.outputs],
    ]


def without_conversions(method: Method) -> Method:
    moved: dict[int, int] = {}
    kept = []
    for one in method.instructions:
        one = replace(one, args=tuple(substitute(arg, moved) for arg in one.args))
        if one.op == "dim_order_ops::_clone_dim_order.out" and isinstance(one.args[0], Ref):
            moved[one.outs[0]] = one.args[0].id
        else:
            kept.append(one)
    return replace(method, instructions=tuple(kept))


def in_order(method: Method) -> dict[int, int]:
    found = dict.fromkeys(
        (*method.inputs, *(id_ for one in method.instructions for id_ in (*one.reads, *one.outs)), *method.outputs)
    )
    return {id_: position for position, id_ in enumerate(found)}


def numbered(args: Sequence[object], order: dict[int, int]) -> list[object]:
    return [
        f"<{order[arg.id]}>" if isinstance(arg, Ref) else numbered(arg, order) if isinstance(arg, tuple) else arg
        for arg in args
    ]


def constants(program: Program) -> list[Array]:
    method = program.method()
    used = [method.values[id_] for id_ in in_order(method)]
    return [one.data for one in used if one.role is Role.CONSTANT and one.data is not None]


def test_damaged_files_of_executorch(theirs: dict[str, Path]) -> None:
    """Official files say by sharing what ours say by instructions, so damage to them takes other ways through the
    reader."""
    for name in ("digits", "state"):
        data = theirs[name].read_bytes()
        for size in range(0, len(data), 7):
            assert not survives(data[:size])
        accepted = sum(survives(damage(data, random_module.Random(number))) for number in range(10_000))
        assert 0 < accepted < 6_000


FOREIGN = """
import torch
from torch import nn
from torch.nn import functional


class Cond(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: (x + 1).reshape(2, 2) @ x.reshape(2, 2), lambda x: (x * 2).reshape(2, 2), (x,))


class Views(nn.Module):
    def forward(self, x):
        return x.view(2, 8).t().reshape(4, 4), x.view(-1)


class Lists(nn.Module):
    def forward(self, x):
        a, b = torch.split(x, 2, 1)
        best, where = torch.topk(x, 2)
        return torch.cat([a, b, a], 1), best, where, torch.chunk(x, 2, 1)[1], x[:, torch.tensor([1, 0])]


class Scalars(nn.Module):
    def forward(self, x):
        return functional.gelu(x * 2 + 1, approximate="tanh").clamp(min=-0.5), x.sum(), x > 0


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.conv(x.to(memory_format=torch.channels_last)))
        return functional.interpolate(y, scale_factor=2.0, mode="nearest").contiguous()


class Cache(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4, 2))
        self.register_buffer("runs", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        self.seen.copy_(torch.cat([self.seen[1:], x.unsqueeze(0)]))
        self.runs.add_(1)
        return self.seen.view(-1).sum().reshape(1), self.runs.clone()


MODELS = {
    "cond": (Cond(), (torch.arange(4.0),)),
    "views": (Views(), (torch.randn(4, 4),)),
    "lists": (Lists(), (torch.randn(2, 4),)),
    "scalars": (Scalars(), (torch.randn(1, 4),)),
    "last": (Last(), (torch.randn(1, 3, 4, 6),)),
    "cache": (Cache(), (torch.randn(2),)),
    "lstm": (nn.LSTM(4, 5, batch_first=True), (torch.randn(1, 3, 4),)),
    "attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (torch.randn(1, 5, 8),)),
    "norm": (nn.Sequential(nn.GroupNorm(2, 4), nn.Conv1d(4, 4, 3, groups=2), nn.LayerNorm(6)), (torch.randn(1, 4, 8),)),
}


def model():
    torch.manual_seed(7)
    return MODELS["NAME"][0].eval()


def example_inputs():
    return MODELS["NAME"][1]
"""  # noqa: E501


def test_other_programs_of_executorch_survive(tmp_path: Path) -> None:
    """Branches, elided views, et_view, lists as results, texts, layouts, state, several outputs: run before and after,
    bit for bit."""
    names = re.findall(r'^    "(\w+)": \(', FOREIGN, re.MULTILINE)
    scripts = {}
    for name in names:
        scripts[name] = tmp_path / f"{name}.py"
        scripts[name].write_text(FOREIGN.replace("NAME", name))
    jobs: dict[Path, list[list[Array]]] = {}
    files = stock.export(scripts, tmp_path)
    for name, path in files.items():
        program = pte.read(path.read_bytes())
        method = program.method()
        again = tmp_path / f"{name}_again.pte"
        again.write_bytes(pte.write(program, stock=True))
        shapes = [method.values[id_].spec.shape for id_ in method.inputs]
        jobs[path] = jobs[again] = [
            [random(10 * run + k, *shape) for k, shape in enumerate(shapes)] for run in range(3)
        ]
        assert described(pte.read(again.read_bytes())) == described(program), name
    found = stock.run(jobs, tmp_path)
    for name, path in files.items():
        for before, after in zip(found[path], found[tmp_path / f"{name}_again.pte"], strict=True):
            for one, other in zip(before, after, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)


# ---- what ExecuTorch writes when it is asked for more than the default -----------------------------------------------

SPECIAL = {
    "external": "lies in an external data file",
    "number": "input 1 is 3 and no tensor",
    "none": "output 1 is None and no tensor",
    "changed input": "it writes input_0, which is input",
}


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("special")
    stock.special(folder)
    return folder


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_not_supported_is_refused_by_name(special: Path, name: str) -> None:
    with pytest.raises(ProgramError, match=SPECIAL[name]):
        pte.read((special / f"{name}.pte").read_bytes())


def test_what_is_computed_in_16_bits_is_refused_by_name(special: Path) -> None:
    """Constants may have 16 bits; nothing computes with them."""
    program = pte.read((special / "half.pte").read_bytes())
    with pytest.raises(ModelError, match=r"relu.*the kernel takes .*float32.*, not float16"):
        supported.check(program, load_ops())


def test_a_delegate_that_is_not_installed_is_refused_by_name(special: Path) -> None:
    program = pte.read((special / "delegate.pte").read_bytes())
    with pytest.raises(
        ModelError, match="the program calls the delegate 'XnnpackBackend', and no backend that is known"
    ):
        library_for(program, load_ops())


def test_tables_in_few_bits_of_executorch(special: Path, tmp_path: Path) -> None:
    """Its operators for embeddings, as its own runtime computes them, on two cores."""
    file = special / "tables.pte"
    at = np.array([15, 0, 4])
    ((wanted,),) = stock.run({file: [[at]]}, tmp_path).values()
    library = load_ops()
    for board, variant in (("qemu_mps2_an386", "fixed"), ("qemu_mps2_an385", "portable")):
        (((placed,), _),), _ = place([file], load_board(board), library, optimize="speed", planner=planned(None))
        kernels = [step.call.variant for step in placed.specialised.calls.values()]
        assert kernels == ["portable", variant] * 3
        for got, want in zip(interpret(placed, library, [at]), wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_initial_state_of_executorch(special: Path) -> None:
    (state,) = (
        one
        for one in pte.read((special / "initial state.pte").read_bytes()).method().values.values()
        if one.role is Role.STATE
    )
    assert state.data is not None
    np.testing.assert_array_equal(state.data, [1.0, 2.0, 3.0])


def test_source_lines_of_executorch(special: Path) -> None:
    """Its stack traces are absolute and go through torch; of these the user's innermost line remains."""
    found = pte.read((special / "traced.pte").read_bytes()).method().instructions
    assert [str(one.source).partition(":")[0] for one in found] == ["stock_special.py"] * len(found)
    assert found[-1].source is not None
    assert found[-1].source.code == "return torch.relu(self.fc(x))"


def test_constant_methods_of_executorch(special: Path) -> None:
    program = pte.read((special / "constant methods.pte").read_bytes())
    assert program.metadata == {"name": "hello"}
    assert program.constant_methods == {"version": (3,), "rate": (0.5,), "flag": (True,), "several": (1, "a")}
    assert [one.name for one in program.methods] == ["forward", "table"]
    assert described(pte.read(pte.write(program)))["constant_methods"] == described(program)["constant_methods"]
