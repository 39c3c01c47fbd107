"""The example notebook, cell by cell as Jupyter runs it; then what it has built is asked further."""

from __future__ import annotations

import ast
import json
import linecache
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import etexport
from etexport.__main__ import main
from etexport.errors import DeviceLostError, MismatchError, ModelError, ToolMissingError
from etexport.frontend import export_network

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook" / "waves.ipynb"


def execute(notebook: Path, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """The namespace after the last cell, and of each cell of code what it shows: the value of its last line, as HTML
    where it has that."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        text, file = "".join(cell["source"]), str(folder / f"cell_{number}.py")
        # as ipykernel does: there is no such file
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        tree = ast.parse(text, file)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, file, "exec"), names)
        value = eval(compile(ast.Expression(last.value), file, "eval"), names) if isinstance(last, ast.Expr) else None
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else value)
    return names, shown


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    if shutil.which("arm-none-eabi-g++") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the notebook's board needs arm-none-eabi-g++ and qemu-system-arm")
    folder = tmp_path_factory.mktemp("notebook")
    before = Path.cwd()
    os.chdir(folder)  # where Jupyter is, `build` is
    try:
        return execute(NOTEBOOK, folder)
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def built(executed: tuple[dict[str, Any], list[Any]], tmp_path_factory: pytest.TempPathFactory) -> etexport.Built:
    found = executed[0]["built"]
    assert isinstance(found, etexport.Built)
    root = tmp_path_factory.getbasetemp() / "notebook0"
    return type(found)(found.name, found.board, root / found.program, root / found.folder)


def test_the_notebook_shows_what_it_says(executed: tuple[dict[str, Any], list[Any]]) -> None:
    names, (_, loss, first, classes, figures, _, whole, _) = executed
    assert loss < 0.1
    assert first.startswith("<p><b>Waves</b> on qemu_mps2_an386: ") and "<svg" in first and "iframe" not in first
    assert torch.equal(classes[0], classes[1])
    accuracy, ram, flash, count = figures
    assert accuracy > 0.9 and ram > 0 and flash > 0 and count > 8 * 5 * 32
    assert whole.startswith("<iframe srcdoc=") and "Where accuracy goes" in whole
    rows = names["built"].rows()
    assert [row["source"] for row in rows if row["macs"]] == ["cell_2.py:9", "cell_2.py:10"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert all(row["snr_db"] > 20 for row in rows if row["macs"])


def test_nothing_of_the_caller_is_changed(executed: tuple[dict[str, Any], list[Any]], tmp_path: Path) -> None:
    """Random numbers go on, the network trains on, threads are as many: asked of an export that a wrong word ends, and
    of a whole one."""
    net = executed[0]["net"]
    assert net.training and all(one.requires_grad for one in net.parameters())
    for quantize in ("float32", "int9"):
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1], torch.get_num_threads()
        try:
            export_network(torch.nn.ReLU(), torch.zeros(1, 2), tmp_path / "x.pte", said={"quantize": quantize})
        except ModelError as error:
            assert quantize == "int9" and "quantize = 'int9' is not supported" in str(error)
        now = torch.get_rng_state(), random.getstate(), np.random.get_state()[1], torch.get_num_threads()
        assert (
            torch.equal(states[0], now[0])
            and states[1] == now[1]
            and np.array_equal(states[2], now[2])
            and states[3] == now[3]
        )
    assert (tmp_path / "x.pte").is_file()


def test_a_board_by_its_url_takes_each_form(built: etexport.Built) -> None:
    """One sample, samples behind one another, a longer batch: the same runs. And what is none of them is refused before
    it is sent."""
    given = np.load(built.program.with_suffix(".npz"))["input_0"][:3]  # (samples, 1, 1, 32)
    expected = np.load(built.folder / "outputs.npz")["output_0"][:3]
    with etexport.Board(f"qemu://qemu_mps2_an386?elf={built.folder / 'firmware.elf'}") as board:
        assert [(one.name, one.shape) for one in board.inputs] == [("signal", (1, 1, 32))]
        stacked, batch, one = board.run(given), board.run(torch.from_numpy(given[:, 0])), board.run((given[1],))
        run = json.loads((built.folder / "run.json").read_text())
        assert board.count == run["counters"][1] and board.unit == built.report.counter == run["counter"]
        for wrong in (given[0, 0], given[:, :, :, :4], given[:0], (given, given)):
            with pytest.raises(ModelError, match="belong"):
                board.run(wrong)
        with pytest.raises(ModelError, match="float64"):
            board.run(given.astype(float))
    assert (
        np.array_equal(stacked, expected) and np.array_equal(batch, expected[:, 0]) and np.array_equal(one, expected[1])
    )


def test_a_board_that_is_not_there(built: etexport.Built) -> None:
    with pytest.raises(DeviceLostError), etexport.Board("socket://127.0.0.1:1", built):
        pass


def test_the_verdict_is_that_of_the_command_line(built: etexport.Built) -> None:
    """The folder is one of the verbs'; and where PyTorch's outputs are others, validate() says so."""
    assert main(["validate", str(built.folder)]) == 0
    reference = built.program.with_suffix(".npz")
    kept = reference.read_bytes()
    arrays = dict(np.load(reference))
    arrays["output_0"] = arrays["output_0"] + 1
    np.savez(reference, **arrays)
    try:
        with pytest.raises(MismatchError, match="60 of 60 samples differ"):
            type(built)(built.name, built.board, built.program, built.folder).validate()
    finally:
        reference.write_bytes(kept)


def test_two_builds_side_by_side(built: etexport.Built) -> None:
    """Of one that has no report yet it is made; here both are the same build."""
    found = etexport.compare(built, built.folder)
    count = f"{built.report.count:,}"
    assert ("an inference", count, count, "") in found.figures and not any(change for *_, change in found.figures)
    assert [name for name, *_ in found.operators] == [row["name"] for row in built.rows()]
    assert found._repr_html_().startswith("<pre>") and count in str(found)
    with pytest.raises(ModelError, match="no such file"):
        etexport.compare(built, "nowhere")


def test_as_many_classes_as_the_output_has_elements(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="2 classes are named, and the first output has 3 elements"):
        etexport.build(torch.nn.Linear(4, 3), torch.zeros(1, 4), board="host", classes=("a", "b"), folder=tmp_path)


def test_sizes_known_at_run_time(tmp_path: Path) -> None:
    """Each run has its own; what no run can have is refused before it is sent."""
    net = torch.nn.Linear(4, 3)
    rows = torch.export.Dim("rows", min=2, max=5)
    built = etexport.build(
        net, torch.zeros(3, 4), board="host", dynamic_shapes=({0: rows},), name="rows", folder=tmp_path
    )
    built.validate()
    with built.on() as board:
        for size in (5, 2, 4):
            given = torch.randn(size, 4)
            np.testing.assert_allclose(board.run(given), net(given).detach(), atol=1e-6)
        assert board.run(torch.zeros(2, 3, 4)).shape == (2, 3, 3)
        for wrong in (torch.zeros(6, 4), torch.zeros(1, 4), torch.zeros(3, 5)):
            with pytest.raises(ModelError, match=r"where \[2 to 5, 4\] belong"):
                board.run(wrong)


def test_a_dataframe_or_what_to_install(built: etexport.Built) -> None:
    try:
        import pandas
    except ImportError:
        with pytest.raises(ToolMissingError, match="pandas is not installed"):
            built.dataframe()
    else:
        assert isinstance(built.dataframe(), pandas.DataFrame) and list(built.dataframe()["name"]) == [
            row["name"] for row in built.rows()
        ]


def test_importing_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, etexport; print('torch' in sys.modules, 'numpy' in sys.modules); etexport.Board; print('torch' "
        "in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3
