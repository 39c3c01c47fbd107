"""How an operator is quantised is said in its kernel folder: the quantiser's sources name none where that is meant."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from etexport.kernel.int8 import Scales
from etexport.kernel.library import load_ops

FOLDER = Path(__file__).parents[2] / "etexport" / "frontend" / "quantize"

WRITTEN = """
    logical_and.default logical_or.default logical_not.default any.dim where.ScalarOther where.ScalarSelf full.default
    eq.Scalar gt.Scalar lt.Scalar add.Tensor mul.Tensor view.default expand.default softmax.int
"""
RECURRENT = """
    lstm.input gru.input rnn_tanh.input rnn_relu.input lstm_cell.default gru_cell.default rnn_tanh_cell.default
    rnn_relu_cell.default zeros.default
"""
FORMS = """
    scaled_dot_product_attention.default _safe_softmax.default baddbmm.default addmm.default addmv.default mv.default
    dot.default vdot.default glu.default prelu.default div.Tensor matmul.default bmm.default mm.default linear.default
    permute.default clone.default select.int transpose.int
"""
PADDED = "conv1d.padding conv2d.padding conv1d.default conv2d.default pad.default"
NORMALISED = "batch_norm.default unsqueeze.default squeeze.dim"
ALLOWED: dict[str, dict[str, str]] = {
    "masks.py": {WRITTEN: "what the one form of masked softmax is written with"},
    "parts.py": {
        RECURRENT: "recurrent layers and cells, written out in steps by the functions of cells.py, which torch traces",
        FORMS: "operators that are written in others by functions that torch traces, by their operands and shapes; "
            "products as layers",
        PADDED: "padding by name, as torchao's folding wants it in numbers",
        NORMALISED: "batch normalisation of rows, as training leaves it, as one of sequences",
    },
    "folding.py": {"batch_norm.default clone.default sqrt": "torchao's own folding of batch normalisation, which is "
        "forestalled"},
    "functional.py": {
        "batch_norm.default _native_batch_norm_legit_no_training.default copy.default view.default reshape.default":
            "how PyTorch writes a graph without writes, and back",
    },
    "few_bits.py": {
        "reshape.default permute.default to.dtype": "what stands behind a constant that is stored in few bits"
    },
    "rows.py": {
        "reshape.default": "rows round an operator of rows",
        "to.dtype sub.Tensor mul.Tensor": "what torchao's dequantisation of rows is in float",
    },
    "states.py": {"copy_.default": "how PyTorch writes a state at the end of a graph"},
}  # fmt: skip
"""By file, operators of PyTorch that are named there, and why that says nothing about how they are quantised: these are
forms that are recognised or written as whole graphs."""


def dotted(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""


def named(source: str) -> Iterator[str]:
    """The operators that the source names: `add.Tensor` of aten.add.Tensor, torch.ops.aten.add.Tensor,
    "aten.add.Tensor" and "aten::add.Tensor"."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    within = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.Attribute) and id(node) not in within:
            text = dotted(node).removeprefix("torch.ops.").replace("aten.", "aten::", 1)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            text = node.value.replace("aten.", "aten::", 1)
        if text.startswith("aten::") and len(text) > len("aten::"):
            yield text.removeprefix("aten::")


def allowed(file: str) -> set[str]:
    return {name for names in ALLOWED.get(file, {}) for name in names.split()}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_operator_is_named_where_a_rule_is_meant(path: Path) -> None:
    assert set(named(path.read_text(encoding="utf-8"))) == allowed(path.name)


@pytest.mark.parametrize(
    "line", ["aten.relu6.default", "torch.ops.aten.relu6.default", '"aten.relu6.default"', '"aten::relu6.default"']
)
def test_the_check_sees_a_name(line: str) -> None:
    source = (FOLDER / "quantizer.py").read_text(encoding="utf-8") + f"\n\nMORE = {{{line}: 3}}\n"
    assert set(named(source)) == {"relu6.default"}


def test_every_file_that_is_allowed_names_is_there() -> None:
    assert set(ALLOWED) <= {path.name for path in FOLDER.glob("*.py")}


def overload_of(name: str) -> torch._ops.OpOverload | None:
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    found = getattr(getattr(torch.ops, namespace), packet, None)
    return getattr(found, overload or "default", None)


def test_what_is_declared_is_an_operator_of_pytorch() -> None:
    """With the operands that are named, and a scale for each output channel along a dimension that weights have."""
    for name, said in load_ops().int8.items():
        overload = overload_of(name)
        assert overload is not None, f"PyTorch has no {name}"
        parameters = [one.name for one in overload._schema.arguments]
        assert {*said.shares, *filter(None, [said.adds_if])} <= set(parameters), (name, parameters)
        assert (said.weights is not None) == (said.scales is Scales.LAYER), name
        assert said.scales is not Scales.LAYER or parameters[1:3] == ["weight", "bias"], (name, parameters)
