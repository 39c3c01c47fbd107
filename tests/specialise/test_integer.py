"""Integer programs against torchao's converted graph, operator by operator: each gets that graph's own int8 operands,
and may differ from its int8 result by one step at most. Then whole runs, on the bytes of the placed program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from etexport.frontend import export
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.plan import plan, validate
from etexport.program.model import Array, DType, Method, Value
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise
from tests.conftest import Int8Net
from tests.frontend.nets import NETS, Net
from tests.frontend.scripts import read_back, script
from tests.specialise.interpret import interpret

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {name: ROOT / "examples" / "mlperf_tiny" / f"{name}.py" for name in ("kws", "ic", "vww", "ad")}
EXAMPLES["digits"] = ROOT / "examples" / "digits" / "model.py"
TABLE = "cortex_m::quantized_activation.out"
EDGES = ("cortex_m::quantize_per_tensor.out", "cortex_m::dequantize_per_tensor.out")


@pytest.fixture(scope="module")
def library() -> Library:
    return load_ops()


@dataclass(frozen=True, eq=False)
class Built:
    waist: Method
    placed: Placed
    arrays: dict[str, Array]

    def ops(self) -> Counter[str]:
        return Counter(step.instruction.op for step in self.placed.specialised.calls.values())

    def inputs(self, sample: int) -> list[Array]:
        return [self.arrays[f"input_{at}"][sample] for at in range(len(self.waist.inputs))]


def build(pte: Path, library: Library) -> Built:
    program, arrays = read_back(pte)
    specialised = specialise(program, Target(frozenset()), library)
    the_problem = problem(specialised)
    solution = plan(the_problem)
    validate(the_problem, solution)
    return Built(program.method(), Placed(specialised, the_problem, solution), arrays)


def exported(script: Path, folder: Path) -> Path:
    export(script, folder / "model.pte", quantize="int8")
    return folder / "model.pte"


def check_operators(built: Built, library: Library) -> Counter[int]:
    """How many elements differ by how much, after comparing each int8 result that torchao's graph has too."""
    reference = {
        one.outs[0]: built.arrays[f"step_{one.handle}"]
        for one in built.waist.instructions
        if f"step_{one.handle}" in built.arrays
    }
    reference.update(seen_through_views(built, reference))
    differences: Counter[int] = Counter()
    compared = set()

    def watch(value: Value, result: Array) -> Array:
        wanted = reference.get(value.id)
        if wanted is None:
            return result
        assert result.shape == wanted.shape, f"{value.name}: {result.shape} where {wanted.shape} belongs"
        if wanted.dtype == np.int8:
            apart = np.abs(result.astype(int) - wanted)
            assert apart.max() <= 1, (
                f"{value.name}: {apart.max()} steps apart, {(apart > 1).sum()} of {apart.size} elements more than one"
            )
            differences.update(apart.ravel().tolist())
            compared.add(value.id)
        return wanted

    interpret(built.placed, library, built.inputs(0), watch=watch)
    made = {
        out
        for step in built.placed.specialised.calls.values()
        for out in step.instruction.outs
        if step.instruction.op not in EDGES
    }
    int8 = {one for one in made & set(reference) if reference[one].dtype == np.int8}
    assert int8 <= compared and int8
    return differences


def seen_through_views(built: Built, reference: Mapping[int, Array]) -> dict[int, Array]:
    """References of results that torchao's graph quantises only after a view: the fusion names them after what is
    quantised there."""
    int8 = {one: array for one, array in reference.items() if array.dtype == np.int8}
    named = {f"{built.waist.values[one].name}_q": array for one, array in int8.items()}
    made = [
        value
        for step in built.placed.specialised.calls.values()
        for value in step.instruction.outs
        if value not in reference
    ]
    values = [built.placed.specialised.method.values[one] for one in made]
    return {value.id: named[value.name].reshape(value.spec.shape) for value in values if value.name in named}


def check_run(built: Built, library: Library, samples: int, decibel: float) -> None:
    """Whole runs: the difference to torchao's converted network is small beside its outputs."""
    for sample in range(min(samples, len(built.arrays["input_0"]))):
        outputs = interpret(built.placed, library, built.inputs(sample))
        for at, got in enumerate(outputs):
            wanted = built.arrays[f"output_{at}"][sample]
            assert got.dtype == wanted.dtype
            if wanted.dtype == np.int64:
                np.testing.assert_array_equal(got, wanted)
                continue
            noise = ((got.astype(float) - wanted) ** 2).mean()
            spread = ((wanted.astype(float) - wanted.mean()) ** 2).mean()
            assert noise <= spread * 10 ** (-decibel / 10) or noise <= 1, (
                f"sample {sample}: noise {noise}, signal {spread}"
            )


@pytest.mark.parametrize("name", sorted(NETS))
def test_networks(name: str, int8_net: Int8Net, library: Library) -> None:
    built = build(int8_net(NETS[name]), library)
    differences = check_operators(built, library)
    assert differences[1] <= 0.02 * differences.total(), f"{differences}: rounding differs at ties only"
    assert built.placed.specialised.in_float == ()
    check_run(built, library, 2, 30)


@pytest.mark.parametrize("name", ["residual", "skip", "pixel_shuffle"])
def test_channels_last_networks(name: str, int8_net: Int8Net, library: Library) -> None:
    built = build(int8_net(NETS[name], "channels_last = True\n"), library)
    check_operators(built, library)
    assert built.placed.specialised.in_float == ()
    check_run(built, library, 2, 30)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples(name: str, tmp_path: Path, library: Library) -> None:
    """Nothing stays in float; sizes of constants and arena are those of an int8 program."""
    built = build(exported(EXAMPLES[name], tmp_path), library)
    assert built.placed.specialised.in_float == ()
    differences = check_operators(built, library)
    assert differences[1] <= 0.01 * differences.total(), differences
    check_run(built, library, 1, 20)


@pytest.mark.parametrize(
    ("name", "tables"), [("own_silu", 1), ("gelu_chain", 1), ("hardswish", 1), ("silu", 1), ("squeeze_excite", 1)]
)
def test_a_chain_of_elementwise_operators_is_one_table(
    name: str, tables: int, int8_net: Int8Net, library: Library
) -> None:
    built = build(int8_net(NETS[name]), library)
    assert built.ops()[TABLE] == tables
    (table,) = (step.instruction for step in built.placed.specialised.calls.values() if step.instruction.op == TABLE)
    lut = built.placed.specialised.method.values[table.args[1].id].data  # type: ignore[union-attr]
    assert lut is not None and lut.shape == (256,) and lut.dtype == np.int8


def test_activations_and_padding_go_into_the_kernels(int8_net: Int8Net, library: Library) -> None:
    steps = build(int8_net(NETS["residual"]), library).ops()
    assert steps == Counter({
        EDGES[0]: 1, "cortex_m::quantized_conv2d.out": 2, "cortex_m::quantized_add.out": 1, EDGES[1]: 1,
    })  # fmt: skip
    padded = build(int8_net(NETS["uneven_padding"]), library)
    assert padded.ops()["aten::constant_pad_nd.out"] == 0
    paddings = [
        step.instruction.args[4] for step in padded.placed.specialised.calls.values() if "conv2d" in step.instruction.op
    ]
    assert paddings == [(0, 0, 1, 1), (3, 2, 1, 1)], "top, left, bottom, right"


def test_a_transformer_block_is_integers(int8_net: Int8Net, library: Library) -> None:
    """Attention, normalisations, GELU and residuals: float is quantised once and dequantised once."""
    built = build(int8_net(NETS["encoder"]), library)
    steps = built.ops()
    computing = {
        "etexport::quantized_layer_norm.out": 2, "cortex_m::softmax.out": 1, "etexport::quantized_bmm.out": 2,
        "cortex_m::quantized_linear.out": 4, "cortex_m::quantized_add.out": 2, EDGES[0]: 1, EDGES[1]: 1,
    }  # fmt: skip
    assert {name: steps[name] for name in computing} == computing
    assert steps[TABLE] >= 1, "GELU"
    values = built.placed.specialised.method.values
    for step in built.placed.specialised.calls.values():
        floats = [
            value
            for value in (*step.instruction.reads, *step.instruction.outs)
            if values[value].spec.dtype is DType.FLOAT32
        ]
        assert not floats or step.instruction.op in EDGES, step.instruction
    check_operators(built, library)
    check_run(built, library, 4, 25)


def test_argmax_reads_int8(int8_net: Int8Net, library: Library) -> None:
    built = build(int8_net(NETS["largest_class"]), library)
    (argmax,) = (
        step.instruction
        for step in built.placed.specialised.calls.values()
        if step.instruction.op == "aten::argmax.out"
    )
    assert built.placed.specialised.method.values[argmax.reads[0]].spec.dtype is DType.INT8


def test_kept_in_float_says_so(int8_net: Int8Net, library: Library) -> None:
    built = build(int8_net(NETS["depthwise"], 'keep_float = ["depthwise"]\n'), library)
    found = {one.instruction.name: one.reason for one in built.placed.specialised.in_float}
    assert "depthwise" in found and "first" not in found and "pointwise" not in found and all(found.values())
    check_run(built, library, 2, 30)


UNSIGNED = """\
import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

def data():
    return torch.randn(2, 3, 8, 8)

def model():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5)).eval()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    graph = prepare_pt2e(torch.export.export(net, (data(),)).module(), quantizer)
    for _ in range(4):
        graph(data())
    return convert_pt2e(graph)

def example_inputs():
    return data()

def samples():
    return torch.randn(3, 2, 3, 8, 8)
"""  # noqa: E501


def test_activations_without_a_sign_become_int8(tmp_path: Path, library: Library) -> None:
    """As torchao's quantizer for x86 stores them; only what it leaves without a scale computes in float, the last
    layer."""
    built = build(exported(script(tmp_path, UNSIGNED), tmp_path), library)
    assert {value.spec.dtype for value in built.waist.values.values()} > {DType.UINT8}
    assert DType.UINT8 not in {value.spec.dtype for value in built.placed.specialised.method.values.values()}
    assert built.ops()["cortex_m::quantized_conv2d.out"] == 2
    assert [one.instruction.op for one in built.placed.specialised.in_float] == ["aten::addmm.out"]
    check_run(built, library, 3, 30)


def test_views_are_no_arithmetic(int8_net: Int8Net, library: Library) -> None:
    """A linear layer over rows is a view, a product and a view: only the product computes in float."""
    built = build(int8_net(NETS["linear_of_rows"], 'keep_float = ["fc"]\n'), library)
    assert [one.instruction.op for one in built.placed.specialised.in_float] == ["aten::addmm.out"]


def test_what_has_no_integer_form_says_so(int8_net: Int8Net, library: Library) -> None:
    spread = Net(("self.fc = nn.Linear(8, 6)",), ("return self.fc(x).var(1)",), (2, 8))
    built = build(int8_net(spread), library)
    (only,) = built.placed.specialised.in_float
    assert only.instruction.op == "aten::var.correction_out" and only.reason == "it has no integer form"
