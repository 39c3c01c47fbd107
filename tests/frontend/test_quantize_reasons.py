"""What the quantizer leaves in float, and why: the words go with the instructions into `model.npz`, whatever they are
decomposed into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.passes import pipeline
from etexport.plan import plan
from etexport.report.quality import reasons
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise
from tests.frontend.nets import Net, net_script
from tests.frontend.scripts import exported, script
from tests.specialise.interpret import interpret

FC = "self.fc = nn.Linear(8, 8)"
CONV = "self.conv = nn.Conv2d(3, 6, 3)"
QKV = "self.qkv = nn.Linear(8, 24)"
UP = "self.up = nn.ConvTranspose2d(6, 4, 3, groups=2)"
BILINEAR = "scale_factor=2, mode='bilinear'"
CHUNKS = "*self.qkv(x).chunk(3, -1)"


def left_in_float(net: Net, folder: Path, more: str = "") -> dict[str, str]:
    """The words for each instruction that computes in float on a board, by name; "" where only the board's side
    knows."""
    program, _ = exported(net_script(folder, net, more), folder / "model.pte", quantize="int8")
    library = load_ops()
    specialised = specialise(pipeline.run(program, library), Target(frozenset()), library)
    words = reasons(folder / "model.npz")
    return {one.instruction.name: words.get(one.instruction.handle, "") for one in specialised.in_float}


@pytest.mark.parametrize(
    ("layers", "forward", "shape", "names", "reason"),
    [
        (
            (FC, "self.norm = nn.RMSNorm(8)"),
            "self.fc(self.norm(x))",
            (1, 4, 8),
            {"norm_pow", "norm_mean"},
            "RMS norm: the mean",
        ),
        (
            (FC,),
            "F.log_softmax(self.fc(x), -1)",
            (2, 8),
            {"log_softmax"},
            "log_softmax: logarithms of small probabilities",
        ),
        (
            (CONV,),
            f"F.interpolate(self.conv(x), {BILINEAR})",
            (1, 3, 6, 6),
            {"upsample_bilinear2d"},
            "bilinear resizing",
        ),
        ((FC,), "self.fc(x) / (self.fc(2 * x).abs() + 1)", (2, 8), {"div"}, "a quotient of two tensors"),
        ((FC,), "self.fc(x).var(1)", (2, 8), {"var"}, "the spread of activations"),
        ((FC,), "self.fc(x).cumsum(1)", (2, 8), {"cumsum"}, "cumsum has no integer form"),
        (
            (UP, "self.last = nn.Conv2d(4, 3, 1)"),
            "self.last(self.up(x))",
            (1, 6, 5, 5),
            {"up"},
            "a transposed convolution with groups",
        ),
    ],
)
def test_operators_without_an_integer_form(
    layers: tuple[str, ...], forward: str, shape: tuple[int, ...], names: set[str], reason: str, tmp_path: Path
) -> None:
    found = left_in_float(Net(layers, (f"return {forward}",), shape), tmp_path)
    assert names <= set(found) and not {"fc", "conv", "qkv", "last"} & set(found), found
    assert all(words.startswith(reason) for words in found.values()), found


def test_masks(tmp_path: Path) -> None:
    """Scores under a mask are integers, whatever reads them; what is masked for anything but a softmax is not."""
    layers = (FC, QKV, 'self.register_buffer("mask", torch.ones(6, 6).tril() > 0)')
    forward = (
        f"x = F.scaled_dot_product_attention({CHUNKS}, is_causal=True)", "y = self.fc(x)",
        "s = (y @ y.transpose(1, 2)).masked_fill(~self.mask, float('-inf'))",
        "return torch.softmax(s, -1) @ y, y.masked_fill(y < 0, -1e9).amax(-1)",
    )  # fmt: skip
    found = left_in_float(Net(layers, forward, (1, 6, 8)), tmp_path)
    (fill,) = (name for name in found if name.startswith("where"))
    assert set(found) == {fill, "amax"}
    assert found[fill].startswith("it masks with what stands for minus infinity")
    assert found["amax"].startswith("it reads what a mask fills")


def test_numbers_in_other_units_are_no_masks(tmp_path: Path) -> None:
    """Pascals beside kelvins: what takes the mean off stays in float, and the reason speaks of the numbers."""
    layers = (FC, 'self.register_buffer("mean", torch.tensor([101325.0, *7 * [293.0]]))')
    found = left_in_float(Net(layers, ("return self.fc((x - self.mean) / (self.mean / 8))",), (2, 8)), tmp_path)
    assert found and "fc" not in found
    assert all(
        words.startswith("it computes with 101325 beside numbers of at most 293:") for words in found.values()
    ), found


def test_layers_that_the_script_keeps(tmp_path: Path) -> None:
    net = Net(
        (FC, "self.last = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))"),
        ("return self.last(self.fc(x))",),
        (2, 8),
    )
    found = left_in_float(net, tmp_path, 'keep_float = ["last.0", "last.1"]\n')
    assert found and set(found.values()) == {"the script keeps last.0 in float", "the script keeps last.1 in float"}


def test_float_programs_have_no_reasons(tmp_path: Path) -> None:
    _, arrays = exported(
        net_script(tmp_path, Net((FC,), ("return self.fc(x).var(1)",), (2, 8))), tmp_path / "model.pte"
    )
    assert "float_reasons" not in arrays and reasons(tmp_path / "model.npz") == {}


OWN = """\
import torch
from torch import nn
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationSpec
from etexport.frontend.quantize.quantizer import MicrocontrollerQuantizer

def model():
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4), nn.Sigmoid(), nn.Linear(4, 2))
    quantizer = MicrocontrollerQuantizer()
    quantizer.activation = QuantizationSpec(torch.int16, MinMaxObserver, -32768, 32767, torch.per_tensor_symmetric)
    prepared = prepare_pt2e(torch.export.export(network.eval(), (example_inputs(),)).module(), quantizer)
    prepared(example_inputs())
    return prepared

def example_inputs():
    return torch.randn(1, 3, 6, 6)
"""  # noqa: E501


def test_activations_of_16_bits_are_computed_in_float(tmp_path: Path) -> None:
    """As their program says; what is stored between is int16."""
    program, arrays = exported(script(tmp_path, OWN), tmp_path / "model.pte")
    library = load_ops()
    specialised = specialise(pipeline.run(program, library), Target(frozenset()), library)
    found = {one.instruction.op: one.reason for one in specialised.in_float}
    assert (
        found["aten::convolution.out"] == "its result is stored as int16"
        and found["aten::sigmoid.out"] == "its result is not quantised"
    )
    the_problem = problem(specialised)
    (got,) = interpret(Placed(specialised, the_problem, plan(the_problem)), library, [arrays["input_0"][0]])
    np.testing.assert_allclose(got, arrays["output_0"][0], rtol=0, atol=1e-4)
