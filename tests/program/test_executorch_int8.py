"""int8 programs of ours in the stock runtime: what torchao's converted graph gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from etexport.program.model import Array
from tests.conftest import Int8Net
from tests.frontend.nets import NETS
from tests.frontend.scripts import read_back
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
