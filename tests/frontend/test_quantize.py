"""int8 at the waist: what the quantizer makes of networks, and what users bring quantised themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etexport.errors import ModelError
from etexport.frontend import export
from etexport.kernel.library import load_ops
from etexport.kernel.supported import errors_of
from etexport.program.interface import interface
from etexport.program.model import Array, DType, Instruction, Method, Program, Ref, Role
from etexport.report.quality import quality
from tests.conftest import Int8Net
from tests.frontend.nets import NETS, Net, net_script
from tests.frontend.scripts import exported, read_back, script

QUANTIZE = "quantized_decomposed::quantize_per_tensor.out"
DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor.out"
DEQUANTIZE_CHANNELS = "quantized_decomposed::dequantize_per_channel.out"
SAME_SCALE = (
    "aten::cat.out",
    "aten::max_pool2d_with_indices.out",
    "aten::avg_pool2d.out",
    "aten::slice_copy.Tensor_out",
)


Int8 = Callable[..., tuple[Program, dict[str, Array]]]


@pytest.fixture
def int8(int8_net: Int8Net) -> Int8:
    """int8(name, more): the program of the network of that name, and its arrays."""
    return lambda name, more="": read_back(int8_net(NETS[name], more))


def maker(method: Method, value: Ref) -> Instruction | None:
    return next((one for one in method.instructions if value.id in one.outs), None)


def scale_of(method: Method, value: Ref) -> tuple[object, ...] | None:
    """(scale, zero point) with which a float value is quantised or dequantised right here, whichever side."""
    made = maker(method, value)
    if made is not None and made.op == DEQUANTIZE:
        return made.args[1:3]
    readers = [one for one in method.instructions if value in one.args and one.op == QUANTIZE]
    return readers[0].args[1:3] if readers else None


def stores_again(method: Method, quantise: Instruction) -> bool:
    """In the same scale what is stored already, as a copy or dropout leaves it behind."""
    made = maker(method, Ref(quantise.reads[0]))
    return made is not None and made.op == DEQUANTIZE and made.args[1:5] == quantise.args[1:5]


@pytest.mark.parametrize("name", sorted(NETS))
def test_networks(name: str, int8: Int8) -> None:
    """Close to the float network; every weight int8 in [-127, 127], its float original gone; each activation
    measured."""
    program, arrays = int8(name)
    method = program.method()
    for at in range(len(method.outputs)):
        real, got = arrays[f"float_output_{at}"], arrays[f"output_{at}"]
        if real.dtype.kind == "f":
            noise = ((real.astype(float) - got) ** 2).sum()
            assert 10 * np.log10((real.astype(float) ** 2).sum() / noise) > 20, "dB"
    weights = [method.values[one.reads[0]] for one in method.instructions if one.op == DEQUANTIZE_CHANNELS]
    assert all(
        value.data is not None and value.data.min() >= -127 for value in weights if value.spec.dtype is DType.INT8
    )
    floats = [
        value for value in method.values.values() if value.role is Role.CONSTANT and value.spec.dtype is DType.FLOAT32
    ]
    assert all(len(value.spec.shape) < 2 for value in floats), (
        f"{[value.name for value in floats]}: scales, nothing else"
    )
    activations = quality(arrays)
    quantises = [one for one in method.instructions if one.op == QUANTIZE]
    assert [one.handle for one in activations] == [one.handle for one in quantises if not stores_again(method, one)]
    assert all(one.snr_db > 18 and one.saturated < 0.05 and 0.05 < one.used < 1.5 for one in activations), activations


IMAGE = (1, 3, 9, 8)
CONV = "self.conv, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)"
TRANSPOSED = "self.conv, self.norm = nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6)"
LINEAR = "self.conv, self.norm = nn.Linear(8, 5), nn.BatchNorm1d(5, affine=False)"
ONCE = "return torch.relu(self.norm(self.conv(x)))"
TWICE = "return torch.relu(self.norm(self.conv(x))) - self.other(self.conv(x.flip(3)))"
FOLDED: dict[str, tuple[Net, int]] = {
    "a layer used twice": (Net((CONV, "self.other = self.norm"), (TWICE,), IMAGE), 0),
    "a layer with two norms": (Net((CONV, "self.other = nn.BatchNorm2d(8)"), (TWICE,), IMAGE), 0),
    "a layer with a norm and without": (Net((CONV, "self.other = nn.Identity()"), (TWICE,), IMAGE), 0),
    "a layer that is read otherwise": (
        Net((CONV,), ("y = self.conv(x)", "return y + torch.relu(self.norm(y))"), IMAGE),
        1,
    ),
    "transposed with groups": (Net((TRANSPOSED,), (ONCE,), (1, 4, 4, 5)), 0),
    "weight norm": (Net((CONV, "self.conv = nn.utils.parametrizations.weight_norm(self.conv)"), (ONCE,), IMAGE), 0),
    "older weight norm": (Net((CONV, "self.conv = nn.utils.weight_norm(self.conv)"), (ONCE,), IMAGE), 0),
    "no weights of its own": (Net((LINEAR,), (ONCE,), (2, 8)), 0),
    "no statistics": (Net((CONV, "self.norm = nn.BatchNorm2d(8, track_running_stats=False)"), (ONCE,), IMAGE), 0),
}
"""Networks, and how many batch normalisations are instructions of their own."""


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("name", FOLDED)
def test_batch_normalisations_become_part_of_what_is_before_them(name: str, tmp_path: Path) -> None:
    net, left = FOLDED[name]
    program, arrays = exported(net_script(tmp_path, net), quantize="int8")
    ops = [one.op for one in program.method().instructions]
    assert ops.count("aten::_native_batch_norm_legit_no_training.out") == left, ops
    real, got = arrays["float_output_0"].astype(float), arrays["output_0"]
    assert 10 * np.log10((real**2).sum() / ((real - got) ** 2).sum()) > 25, "dB"


WRITES = {
    "a slice": (
        "y = self.norm(self.conv(x))",
        "z = torch.zeros_like(y)",
        "z[:, :, 1:] = y[:, :, :-1]",
        "return self.last(z)",
    ),
    "an element and a sum": (
        "y = self.norm(self.conv(x))",
        "y[:, 2] = 0.5",
        "y[:, 4, 2:] += 1",
        "return self.last(torch.relu_(y))",
    ),
    "one of the pieces": ("y = self.norm(self.conv(x))", "z, _ = y.chunk(2, 1)", "z.mul_(0.5)", "return self.last(y)"),
    "what a view sees": ("y = self.norm(self.conv(x))", "z = y[:, :4]", "y.relu_()", "return self.last(y)[:, :4] - z"),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_into_parts_of_tensors_arrives(name: str, tmp_path: Path) -> None:
    """torchao's quantise and dequantise would stand between the part and the write."""
    net = Net((CONV, "self.last = nn.Conv2d(8, 8, 1)"), WRITES[name], IMAGE)
    program, arrays = exported(net_script(tmp_path, net), quantize="int8")
    assert [one.op for one in program.method().instructions].count("aten::convolution.out") == 2
    real, got = arrays["float_output_0"].astype(float), arrays["output_0"]
    assert 10 * np.log10((real**2).sum() / ((real - got) ** 2).sum()) > 25, "dB"


def test_what_is_stored_again_has_no_row_of_its_own(tmp_path: Path) -> None:
    """Dropout leaves a second quantise behind; what is concatenated in another scale has the name of what made it."""
    layers = ("self.first = nn.Linear(8, 6)", "self.drop = nn.Dropout(0.3)", "self.second = nn.Linear(6, 4)")
    net = Net(layers, ("x = self.drop(torch.tanh(self.first(x)))", "return self.second(x)"), (2, 8))
    program, arrays = exported(net_script(tmp_path, net), quantize="int8")
    assert sum(one.op == QUANTIZE for one in program.method().instructions) > 4
    assert [one.name.removesuffix("_addmm") for one in quality(arrays)] == ["x", "first", "tanh", "second"]


def test_names_and_lines(int8_net: Int8Net) -> None:
    pte = int8_net(NETS["depthwise"])
    program, _ = read_back(pte)
    found = {one.name: str(one.source) for one in program.method().instructions if one.op == "aten::convolution.out"}
    lines = (pte.parent / "model.py").read_text().splitlines()
    assert set(found) == {"first", "depthwise", "pointwise"}
    for layer, place in found.items():
        file, _, line = place.partition(":")
        assert file == "model.py" and f"self.{layer}(" in lines[int(line) - 1]


def test_the_floats_are_not_in_the_file(tmp_path: Path) -> None:
    path = net_script(tmp_path, NETS["linear"], "", samples=1)
    export(path, tmp_path / "f.pte")
    export(path, tmp_path / "i.pte", quantize="int8")
    weights = 20 * 16 + 16 * 7
    whole, small = ((tmp_path / name).stat().st_size for name in ("f.pte", "i.pte"))
    program, _ = exported(path, quantize="int8")
    constants = sum(value.spec.nbytes for value in program.method().values.values() if value.role is Role.CONSTANT)
    assert whole > 4 * weights
    per_channel = 16 + 7
    # scales and zero points; biases with theirs
    assert constants <= weights + per_channel * (4 + 8) + 16 * (4 + 4 + 4 + 4)
    assert small < whole + 4000, "more instructions, fewer constants"


def test_the_same_bytes_again(tmp_path: Path) -> None:
    path = net_script(tmp_path, NETS["squeeze_excite"])
    for name in ("a", "b"):
        export(path, tmp_path / f"{name}.pte", quantize="int8")
    for suffix in (".pte", ".npz"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["concatenation", "pools", "movement", "upsampling"])
def test_movement_and_pooling_keep_the_scale(name: str, int8: Int8) -> None:
    method = int8(name)[0].method()
    seen = 0
    for instruction in method.instructions:
        if instruction.op in SAME_SCALE or "upsample" in instruction.op:
            operands = instruction.args[0] if isinstance(instruction.args[0], tuple) else instruction.args[:1]
            scales = {
                scale_of(method, ref) for ref in (*operands, Ref(instruction.outs[0])) if isinstance(ref, Ref)
            } - {None}
            assert len(scales) == 1, f"{instruction.name}: {scales}"
            seen += 1
    assert seen


@pytest.mark.parametrize(("name", "operators"), [("own_silu", 4), ("gelu_chain", 4), ("hardswish", 3), ("silu", 2)])
def test_elementwise_operators_have_no_scales_between(name: str, operators: int, int8: Int8) -> None:
    method = int8(name)[0].method()
    assert sum(one.op == QUANTIZE for one in method.instructions) == 3, "input, convolution, result"
    assert sum("decomposed" not in one.op for one in method.instructions) - 1 >= operators - 1


def test_known_scales_are_kept(int8: Int8) -> None:
    method = int8("attention")[0].method()
    softmax = next(one for one in method.instructions if one.op == "aten::_softmax.out")
    product = method.instructions[-3]
    assert product.op == "aten::bmm.out"
    assert scale_of(method, Ref(softmax.outs[0])) == (1 / 256, -128) == scale_of(method, product.args[0])  # type: ignore[arg-type]
    assert sum(one.args[1:3] == (1 / 256, -128) for one in method.instructions if one.op == QUANTIZE) == 1


def test_a_layer_kept_in_float(int8: Int8) -> None:
    program, _ = int8("depthwise", 'keep_float = ["depthwise"]\n')
    method = program.method()
    convolutions = {one.name: one for one in method.instructions if one.op == "aten::convolution.out"}
    for name, one in convolutions.items():
        weight = one.args[1]
        assert isinstance(weight, Ref)
        made = maker(method, weight)
        assert (made is None) == (name == "depthwise")
    kept = method.values[convolutions["depthwise"].args[1].id]  # type: ignore[union-attr]
    assert kept.spec.dtype is DType.FLOAT32 and kept.data is not None


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="keep_float names deepwise, which the model does not have") as caught:
        exported(net_script(tmp_path / "a", NETS["depthwise"], 'keep_float = ["deepwise"]\n'), quantize="int8")
    assert "depthwise" in caught.value.hint and caught.value.where.endswith("model.py")
    nothing = Net((), ("return x.var(1)",), (2, 8))
    with pytest.raises(ModelError, match="nothing in this network can be computed in int8"):
        exported(net_script(tmp_path / "n", nothing), quantize="int8")
    path = net_script(tmp_path / "b", NETS["linear"], "del calibration\n")
    with pytest.raises(ModelError, match=r"int8 needs a function calibration\(\)") as caught:
        exported(path, quantize="int8")
    assert caught.value.where.endswith("model.py") and caught.value.hint
    _, arrays = exported(net_script(tmp_path / "c", NETS["linear"], "int8_io = True\n"))
    assert arrays["input_0"].dtype == np.float32, "float32 has no int8 inputs"
    with pytest.raises(ModelError, match="int8_io = 1 is neither True nor False"):
        exported(net_script(tmp_path / "d", NETS["linear"], "int8_io = 1\n"))
    with pytest.raises(ModelError, match=r"2 classes are named, and the first output has \d+ elements"):
        exported(net_script(tmp_path / "e", NETS["linear"], 'classes = ("yes", "no")\n'))
    with pytest.raises(ModelError, match=r"classes = \('one',\) is no list of at least two names"):
        exported(net_script(tmp_path / "f", NETS["linear"], 'classes = ("one",)\n'))


STATEFUL = """\
import torch
from torch import nn
quantize = "int8"
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.fc = nn.Linear(8, 8)
        self.register_buffer("sum", torch.zeros(1, 8))
        self.register_buffer("count", torch.full((1,), 5))
        self.register_buffer("gain", torch.full((1, 1), 8.0))
        self.register_buffer("order", torch.arange(4.0).reshape(1, 4))
    def forward(self, x):
        self.sum.copy_(self.sum + x)
        self.count.add_(1)
        self.gain.mul_(0.5)
        self.order.copy_(self.order.roll(1, 1))
        return self.fc(x + self.sum), self.count.clone(), self.gain.clone(), self.order.clone()
def model():
    return Model()
def example_inputs():
    return torch.zeros(1, 8)
def samples():
    return torch.rand(20, 1, 8, generator=torch.Generator().manual_seed(1))
def calibration():
    return torch.rand(40, 1, 8, generator=torch.Generator().manual_seed(2))
"""


def test_states_run_on_during_calibration_and_begin_as_the_script_says(tmp_path: Path) -> None:
    """What is added up reaches 40 times what one sample holds; what changes by itself does so once a sample, and not at
    export."""
    program, arrays = exported(script(tmp_path, STATEFUL))
    method = program.method()
    states = {value.name: value for value in method.values.values() if value.role is Role.STATE}
    assert states["sum"].data is None or not states["sum"].data.any()
    assert {name: states[name].data.tolist() for name in ("count", "gain", "order")} == {  # type: ignore[union-attr]
        "count": [5], "gain": [[8.0]], "order": [[0.0, 1.0, 2.0, 3.0]],
    }  # fmt: skip
    for at, largest in ((1, 0.0), (2, 8.0), (3, 3.0)):  # a state is stored in steps of its range
        np.testing.assert_allclose(arrays[f"output_{at}"], arrays[f"float_output_{at}"], atol=1.001 * largest / 255 / 2)
    assert arrays["output_1"].tolist() == [[6 + at] for at in range(20)]
    real, got = arrays["float_output_0"].astype(float), arrays["output_0"]
    assert 10 * np.log10((real**2).sum() / ((real - got) ** 2).sum()) > 35, "dB"
    assert all(one.saturated == 0 and one.snr_db > 30 for one in quality(arrays)), (
        "of the run, not of the first sample again and again"
    )


# ---- what users quantise themselves ----------------------------------------------------------------------------------

OWN = """\
import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from etexport.frontend.quantize.quantizer import MicrocontrollerQuantizer

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=BIAS)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(x.mean((2, 3)))

def data():
    return torch.randn(4, 3, 8, 8)

def prepared():
    graph = prepare_pt2e(torch.export.export(Model().eval(), (data(),)).module(), MicrocontrollerQuantizer())
    for _ in range(4):
        graph(data())
    return graph

@torch.enable_grad()
def trained():
    graph = prepare_qat_pt2e(torch.export.export(Model().train(), (data(),)).module(), MicrocontrollerQuantizer(training=True))
    optimizer = torch.optim.SGD(graph.parameters(), 0.003)
    for _ in range(20):
        optimizer.zero_grad()
        (graph(data()) - 1).square().mean().backward()
        optimizer.step()
    return graph

def example_inputs():
    return data()

def samples():
    return torch.randn(3, 4, 3, 8, 8)
"""  # noqa: E501


def own(folder: Path, made: str, bias: bool = True, more: str = "") -> Path:
    return script(folder, OWN.replace("BIAS", str(bias)) + f"def model():\n    return {made}\n" + more)


@pytest.mark.parametrize(
    ("made", "bias"),
    [("convert_pt2e(prepared())", True), ("prepared()", True), ("trained()", True), ("trained()", False)],
)
@pytest.mark.parametrize("more", ["", 'quantize = "int8"\n'])
def test_own_models_are_taken_as_they_are(made: str, bias: bool, more: str, tmp_path: Path) -> None:
    """Whether prepared, trained or converted by the user: no calibration is asked for, nothing of it remains but q and
    dq."""
    program, arrays = exported(own(tmp_path, made, bias, more))
    method = program.method()
    counts: dict[str, int] = defaultdict(int)
    for one in method.instructions:
        counts[one.op] += 1
    assert counts[QUANTIZE] == 4 and counts["aten::convolution.out"] == counts["aten::relu.out"] == 1, counts
    assert not any("norm" in op or "fake" in op or op in ("aten::div.out", "aten::sqrt.out") for op in counts), counts
    assert counts[DEQUANTIZE_CHANNELS] >= 3, "weights, and biases where layers have them"
    if "convert" not in made:
        activations = quality(arrays)
        assert [one.snr_db > least for one, least in zip(activations, (30, 30, 20, 10), strict=True)] == [True] * 4, (
            activations
        )


def test_transposed_convolutions_are_trained_by_their_output_channels(tmp_path: Path) -> None:
    """Their weights are (in, out, ...): a scale for each of the 5 and 6 outputs, and biases with these."""
    layers = "nn.ConvTranspose2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(), nn.ConvTranspose2d(5, 6, 2)"
    program, _ = exported(
        own(tmp_path, "trained()", more=f"def Model():\n    return nn.Sequential({layers}, nn.Flatten(2))\n")
    )
    method = program.method()
    scales = [method.values[one.args[1].id].spec.shape for one in method.instructions if one.op == DEQUANTIZE_CHANNELS]  # type: ignore[union-attr]
    assert sorted(scales) == [(5,), (5,), (6,), (6,)]


def test_padding_by_name_is_trained_like_padding_by_numbers(tmp_path: Path) -> None:
    """torchao folds batch normalisation only behind convolutions whose padding is in numbers."""
    layers = 'nn.Conv2d(3, 5, 4, padding="same"), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(2)'
    program, _ = exported(own(tmp_path, "trained()", more=f"def Model():\n    return nn.Sequential({layers})\n"))
    ops = [one.op for one in program.method().instructions if "decomposed" not in one.op]
    assert ops == ["aten::constant_pad_nd.out", "aten::convolution.out", "aten::relu.out", "aten::view_copy.out"], ops


def test_what_batch_normalisation_counts_while_it_is_trained_is_left_out(tmp_path: Path) -> None:
    layers = "nn.Conv2d(3, 5, 3), nn.ReLU(), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1), nn.Flatten(2)"
    program, _ = exported(own(tmp_path, "trained()", more=f"def Model():\n    return nn.Sequential({layers})\n"))
    method = program.method()
    roles = {value.role for value in method.values.values()}
    assert Role.STATE not in roles and not any(
        "copy_" in one.op or one.op == "aten::add.out" for one in method.instructions
    )


def test_a_saved_program_with_quantise_operators(tmp_path: Path) -> None:
    save = "torch.export.save(torch.export.export(convert_pt2e(prepared()), (data(),)), 'FILE')\n"
    file = tmp_path / "own.pt2"
    own(tmp_path, "None")
    namespace: dict[str, object] = {"__name__": "own"}
    exec((tmp_path / "model.py").read_text() + save.replace("FILE", str(file)), namespace)
    for quantize in (None, "int8"):
        program, _ = exported(file, tmp_path / "out.pte", quantize=quantize)
        assert sum(one.op == QUANTIZE for one in program.method().instructions) == 4


def test_a_saved_float_program_cannot_be_quantised(tmp_path: Path) -> None:
    file = tmp_path / "own.pt2"
    own(tmp_path, "None")
    save = f"torch.export.save(torch.export.export(Model().eval(), (data(),)), {str(file)!r})\n"
    exec((tmp_path / "model.py").read_text() + save, {"__name__": "own"})
    with pytest.raises(ModelError, match=r"a \.pt2 is quantised before it is saved"):
        exported(file, tmp_path / "out.pte", quantize="int8")


# ---- int8 inputs and outputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv_bn_relu", "linear", "largest_class", "movement", "difference"])
def test_int8_inputs_and_outputs(name: str, int8: Int8) -> None:
    program, arrays = int8(name, "int8_io = True\n")
    real_program, reals = int8(name)
    method, real_method = program.method(), real_program.method()
    assert all(method.values[one].spec.dtype is not DType.FLOAT32 for one in (*method.inputs, *method.outputs))
    boundary = 1 + sum(real_method.values[one].spec.dtype is DType.FLOAT32 for one in real_method.outputs)
    assert len(method.instructions) >= len(real_method.instructions) - boundary
    said = interface(program, method)
    for what, ids, known in (("input", method.inputs, said.inputs), ("output", method.outputs, said.outputs)):
        scales, zeros = arrays[f"{what}_scales"], arrays[f"{what}_zero_points"]
        for at, (value, one) in enumerate(zip(ids, known, strict=True)):
            assert (one is not None) == (method.values[value].spec.dtype is DType.INT8)
            assert one is None or (one.scales, one.zero_points) == ((scales[at],), (zeros[at],))
            if method.values[value].spec.dtype is not DType.INT8:
                np.testing.assert_array_equal(arrays[f"{what}_{at}"], reals[f"{what}_{at}"])
                continue
            restored = (arrays[f"{what}_{at}"].astype(np.float32) - zeros[at]) * np.float32(scales[at])
            half = 0.5 * scales[at] * 1.001 if what == "input" else 1e-5
            inside = np.abs(arrays[f"{what}_{at}"].astype(int) * 2 + 1) < 255
            np.testing.assert_allclose(restored[inside], reals[f"{what}_{at}"][inside], rtol=0, atol=half)
    assert [quality(arrays)[-1].snr_db] == [quality(reals)[-1].snr_db]


def test_an_int8_output_that_is_read_in_float_as_well(tmp_path: Path) -> None:
    """With channels last, where the output is another arrangement of what is read."""
    net = Net((CONV,), ("y = self.norm(self.conv(x))", "return y, torch.cumsum(y, 3)"), IMAGE)
    program, arrays = exported(net_script(tmp_path, net, "int8_io = True\nchannels_last = True\n"), quantize="int8")
    method = program.method()
    assert not errors_of(method, load_ops())
    assert [method.values[one].spec.dtype for one in method.outputs] == [DType.INT8, DType.FLOAT32]
    real = (arrays["output_0"].astype(np.float32) - arrays["output_zero_points"][0]) * np.float32(
        arrays["output_scales"][0]
    )
    np.testing.assert_allclose(arrays["output_1"], np.cumsum(real, -1), atol=1e-4)
