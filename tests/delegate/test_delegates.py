"""The delegate of docs/delegates.md, beside the script, and a second one, in int8, as an installed package: from script
to report, and through ExecuTorch's files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from etexport.program import pte
from tests import pages
from tests.program import stock
from tests.test_packages import etexport, installed

BACKEND = """
    import numpy as np

    from etexport.backend import Backend, Claims, Compiled
    from etexport.kernel.call import Call, Const, Read, Sources, Write

    BETWEEN = ("quantized_decomposed::dequantize_per_tensor.out", "aten::sigmoid.out", "quantized_decomposed::quantize_per_tensor.out")

    def claim(nodes, options):
        # a sigmoid, what makes its operand float and what stores its result
        makers = {node.out.id: node for node in nodes}
        groups = []
        for node in nodes:
            chain = [node]
            while chain[0].tensors and chain[0].tensors[0].id in makers and len(chain) < 3:
                chain.insert(0, makers[chain[0].tensors[0].id])
            if tuple(one.instruction.op for one in chain) == BETWEEN:
                groups.append([one.instruction.handle for one in chain])
        return Claims(groups)

    def compile(part, options):
        before, _, after = part.instructions
        real = (np.arange(-128, 128) - before.args[2]).astype(np.float32) * np.float32(before.args[1])
        stored = np.rint(1 / (1 + np.exp(-real.astype(np.float64))) / after.args[1]) + after.args[2]
        return Compiled(np.clip(stored, -128, 127).astype(np.int8).tobytes(), {"kind": b"sigmoid"})

    def run(node, delegate, target):
        assert dict(delegate.specs)["kind"] == b"sigmoid"
        table = Const("blob", np.frombuffer(delegate.blob, np.int8))
        operands = (Write(node.out.id), Read(node.tensors[0].id), table)
        sources = Sources(("src/table.c",), ("include",), ("-DFIRST=-128",))
        overlaps = {node.tensors[0].id: 0}
        return Call("acme_table", "acme_table.h", {"count": node.out.spec.numel}, operands, overlaps=overlaps, sources=sources)

    BACKEND = Backend("AcmeTable", run, claim, compile)
"""  # noqa: E501
HEADER = """
    #pragma once
    #include <stdint.h>
    extern "C" void acme_look_up(int8_t* out, const int8_t* x, int32_t count, const int8_t* table);
    namespace et {
    template <class G>
    inline void acme_table(const G& g, int8_t* out, const int8_t* x, const int8_t* table) {
      acme_look_up(out, x, g.count, table);
    }
    }  // namespace et
"""
SOURCE = """
    #include <stdint.h>
    #include "first.h"
    void acme_look_up(int8_t *out, const int8_t *x, int32_t count, const int8_t *table) {
      for (int32_t i = 0; i < count; ++i) {
        out[i] = table[x[i] - first];
      }
    }
"""
TABLE = {
    "acme_table/backend.py": BACKEND,
    "acme_table/acme_table.h": HEADER,
    "acme_table/src/table.c": SOURCE,
    "acme_table/include/first.h": "enum { first = FIRST };",
}
INT8 = """
    import torch
    from torch import nn
    def model():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 12), nn.Sigmoid(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))
    def example_inputs():
        return (torch.randn(1, 8),)
    def calibration():
        return torch.randn(32, 1, 8)
    quantize = "int8"
    keep_float = ["4"]
    delegates = {"acme_table": {}, "acme_dense": {"longest": 99}}
"""
METHODS = """
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(4, 6)
            self.register_buffer("mean", torch.zeros(1, 4))
        def encode(self, x):
            code = torch.tanh(self.encoder(x))
            self.mean.mul_(0.9).add_(0.1 * code)
            return code
        def decode(self, code):
            return self.decoder(code + self.mean)
    class Entry(nn.Module):
        def __init__(self, net, name):
            super().__init__()
            self.net, self.name = net, name
        def forward(self, x):
            return getattr(self.net, self.name)(x)
    net = Net().requires_grad_(False)
    def methods():
        sizes = {"encode": 6, "decode": 4}
        return {name: (Entry(net, name), (torch.randn(1, size),)) for name, size in sizes.items()}
    delegates = ["acme_dense"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    files = pages.files("delegates.md")
    assert set(files) == {"backends/acme_dense/backend.py", "backends/acme_dense/acme_dense.h", "model.py"}
    files |= {f"acme_backends/{name}": text for name, text in TABLE.items()}
    scripts = {"int8.py": INT8, "two.py": METHODS, "whole.py": whole(files["model.py"])}
    installed(
        folder,
        "acme",
        "[etexport.backends]\nacme = acme_backends\n",
        {"acme_backends/__init__.py": "", **scripts, **files},
    )
    return folder


def whole(text: str) -> str:
    """The page's model without its sine."""
    assert "torch.sin(self.first(x))" in text
    return text.replace("torch.sin(self.first(x))", "self.first(x)")


@contextmanager
def changed(path: Path, old: str, new: str) -> Iterator[None]:
    """The file with another text, while this lasts."""
    right = path.read_text()
    assert old in right
    path.write_text(right.replace(old, new))
    try:
        yield
    finally:
        path.write_text(right)


def run(site: Path, *words: object, code: int = 0) -> str:
    done = etexport(site, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(site: Path, folder: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((site / folder / "report.json").read_text())["ops"]
    return found


def test_the_commands_of_the_page(site: Path) -> None:
    said = ""
    for command in pages.commands("delegates.md"):
        said += run(site, *command.removeprefix("etexport ").split())
    assert "delegate acme_dense: 2 calls: addmm_1, addmm_2" in said, said
    assert "delegate acme_dense: not sin (aten::sin.out) at model.py:12: no dense layer" in said
    assert "all 8 samples agree with PyTorch" in said
    steps = [row for row in rows(site, "build/acme") if str(row["op"]).startswith(("delegate::", "aten::sin"))]
    assert [row["kernel"] for row in steps] == ["acme_dense", "sin", "acme_dense"]
    assert all(str(row["source"]).startswith("model.py:") for row in steps)
    assert [row["macs"] for row in steps] == [2 * (6 * 10 + 10 * 5), 0, 2 * 5 * 3]
    assert all(int(str(row["count"])) > 100 for row in steps), "each call is counted as one step"


def test_a_whole_graph_is_one_call_with_its_scratch_planned(site: Path) -> None:
    run(site, "export", "whole.py", "-o", "w.pte")
    run(site, "build", "w.pte", "--board", "host", "-o", "w", "--sanitize", "--poison")
    run(site, "run", "w")
    assert "all 8 samples agree" in run(site, "validate", "w")
    memory = json.loads((site / "w" / "memory.json").read_text())
    (step,) = memory["steps"]
    assert step["op"].startswith("delegate::AcmeDense_") and step["family"] == "acme_dense"
    scratch = [buffer["size"] for buffer in memory["buffers"] if "scratch" in buffer["name"]]
    assert scratch == [2 * 10 * 4], "two halves as wide as the widest layer inside"
    assert step["bytes_constants"] == 8 + sum(12 + 4 * o * (1 + i) for i, o in ((6, 10), (10, 5), (5, 3)))


def test_two_delegates_in_int8_give_the_same_bytes_everywhere(site: Path) -> None:
    said = run(site, "export", "int8.py", "-o", "q.pte")
    assert "delegate acme_table: 1 calls" in said and "delegate acme_dense: 1 calls" in said, said
    outputs = []
    for board in ("host", "qemu_mps2_an386"):
        run(site, "build", "q.pte", "--board", board, "-o", board)
        run(site, "run", board)
        verdict = run(site, "validate", board)
        assert "operators agree with exact arithmetic" in verdict and "could not be computed" not in verdict, verdict
        steps = json.loads((site / board / "memory.json").read_text())["steps"]
        kernels = [step["kernel"] for step in steps]
        assert kernels.count("acme_table") == kernels.count("acme_dense") == 1, kernels
        outputs.append(np.load(site / board / "outputs.npz")["output_0"])
        assert "acme_look_up" in (site / board / "obj" / "foreign.su").read_text()
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


def test_a_library_has_the_c_of_its_calls(site: Path) -> None:
    """In the two files that every build compiles."""
    run(site, "library", "q.pte", "--core", "host", "-o", "lib", "--name", "gate")
    flags = ["-Isrc", "-Wall", "-Wextra", "-Werror"]
    for compiler, source, target in (
        ("gcc", "src/gate_constants.c", "c.o"),
        ("g++", "src/gate.cpp", "cpp.o"),
        ("g++", "examples/once/main.cpp", "main.o"),
    ):
        subprocess.run([compiler, *flags, "-c", source, "-o", target], cwd=site / "lib", check=True)
    subprocess.run(["gcc", "c.o", "cpp.o", "main.o", "-lm", "-o", "once"], cwd=site / "lib", check=True)
    subprocess.run(["./once"], cwd=site / "lib", check=True)
    assert not [path for path in (site / "lib").rglob("*.c") if path.name != "gate_constants.c"]
    with changed(site / "acme_backends/acme_table/backend.py", '"-DFIRST=-128"', '"-DFIRST=-128", "-O3"'):
        said = run(site, "library", "q.pte", "--core", "host", "-o", "lib2", code=1)
        assert "acme_table brings -O3, and a library has C without flags of its own" in said, said


def test_methods_have_calls_of_their_own(site: Path) -> None:
    said = run(site, "export", "two.py", "-o", "two.pte")
    assert "delegate acme_dense: 2 calls: encode.addmm, decode.addmm" in said, said
    run(site, "build", "two.pte", "--board", "host", "-o", "two", "--poison")
    run(site, "run", "two")
    assert "all 16 samples agree" in run(site, "validate", "two", "--trace")
    steps = json.loads((site / "two" / "memory.json").read_text())["steps"]
    assert [step["kernel"] for step in steps].count("acme_dense") == 2


def test_a_wrong_call_is_seen(site: Path, tmp_path: Path) -> None:
    """What the C computes is held against the blob's meaning, though it be off by one step in one place."""
    source = site / "acme_backends" / "acme_table" / "src" / "table.c"
    with changed(source, "table[x[i] - first]", "table[x[i] - first] + (i == 3)"):
        run(site, "build", "q.pte", "--board", "host", "-o", "wrong")
        run(site, "run", "wrong")
        assert "1 of 12 results" in run(site, "validate", "wrong", code=2)
    with changed(source, "table[x[i] - first]", "tables[x[i] - first]"):
        said = run(site, "build", "q.pte", "--board", "host", "-o", "wrong", code=1)
        assert f"{source}:6: error: " in said and "tables" in said and "Traceback" not in said, said
    backend = site / "acme_backends" / "acme_table" / "backend.py"
    line = 1 + backend.read_text().splitlines().index(
        next(one for one in BACKEND.splitlines() if "return Call(" in one)[4:]
    )
    for wrong, words in (
        ("1 / 0 or Call(", f"{backend}:{line}: acme_table failed to run "),
        ("3, Call(", "run() gave a tuple"),
    ):
        with changed(backend, "return Call(", f"return {wrong}"):
            said = run(site, "build", "q.pte", "--board", "host", "-o", "wrong", code=1)
            assert words in said and "Traceback" not in said, said


def test_mistakes_are_named(site: Path) -> None:
    text = (site / "model.py").read_text()
    for name, line, words in (
        ("unknown", 'delegates = ["acme_dens"]', "no delegate is called acme_dens"),
        ("kind", "delegates = 3", "neither a list of names nor options by name"),
        ("raises", 'delegates = {"acme_dense": {"longest": "x"}}', "acme_dense failed to claim operators: TypeError"),
    ):
        (site / f"{name}.py").write_text(text.replace('delegates = ["acme_dense"]', line))
        said = run(site, "export", f"{name}.py", "-o", f"{name}.pte", code=1)
        assert words in said and "Traceback" not in said, said
    said = run(site, "export", "--stock", "model.py", "-o", "stock.pte", code=1)
    assert "stock ExecuTorch has none of these delegates" in said


def test_executorch_reads_our_calls_and_we_build_its(site: Path, tmp_path: Path) -> None:
    """Its files with a known id are built as they are: blob and calls are its own."""
    seen = stock.special(tmp_path, site / "model.pte", site / "w.pte")
    assert seen["w.pte"] == {"delegates": ["AcmeDense"], "calls": ["DelegateCall"]}
    assert seen["model.pte"] == {
        "delegates": ["AcmeDense"] * 2,
        "calls": ["DelegateCall", "KernelCall", "DelegateCall"],
    }
    program = pte.read((tmp_path / "dense delegates.pte").read_bytes())
    first, _, second = program.method().instructions
    blobs = [program.delegates[one.op].blob for one in (first, second)]
    assert pte.read(pte.write(program)).delegates == program.delegates
    built = ("build", tmp_path / "dense delegates.pte", "--board", "host", "-o", "s")
    assert "no backend that is known here runs it" in run(site, *built, code=1)
    said = run(site, *built, "--backends", "backends")
    assert "bytes to load" in said
    x = np.random.default_rng(0).normal(size=(4, 1, 6)).astype(np.float32)
    expected = x
    for blob in blobs:
        inputs, outputs = np.frombuffer(blob, "<i4", 2, 8)
        numbers = np.frombuffer(blob, "<f4", offset=20)
        expected = np.sin(expected) if expected is not x else expected
        expected = expected @ numbers[outputs:].reshape(outputs, inputs).T + numbers[:outputs]
    np.savez(tmp_path / "x.npz", input_0=x)
    run(site, "run", "s", "--inputs", tmp_path / "x.npz")
    np.testing.assert_allclose(np.load(site / "s" / "outputs.npz")["output_0"], expected, rtol=1e-5, atol=1e-6)
