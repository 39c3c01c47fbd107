"""What installed packages add: kernels, a board, a pass and a planner from one package, and the words for those that
cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from etexport.board import board_files
from etexport.kernel.library import load_ops
from etexport.program import pte
from tests import pages
from tests.specialise.graph import Graph

ROOT = Path(__file__).parents[1]

OP = """
    from etexport.kernel.call import Call, Read, Write
    from etexport.kernel.cases import Case, T
    from etexport.kernel.op import Layout, Op
    def infer(node):
        return ((node["self"].spec.dtype, node["self"].spec.shape),)
    def lower(node, target):
        return Call("triple", "triple/triple.h", {"count": node.out.spec.numel}, (Write(node.out.id), Read(node["self"].id)))
    OPS = [Op("acme::triple.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)", infer=infer, lower=lower, reference=lambda x: 3 * x,
              layout=Layout.CONTIGUOUS, cases=(Case((T((3, 4)),)),))]
"""  # noqa: E501
HEADER = """
    #pragma once
    #include <stdint.h>
    namespace et {
    template <class G>
    inline void triple(const G& g, float* out, const float* x) {
      for (int32_t i = 0; i < g.count; ++i) {
        out[i] = 3.0f * x[i];
      }
    }
    }  // namespace et
"""
PASS = """
    from etexport.program.draft import Draft
    from etexport.program.model import Ref
    def remove_double_relu(method, library):
        draft = Draft(method)
        made_by = {one.outs[0] for one in method.instructions if one.op == "aten::relu.out"}
        again = [one for one in method.instructions if one.op == "aten::relu.out" and one.args[0].id in made_by]
        draft.rename({one.outs[0]: one.args[0].id for one in again})
        return draft.done()
"""
PLANNER = """
    from etexport.plan import Place, Problem, Solution
    def one_after_the_other(problem):
        places, end = {}, 0
        for buffer in problem.buffers:
            places[buffer.name] = Place("ram", -(-end // buffer.align) * buffer.align)
            end = places[buffer.name].offset + buffer.size
        return Solution(places, size={"ram": end}, bound={}, proof="none")
"""
MODEL = """
    import torch
    @torch.library.custom_op("acme::triple", mutates_args=())
    def triple(self: torch.Tensor) -> torch.Tensor:
        return 3 * self
    @triple.register_fake
    def _(self):
        return torch.empty_like(self)
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(8, 8)
        def forward(self, x):
            return torch.relu(torch.relu(torch.relu(triple(self.fc(x)))))
    def model():
        return Net()
    def example_inputs():
        return (torch.randn(1, 8),)
"""


def installed(site: Path, name: str, entries: str, files: dict[str, str]) -> None:
    """What pip leaves of a package: its files, and a .dist-info that names them."""
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(textwrap.dedent(text), encoding="utf-8")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(textwrap.dedent(entries), encoding="utf-8")


def etexport(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "etexport", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=site, env=env, stdin=subprocess.DEVNULL, check=False
    )


def test_kernel_board_pass_and_planner_of_a_package(tmp_path: Path) -> None:
    entries = """
        [etexport.kernels]
        acme = acme_kernels
        [etexport.boards]
        acme = acme_boards
        [etexport.passes]
        acme_relus = acme_passes:remove_double_relu
    """
    files = {"acme_kernels/__init__.py": "", "acme_kernels/triple/op.py": OP, "acme_kernels/triple/triple.h": HEADER}
    files |= {"acme_boards/__init__.py": "", "acme_boards/acme_host.toml": board_files()["host"].read_text("utf-8")}
    installed(
        tmp_path, "acme", entries, {**files, "acme_passes.py": PASS, "acme_planner.py": PLANNER, "script.py": MODEL}
    )
    steps = (
        ("export", "script.py", "-o", "m.pte"),
        ("build", "m.pte", "--board", "acme_host", "-o", "out", "--planner", "acme_planner:one_after_the_other"),
        ("run", "out"),
        ("validate", "out"),
    )
    for step in steps:
        done = etexport(tmp_path, *step)
        assert done.returncode == 0, done.stderr
    used = {row["name"]: row["used"] for row in json.loads(etexport(tmp_path, "ops", "m.pte", "--json").stdout)}
    assert used == {"aten::addmm.out": 1, "acme::triple.out": 1, "aten::relu.out": 1}, (
        "its pass took two relus out before the file was written"
    )
    plan = json.loads((tmp_path / "out" / "memory.json").read_text())["arena"]
    assert plan["size"] == 3 * 32 > plan["bound"] == 64, "its planner made the plan, and our bound stands beside it"
    lines = etexport(tmp_path, "doctor").stdout.splitlines()
    assert [line.split() for line in lines if "acme" in line] == [
        ["etexport.boards:", "acme", "acme", "1.0"],
        ["etexport.kernels:", "acme", "acme", "1.0"],
        ["etexport.passes:", "acme_relus", "acme", "1.0"],
    ]


def test_an_operator_of_a_package_in_int8(tmp_path: Path) -> None:
    """The package of docs/kernels.md, as it stands there; no file of ours is edited. One operator has integers of its
    own, the other one, element by element, is a table. A host and a Cortex-M4 give the same bytes, near the float
    model."""
    files = pages.files("kernels.md")
    assert set(files) == {"mine_kernels/smooth/op.py", "mine_kernels/smooth/smooth.h", "model.py"}
    installed(tmp_path, "mine", "[etexport.kernels]\nmine = mine_kernels\n", {"mine_kernels/__init__.py": "", **files})
    outputs = []
    for step in ((), ("host",), ("qemu_mps2_an386",)):
        board = step[0] if step else ""
        steps = [
            ("build", "m.pte", "--board", board, "-o", board),
            ("run", board),
            ("validate", board),
            ("report", board),
        ]
        for arguments in steps if step else [("export", "model.py", "-o", "m.pte")]:
            done = etexport(tmp_path, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
        if step:
            report = json.loads((tmp_path / board / "report.json").read_text())
            assert report["quantization"] == "int8" and report["in_float"] == [], report["in_float"]
            ops = [row["op"] for row in report["ops"]]
            assert ops.count("mine::smooth8.out") == ops.count("cortex_m::quantized_activation.out") == 1, ops
            outputs.append(np.load(tmp_path / board / "outputs.npz")["output_0"])
    real = np.load(tmp_path / "m.npz")["float_output_0"].astype(float)
    assert np.array_equal(*outputs) and outputs[0].shape == real.shape
    assert 10 * np.log10((real**2).sum() / ((real - outputs[0]) ** 2).sum()) > 30, "dB"


def relu() -> bytes:
    graph = Graph(load_ops())
    return pte.write(graph.program(graph.call("aten::relu.out", graph.input(2, 3))))


BOARD = {"b/__init__.py": "", "b/host.toml": "stack = 1"}
WRONG = {
    "no module": ("kernels", "nowhere", {}, "nowhere cannot be imported: ModuleNotFoundError"),
    "a module that fails": (
        "kernels",
        "k",
        {"k.py": "1 / 0"},
        "k cannot be imported: ZeroDivisionError: division by zero",
    ),
    "a module that ends Python": (
        "kernels",
        "k",
        {"k.py": "raise SystemExit(3)"},
        "k cannot be imported: SystemExit: 3",
    ),
    "syntax": ("passes", "k:f", {"k.py": "def"}, "k:f cannot be imported: SyntaxError"),
    "no kernels": ("kernels", "k", {"k/__init__.py": ""}, "k holds no */op.py"),
    "no boards": ("boards", "k", {"k/__init__.py": ""}, "k holds no *.toml"),
    "a function for kernels": (
        "kernels",
        "k:f",
        {"k.py": "def f(): ..."},
        "k:f is a function; a module or package belongs there",
    ),
    "no OPS": ("kernels", "k", {"k/__init__.py": "", "k/a/op.py": ""}, "op.py: declares no OPS"),
    "OPS of something else": (
        "kernels",
        "k",
        {"k/__init__.py": "", "k/a/op.py": "OPS = [1]"},
        "op.py: declares no OPS",
    ),
    "an op.py that fails": (
        "kernels",
        "k",
        {"k/__init__.py": "", "k/a/op.py": "\n1 / 0"},
        "op.py:2: the operators cannot be read",
    ),
    "a second word on int8": (
        "kernels",
        "k",
        {
            "k/__init__.py": "",
            "k/a/op.py": "from etexport.kernel.int8 import Int8\nOPS = []\nINT8 = [Int8(('aten::relu',))]",
        },
        "op.py: a second folder says how aten::relu is quantised",
    ),
    "INT8 of something else": (
        "kernels",
        "k",
        {"k/__init__.py": "", "k/a/op.py": "OPS = []\nINT8 = [1]"},
        "op.py: INT8 holds no Int8(...)",
    ),
    "a folder of ours": ("kernels", "k", {"k/__init__.py": "", "k/softmax/op.py": "OPS = []"}, "has the same name"),
    "a board of ours": ("boards", "b", BOARD, "two files describe the board 'host'"),
    "a number for a pass": (
        "passes",
        "k:N",
        {"k.py": "N = 3"},
        "k:N is a int; a function (method, library) -> method belongs there",
    ),
    "no such function": ("passes", "k:g", {"k.py": ""}, "k:g cannot be imported: AttributeError"),
}


@pytest.mark.parametrize("group, value, files, words", WRONG.values(), ids=WRONG)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, group: str, value: str, files: dict[str, str], words: str
) -> None:
    installed(tmp_path, "acme", f"[etexport.{group}]\nacme = {value}\n", files)
    (tmp_path / "m.pte").write_bytes(relu())
    done = etexport(tmp_path, "generate", "m.pte", "--board", "host", "-o", "out")
    assert done.returncode == 1 and done.stderr.startswith("error: "), done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and "mistake of etexport's" not in done.stderr
    doctor = etexport(tmp_path, "doctor")
    assert (
        doctor.returncode == 5 and f"etexport.{group}" in doctor.stdout and words.partition(":")[0] in doctor.stdout
    ), doctor.stdout


SLEEPY = """
    from dataclasses import replace
    def again(method, library):
        return replace(method)
"""
BROKEN = """
    from dataclasses import replace
    def breaks(method, library):
        return replace(method, outputs=(77,))
"""
RAISES = "def fails(method, library):\n    return method.no_such_thing\n"
SAYS = """
    from etexport.errors import ModelError
    def says(method, library):
        raise ModelError("tanh is not what acme wants", where="model.py:3", hint="use relu")
"""
BAD_PASSES = {
    "for ever": ("again", SLEEPY, "k:again finds something to do for ever on method forward"),
    "illegal": ("breaks", BROKEN, "k:breaks broke the program: after breaks: forward: "),
    "an exception": ("fails", RAISES, "k:fails failed on method forward: AttributeError: "),
    "no method": ("nothing", "def nothing(method, library): ...", "k:nothing gave a NoneType for method forward"),
    "arguments": ("few", "def few(method): ...", "k:few failed on method forward: TypeError: "),
    "its own words": ("says", SAYS, "model.py:3: tanh is not what acme wants"),
}


@pytest.mark.parametrize("function, code, words", BAD_PASSES.values(), ids=BAD_PASSES)
def test_a_pass_that_goes_wrong_is_its_package_s(tmp_path: Path, function: str, code: str, words: str) -> None:
    installed(tmp_path, "acme", f"[etexport.passes]\nmine = k:{function}\n", {"k.py": code})
    (tmp_path / "m.pte").write_bytes(relu())
    done = etexport(tmp_path, "generate", "m.pte", "--board", "host", "-o", "out")
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert function == "says" or "acme 1.0, etexport.passes 'mine'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_packages_with_one_name(tmp_path: Path) -> None:
    for name in ("acme", "other"):
        installed(
            tmp_path,
            name,
            f"[etexport.passes]\nmine = {name}:f\n",
            {f"{name}.py": "def f(method, library):\n    return method\n"},
        )
    (tmp_path / "m.pte").write_bytes(relu())
    done = etexport(tmp_path, "generate", "m.pte", "--board", "host", "-o", "out")
    assert done.returncode == 1
    assert (
        "etexport.passes: two packages give the name 'mine': acme 1.0 (acme:f) and other 1.0 (other:f)" in done.stderr
    )
