"""Weights in few bits from the script to what a core is given: they stay as they are stored, and the results are those
of the same network in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from etexport.board import load_board
from etexport.errors import ModelError
from etexport.frontend import export
from etexport.kernel.call import Const
from etexport.kernel.library import load_ops
from etexport.kernel.weights import NO_ROWS
from etexport.program import pte
from etexport.program.model import Array, Ref
from etexport.specialise.model import Placed
from etexport.stages.place import place, planned
from tests.frontend.few_bits import IMAGES, ROWS_IN_INTEGERS, SCRIPT, with_more
from tests.frontend.scripts import read_back, script
from tests.specialise.interpret import interpret

M4 = load_board("qemu_mps2_an386")

IN_IMAGES = {"first": 32 * 27, "each": 32 * 9, "across": 8 * 32, "up": 8 * 4 * 4, "along": 4 * 48}
CHANNELS = 32 + 32 + 8 + 4 + 4
WEIGHTS = {"table": 20 * 64, "first": 24 * 64, "last": 6 * 24}


def made(folder: Path, more: str = "", quantize: str = "float32", text: str = SCRIPT, stock: bool = True) -> Placed:
    """What the M4 is given; its outputs, by the operators' numpy meanings, are PyTorch's."""
    path = script(folder, with_more(text, more))
    out = folder / "model.pte"
    export(path, out, quantize=quantize, stock=stock)
    library = load_ops()
    (((placed,), _),), _ = place([out], M4, library, optimize="speed", planner=planned(None))
    _, arrays = read_back(out)
    for given, wanted in zip(arrays["input_0"], arrays["output_0"], strict=True):
        (got,) = interpret(placed, library, [given])
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    return placed


def constants(placed: Placed) -> int:
    """Bytes of what the kernels read from flash."""
    operands = [one for step in placed.specialised.calls.values() for one in step.call.operands]
    return sum(one.data.nbytes for one in operands if isinstance(one, Const) and one.data is not None)


def signal(arrays: Mapping[str, Array]) -> float:
    """Against float PyTorch, in dB."""
    noise = arrays["output_0"] - arrays["float_output_0"]
    return float(10 * np.log10((arrays["float_output_0"] ** 2).sum() / (noise**2).sum()))


@pytest.mark.parametrize(
    ("word", "bits", "least_db"),
    [("int8-weights", 8, 36.0), ("int4-weights", 4, 15.0), ("bf16-weights", 16, 45.0), ("fp16-weights", 16, 60.0)],
)
def test_script(word: str, bits: int, least_db: float, tmp_path: Path) -> None:
    placed = made(tmp_path, quantize=word)
    # a scale for each row, in 4 bits for each 32 elements of one; rows of `last` have no whole 32. The M4 multiplies
    # what is a float by 1, and takes eight rows of 4 bits together, also of the table's 20
    scales = {8: 20 + 24 + 6, 4: 2 * (24 + 24) + 6, 16: 2}[bits]
    filled = 4 * 64 if bits == 4 else 0
    assert constants(placed) == (sum(WEIGHTS.values()) + filled) * bits // 8 + 4 * (scales + 24)
    assert (placed.specialised.weights, placed.specialised.in_float) == (word.removesuffix("-weights"), ())
    _, arrays = read_back(tmp_path / "model.pte")
    assert signal(arrays) > least_db


@pytest.mark.parametrize(("word", "bits", "least_db"), [("int4-weights", 4, 15.0), ("fp16-weights", 16, 60.0)])
def test_convolutions(word: str, bits: int, least_db: float, tmp_path: Path) -> None:
    """Dense, depthwise, 1x1, transposed, of images and of a sequence, behind each a bias."""
    placed = made(tmp_path, quantize=word, text=IMAGES)
    assert placed.specialised.in_float == ()
    scales = CHANNELS if bits == 4 else 0
    assert constants(placed) == sum(IN_IMAGES.values()) * bits // 8 + 4 * (scales + CHANNELS)
    _, arrays = read_back(tmp_path / "model.pte")
    assert signal(arrays) > least_db


def test_layers_that_the_script_keeps_in_float(tmp_path: Path) -> None:
    text = 'keep_float = ["first"]\n' + SCRIPT
    placed = made(tmp_path, quantize="int8-weights", text=text)
    kernels = [step.call.header for step in placed.specialised.calls.values()]
    assert kernels == ["few_bits/fixed_m4f.h", "convolution/m4f.h", "few_bits/m4f.h"]


@pytest.mark.parametrize("word", ["int8-weights", "int4-weights", "bf16-weights"])
def test_tied_table(word: str, tmp_path: Path) -> None:
    """An output layer that has an embedding's weights reads the very bytes that the embedding reads."""
    text = SCRIPT.replace("nn.Linear(24, 6, bias=False)", "nn.Linear(64, 20, bias=False)").replace(
        "self.last(torch.relu(self.first(self.table(x))))", "self.last(torch.tanh(self.table(x)))"
    )
    placed = made(tmp_path, "net.last.weight = net.table.weight", quantize=word, text=text)
    read = [
        [one.data.tobytes() for one in step.call.operands if isinstance(one, Const) and one.name == "weight"]
        for step in placed.specialised.calls.values()
        if step.call.header.startswith("few_bits/")
    ]
    assert len(read) == 2 and read[0] == read[1] != [b""]


@pytest.mark.parametrize(("word", "operator", "nbytes"), [("int8-weights", "byte", 64), ("int4-weights", "4bit", 32)])
def test_table_by_executorchs_operator(word: str, operator: str, nbytes: int, tmp_path: Path) -> None:
    """In the file; what else the network has to say of its weights is the same."""
    text = SCRIPT.replace("self.last(torch.relu(self.first(self.table(x))))", "self.table(x)")
    placed = made(tmp_path, quantize=word, text=text)
    method = pte.read((tmp_path / "model.pte").read_bytes()).method()
    (only,) = method.instructions
    assert only.op == f"quantized_decomposed::embedding_{operator}.out"
    assert isinstance(only.args[0], Ref)
    assert method.values[only.args[0].id].spec.shape == (20, nbytes)
    assert placed.specialised.weights == word.removesuffix("-weights")


def test_network_without_weights(tmp_path: Path) -> None:
    path = script(
        tmp_path, "import torch\ndef model(): return torch.nn.ReLU()\ndef example_inputs(): return torch.ones(3)"
    )
    with pytest.raises(ModelError, match="no layer or embedding has weights to be stored in few bits"):
        export(path, tmp_path / "model.pte", quantize="int4-weights")


def test_torchao_groups(tmp_path: Path) -> None:
    """Groups of a linear layer's row, with zero points; an embedding beside them in float."""
    more = """\
from torchao.quantization import quantize_, IntxWeightOnlyConfig, MappingType
from torchao.quantization.granularity import PerGroup
config = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(8), mapping_type=MappingType.ASYMMETRIC)
quantize_(net, config)"""
    placed = made(tmp_path, more)
    assert [step.call.variant for step in placed.specialised.calls.values()][1:] == ["portable", "portable"]
    groups = (WEIGHTS["first"] + WEIGHTS["last"]) // 8
    assert constants(placed) == groups * (4 + 4 + 1) + 4 * 24


def test_torchao_groups_of_convolutions(tmp_path: Path) -> None:
    """Groups of a tap's inputs. With fewer than 8 of them a scale would be as large as they are: that layer is in
    float."""
    more = """\
from torchao.quantization import quantize_, IntxWeightOnlyConfig
from torchao.quantization.granularity import PerGroup
config = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(16))
quantize_(net, config, lambda layer, name: name == "across")
quantize_(net, IntxWeightOnlyConfig(weight_dtype=torch.int4), lambda layer, name: name == "first")"""
    placed = made(tmp_path, more, text=IMAGES)
    (first,) = placed.specialised.in_float
    assert (first.instruction.op, first.reason) == ("aten::convolution.out", f"its weights are float32: {NO_ROWS}")
    groups = IN_IMAGES["across"] // 16
    in_float = sum(IN_IMAGES.values()) - IN_IMAGES["across"]
    assert constants(placed) == groups * (8 + 4) + 4 * (in_float + CHANNELS)


@pytest.mark.parametrize("granularity", ["PerRow()", "PerTensor()"])
def test_torchao_int8(granularity: str, tmp_path: Path) -> None:
    more = f"""\
from torchao.quantization import quantize_, Int8WeightOnlyConfig
from torchao.quantization.granularity import PerRow, PerTensor
quantize_(net, Int8WeightOnlyConfig(granularity={granularity}))"""
    placed = made(tmp_path, more)
    assert [step.call.variant for step in placed.specialised.calls.values()][1:] == ["fixed", "m4f"]
    assert constants(placed) == WEIGHTS["first"] + WEIGHTS["last"] + 4 * (24 + 24 + 6)


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_weights_in_16_bits(kind: str, tmp_path: Path) -> None:
    """A network that makes float32 of weights where it reads them; what else it does with them is computed before."""
    text = """\
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(24, 16).{more}()), nn.Parameter(torch.randn(24).{more}())
        self.norm = nn.LayerNorm(24)
    def forward(self, x):
        return self.norm(x @ self.w.t().float() + (self.b * 2).float())
def model():
    return Net()
def example_inputs():
    return (torch.ones(2, 16),)
"""
    placed = made(tmp_path, kind, text=text)
    assert placed.specialised.weights == {"half": "fp16", "bfloat16": "bf16"}[kind]
    few = [step.call for step in placed.specialised.calls.values() if step.call.header == "few_bits/m4f.h"]
    weights = [one.data for one in few[0].operands if isinstance(one, Const) and one.name == "weight"]
    assert [one.nbytes for one in weights if one is not None] == [24 * 16 * 2]


def test_torchao_dynamic_activations(tmp_path: Path) -> None:
    """Rows of int8 with scales of their own, weights in 4 bits: sums are integers. torchao's own arithmetic is traced,
    ours is what PyTorch is told of the operator."""
    placed = made(tmp_path, ROWS_IN_INTEGERS, stock=False)
    calls = [step.call for step in placed.specialised.calls.values()]
    # 24 rows are whole blocks of eight, 6 would be filled up by a third
    kernels = [(one.header, one.variant) for one in calls[1:]]
    assert kernels == [("few_bits/dynamic_m4f.h", "fixed"), ("few_bits/dynamic_dsp.h", "dsp")]
    groups = (WEIGHTS["first"] + WEIGHTS["last"]) // 8
    assert constants(placed) == groups * (4 + 4) + 4 * 24


def test_decoder(tmp_path: Path) -> None:
    """The one that docs/bench.md has figures of: every matrix stays in 4 bits, and a scale is 4 bytes for 32."""
    out, words, width, hidden = tmp_path / "model.pte", 256, 64, 192
    export(Path("benchmarks/few_bits/decoder.py"), out, quantize="int4-weights")
    (((placed,), _),), _ = place([out], M4, load_ops(), optimize="speed", planner=planned(None))
    numbers = 2 * words * width + 4 * width * width + 3 * width * hidden
    assert placed.specialised.in_float == ()
    few = [step.call for step in placed.specialised.calls.values() if step.call.header.startswith("few_bits")]
    stored = [
        one.data.nbytes for call in few for one in call.operands if isinstance(one, Const) and one.data is not None
    ]
    assert sum(stored) == numbers // 2 + numbers // 32 * 4
