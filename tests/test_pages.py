"""What the pages of docs/ for kernels and passes of one's own say, done; and what goes wrong there, told."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from tests.pages import DOCS, commands, files
from tests.program import stock

BUILD = "etexport build build/m.pte --board qemu_mps2_an386 -o build/m4"


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything of docs/write-a-kernel.md was done."""
    return done("write-a-kernel.md", tmp_path_factory.mktemp("kernels"))


def done(page: str, folder: Path) -> Path:
    for name, text in files(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for command in commands(page):
        ran = typed(command, folder)
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return folder


@contextmanager
def changed(path: Path, old: str, new: str) -> Iterator[None]:
    """The file with the first `old` as `new`, while this lasts."""
    right = path.read_text()
    assert old in right
    path.write_text(right.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(right)


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line that begins with `etexport`, as a person would type it in the folder."""
    verb, *arguments = shlex.split(command)
    assert verb == "etexport", command
    env = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    return subprocess.run(
        [sys.executable, "-m", "etexport", *arguments], cwd=folder, env=env, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_write_a_kernel(kernels: Path) -> None:
    assert not list(kernels.rglob("__pycache__")), "a build leaves nothing beside the script"
    report = json.loads((kernels / "build/m4/report.json").read_text())
    by_kernel = {row["kernel"] for row in report["ops"]}
    assert {"wave", "push", "near_tanh"} <= {kernel.split()[0] for kernel in by_kernel}, by_kernel
    steps = json.loads((kernels / "build/m4/memory.json").read_text())["steps"]
    assert {step["kernel"]: step["family"] for step in steps}["near_tanh"] == "mine"


def test_a_replacement_is_for_its_cores_and_layers(kernels: Path) -> None:
    ran = typed("etexport generate build/m.pte --board qemu_mps2_an385 -o build/m3", kernels)
    assert ran.returncode == 0, ran.stderr
    assert "near_tanh" not in (kernels / "build/m3/program.cpp").read_text(), "a Cortex-M3 has no DSP instructions"


def test_only_what_is_called_is_linked(kernels: Path) -> None:
    """The kernel that was replaced is not there."""
    text = (kernels / "build/m4/program.cpp").read_text()
    assert "et::near_tanh(" in text and "activation/" not in text


def test_a_poisoned_build_gives_the_same(kernels: Path) -> None:
    for command in (f"{BUILD}p --poison", "etexport run build/m4p", "etexport validate build/m4p"):
        ran = typed(command, kernels)
        assert ran.returncode == 0, ran.stderr


HEADER, DECLARED = "kernels/wave/wave.h", "kernels/wave/op.py"
WRONG = {
    "no C++": (HEADER, "x[i] * g.k)", "x[i] * g.k", BUILD, "kernels/wave/wave.h:11: "),
    "other arguments": (
        HEADER,
        "float* out, const float* x)",
        "float* out, const float* x, int)",
        BUILD,
        "wave.h:10: ",
    ),
    "lower": (DECLARED, 'node["k"]', 'node["q"]', BUILD, "op.py:14: fails on mine::wave.out (model.py"),
    "no call": (DECLARED, 'return Call("wave"', '("wave"', BUILD, "op.py: lower_wave gives a NoneType for mine::wave"),
    "no schema": (DECLARED, "Tensor x, float k", "Tensor x", BUILD, "model.py:"),
    "no operator": ("kernels/mine/op.py", "aten::tanh.out", "aten::tan", BUILD, "mine/op.py: replaces the kernel of"),
    "no folder": (DECLARED, "", "", f"{BUILD} --kernels nowhere", "nowhere: no such file or folder"),
}


@pytest.mark.parametrize("file, old, new, command, words", WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_with_its_line(
    kernels: Path, file: str, old: str, new: str, command: str, words: str
) -> None:
    with changed(kernels / file, old, new):
        ran = typed(command.replace("/m4", "/wrong"), kernels)
    assert ran.returncode == 1 and ran.stderr.startswith("error: ") and words in ran.stderr, ran.stderr
    assert "mistake of etexport's" not in ran.stderr


def test_a_wrong_result_is_found(kernels: Path) -> None:
    with changed(kernels / HEADER, "sinf(", "cosf("):
        for command in (f"{BUILD}w".replace("qemu_mps2_an386", "host"), "etexport run build/m4w"):
            assert typed(command, kernels).returncode == 0
        ran = typed("etexport validate build/m4w --trace", kernels)
    assert ran.returncode == 2 and "first wrong in wave at model.py:24" in ran.stderr, ran.stderr


def test_an_operator_that_writes_a_part_of_a_tensor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        files("write-a-kernel.md")["model.py"].replace("push(self.ring,", "push(self.ring[2:],")
    )
    ran = typed("etexport export model.py -o m.pte", tmp_path)
    assert ran.returncode == 1 and "writes a part of a tensor" in ran.stderr and "model.py:24" in ran.stderr, ran.stderr


def test_look_inside(tmp_path: Path) -> None:
    folder = done("look-inside.md", tmp_path)
    with np.load(folder / "first.npz") as arrays, np.load(folder / "build/m.npz") as given:
        assert set(arrays) == {"first", "first.scale", "first.zero_point"} and arrays["first"].shape == (4, 1, 24)
        scale = float(arrays["first.scale"])
        real = (arrays["first"].astype(float) - arrays["first.zero_point"]) * scale
        inputs = given["input_0"][:4]
    weights = run_path(str(folder / "model.py"))["model"]().first
    wanted = np.maximum(inputs @ weights.weight.detach().numpy().T + weights.bias.detach().numpy(), 0)
    assert np.abs(real - wanted).max() < 2 * scale + 0.05, "of the layer in float"
    rows = list(csv.DictReader((folder / "gaps.csv").open()))
    assert [row["name"] for row in rows] == ["first"] and rows[0]["snr_db"] == "inf" and rows[0]["samples"] == "4"
    seen = stock.inspected(folder / "inside.etdp", folder / "inside.bin")
    (whole, other), (at, _) = (
        np.flatnonzero(seen["names"] == "Method::execute"),
        np.flatnonzero(seen["names"] == "first"),
    )
    assert seen["counts"][whole] == seen["counts"][whole + 1 : other].sum() and list(np.unique(seen["runs"])) == [0, 1]
    np.testing.assert_allclose(seen[f"value_{at}"], real[0], rtol=1e-6)
    run = json.loads((folder / "build/m4/trace/run.json").read_text())
    assert seen["counts"][whole] == sum(run["probes"][run["traced"].index(0)])
    ran = typed("etexport trace build/m4 --at nothing", folder)
    assert ran.returncode == 1 and "nothing that the board computes is called nothing" in ran.stderr


def test_a_gap_is_where_a_kernel_is_wrong(kernels: Path) -> None:
    """All operators behind it are off as well, the one before is not."""
    with changed(kernels / HEADER, "memcpy(out + g.kept, x,", "memcpy(out + g.kept, ring,"):
        for command in (f"{BUILD}g".replace("qemu_mps2_an386", "host"), "etexport run build/m4g"):
            assert typed(command, kernels).returncode == 0
        ran = typed("etexport trace build/m4g --csv gaps.csv", kernels)
    assert ran.returncode == 0, ran.stderr
    snr = {row["name"]: float(row["snr_db"]) for row in csv.DictReader((kernels / "gaps.csv").open())}
    assert snr["wave"] > 100 and max(snr["push"], snr["mean"], snr["tanh"]) < 10, snr


def test_write_a_pass(tmp_path: Path) -> None:
    folder = done("write-a-pass.md", tmp_path)
    assert not list(folder.rglob("__pycache__"))
    model = (folder / "model.py").read_text()
    relus = {"passes = []\n": "2x  aten::relu.out", 'passes = ["one_relu"]\n': "1x  aten::relu.out"}
    for said, words in relus.items():
        (folder / "model.py").write_text(said + model)
        assert typed("etexport export model.py -o build/other.pte", folder).returncode == 0
        assert words in typed("etexport ops build/other.pte", folder).stdout
    wrong = {'passes = ["two"]\n': "passes: there is no two", "passes = 3\n": "passes = 3 is no list of names"}
    for said, words in wrong.items():
        (folder / "model.py").write_text(said + model)
        ran = typed("etexport export model.py -o build/other.pte", folder)
        assert ran.returncode == 1 and words in ran.stderr and "model.py" in ran.stderr, ran.stderr
    (folder / "passes" / "one_relu.py").write_text("def one_relu(method, library):\n    return method.nothing\n")
    ran = typed("etexport generate build/m.pte --board host -o build/other", folder)
    assert ran.returncode == 1 and "passes/one_relu.py: one_relu failed on method forward: Attr" in ran.stderr
