"""while_loop, map and scan from the script to the board: eager PyTorch says what comes out, with poisoned memory as
without."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.artifacts.memory import read_memory
from etexport.program.model import BEGIN, JUMP_FALSE, NEXT
from etexport.report.ways import never, way_line, ways
from etexport.stages.generate import generate
from tests.frontend.structured import check
from tests.frontend.test_branches import net, refused

IMPORTS = """
        from torch._higher_order_ops.map import map as loop_map
        from torch._higher_order_ops.scan import scan
        from torch._higher_order_ops.while_loop import while_loop

"""

NETS = {
    "rounds by what is carried: none, one, many": (
        "2, 4",
        IMPORTS
        + """
        class Net(nn.Module):
            def forward(self, x):
                def swap(n, a, b):
                    return n + 1, b.clone(), torch.cond(b[0] > 0, lambda a: a * 1.5, lambda a: a.flip(0) + 0.5, (a,))

                n, a, b = while_loop(lambda n, a, b: (n < 5) & (a.sum() < 0.5), swap, (torch.tensor(0), x[0] * 1, x[1] * 1))
                k, c = while_loop(lambda k, c: k < 3, lambda k, c: (k + 2, torch.tanh(c + k)), (0, a))
                return n, a - b, b, c * k
        """,  # noqa: E501
    ),
    "scan over a state, with what was carried before": (
        "5, 2, 3",
        IMPORTS
        + """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell = nn.GRUCell(3, 4)
                self.register_buffer("h", torch.zeros(2, 4))

            def forward(self, x):
                def step(h, x):
                    new = self.cell(x, h)
                    return new, (h.reshape(8).clone(), new.t() * 2)

                h, (old, new) = scan(step, self.h, x)
                self.h.copy_(h)
                return old, new.sum(1), torch.cat([h, new[0].t()])
        """,
    ),
    "map in map, of several, with weights": (
        "3, 4, 5",
        IMPORTS
        + """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc, self.w = nn.Linear(5, 6), nn.Parameter(torch.randn(5))

            def forward(self, x):
                rows, sums = loop_map(lambda t: (self.fc(t[0]).relu(), (t[1] * self.w).sum(-1)), (x, x.flip(0)))
                inner = loop_map(lambda t: loop_map(lambda u: u.amax(0) + self.w[0], t), x)
                return rows.softmax(-1), sums + inner, inner
        """,
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_loops_on_the_host(name: str, tmp_path: Path) -> None:
    """Poisoned memory changes nothing; a step's results are in the trace as often as it ran."""
    made = net(name, tmp_path, 12, NETS)
    plain, poisoned = made.built("host", probes=True), made.built("host", poison=True)
    made.agrees(plain)
    for one, other in zip(plain.outputs, poisoned.outputs, strict=True):
        assert [a.tobytes() for a in one] == [b.tobytes() for b in other]
    steps = read_memory(tmp_path / "host_speed_False_True").steps
    for executions, trace in zip(plain.executions, plain.trace, strict=True):
        for step in steps:
            if step.kind == "call" and step.results:
                assert len(trace.get((step.step, 0), b"")) == executions[step.step] * step.results[0].nbytes
    with np.load(tmp_path / "model.npz") as arrays:
        rounds = arrays["output_0"].reshape(12, -1)[:, 0]
    loop, *others = ways(steps, plain.executions) or (None,)
    if "rounds" in name:
        inner, numbers = others
        assert loop is not None and loop.rounds == (rounds.min(), rounds.max()) == (0, 5)
        assert (
            loop.held == tuple(np.flatnonzero(rounds)) and loop.failed == tuple(range(12)) and numbers.rounds == (2, 2)
        )
        assert way_line(loop).endswith("0 to 5 rounds, unbounded") and "rounds" not in way_line(inner)
        assert inner.rounds is None and inner.held and inner.failed and not never((loop, inner, numbers), 12)
        assert never((replace(loop, failed=()),), 12)[0].startswith("the condition of while_loop_jump (net.py:")
    else:
        assert loop is None


@pytest.mark.parametrize(("board", "optimize"), [("qemu_mps2_an386", "speed"), ("qemu_virt_rv32", "size")])
def test_loops_on_boards(board: str, optimize: str, tmp_path: Path) -> None:
    for at, name in enumerate(NETS):
        (folder := tmp_path / str(at)).mkdir()
        made = net(name, folder, 3, NETS)
        made.agrees(made.built(board, optimize=optimize, poison=True))


def test_rounds_cost_no_code_and_carries_no_copies(tmp_path: Path) -> None:
    """Ten times the rounds: the same steps, and the arena grows by what is read and written. What is carried is made
    where it lies."""
    sizes = {}
    for rounds in (5, 50):
        (folder := tmp_path / str(rounds)).mkdir()
        name = "scan over a state, with what was carried before"
        made = net(name, folder, 1, {name: (f"{rounds}, 2, 3", NETS[name][1])})
        assert [one.op for one in made.program.method().instructions if one.op in (BEGIN, NEXT, JUMP_FALSE)] == [
            BEGIN,
            NEXT,
        ]
        generate(made.pte, "qemu_mps2_an386", folder, optimize="speed", name="net")
        memory = json.loads((folder / "memory.json").read_text())
        sizes[rounds] = len(memory["steps"]), memory["arena"]["size"]
        text = (folder / "program.cpp").read_text()
        assert f"for (*scan_count = 0; *scan_count < {rounds}; ++*scan_count) {{" in text and "goto" not in text
        assert [step["op"] for step in memory["steps"]].count("dim_order_ops::_to_dim_order_copy.out") <= 2, (
            "the first carry; a view of it"
        )
    assert sizes[5][0] == sizes[50][0]
    assert sizes[50][1] - sizes[5][1] <= 45 * 4 * (6 + 8 + 8) + 64


def test_random_structured_programs(tmp_path: Path) -> None:
    """Branches and loops in each other; `python -m tests.frontend.structured` runs as many as one likes, on boards
    too."""
    for seed in (0, 2, 8):
        check(seed, tmp_path)


def test_what_a_loop_counts_is_no_size(tmp_path: Path) -> None:
    error = refused(
        IMPORTS
        + """
        class Net(nn.Module):
            def forward(self, x):
                k, c = while_loop(lambda k, c: k < 3, lambda k, c: (k + 2, c * 2), (0, x))
                return c.new_zeros(1) + torch.full((1,), k)
        """,
        tmp_path,
    )
    assert "which a loop computes" in error.what and "net.py:" in error.where


def test_what_torch_cannot_take_is_told_with_a_cure(tmp_path: Path) -> None:
    nested = """
        class Net(nn.Module):
            def forward(self, x):
                def inner(x):
                    return while_loop(lambda n, x: n < 3, lambda n, x: (n + 1, x * 2), (torch.tensor(0), x))[1]

                return torch.cond(x.sum() > 0, inner, lambda x: x * 2, (x,))
        """
    given_back = """
        class Net(nn.Module):
            def forward(self, x):
                return scan(lambda h, x: (h + x, h), torch.zeros(4), x)
        """
    shapes = given_back.replace("(h + x, h)", "(torch.cat([h, x]), x * 2)")
    assert "net.py" in refused(IMPORTS + shapes, tmp_path).where
    assert "torch.zeros" in refused(IMPORTS + nested, tmp_path).hint
    assert "x.clone()" in refused(IMPORTS + given_back, tmp_path).hint


def test_numpy_and_the_file_agree_on_counts(tmp_path: Path) -> None:
    """What is written and read again is the same program: handles, rounds, what each begins."""
    made = net("map in map, of several, with weights", tmp_path, 1, NETS)
    method = made.program.method()
    assert [one.handle for one in method.instructions] == list(range(len(method.instructions)))
    rounds = {one.outs[0]: one.args[1] for one in method.instructions if one.op == NEXT}
    begun = {one.outs[0]: len(one.outs) - 1 for one in method.instructions if one.op == BEGIN}
    assert sorted((rounds[count], results) for count, results in begun.items()) == [(3, 1), (3, 2), (4, 1)]
    assert np.isin(list(rounds), list(begun)).all()
