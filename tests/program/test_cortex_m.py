"""int8 files of ExecuTorch's own Cortex-M flow are built and give what its Python definitions of the operators give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.passes.forms import use_one_form
from etexport.program import pte
from etexport.program.model import Array, DType, Instruction, Method, Ref, Role, TensorSpec, Value, channels_last
from etexport.specialise.pipeline import rounding_of, specialise
from tests.operators.batch import batch
from tests.operators.boards import bench
from tests.operators.cases import Sample, Tensor, documented, random_samples
from tests.program import stock
from tests.program.conftest import EXAMPLES

NETWORKS = {name: EXAMPLES / "mlperf_tiny" / f"{name}.py" for name in ("kws", "ic", "vww", "ad")}
DRAWN = 40

APART = """import sys
sys.path.insert(0, {folder!r})
import vww
from vww import *

def model():
    net = vww.model()
    net.fc.weight.data *= 32
    return net
"""

OPERATORS = {
    "cortex_m::quantize_per_tensor.out": 0,
    "cortex_m::dequantize_per_tensor.out": 0,
    "cortex_m::quantized_conv2d.out": 0,
    "cortex_m::quantized_depthwise_conv2d.out": 0,
    "cortex_m::quantized_linear.out": 0,
    "cortex_m::quantized_batch_matmul.out": 0,
    "cortex_m::quantized_add.out": 0,
    "cortex_m::quantized_mul.out": 0,
    "cortex_m::quantized_activation.out": 0,
    "cortex_m::quantized_max_pool2d.out": 0,
    "cortex_m::quantized_avg_pool2d.out": 0,
    "cortex_m::softmax.out": 1,  # a float softmax
}
"""How far results may lie from the definition's."""


@pytest.fixture(scope="module")
def cortex_m(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The `.pte` of each network, with the `.npz` beside it. VWW's images are closer to each other than its softmax has
    steps."""
    folder = tmp_path_factory.mktemp("cortex_m")
    apart = folder / "vww_apart.py"
    apart.write_text(APART.format(folder=str(NETWORKS["vww"].parent)))
    return stock.export_cortex_m({**NETWORKS, "vww": apart}, folder)


def outputs(program: Path, folder: Path, *words: str, board: str = "host", samples: int = 10) -> tuple[Array, Array]:
    """(found, expected) outputs in steps of the last dequantise."""
    assert main(["build", str(program), "--board", board, "-o", str(folder), "--name", "stock", *words]) == 0
    assert main(["run", str(folder), "--inputs", str(program.with_suffix(".npz")), "--samples", str(samples)]) == 0
    last = pte.read(program.read_bytes()).method().instructions[-1]
    assert last.op == "cortex_m::dequantize_per_tensor.out" and isinstance(last.args[1], float)
    with np.load(folder / "outputs.npz") as found, np.load(program.with_suffix(".npz")) as wanted:
        expected = wanted["output_0"][:samples]
        return found["output_0"].reshape(expected.shape) / last.args[1], expected / last.args[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_bytes(cortex_m: dict[str, Path], name: str, tmp_path: Path) -> None:
    found, expected = outputs(cortex_m[name], tmp_path)
    assert len(expected) >= 3 and len(np.unique(np.rint(expected))) > 3
    np.testing.assert_array_equal(found, expected)
    assert json.loads((tmp_path / "memory.json").read_text())["rounding"] == "tflm"


def test_networks_agree_on_a_cortex_m(cortex_m: dict[str, Path], tmp_path: Path) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-g++ is not installed")
    for name in ("kws", "ad"):
        found, expected = outputs(cortex_m[name], tmp_path / name, board="qemu_mps2_an386", samples=3)
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_the_rounding_is_chosen_and_can_be_overruled(cortex_m: dict[str, Path], tmp_path: Path) -> None:
    """With the house rule the sums of the autoencoder round otherwise, so that the networks' test sees which rule it
    was."""
    found, expected = outputs(cortex_m["ad"], tmp_path, "--rounding", "nearest")
    assert json.loads((tmp_path / "memory.json").read_text())["rounding"] == "nearest"
    assert 0.5 < np.abs(found - expected).max() < 4


def test_scratch_is_not_read(cortex_m: dict[str, Path]) -> None:
    program = pte.read(cortex_m["kws"].read_bytes())
    assert rounding_of(program) == "tflm"
    last = [one.args[-1] for one in program.method().instructions if "conv2d" in one.op or "avg_pool2d" in one.op]
    assert len(last) == 10 and set(last) == {None}


# ---- operators -------------------------------------------------------------------------------------------------------


def takes(sample: Sample) -> bool:
    """Whether ExecuTorch's operator has this form at all: images, equal padding at both ends, operands of one shape,
    one scale in a linear layer (its definition reads the first and no other)."""
    tensors = [arg.of for arg in sample.args if isinstance(arg, Tensor)]
    if "conv2d" in sample.op.name:
        return len(tensors[0].shape) == 4 and len(sample.args[3]) == len(sample.args[4]) == len(sample.args[5]) == 2
    if "pool2d" in sample.op.name:
        return len(tensors[0].shape) == 4
    if sample.op.name in ("cortex_m::quantized_add.out", "cortex_m::quantized_mul.out"):
        return tensors[0].shape == tensors[1].shape
    if sample.op.name == "cortex_m::quantized_linear.out":
        return len(sample.args[7]) == 1
    return True


def call_of(sample: Sample) -> tuple[str, list[Any]]:
    return sample.op.name, [arg.data if isinstance(arg, Tensor) else arg for arg in sample.args]


def test_operators_give_the_bytes_of_their_definitions(tmp_path: Path) -> None:
    library = load_ops()
    ops = [library.ops[name] for name in OPERATORS]
    samples = [one for op in ops for one in (*documented(op), *random_samples(op, DRAWN)) if takes(one)]
    definitions = stock.define_cortex_m([call_of(one) for one in samples], tmp_path)
    pairs = [(one, wanted) for one, wanted in zip(samples, definitions, strict=True) if not isinstance(wanted, str)]
    host = bench("host", "size", tmp_path / "host", sanitize=True)
    failures: list[str] = []
    for start in range(0, len(pairs), 150):
        part = pairs[start : start + 150]
        whole = batch([one for one, _ in part])
        found = host.run(
            specialise(whole.program, Target(host.board.features, "size", "tflm"), library), whole.inputs, library
        )
        for (one, wanted), (position,) in zip(part, whole.results, strict=True):
            far = np.abs(found[position].astype(np.float64) - wanted.reshape(found[position].shape)).max(initial=0)
            if far > OPERATORS[one.op.name]:
                failures.append(f"{far} in {one}"[:600])
    counts = {name: sum(one.op.name == name for one, _ in pairs) for name in OPERATORS}
    reasons = {wanted for wanted in definitions if isinstance(wanted, str)}
    assert not failures, f"{len(failures)} of {len(pairs)} differ:\n" + "\n".join(failures[:10])
    assert min(counts.values()) >= 3, f"{counts}\n" + "\n".join(sorted(reasons)[:20])


def test_padding_and_transposing_are_those_of_pytorch(tmp_path: Path) -> None:
    """Amounts count along memory, so they mean something else for channels-last tensors; one channel counts as channels
    last."""
    random = np.random.default_rng(3)
    shapes = [(1, 3, 4, 5), (2, 1, 4, 3), (1, 6, 1, 1), (3, 4), (5,)]
    inputs = [random.integers(-128, 128, shape).astype(np.int8) for shape in shapes]
    ends = [
        ([0, 1, 2, 0], [0, 0, 3, 1]),
        ([0, 4, 1, 0], [0, 5, 1, 0]),
        ([0, 2, 0, 1], [0, 0, 1, 0]),
        ([0, 0, 1, 0], [0, 0, 2, 4]),
    ]
    pads = [(one, *pair, -7) for one, pair in zip(inputs, (*ends, ([0, 0, 0, 2], [0, 0, 0, 1])), strict=True)]
    turns = [(one, list(random.permutation(one.ndim))) for one in inputs]
    calls: list[tuple[str, list[Any]]] = [("cortex_m::pad.out", list(args)) for args in pads]
    calls += [("cortex_m::transpose.out", [one, [int(dim) for dim in perm]]) for one, perm in turns]
    for (name, args), wanted in zip(calls, stock.define_cortex_m(calls, tmp_path), strict=True):
        assert not isinstance(wanted, str), wanted
        x = args[0]
        spec = TensorSpec(DType.INT8, x.shape).with_order(
            channels_last(x.ndim) if x.ndim == 4 else tuple(range(x.ndim))
        )
        values = {
            0: Value(0, "x", spec, Role.INPUT),
            1: Value(1, "y", TensorSpec(DType.INT8, wanted.shape), Role.OUTPUT),
        }
        literals = tuple(tuple(arg) if isinstance(arg, list) else arg for arg in args[1:])
        method = Method("forward", values, (Instruction(name, (Ref(0), *literals), (1,), 0),), (0,), (1,))
        (instruction,) = use_one_form(method, load_ops()).instructions
        op = load_ops().find(instruction.op)
        assert op is not None and op.reference is not None, instruction.op
        np.testing.assert_array_equal(op.reference(x, *instruction.args[1:]), wanted)
