"""Sizes known at run time, from the script to outputs of the board: every result as eager PyTorch has it at that size,
and sizes that cannot be are refused before anything is computed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.artifacts.files import opened
from etexport.artifacts.memory import read_memory
from etexport.artifacts.reference import read_calls, read_reference, read_samples
from etexport.artifacts.runs import read_call_outputs
from etexport.artifacts.sized import runs
from etexport.board import load_board
from etexport.device import Run, run
from etexport.errors import DeviceLostError, EtError, ModelError, ProgramError
from etexport.frontend import export
from etexport.judge.calls import by_outputs_of, verdict_of_calls
from etexport.judge.compare import Traced
from etexport.judge.folder import calls_of, read_evidence
from etexport.judge.sized import in_use
from etexport.kernel.library import load_ops
from etexport.kernel.sizes import at, with_symbols
from etexport.program import pte
from etexport.program.interface import with_sizes
from etexport.program.model import Array, DType, Extent, Instruction, Method, Ref, Role, Symbol, TensorSpec, Value
from etexport.resources import kernel_folders
from etexport.specialise.formulas import formula
from etexport.stages.build import build
from etexport.stages.generate import generate
from etexport.stages.run import run_in
from etexport.stages.verdict import run_traced, verdict_of
from etexport.toolchain import gcc
from tests.conftest import Once

NET = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU())
        self.wave = nn.Conv1d(2, 4, 5, stride=2, padding=2)
        self.names = nn.Embedding(9, 8)

    def forward(self, x, ids, wave):
        h = self.rows(x) + self.names(ids)
        near = (h @ h.transpose(0, 1)).softmax(-1) @ h
        heard = torch.relu(self.wave(wave))
        return near.reshape(-1, 2, 4), h.sum(0), heard, heard.mean(-1), wave[:, :, 1:]

def model():
    torch.manual_seed(0)
    return Net()

def inputs(n, t):
    g = torch.Generator().manual_seed(10 * n + t)
    return torch.randn(n, 6, generator=g), torch.arange(n) % 9, torch.randn(1, 2, t, generator=g)

def example_inputs():
    return inputs(3, 7)

def samples():
    return [inputs(n, t) for n, t in ((5, 20), (1, 4), (2, 5), (5, 4), (1, 20), (4, 11))]

def dynamic_shapes():
    n, t = torch.export.Dim("n", min=1, max=5), torch.export.Dim("t", min=4, max=20)
    return ({0: n}, {0: n}, {2: t})
"""

MORE = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.places, self.layer = nn.Embedding(8, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.image = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1)
        )

    def forward(self, x, image):
        n = x.shape[0]
        h = x + self.places(torch.arange(n))
        told = torch.cat([x.new_zeros(n, 1), x.relu(), torch.ones_like(x[:, :1])], 1)
        near = self.layer(h.unsqueeze(0))[0]
        picked = torch.cond(image.sum() > 0, lambda x: x.relu().sum(0), lambda x: x.amax(0), (x,))
        return near, told, x[:-1] - x[1:], torch.full((n,), 2.5) * torch.arange(n), picked, self.image(image)

def model():
    torch.manual_seed(0)
    return Net().eval()

def inputs(n, h, w, sign=1):
    g = torch.Generator().manual_seed(100 * n + 10 * h + w)
    return torch.randn(n, 8, generator=g), torch.randn(1, 2, h, w, generator=g) + sign

def example_inputs():
    return inputs(3, 5, 6)

def samples():
    sizes = ((8, 8, 12), (2, 4, 4), (3, 7, 9), (5, 4, 12), (8, 8, 4), (4, 5, 11))
    return [inputs(*one, sign) for one in sizes for sign in (-1, 1)]

def dynamic_shapes():
    D = torch.export.Dim
    return {0: D("n", min=2, max=8)}, {2: D("h", min=4, max=8), 3: D("w", min=4, max=12)}
"""

BOARDS = ("host", "qemu_mps2_an386")


@pytest.fixture(scope="module")
def program(once: Once) -> Path:
    def make(folder: Path) -> None:
        (folder / "net.py").write_text(NET)
        export(folder / "net.py", folder / "net.pte")

    return once("sizes", make) / "net.pte"


def built(program: Path, board: str, folder: Path, *, poison: bool = False) -> Path:
    optimize = "speed" if board == "host" else "size"
    generate(program, board, folder, optimize=optimize, name="net", poison=poison)
    return gcc.build(folder, load_board(board), kernel_folders()).elf


def check(done: Run, program: Path) -> None:
    reference = read_reference(program.with_suffix(".npz"))
    assert len(done.outputs) == reference.samples
    for sample, given in enumerate(done.outputs):
        assert tuple(one.shape for one in given) == reference.sizes[sample]
        for one, whole in zip(given, reference.outputs, strict=True):
            wanted = whole[(sample, *(slice(size) for size in one.shape))]
            np.testing.assert_allclose(one, wanted, rtol=2e-5, atol=2e-5, err_msg=f"sample {sample}")


@pytest.mark.parametrize("board", BOARDS)
def test_every_size_is_right(program: Path, board: str, tmp_path: Path) -> None:
    """With what is dead overwritten: memory is planned for the largest, whatever the sizes of a run."""
    elf = built(program, board, tmp_path, poison=True)
    check(run(elf, load_board(board), read_samples(program.with_suffix(".npz"), None)), program)
    header = (tmp_path / "program.h").read_text()
    assert "bool run(int32_t n, int32_t t);" in header and "n_most = 5" in header
    good = read_samples(program.with_suffix(".npz"), 1)[0]
    for inputs, told in (
        (small(good, 0, 4), "size 0 is 5, where 4"),
        (small(good, 2, 3), "size 2 is 3, where 4"),
        ((good[0], good[1], np.zeros((1, 2, 21), np.float32)), "size 2 is 21, where 20"),
        ((good[0], good[1], np.zeros((1, 3, 20), np.float32)), "size 1 is 3, where 2"),
    ):
        with pytest.raises(DeviceLostError, match=told):
            run(elf, load_board(board), [inputs])


def test_what_is_made_of_sizes(tmp_path: Path) -> None:
    """Constants and positions of varying size, attention, parts, images of two sizes, a branch."""
    (tmp_path / "net.py").write_text(MORE)
    program = tmp_path / "net.pte"
    export(tmp_path / "net.py", program)
    for board in BOARDS:
        elf = built(program, board, tmp_path / board, poison=True)
        check(run(elf, load_board(board), read_samples(program.with_suffix(".npz"), None)), program)


def small(inputs: Sequence[Array], number: int, size: int) -> tuple[Array, ...]:
    """The inputs, one of them cut."""
    one = inputs[number]
    cut = one[..., :size] if number else one[:size]
    return (*inputs[:number], cut, *inputs[number + 1 :])


def test_the_file_says_the_sizes(program: Path) -> None:
    method = pte.read(program.read_bytes()).method()
    assert method.symbols == (Symbol("n", 1, 5), Symbol("t", 4, 20))
    assert method.extents == (Extent(0, 0, 0), Extent(1, 0, 0), Extent(2, 2, 1))
    small = at(method, load_ops(), (2, 5))
    assert [small.values[one].spec.shape for one in small.outputs] == [(2, 2, 4), (8,), (1, 4, 3), (1, 4), (1, 2, 4)]
    with pytest.raises(EtError, match="for n = 2, t = 0"):
        at(method, load_ops(), (2, 0))


def test_names_of_sizes_are_those_of_c(program: Path) -> None:
    """They come from a file: C++ gets what it can read, and Python none of them."""
    read = pte.read(program.read_bytes())
    said = {**read.metadata, "forward_sizes": "static from 1 to 5, t from 4 to 20"}
    with pytest.raises(ProgramError, match="'static from 1 to 5' is no size"):
        with_sizes(replace(read, metadata=said))
    seen = {(size,): 3 * size for size in range(2, 8)}
    assert formula(seen, {**seen, (1,): 3}, ["lambda"]) == "lambda * 3"


INT8 = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 8) for _ in range(3))
        self.wave = nn.Conv1d(2, 8, 3, stride=2, padding=1)
        self.each = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Linear(8, 3)

    def forward(self, x, wave):
        near = ((self.query(x) @ self.key(x).transpose(0, 1)) * 0.3).softmax(-1) @ self.value(x)
        heard = self.each(torch.relu(self.wave(wave))).transpose(1, 2)
        return self.last(near + torch.tanh(near)), self.last(heard)

quantize = "int8"

def model():
    torch.manual_seed(0)
    return Net()

def inputs(n, t, seed=0):
    g = torch.Generator().manual_seed(100 * seed + 10 * n + t)
    return torch.randn(n, 6, generator=g), torch.randn(1, 2, t, generator=g)

def example_inputs():
    return inputs(3, 7)

def calibration():
    return [inputs(1 + at % 4, 4 + at % 7, 1 + at) for at in range(35)]

def samples():
    return [inputs(n, t) for n, t in ((2, 7), (4, 10), (1, 4), (3, 5), (1, 10), (4, 4))]

def dynamic_shapes():
    n, t = torch.export.Dim("n", min=1, max=4), torch.export.Dim("t", min=4, max=10)
    return {0: n}, {2: t}
"""


def test_int8(tmp_path: Path) -> None:
    """Calibrated and judged over samples of many sizes: each operator is computed again at those of the sample, every
    core gives the same bytes, and the float network is near on data that were not calibrated with."""
    (tmp_path / "net.py").write_text(INT8)
    program = tmp_path / "net.pte"
    export(tmp_path / "net.py", program)
    folder = tmp_path / "host"
    build(program, "host", folder, name="net", optimize="speed")
    given = read_samples(program.with_suffix(".npz"), None)
    run_in(folder, load_board("host"), given)
    verdict = verdict_of(folder, program, None, load_board("host"), anew=True)
    assert verdict.exact is not None and verdict.exact.proven and verdict.exact.operators >= 10
    assert verdict.comparison.mismatched == 0 and (verdict.comparison.snr_db or 0) > 25
    with opened(folder / "outputs.npz") as outputs:
        wanted = runs(outputs, "output")
    done = run(built(program, "qemu_mps2_an386", tmp_path / "m4f", poison=True), load_board("qemu_mps2_an386"), given)
    for one, other in zip(done.outputs, wanted, strict=True):
        assert [x.tobytes() for x in one] == [x.tobytes() for x in other]


LOOPS = """\
import torch
from torch import nn
from torch._higher_order_ops.map import map as over_rows
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.each = nn.Linear(5, 4)

    def forward(self, x, h):
        def step(h, row):
            new = torch.tanh(h + row.sum(0))
            return new, new * 2

        def more(left, x):
            return left > 0

        def halved(left, x):
            return left - 1, x * 0.5 + 1

        mapped = over_rows(lambda row: torch.relu(self.each(row)), x)
        last, every = scan(step, h, mapped)
        chosen = torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a.flip(0), (every,))
        _, settled = while_loop(more, halved, (torch.tensor(3), chosen))
        return mapped, last, chosen.reshape(-1, 2), settled

def model():
    torch.manual_seed(0)
    return Net()

def inputs(n, m):
    g = torch.Generator().manual_seed(10 * n + m)
    return torch.randn(n, m, 5, generator=g), torch.randn(4, generator=g)

def example_inputs():
    return inputs(3, 2)

def samples():
    return [inputs(n, m) for n, m in ((6, 3), (1, 1), (2, 3), (6, 1), (1, 3), (4, 2), (5, 2), (3, 3))]

def dynamic_shapes():
    return {0: torch.export.Dim("n", min=1, max=6), 1: torch.export.Dim("m", min=1, max=3)}, None
"""


def test_loops_over_rows_that_vary(tmp_path: Path) -> None:
    """A loop makes as many rounds as there are rows, what it stacks has as many, and rows have sizes of their own; in
    branches and in what a loop carries sizes vary as outside."""
    (tmp_path / "net.py").write_text(LOOPS)
    program = tmp_path / "net.pte"
    export(tmp_path / "net.py", program)
    for board in BOARDS:
        elf = built(program, board, tmp_path / board, poison=True)
        check(run(elf, load_board(board), read_samples(program.with_suffix(".npz"), None)), program)
    assert "< n; ++" in (tmp_path / "host" / "program.cpp").read_text()
    folder = tmp_path / "judged"
    build(program, "host", folder, name="net", optimize="speed")
    run_in(folder, load_board("host"), read_samples(program.with_suffix(".npz"), None))
    verdict = verdict_of(folder, program, None, load_board("host"), anew=True)
    assert verdict.comparison.mismatched == 0


TOKENS = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.names, self.places = nn.Embedding(12, 8), nn.Embedding(9, 8)
        self.near = nn.MultiheadAttention(8, 2, batch_first=True)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.both, self.back = nn.LSTM(8, 5, bidirectional=True, batch_first=True), nn.GRU(10, 3)

    def forward(self, ids, first):
        n = ids.shape[0]
        x = self.names(ids) + self.places(torch.arange(n))
        h = self.near(x[None], x[None], x[None], need_weights=False)[0][0]
        later = torch.tril(torch.ones(n, n, dtype=torch.bool)).logical_not()
        scores = (self.query(h) @ self.key(h).T).masked_fill(later, float("-inf"))
        seen = scores.softmax(-1) @ x
        heard, (_, cell) = self.both(x[None])
        told, last = self.back(heard.transpose(0, 1))
        joined = torch.cat([h, first]), torch.cat([seen * 2, seen + 1])
        return cell, told, last, *joined, seen[-1], x[: n - 1].sum(0), x[-2:] * 2

def model():
    torch.manual_seed(0)
    return Net()

def inputs(n):
    g = torch.Generator().manual_seed(n)
    return torch.randint(0, 12, (n,), generator=g), torch.randn(2, 8, generator=g)

def example_inputs():
    return inputs(4)

def samples():
    return [inputs(n) for n in (9, 3, 5, 8, 4)]

def dynamic_shapes():
    return {0: torch.export.Dim("n", min=3, max=9)}, None
"""


def test_tokens(tmp_path: Path) -> None:
    """Attention and recurrent layers over n positions, a causal mask and places that n says, which are cut out of those
    for the largest; what begins behind a part of n rows lies elsewhere for each n, so it is copied."""
    (tmp_path / "net.py").write_text(TOKENS)
    program = tmp_path / "net.pte"
    export(tmp_path / "net.py", program)
    for board in BOARDS:
        elf = built(program, board, tmp_path / board, poison=True)
        check(run(elf, load_board(board), read_samples(program.with_suffix(".npz"), None)), program)


def test_what_is_streamed_is_cut_to_what_was_in_use() -> None:
    """In the order in which it lies in memory, and in the board's shape where that has dimensions of 1 more."""
    spec = TensorSpec(DType.INT8, (1, 2, 5))
    values = {0: Value(0, "x", spec, Role.INPUT), 1: Value(1, "y", spec, Role.OUTPUT)}
    instruction = Instruction("aten::relu.out", (Ref(0),), (1,), handle=3)
    largest = Method(
        "forward", values, (instruction,), (0,), (1,), symbols=(Symbol("t", 1, 5),), extents=(Extent(0, 2, 0),)
    )
    small = at(largest, load_ops(), (3,))
    memory = np.arange(10, dtype=np.int8)  # (time, channels), of which three rows were in use
    streamed = memory.reshape(1, 5, 1, 2).transpose(0, 3, 2, 1)
    (cut,) = in_use([Traced(3, "y", None, streamed, dim_order=(0, 3, 2, 1))], largest, small)
    np.testing.assert_array_equal(cut.data, memory[:6].reshape(1, 3, 1, 2).transpose(0, 3, 2, 1))


METHODS = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)
        self.register_buffer("seen", torch.zeros(8))

class Prefill(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, tokens):
        h = torch.relu(self.net.mix(self.net.embed(tokens)))
        self.net.seen.copy_(self.net.seen + h.sum(0))
        return self.net.head(h)

class Decode(Prefill):
    def forward(self, token):
        h = torch.relu(self.net.mix(self.net.embed(token))) + self.net.seen
        self.net.seen.copy_(h[0])
        return self.net.head(h)

def methods():
    torch.manual_seed(0)
    net = Net()
    return {"prefill": (Prefill(net), (torch.tensor([1, 2, 3]),)), "decode": (Decode(net), (torch.tensor([4]),))}

def dynamic_shapes():
    return {"prefill": ({0: torch.export.Dim("n", min=1, max=6)},)}

def calls():
    prompts = [("prefill", torch.arange(n) + 2) for n in (2, 6, 1)]
    token = ("decode", torch.tensor([7]))
    return [prompts[0], token, token, ("init", ()), prompts[1], token, prompts[2], token]
"""


def test_methods_have_sizes_of_their_own(tmp_path: Path) -> None:
    """One takes a prompt of any length, the other a token, and both one state: each call is right, and where one is not
    the operators of all are computed again at their sizes."""
    script, program = tmp_path / "net.py", tmp_path / "net.pte"
    script.write_text(METHODS)
    export(script, program)
    called = read_calls(program.with_suffix(".npz"), None)
    names, inputs = [name for name, _ in called], [given for _, given in called]
    folder = tmp_path / "host"
    build(program, "host", folder, name="net", optimize="speed")
    run_in(folder, load_board("host"), inputs, calls=names)
    calls = calls_of(folder, program)
    assert calls is not None and by_outputs_of(calls).mismatched == 0 and by_outputs_of(calls).samples == 7
    traced = read_evidence(
        run_traced(folder, program.with_suffix(".npz"), load_board("host"), range(8)), read_memory(folder)
    )
    exact = verdict_of_calls(calls, traced).exact
    assert exact is not None and exact.proven
    m4f = built(program, "qemu_mps2_an386", tmp_path / "m4f", poison=True)
    outputs = run(m4f, load_board("qemu_mps2_an386"), inputs, calls=names).outputs
    for one, other in zip(outputs, read_call_outputs(folder / "outputs.npz", range(8)), strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)
    assert "bool run(int32_t n);" in (tmp_path / "m4f" / "program.h").read_text()
    for old, new, told in (
        ('return {"prefill"', 'return {"fill"', "by the names of methods"),
        ("(2, 6, 1)", "(2, 7, 1)", "size 0 of input 0 of call 4 is 7, and n allows 1 to 6"),
    ):
        script.write_text(new.join(METHODS.rsplit(old, 1)))
        with pytest.raises(ModelError, match=told):
            export(script, program)


SCRIPT = """\
import torch
from torch.export import Dim

class Net(torch.nn.Module):
    def forward(self, a, b):
        return {result}

def model():
    return Net()

def example_inputs():
    return torch.ones({a}), torch.ones({b})

def dynamic_shapes():
    {shapes}
"""


def exported(folder: Path, result: str, shapes: str, a: str = "3, 4", b: str = "3, 4") -> Path:
    script = folder / "net.py"
    script.write_text(SCRIPT.format(result=result, shapes=textwrap.dedent(shapes), a=a, b=b))
    export(script, folder / "net.pte")
    return folder / "net.pte"


@pytest.mark.parametrize(
    ("result", "shapes", "told"),
    [
        ("a + b", 'n = Dim("n", min=1); return ({0: n}, {0: n})', 'n, size 0 of a, has no largest value.*Dim."n"'),
        (
            "torch.cond(a.shape[0] > 4, lambda x: x + 1, lambda x: x * 2, (b,))",
            'return ({0: Dim("n", min=2, max=8)}, None)',
            "its condition depends on a size that is known at run time",
        ),
        ("a * 2, b[torch.nonzero(b[:, 0])]", 'return ({0: Dim("n", min=2, max=8)}, None)', "depends on what a tensor"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, result: str, shapes: str, told: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){told}"):
        exported(tmp_path, result, shapes)


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ("(8, 4), (4, 8)", r"size 0 of input 0 of sample 0 is 8, and n allows 2 to 6, in steps of 2"),
        ("(3, 4), (1, 8)", r"size 0 of input 0 of sample 0 is 3, and n allows"),
        ("(4, 4), (3, 8)", r"size 0 of input 1 of sample 0 is 3, and n is 2 in another input"),
    ],
)
def test_samples_beyond_the_bounds_are_refused(tmp_path: Path, samples: str, told: str) -> None:
    """At export, where they are made."""
    shapes = f"""\
        n = Dim("n", min=1, max=3); return ({{0: 2 * n}}, {{0: n}})

        def samples():
            return [tuple(map(torch.ones, [{samples}]))]
        """
    with pytest.raises(ModelError, match=told):
        exported(tmp_path, "a.reshape(-1, 8) + b", shapes, "4, 4", "2, 8")


def test_a_multiple_of_a_size(tmp_path: Path) -> None:
    """The board checks that it is divided without a rest."""
    shapes = 'n = Dim("n", min=1, max=3); return ({0: 2 * n}, {0: n})'
    program = exported(tmp_path, "a.reshape(-1, 8) + b", shapes, a="4, 4", b="2, 8")
    elf = built(program, "host", tmp_path / "host")
    check(run(elf, load_board("host"), read_samples(program.with_suffix(".npz"), None)), program)
    with pytest.raises(DeviceLostError, match="size 0 is 3, where 2"):
        run(elf, load_board("host"), [(np.ones((3, 4), np.float32), np.ones((1, 8), np.float32))])


def test_a_file_that_says_only_bounds(program: Path) -> None:
    """Stock ExecuTorch's: which sizes vary, and together, follows from what operators allow."""
    method = pte.read(program.read_bytes()).method()
    bare = type(method)(
        method.name, method.values, method.instructions, method.inputs, method.outputs, bounded=method.bounded
    )
    found = with_symbols(bare, load_ops())
    assert [(one.input, one.dim, one.symbol) for one in found.extents] == [(0, 0, 1), (1, 0, 1), (2, 2, 0)]


def test_formulas() -> None:
    sizes = [(n,) for n in range(2, 20)]
    assert formula({one: 3 * one[0] + 4 for one in sizes}, {}, ["n"]) == "n * 3 + 4"
    assert formula({one: (one[0] + 1) // 2 * 4 for one in sizes}, {}, ["n"]) == "(n + 1) / 2 * 4"
    assert formula({one: one[0] for one in sizes}, {(1,): 7}, ["n"]) == "(n == 1 ? 7 : n)"
    assert formula({one: one[0] ** 3 % 7 for one in sizes}, {}, ["n"]) is None
    assert formula({(2,): 2, (3,): 3}, {}, ["n"]) is None, "two points lie on any line"
