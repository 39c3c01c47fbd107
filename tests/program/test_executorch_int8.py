"""int8 programs of ours in the stock runtime: what torchao's converted graph gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from etexport.frontend import export
from etexport.program.model import Array
from tests.conftest import Int8Net
from tests.frontend.few_bits import IMAGES, ROWS_IN_INTEGERS, SCRIPT, with_more
from tests.frontend.nets import NETS
from tests.frontend.scripts import read_back, script
from tests.program import stock

RUNS = 3


def test_int8_programs_run_in_executorch(tmp_path: Path, int8_net: Int8Net) -> None:
    """Each network, with float inputs and outputs and with int8 ones; at most one step of the output's scale apart, and
    that rarely."""
    jobs: dict[Path, list[list[Array]]] = {}
    wanted: dict[Path, dict[str, Array]] = {}
    for name, net in NETS.items():
        for ending, more in (("float", ""), ("int8", "int8_io = True\n")):
            out = Path(shutil.copy(int8_net(net, more), tmp_path / f"{name}_{ending}.pte"))
            _, wanted[out] = read_back(int8_net(net, more))
            jobs[out] = [[wanted[out]["input_0"][run]] for run in range(RUNS)]
    lacking = {path: jobs.pop(path) for path in list(jobs) if NETS[path.stem.rpartition("_")[0]].lacking}
    for path, runs in lacking.items():
        with pytest.raises(AssertionError, match=f"kernel '{NETS[path.stem.rpartition('_')[0]].lacking}' not found"):
            stock.run({path: runs}, tmp_path)
    found = stock.run(jobs, tmp_path)
    for path, runs in found.items():
        arrays = wanted[path]
        assert arrays["input_0"].dtype == (np.int8 if path.stem.endswith("int8") else np.float32)
        for run, outputs in enumerate(runs):
            for at, got in enumerate(outputs):
                want = arrays[f"output_{at}"][run]
                assert got.dtype == want.dtype and got.shape == want.shape, path.stem
                apart = np.abs(got.astype(float) - want.astype(float))
                # of one sample all results may be equal, of all of them not
                step = 1.0 if want.dtype.kind == "i" else np.diff(np.unique(arrays[f"output_{at}"])).min()
                assert apart.max() <= 1.001 * step and (apart > 0).mean() <= 0.02, (
                    f"{path.stem}: {apart.max()} of {step}"
                )


def test_weights_in_few_bits_run_in_executorch(tmp_path: Path) -> None:
    """Tables, linear layers and convolutions, in integers and in 16 bits, and torchao's rows of int8: PyTorch's
    results of the same weights. Rows as the one operator that boards have are refused by its name."""
    runs: dict[Path, list[list[Array]]] = {}
    wanted = {}
    for name, text, more, word, is_stock in (
        ("integers", IMAGES, "", "int4-weights", True),
        ("halves", SCRIPT, "", "fp16-weights", True),
        ("table", SCRIPT, "", "int4-weights", True),
        ("rows", SCRIPT, ROWS_IN_INTEGERS, "float32", True),
        ("one_operator", SCRIPT, ROWS_IN_INTEGERS, "float32", False),
    ):
        model = script(tmp_path / name, with_more(text, more))
        out = tmp_path / f"{name}.pte"
        export(model, out, quantize=word, stock=is_stock)
        _, arrays = read_back(out)
        runs[out], wanted[out] = [[one] for one in arrays["input_0"]], arrays["output_0"]
    refused = tmp_path / "one_operator.pte"
    with pytest.raises(AssertionError, match=r"kernel 'etexport::round_rows.out' not found"):
        stock.run({refused: runs.pop(refused)}, tmp_path)
    for path, found in stock.run(runs, tmp_path).items():
        for (got,), want in zip(found, wanted[path], strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(wanted[path]).max(), err_msg=path.stem)
