"""What a user gets wrong in a script: the line, what is wrong, what to do, and never a traceback or torch's insides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from etexport.errors import Errors, EtError, ModelError
from etexport.frontend import export
from etexport.frontend.exporting import _refuse_own_operators
from etexport.program.model import DType, Instruction, Method, Program, Ref, Role, TensorSpec, Value
from tests.frontend.scripts import forward_script, script

RELU = "import torch\ndef model():\n    return torch.nn.ReLU()\ndef example_inputs():\n    return torch.zeros(1, 3)\n"


def message(path: Path) -> str:
    with pytest.raises(EtError) as caught:
        export(path, path.parent / "out.pte")
    assert caught.value.exit_code == 1 and caught.value.__cause__ is None
    assert not (path.parent / "out.pte").exists() and not (path.parent / "out.npz").exists()
    text = str(caught.value)
    assert "Traceback" not in text and "site-packages" not in text and "torch/" not in text
    return text


METHODS = """import torch
ONES = torch.ones(2, 3)
def methods():
    return {"one": (torch.nn.ReLU(), (ONES,)), "many": 3}
"""
ENCODER = """\
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.coder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(3, 1, 4), 1)
    def forward(self, x):
        return self.coder(x, mask=torch.zeros(1, 1))
def model():
    return Net()
def example_inputs():
    return torch.zeros(1, 3)
"""
INT8 = 'quantize = "int8"\ndef calibration():\n    return '


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("def model(:\n", 1, "invalid syntax"),
        ("import torch\nimport nothing_like_this\n", 2, "No module named 'nothing_like_this'"),
        ("x = {}['weights']\n", 1, "KeyError: 'weights'"),
        ("import sys\nsys.exit('no gpu')\n", 2, "no gpu"),
        ("import torch\ndef example_inputs():\n    return torch.ones(1)\n", 0, "no function model()"),
        ("x = 1\n", 0, "no function model() and example_inputs()"),
        (
            RELU.replace("def model", "def modle"),
            0,
            "model script has model() and example_inputs(); did you mean modle()?",
        ),
        (
            "def model():\n    return load()\ndef load():\n    raise OSError('disk')\ndef example_inputs():\n    "
            "return 1\n",
            4,
            "OSError: disk",
        ),
        (
            "def model():\n    return 3\ndef example_inputs():\n    return 1\n",
            1,
            "model() returns int, not a torch.nn.Module",
        ),
        ("def methods():\n    return {}\n" + RELU, 1, "methods() returns nothing"),
        (METHODS.replace('"one"', '"a b"'), 3, "methods(): the name 'a b' is no identifier"),
        (METHODS.replace('"one"', '"init"'), 3, "methods(): the name 'init' is what begins anew is called"),
        (METHODS.replace("ONES,)", "3,)"), 3, "methods(): the example inputs of one must be a tensor, or a tuple"),
        (METHODS.replace("(torch.nn.ReLU(), (ONES,))", "torch.nn.ReLU()"), 3, "methods(): one is ReLU"),
        (METHODS + "def samples():\n    return 1\n", 5, "samples() does not say of which method"),
        (METHODS + "def calls():\n    return [('two', ())]\n", 0, "calls(): call 0 is of 'two', the methods are one"),
        (
            METHODS + "def calls():\n    return [('one', ())]\n",
            0,
            "calls(): call 0 gives 0 inputs to one, which takes 1",
        ),
        (METHODS + "def calls():\n    return [('one', ONES[:1])]\n", 0, "has shape [1, 3], the example [2, 3]"),
        (METHODS + "def calls():\n    return [1]\n", 0, "calls(): call 0 is no pair of a name and inputs"),
        (METHODS + "quantize = 'int8'\n", 0, "several methods cannot be quantised yet"),
        (METHODS.replace("torch.nn.ReLU()", "torch.nn.Linear(4, 2)"), 0, "model() fails on the example inputs of one"),
        (ENCODER, 7, "hint: say so beside the mask: is_causal=True"),
        (
            RELU.replace("torch.nn.ReLU()", "torch.ao.nn.quantized.dynamic.Linear(3, 2)"),
            0,
            "its layers are quantised already",
        ),
        (RELU.replace("torch.zeros(1, 3)", "[1.0]"), 4, "example_inputs() must return a tensor"),
        (
            RELU.replace("torch.zeros(1, 3)", "torch.zeros(1, 3, dtype=torch.complex64)"),
            4,
            "example input 0 is torch.complex64",
        ),
        (
            RELU.replace("torch.zeros(1, 3)", "torch.eye(3).to_sparse()"),
            4,
            "example input 0 is torch.float32, torch.sparse_coo",
        ),
        (f"{RELU}model = model()\n", 0, "model is a ReLU, not a function that returns one"),
        (
            f"{RELU}{INT8}torch.rand(5, 1, 4)\n",
            0,
            "calibration(): a sample of input 0 has shape [1, 4], the example [1, 3]",
        ),
        (
            f'{RELU}{INT8}torch.full((5, 1, 3), float("nan"))\n',
            0,
            "calibration(): input 0 has plus infinity or NaN, which have no range",
        ),
        (f'{RELU}quantize = "int4"\n', 0, "quantize = 'int4' is not supported"),
        (f"{RELU}channels_last = 1\n", 0, "channels_last = 1 is neither"),
        (
            f"{RELU}def samples():\n    return torch.rand(5, 1, 4)\n",
            0,
            "a sample of input 0 has shape [1, 4], the example [1, 3]",
        ),
        (
            f"{RELU}def samples():\n    return torch.rand(5, 1, 3), [0, 1]\n",
            0,
            "one whole number for each of the 5 samples",
        ),
        (f"{RELU}def samples():\n    return torch.rand(0, 1, 3)\n", 0, "there are no samples"),
        (f"{RELU}def samples():\n    torch.rand(5, 1, 3)\n", 6, "samples() returns nothing"),
        (
            f"{RELU}def samples():\n    return torch.rand(2, 3), [0, 3]\n",
            0,
            "the label of sample 1 is 3, and the output has 3 classes",
        ),
        (f"{RELU}def samples():\n    return torch.rand(2, 1, 3), [-1, 2]\n", 0, "the label of sample 0 is -1, and"),
        (f"{RELU}def samples():\n    return 1 / 0\n", 7, "ZeroDivisionError"),
        (f"{RELU}def samples():\n    return 'many'\n", 0, "input 0 is no array"),
    ],
)
def test_scripts(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = script(tmp_path, text)
    told = message(path)
    assert what in told
    assert told.startswith(f"{path}:{line}:" if line else f"{path}:")


def test_names_that_are_nearly_right_are_noted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A setting that is spelt wrong would else be left out without a word: the network stays in float, the samples are
    drawn."""
    text = f'{RELU}quantise = "int8"\ndef sample():\n    return torch.rand(5, 1, 3)\ndef helper():\n    return 1\n'
    path = script(tmp_path, text)
    export(path, tmp_path / "model.pte")
    assert capfd.readouterr().err.splitlines() == [
        f"note: {path}: sample() means nothing here; did you mean samples()?",
        f"note: {path}: quantise means nothing here; did you mean quantize?",
    ]


def test_a_pickled_module_is_no_pt2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.ReLU(), tmp_path / "net.pt2")
    told = message(tmp_path / "net.pt2")
    assert "this .pt2 cannot be read" in told and "hint: torch.export.save writes one" in told
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_interrupt_is_no_mistake_in_the_script(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt as e:\n    raise RuntimeError('x') from e\n",
    )
    with pytest.raises(KeyboardInterrupt):
        export(path, tmp_path / "out.pte")


@pytest.mark.parametrize(
    ("forward", "line", "what"),
    [
        ("        if x.sum() > 0:\n            x = -x\n        return x", 4, "depends on what a tensor holds"),
        ("        return x[: int(x.sum())]", 4, "depends on what a tensor holds"),
        ("        return x @ x", 4, "mat1 and mat2 shapes cannot be multiplied"),
        ("        y = x + 1\n        return y * y.numpy().max()", 5, "numpy"),
        ("        x += 1\n        return x * 2", 0, "the model changes its input x in place"),
        ("        return x.half() * 2", 4, "torch.float16 is not supported"),
        ("        return torch.nonzero(x)", 4, "is not fixed"),
        ("        y = x + 1", 0, "forward() returns no tensor"),
        ("        return x + 1, 5", 0, "output 1 of forward() is 5, not a tensor"),
        ("        return torch.cat([x, x]).t().as_strided((2,), (1,))", 4, "depends on how its operand lies in memory"),
        ("        return x + torch.rand(3)", 4, "aten.rand draws random numbers"),
        ("        return torch.nn.functional.dropout(x, 0.5, training=True)", 4, "draws random numbers"),
        (
            "        y = x + 1\n        return y[y > 0]",
            5,
            "it depends on what a tensor holds\n  hint: keep the full size, with a mask",
        ),
        ("        return x * x.max().item()", 4, "a number that only the device would know\n  hint: keep it a tensor"),
        (
            "        return x[0][(x * 0).long().sum()]",
            4,
            "hint: keep it a tensor: without .item(), int() and float(); of a k without dimensions",
        ),
        ("        return type('Both', (), {'one': x})()", 0, "or call torch.export.register_dataclass"),
        ("        from .layers import Net\n        return x", 4, "a script is a file of its own"),
        (
            "        return torch.fft.rfft(x).abs()",
            4,
            "torch.complex64 is not supported\n  hint: compute real and imaginary parts apart",
        ),
        ("        return torch.sparse.mm(torch.eye(3).to_sparse(), x.t())", 0, "torch.sparse_coo is not supported"),
        ("        return torch.linalg.qr(x.t() @ x)[0]", 4, "linalg_qr (aten::linalg_qr.out): no kernel"),
    ],
)
def test_forward(tmp_path: Path, forward: str, line: int, what: str) -> None:
    head = f"import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n{forward}\n"
    path = script(
        tmp_path, f"{head}def model():\n    return Model()\ndef example_inputs():\n    return torch.ones(1, 3)\n"
    )
    told = message(path)
    assert what in told
    assert told.startswith(f"{path}:{line}:" if line else f"{path}:")


def test_all_unsupported_operators_at_once(tmp_path: Path) -> None:
    head = "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
    forward = (
        "        y = torch.digamma(x)\n        z = torch.relu(y.double())\n        return "
        "torch.lgamma(torch.relu(x)), z\n"
    )
    path = script(
        tmp_path,
        f"{head}{forward}def model():\n    return Model()\ndef example_inputs():\n    return torch.ones(1, 3)\n",
    )
    with pytest.raises(Errors) as caught:
        export(path, tmp_path / "out.pte")
    told = str(caught.value)
    assert len(caught.value.errors) == 3
    assert f"{path}:4: digamma (aten::digamma.out): no kernel for this operator" in told
    assert f"{path}:5: relu (aten::relu.out): the kernel takes float32, not float64" in told
    assert f"{path}:6: lgamma (aten::lgamma.out): no kernel" in told
    assert told.count("hint:") == 3


def test_a_mistake_fails_in_the_module_beside_the_script(tmp_path: Path) -> None:
    beside = script(tmp_path, "import torch\ndef build():\n    return torch.nn.Linear(3, -1)\n", "layers.py")
    told = message(
        script(
            tmp_path, "import layers\ndef model():\n    return layers.build()\ndef example_inputs():\n    return 1\n"
        )
    )
    assert told.startswith(f"{beside}:3: model() failed: RuntimeError")


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        export(tmp_path / "none.py", tmp_path / "out.pte")
    for name in ("model.pt2", "model.onnx"):
        (tmp_path / name).write_bytes(b"nothing")
        message(tmp_path / name)


def test_a_pt2_with_a_dimension_left_open(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(torch.nn.ReLU(), (torch.ones(2, 3),), dynamic_shapes={"input": {0: batch}})
    torch.export.save(exported, tmp_path / "model.pt2")
    assert "has no largest value" in message(tmp_path / "model.pt2")


def test_weights_for_a_model_that_takes_none(tmp_path: Path) -> None:
    import numpy as np

    path = script(tmp_path, RELU)
    np.savez(tmp_path / "weights.npz", a=np.ones(1))
    with pytest.raises(ModelError, match="takes no weights"):
        export(path, tmp_path / "out.pte", weights=tmp_path / "weights.npz")


def test_stock_refuses_operators_of_ours(tmp_path: Path) -> None:
    spec = TensorSpec(DType.FLOAT32, (2,))
    values = {0: Value(0, "x", spec, Role.INPUT), 1: Value(1, "y", spec, Role.OUTPUT)}
    program = Program(
        (Method("forward", values, (Instruction("etexport::wave.out", (Ref(0),), (1,), 0, "wave"),), (0,), (1,)),)
    )
    with pytest.raises(ModelError, match=r"wave \(etexport::wave.out\): stock ExecuTorch has no operators etexport::"):
        _refuse_own_operators(program)
    export(forward_script(tmp_path, "x + 1", "torch.ones(2)"), tmp_path / "out.pte", stock=True)
