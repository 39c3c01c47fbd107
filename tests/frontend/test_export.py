"""A model script becomes model.pte and model.npz: names, lines, state, samples, layouts, files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from etexport.errors import Errors, ModelError
from etexport.frontend import export, export_many, train
from etexport.program.model import Role, channels_last
from etexport.program.pte import read
from tests.frontend.scripts import agrees, exported, forward_script, layout, run, script

ROOT = Path(__file__).resolve().parents[2]

NETWORK = """\
import torch
from torch import nn
import layers

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.block = layers.Block(4)
        self.unused = nn.Linear(3, 3)
        self.fc = nn.Linear(4, 3)
        self.register_buffer("offset", torch.arange(3.0), persistent=False)

    def forward(self, image, extra):
        x = torch.relu(self.conv1(image))
        x = self.block(x).mean((2, 3))
        return self.fc(x) * 2 + self.offset

def model():
    return Net()

def example_inputs():
    return torch.zeros(1, 1, 6, 6), torch.zeros(2)
"""

LAYERS = """\
from torch import nn

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return x + nn.functional.relu6(y)
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    script(tmp_path, LAYERS, "layers.py")
    return script(tmp_path, NETWORK)


def test_names_lines_and_roles(network: Path) -> None:
    program, arrays = exported(network)
    method = program.method()
    assert [str(one.source) for one in method.instructions] == [
        "model.py:15",  # conv1
        "model.py:15",  # relu
        "layers.py:10",  # conv and norm
        "layers.py:11",  # relu6
        "layers.py:11",  # add
        "model.py:16",  # mean
        "model.py:17",  # fc
        "model.py:17",  # * 2
        "model.py:17",  # + offset
    ]
    assert [one.name for one in method.instructions] == [
        "conv1", "relu", "block_conv", "block_hardtanh", "block_add", "mean", "fc", "mul", "add",
    ]  # fmt: skip
    assert (
        method.instructions[2].source is not None
        and method.instructions[2].source.code == "y = self.norm(self.conv(x))"
    )
    assert len(method.inputs) == 2 and method.values[method.inputs[0]].name == "image", (
        "an input that nobody reads stays"
    )
    constants = {value.name for value in method.values.values() if value.role is Role.CONSTANT}
    assert {
        "conv1_weight",
        "conv1_bias",
        "block_conv_weight",
        "block_conv_bias",
        "fc_weight",
        "fc_bias",
        "offset",
    } <= constants
    assert not any("unused" in name or "norm" in name or "running" in name for name in constants)
    assert [one.handle for one in method.instructions] == list(range(9))
    assert list(arrays["input_names"]) == ["image", "extra"] and list(arrays["output_names"]) == ["add"]
    agrees(program, arrays)


CALLED = """
from collections import namedtuple
from dataclasses import dataclass
Both = namedtuple("Both", "low high")
@dataclass
class Found:
    boxes: torch.Tensor
    near: list
torch.export.register_dataclass(Found)
quantize = "int8"
def calibration():
    return torch.randn(40, 1, 8, generator=torch.Generator().manual_seed(1))
"""


def test_outputs_are_called_as_the_script_calls_them(tmp_path: Path) -> None:
    """By key or attribute; in a tuple after the module or operator that made them, whatever was done to store them."""
    init = "self.a = nn.Linear(8, 8); self.norm = nn.GroupNorm(2, 8); self.head = nn.Linear(8, 4)"
    bodies = {
        "(self.norm(self.a(x)), self.head(x), x + self.a(x), self.a(x).view(2, 4))": ["norm", "head", "add", "view"],
        "{'scores': self.head(x), 'rest': [x * x, self.a(x)]}": ["scores", "rest_0", "rest_1"],
        "Both(self.head(x), self.a(x)), self.norm(x)": ["low", "high", "norm"],
        "Found(self.head(x), [self.a(x), x * x])": ["boxes", "near_0", "near_1"],
        "self.head(x), self.head(x * x), None, x.max(1)": ["head", "head_1", "max", "max_1"],
    }
    for at, (body, names) in enumerate(bodies.items()):
        path = forward_script(tmp_path / str(at), body, "torch.randn(1, 8)", init=init, more=CALLED)
        for how in ("float32", "int8"):
            program, arrays = exported(path, tmp_path / str(at) / how / "model.pte", quantize=how)
            method = program.method()
            assert [method.values[one].name for one in method.outputs] == list(arrays["output_names"]) == names, (
                body,
                how,
            )
            assert any(one.name == "head" or one.name.startswith("head_") for one in method.instructions) == (
                "head" in body
            )


def test_lines_of_a_package_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by their place in the package, never by where it is installed."""
    script(tmp_path / "elsewhere" / "bricks", LAYERS, "layers.py")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    program, _ = exported(script(tmp_path / "own", NETWORK.replace("import layers", "from bricks import layers")))
    assert [str(one.source) for one in program.method().instructions][2:4] == [
        "bricks/layers.py:10",
        "bricks/layers.py:11",
    ]


def test_operands_come_in_one_type(tmp_path: Path) -> None:
    integers = "torch.tensor([1, 2, 3])"
    program, arrays = exported(forward_script(tmp_path, "x * y, y - x, y / 2", "torch.rand(3)", integers))
    method = program.method()
    for instruction in method.instructions:
        if not instruction.op.startswith("dim_order_ops"):
            assert {method.values[one].spec.dtype.name for one in (*instruction.reads, *instruction.outs)} == {
                "FLOAT32"
            }
    agrees(program, arrays)


def test_nothing_in_the_files_tells_where_they_were_made(network: Path) -> None:
    exported(network)
    for path in (network.parent / "out").iterdir():
        assert str(network.parent).encode() not in path.read_bytes() and b"site-packages" not in path.read_bytes()


def test_two_processes_write_the_same_bytes(network: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    script(elsewhere, LAYERS, "layers.py")
    script(elsewhere, NETWORK)
    code = (
        "import sys; from pathlib import Path; from etexport.frontend import export; export(Path(sys.argv[1]), "
        "Path(sys.argv[2]))"
    )
    for seed, path, out in (("1", network, "a"), ("2", elsewhere / "model.py", "b")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-c", code, path, tmp_path / out / "m.pte"], cwd=path.parent, env=environment, check=True
        )
    for name in ("m.pte", "m.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in network.parent.iterdir()) == ["a", "b", "elsewhere", "layers.py", "model.py"], (
        "nothing else is left"
    )


# ---- state -----------------------------------------------------------------------------------------------------------

STATE = """\
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("first", torch.tensor([1.0, 2.0]))
        self.register_buffer("second", torch.tensor([5.0, 7.0]))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        before = self.first
        first, second = self.second + 0, self.first + 0
        self.first.copy_(first)
        self.second.copy_(second)
        self.seen.add_(1)
        return x * self.seen + self.first, self.second

def model():
    return Model()

def example_inputs():
    return (torch.ones(2),)

def samples():
    return torch.arange(8.0).reshape(4, 2)
"""


def test_state_is_kept_and_written_back(tmp_path: Path) -> None:
    program, arrays = exported(script(tmp_path, STATE))
    method = program.method()
    states = {value.name: value for value in method.values.values() if value.role is Role.STATE}
    assert set(states) == {"first", "second", "seen"}
    assert states["first"].data is not None and states["first"].data.tolist() == [1.0, 2.0], (
        "the content before the first sample"
    )
    assert layout(program)[-3:] == ["aten::copy_"] * 3
    agrees(program, arrays)
    assert arrays["output_1"][:2].tolist() == [[1.0, 2.0], [5.0, 7.0]], "samples are one sequence"


@pytest.mark.parametrize(("old", "new"), [("first", "second"), ("second", "first")])
def test_states_made_of_each_other(tmp_path: Path, old: str, new: str) -> None:
    """What is written back and what is given out is the other state as it was, whichever is written first."""
    lines = [
        f"kept = self.{old} * 1.5",
        f"self.{old}.copy_(self.{new})",
        f"self.{new}.copy_(kept)",
        f"return x + 1, self.{old}",
    ]
    body = "".join(f"        {line}\n" for line in lines)
    text = STATE[: STATE.index("        before = ")] + body + STATE[STATE.index("\ndef model") :]
    program, arrays = exported(script(tmp_path, text))
    assert layout(program).count("aten::copy_") == 2
    agrees(program, arrays)
    start = {"first": [1.0, 2.0], "second": [5.0, 7.0]}
    assert arrays["output_1"][:2].tolist() == [start[new], [1.5 * number for number in start[old]]]


# ---- .pt2 ------------------------------------------------------------------------------------------------------------


def test_a_saved_pt2_gives_the_same_program(tmp_path: Path) -> None:
    path = script(tmp_path, STATE)
    namespace: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    saved = torch.export.export(namespace["model"](), namespace["example_inputs"]())  # type: ignore[operator]
    torch.export.save(saved, tmp_path / "saved.pt2")
    expected, _ = exported(path)
    program, arrays = exported(tmp_path / "saved.pt2", tmp_path / "pt2" / "model.pte")
    assert layout(program) == layout(expected)
    assert [one.name for one in program.method().instructions] == [one.name for one in expected.method().instructions]
    assert str(program.method().instructions[0].source).startswith("model.py:")
    agrees(program, arrays)


# ---- samples ---------------------------------------------------------------------------------------------------------

ONE = "import torch\ndef model():\n    return torch.nn.ReLU()\ndef example_inputs():\n    return torch.zeros(1, 3)\n"
TWO = (
    "import torch\nclass Add(torch.nn.Module):\n    def forward(self, a, b):\n        return a + b\n"
    "def model():\n    return Add()\ndef example_inputs():\n    return torch.zeros(1, 3), torch.zeros(2, 3)\n"
)


@pytest.mark.parametrize(
    ("text", "samples", "count", "labels"),
    [
        (ONE, "[(torch.rand(3), 1), (torch.rand(3), 2)]", 2, [1, 2]),
        (ONE, "torch.utils.data.TensorDataset(torch.rand(4, 3), torch.arange(4) % 3)", 4, [0, 1, 2, 0]),
        (TWO, "[(torch.rand(1, 3), torch.rand(2, 3)), (torch.rand(1, 3), torch.rand(2, 3))]", 2, None),
        (TWO, "[(torch.rand(1, 3), torch.rand(2, 3), 5)]", 1, [5]),
        (ONE, "torch.rand(5, 1, 3)", 5, None),
        (ONE, "torch.rand(5, 3)", 5, None),
        (ONE, "torch.rand(5, 1, 3).numpy()", 5, None),
        (ONE, "[torch.rand(1, 3) for _ in range(4)]", 4, None),
        (ONE, "(torch.rand(5, 1, 3),)", 5, None),
        (ONE, "(torch.rand(3, 1, 3), torch.tensor([2, 0, 1]))", 3, [2, 0, 1]),
        (ONE, "((torch.rand(3, 1, 3),), [2, 0, 1])", 3, [2, 0, 1]),
        (ONE, "torch.rand(5, 1, 3).double()", 5, None),
        (ONE, "torch.randint(0, 9, (5, 1, 3))", 5, None),
        (TWO, "(torch.rand(4, 1, 3), torch.rand(4, 2, 3))", 4, None),
        (TWO, "((torch.rand(2, 1, 3), torch.rand(2, 2, 3)), [0, 1])", 2, [0, 1]),
    ],
)
def test_forms_of_samples(tmp_path: Path, text: str, samples: str, count: int, labels: list[int] | None) -> None:
    program, arrays = exported(script(tmp_path, f"{text}def samples():\n    return {samples}\n"))
    assert arrays["input_0"].shape == (count, 1, 3) and len(arrays["output_0"]) == count
    assert arrays["input_0"].dtype == np.float32
    assert (arrays["labels"].tolist() if "labels" in arrays else None) == labels
    assert str(arrays["origin"]) == "samples()"
    agrees(program, arrays)


def test_without_samples_random_inputs_join_the_example(tmp_path: Path) -> None:
    _, arrays = exported(script(tmp_path, ONE.replace("torch.zeros(1, 3)", "torch.tensor([[-1.0, 0.5, 4.0]])")))
    assert arrays["input_0"][0].tolist() == [[-1.0, 0.5, 4.0]]
    assert arrays["input_0"].min() == -1.0 and arrays["input_0"].max() == 4.0 and len(arrays["input_0"]) > 4
    assert "seeded random" in str(arrays["origin"])


# ---- layouts ---------------------------------------------------------------------------------------------------------

CONV = (
    "import torch\ndef model():\n    return torch.nn.Conv2d(3, 4, 3)\ndef example_inputs():\n    return "
    "torch.rand(1, 3, 5, 5)\n"
)


@pytest.mark.parametrize(
    "text",
    [
        f"{CONV}channels_last = True\n",
        CONV.replace("(1, 3, 5, 5)", "(1, 3, 5, 5).to(memory_format=torch.channels_last)"),
    ],
)
def test_channels_last(tmp_path: Path, text: str) -> None:
    program, arrays = exported(script(tmp_path, text))
    method = program.method()
    assert method.values[method.inputs[0]].spec.dim_order == channels_last(4)
    if "channels_last = True" in text:
        assert method.values[method.outputs[0]].spec.dim_order == channels_last(4)
    agrees(program, arrays)


def test_a_permuted_output_is_contiguous_in_its_own_shape(tmp_path: Path) -> None:
    program, _ = exported(forward_script(tmp_path, "torch.relu(x.permute(0, 2, 3, 1))", "torch.rand(1, 3, 5, 4)"))
    assert all(value.spec.is_contiguous for value in program.method().values.values())


# ---- several scripts, weights, files ---------------------------------------------------------------------------------


def test_scripts_with_modules_of_one_name_do_not_meet(tmp_path: Path) -> None:
    jobs = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        script(folder, f"FACTOR = {number * 10}\n", "layers.py")
        text = "import torch\nclass Scale(torch.nn.Module):\n    def forward(self, x):\n        import layers\n"
        text += (
            "        return x * layers.FACTOR\ndef model():\n    return Scale()\ndef example_inputs():\n    return "
            "torch.ones(2)\n"
        )
        path = script(folder, text)
        jobs.append((path, tmp_path / f"{number}.pte"))
    bad = script(tmp_path / "bad", "import nothing_here\n")
    with pytest.raises(ModelError, match="nothing_here"):
        export_many([jobs[0], (bad, tmp_path / "bad.pte"), jobs[1]])
    for number in (1, 2):
        with np.load(tmp_path / f"{number}.npz") as arrays:
            assert arrays["output_0"][0].tolist() == [10.0 * number] * 2
    assert "layers" not in sys.modules and str(tmp_path / "1") not in sys.path


def test_many_errors_come_together(tmp_path: Path) -> None:
    jobs = [(script(tmp_path / name, f"import nothing_{name}\n"), tmp_path / f"{name}.pte") for name in "ab"]
    with pytest.raises(Errors, match=r"(?s)nothing_a.*nothing_b"):
        export_many(jobs)


def test_weights_of_train(tmp_path: Path) -> None:
    text = """\
    import torch
    def train():
        return {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.zeros(1)}
    def model(weights=None):
        net = torch.nn.Linear(2, 1)
        net.load_state_dict({name: torch.as_tensor(value) for name, value in (weights or train()).items()})
        return net
    def example_inputs():
        return torch.ones(1, 2)
    """
    path = script(tmp_path, text)
    train(path, tmp_path / "weights.npz")
    first = (tmp_path / "weights.npz").read_bytes()
    train(path, tmp_path / "weights.npz")
    assert (tmp_path / "weights.npz").read_bytes() == first
    np.savez(tmp_path / "other.npz", weight=np.array([[3.0, 4.0]], np.float32), bias=np.zeros(1, np.float32))
    for weights, expected in (("weights.npz", 3.0), ("other.npz", 7.0)):
        _, arrays = exported(path, weights=tmp_path / weights)
        assert arrays["output_0"][0].tolist() == [[expected]]
    _, arrays = exported(path)
    assert arrays["output_0"][0].tolist() == [[3.0]]


def test_a_failed_export_leaves_the_old_files(network: Path) -> None:
    out = network.parent / "model.pte"
    export(network, out)
    before = {path.name: path.read_bytes() for path in network.parent.iterdir() if path.is_file()}
    good = network.read_text()
    network.write_text(good.replace("return self.fc(x) * 2", "return torch.erf(x) * 2"))
    with pytest.raises(ModelError):
        export(network, out)
    network.write_text(good)
    assert {path.name: path.read_bytes() for path in network.parent.iterdir() if path.is_file()} == before


def test_the_program_runs_by_numbers_that_differ_when_a_weight_does(network: Path) -> None:
    """That `agrees` can fail."""
    program, arrays = exported(network)
    method = program.method()
    (weight,) = [value for value in method.values.values() if value.name == "fc_weight"]
    assert weight.data is not None
    changed = type(weight)(weight.id, weight.name, weight.spec, weight.role, weight.data + np.float32(0.01))
    samples = [[arrays["input_0"][1], arrays["input_1"][1]]]
    (right,), _ = run(program, samples)
    (wrong,), _ = run(type(program)((method.with_values(changed),)), samples)
    assert np.abs(right[0] - arrays["output_0"][1]).max() < 1e-5 < np.abs(wrong[0] - arrays["output_0"][1]).max()


def test_a_pte_read_again_does_not_change_under_the_passes(network: Path) -> None:
    from etexport.kernel.library import load_ops
    from etexport.passes import pipeline

    export(network, network.parent / "model.pte")
    program = read((network.parent / "model.pte").read_bytes())
    assert pipeline.run(program, load_ops()) is program


def test_rules_of_memory(tmp_path: Path) -> None:
    """They go with the program, for the boards that they name."""
    said = 'memory_rules = {"one": {"relu": "fast", "x": "slow"}, "other": {}}'
    _, arrays = exported(forward_script(tmp_path, "torch.relu(x)", "torch.rand(4)", more=said))
    assert arrays["memory_rules"].tolist() == [["one", "relu", "fast"], ["one", "x", "slow"]]
    for wrong in ('"fast"', '{"relu": "fast"}', '{"one": {"relu": 1}}'):
        with pytest.raises(ModelError, match="memory_rules = "):
            exported(forward_script(tmp_path, "torch.relu(x)", "torch.rand(4)", more=f"memory_rules = {wrong}"))
