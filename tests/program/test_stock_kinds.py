"""Kinds of models that ExecuTorch's flows make files of: each is built, and gives what the network that was lowered
gives.

One image a flow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.passes import pipeline
from etexport.program import pte
from etexport.specialise.pipeline import rounding_of, specialise
from tests.operators.boards import bench
from tests.program import stock
from tests.program.lies import together

KINDS = {
    "float": ("squeeze_excite", "group_norm", "transposed_1d", "buffers", "leaky", "division"),
    "xnnpack": ("scalar_first", "scalars", "softmax_between"),
    "cortex_m": ("clamp_alone", "softmax_between", "conv1d"),
}
"""Of `stock_kinds.py`, which has more."""


@pytest.mark.parametrize("flow", KINDS)
def test_kinds(flow: str, tmp_path: Path) -> None:
    assert not (far := apart(stock.kinds(flow, KINDS[flow], tmp_path), flow, tmp_path)), far


def apart(files: dict[str, Path], flow: str, folder: Path) -> list[str]:
    """What is further off than float arithmetic is, or than one step of the output's scale."""
    library = load_ops()
    programs = {name: pipeline.run(pte.read(path.read_bytes()), library) for name, path in files.items()}
    whole = together(list(programs.values()))
    host = bench("host", "size", folder)
    done = specialise(whole, Target(host.board.features, "size", rounding_of(whole)), library)
    arrays = {name: np.load(path.with_suffix(".npz")) for name, path in files.items()}
    samples = range(len(next(iter(arrays.values()))["input_0"]))
    outputs = host.run_all(done, [[one["input_0"][number] for one in arrays.values()] for number in samples], library)
    found = []
    for at, (name, one) in enumerate(arrays.items()):
        want = one["output_0"]
        got = np.stack([outputs[number][at].reshape(want.shape[1:]) for number in samples])
        last = programs[name].method().instructions[-1]
        allowed = 2e-6 * np.abs(want).max() + 1e-6 if flow == "float" else 1.01 * float(str(last.args[1]))
        if np.abs(got - want).max() > allowed:
            found.append(f"{name}: {np.abs(got - want).max()} of {allowed}")
    return found
