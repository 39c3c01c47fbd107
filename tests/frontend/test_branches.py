"""torch.cond from the script to the board: eager PyTorch says what comes out, with poisoned memory as without."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.artifacts.reference import read_samples
from etexport.board import load_board
from etexport.device import Run, run
from etexport.errors import EtError, ModelError
from etexport.frontend import export
from etexport.kernel.library import load_ops
from etexport.passes import pipeline
from etexport.program import pte
from etexport.program.model import JUMP_FALSE, MOVE, Program
from etexport.stages.generate import generate
from etexport.toolchain import gcc

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F


def model():
    torch.manual_seed(0)
    return Net().eval()


def example_inputs():
    return (torch.zeros({shape}),)


def samples():
    torch.manual_seed(1)
    return (torch.randn({count}, {shape}),)


"""

NETS = {
    "two in a row, both results kept": (
        "1, 6",
        """
        class Net(nn.Module):
            def forward(self, x):
                first = torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))
                second = torch.cond(x[0, 0] > 0, lambda x: (x * x).relu(), lambda x: x + 3, (x,))
                return first, second, first + second
        """,
    ),
    "weights in branches": (
        "1, 6",
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.small, self.large = nn.Linear(6, 3), nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3))

            def forward(self, x):
                return torch.cond(x.sum() > 0, lambda x: self.small(x), lambda x: self.large(x), (x,)).softmax(-1)
        """,
    ),
    "nested, two results, one of them read twice": (
        "2, 5",
        """
        class Net(nn.Module):
            def forward(self, x):
                def inner(a, b):
                    return torch.cond(b[0, 0] > 0, lambda a, b: (a + b, a * b), lambda a, b: (a - b, b.clone()), (a, b))

                a, b = torch.cond(x.sum() > 0, inner, lambda a, b: (b * 3, a + 1), (x, x.flip(0)))
                return a.sum(1), a * b, b
        """,
    ),
    "clones of an operand, a constant and a state": (
        "1, 4",
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("table", torch.arange(4.0)[None])
                self.register_buffer("seen", torch.zeros(1, 4))

            def forward(self, x):
                a = torch.cond(x.sum() > 0, lambda x: x.clone(), lambda x: self.table.clone(), (x,))
                b = torch.cond(x[0, 1] > 0, lambda x: self.seen.clone(), lambda x: x * 2, (x,))
                before = self.seen.clone()
                self.seen.copy_(torch.cond(x[0, 0] > 0, lambda x: self.seen + x, lambda x: self.seen * 1, (x,)))
                return a, b, x + a, before
        """,
    ),
    "one value for two results": (
        "1, 4",
        """
        class Net(nn.Module):
            def forward(self, x):
                def twice(x):
                    y = x * 2
                    return y, y.clone()

                a, b = torch.cond(x.sum() > 0, twice, lambda x: (x + 1, x - 1), (x,))
                return a.relu() + x, b
        """,
    ),
    "images of which one way pads, folds and pools": (
        "1, 2, 8, 8",
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
                self.deep, self.point, self.fc = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 1), nn.Linear(216, 3)

            def forward(self, x):
                y = self.stem(x).relu()
                y = torch.cond(
                    x.mean() > 0, lambda y: self.deep(self.norm(y)).relu(), lambda y: F.avg_pool2d(self.point(y), 3, 1), (y,)
                )
                return self.fc(y.flatten(1)), y
        """,  # noqa: E501
    ),
    "a residual and an activation behind a branch": (
        "1, 6",
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

            def forward(self, x):
                y = self.a(x)
                z = torch.cond(x.sum() > 0, lambda y: y.relu() * 2, lambda y: self.b(y) + y, (y,))
                return F.relu(z + y)
        """,
    ),
    "other operators of one form at the start of a way": (
        "3, 5",
        """
        class Net(nn.Module):
            def forward(self, x):
                low = torch.full((5,), -0.5)
                y = torch.cond(x.sum() > 0, lambda x: torch.clamp(x, low, low + 1), lambda x: F.pad(x, (-1, 1)), (x,))
                return y, torch.cond(y[0, 0] > 0, lambda y: torch.exp2(y), lambda y: y * 2, (y,))
        """,
    ),
}


@dataclass(frozen=True)
class Net:
    folder: Path
    program: Program

    @property
    def pte(self) -> Path:
        return self.folder / "model.pte"

    def inputs(self) -> list[tuple[np.ndarray, ...]]:
        return read_samples(self.folder / "model.npz", None)

    def built(self, board_name: str, *, optimize: str = "speed", poison: bool = False, probes: bool = False) -> Run:
        out = self.folder / f"{board_name}_{optimize}_{poison}_{probes}"
        board = load_board(board_name)
        generate(self.pte, board_name, out, optimize=optimize, name="net", poison=poison)
        count = len(json.loads((out / "memory.json").read_text())["steps"]) + 1 if probes else 0
        elf = gcc.build(out, board, load_ops().include_dirs, probe_count=count, trace=probes).elf
        return run(elf, board, self.inputs(), probes=probes, trace=probes)

    def agrees(self, done: Run) -> None:
        with np.load(self.folder / "model.npz") as arrays:
            for at in range(len(done.outputs[0])):
                got = np.stack([outputs[at] for outputs in done.outputs])
                np.testing.assert_allclose(got, arrays[f"output_{at}"], rtol=1e-5, atol=1e-5, err_msg=f"output {at}")


def net(name: str, folder: Path, count: int = 24, nets: Mapping[str, tuple[str, str]] = NETS) -> Net:
    shape, source = nets[name]
    (folder / "net.py").write_text(HEAD.format(shape=shape, count=count) + textwrap.dedent(source))
    export(folder / "net.py", folder / "model.pte")
    program = pte.load(folder / "model.pte")
    assert pipeline.run(program, load_ops()) is program, "the passes are done with it"
    return Net(folder, program)


@pytest.mark.parametrize("name", NETS)
def test_branches_on_the_host(name: str, tmp_path: Path) -> None:
    """Every way is taken by some sample; poisoned memory changes nothing; each step's results are in the trace as often
    as it ran."""
    made = net(name, tmp_path)
    method = made.program.method()
    assert any(one.op == JUMP_FALSE for one in method.instructions) and any(
        one.op == MOVE for one in method.instructions
    )
    plain, poisoned = made.built("host", probes=True), made.built("host", poison=True)
    made.agrees(plain)
    for one, other in zip(plain.outputs, poisoned.outputs, strict=True):
        assert [a.tobytes() for a in one] == [b.tobytes() for b in other]
    memory = json.loads((tmp_path / "host_speed_False_True" / "memory.json").read_text())
    calls = [step["step"] for step in memory["steps"] if step["kind"] == "call"]
    ran = np.array(plain.executions)
    assert ran[:, calls].max() == 1 and (ran[:, calls].sum(0) > 0).all(), "a way that no sample takes is not tested"
    assert (ran[:, calls].sum(0) < len(ran)).any()
    for executions, trace in zip(plain.executions, plain.trace, strict=True):
        assert {step for step, _ in trace} == {
            step for step in calls if executions[step] and memory["steps"][step]["results"]
        }


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("board", ["qemu_mps2_an386", "qemu_virt_rv32"])
@pytest.mark.parametrize(
    "name", ["nested, two results, one of them read twice", "clones of an operand, a constant and a state"]
)
def test_branches_on_boards(name: str, board: str, optimize: str, tmp_path: Path) -> None:
    made = net(name, tmp_path, 8)
    made.agrees(made.built(board, optimize=optimize, poison=optimize == "size"))


def test_what_is_only_on_one_way_costs_nothing_on_the_other(tmp_path: Path) -> None:
    """The arena of a network with a small and a large way is that of the large one alone."""
    sizes = {}
    for name, body in {
        "both": "torch.cond(x.sum() > 0, lambda x: self.one(x), lambda x: self.other(x), (x,))",
        "one": "self.one(x)",
        "other": "self.other(x)",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.py").write_text(
            HEAD.format(shape="1, 6", count=4)
            + textwrap.dedent(f"""
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.one = nn.Sequential(nn.Linear(6, 200), nn.Tanh(), nn.Linear(200, 180), nn.ReLU(), nn.Linear(180, 3))
                    self.other = nn.Sequential(nn.Linear(6, 190), nn.Sigmoid(), nn.Linear(190, 170), nn.Tanh(), nn.Linear(170, 3))

                def forward(self, x):
                    return {body}
            """)  # noqa: E501
        )
        export(folder / "net.py", folder / "model.pte")
        generate(folder / "model.pte", "qemu_mps2_an386", folder, optimize="speed", name="net")
        sizes[name] = json.loads((folder / "memory.json").read_text())["arena"]["size"]
    assert max(sizes["one"], sizes["other"]) <= sizes["both"] <= max(sizes["one"], sizes["other"]) + 32, sizes


def test_a_branch_is_an_if_and_its_results_are_not_moved(tmp_path: Path) -> None:
    made = net("weights in branches", tmp_path, 2)
    generate(made.pte, "qemu_mps2_an386", tmp_path / "out", optimize="speed", name="net")
    text = (tmp_path / "out" / "program.cpp").read_text()
    assert text.count("if (*") == text.count("} else {") == 1 and "goto" not in text
    steps = json.loads((tmp_path / "out" / "memory.json").read_text())["steps"]
    assert [step["op"] for step in steps if step["kind"] == "call"] == [
        "aten::sum.IntList_out", "aten::gt.Scalar_out", "aten::addmm.out", "aten::addmm.out", "aten::addmm.out",
        "aten::_softmax.out",
    ]  # fmt: skip


def test_validate_and_report_know_branches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = net("weights in branches", tmp_path, 6)
    out = str(tmp_path / "build")
    program = str(made.pte)
    assert main(["build", program, "--board", "qemu_mps2_an386", "-o", out]) == 0
    assert main(["run", out]) == 0 and main(["validate", out]) == 0
    assert (
        main(["build", program, "--board", "qemu_mps2_an386", "--sources", out, "--probes", "-o", f"{out}/profile"])
        == 0
    )
    assert main(["furthest", out]) == 0
    assert (
        main(
            [
                "run",
                f"{out}/profile",
                "--probes",
                "--only",
                f"{out}/furthest.json",
                "--inputs",
                str(tmp_path / "model.npz"),
            ]
        )
        == 0
    )
    assert main(["report", out]) == 0
    report = json.loads((tmp_path / "build" / "report.json").read_text())
    ops = report["ops"]
    ran = [op["executions"] for op in ops]
    assert sorted(ran) in ([0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]), "of two ways one is taken"
    assert all((op["count"] > 0) == (op["executions"] > 0) for op in ops)
    with np.load(tmp_path / "model.npz") as arrays:
        positive = [at for at, sample in enumerate(arrays["input_0"]) if sample.sum() > 0]
    (way,) = report["ways"]
    assert (
        way["held"] == positive
        and way["failed"] == [at for at in range(6) if at not in positive]
        and way["rounds"] is None
    )
    assert way["source"].startswith("net.py:") and not any("never" in line for line in report["warnings"])


def refused(source: str, folder: Path, shape: str = "1, 4") -> EtError:
    (folder / "net.py").write_text(HEAD.format(shape=shape, count=4) + textwrap.dedent(source))
    with pytest.raises(ModelError) as caught:
        export(folder / "net.py", folder / "model.pte")
    return caught.value


def test_a_condition_that_is_no_bool_is_refused(tmp_path: Path) -> None:
    error = refused(
        """
        class Net(nn.Module):
            def forward(self, x):
                return torch.cond(x.argmax(), lambda x: x + 1, lambda x: x - 1, (x,))
        """,
        tmp_path,
    )
    assert (
        "its condition is int64 [], where one bool belongs" in error.what
        and "net.py:" in error.where
        and "x.sum() > 0" in error.hint
    )
