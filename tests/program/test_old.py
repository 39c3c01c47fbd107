"""Programs that ExecuTorch 1.0 to 1.5 wrote, by their own wheels: all of them are read, and build the same firmware.

`old/NAME-SINCE.pte` is what the versions from SINCE on wrote, up to the next file of that name: 1.0.1 and 1.1.0 wrote
the same bytes, so did 1.2.0 to 1.5.1, but for states, which 1.3.1 writes in another way. `NAME.npz` has calls and what
PyTorch gives for them. Made by old_export.py with torch 2.13.0:

    pip install --no-deps --target et executorch==1.2.0 ruamel.yaml==0.19.1 pyyaml==6.0.3 tabulate==0.10.0
    FLATC_EXECUTABLE=et/executorch/data/bin/flatc PYTHONPATH=et python tests/program/old_export.py FOLDER
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.artifacts.sized import runs

OLD = Path(__file__).parent / "old"
WRITTEN = {
    "network": ("1.0", "1.2"),
    "quantized": ("1.0", "1.2"),
    "branch": ("1.0", "1.2"),
    "rows": ("1.0", "1.2"),
    "state": ("1.0", "1.2", "1.3"),
}
STEP = 1 / 256
"""Of probabilities in 8 bits."""


def test_every_file_is_known() -> None:
    assert {path.stem for path in OLD.glob("*.pte")} == {
        f"{name}-{one}" for name, all in WRITTEN.items() for one in all
    }


@pytest.mark.parametrize("name", WRITTEN)
def test_old_files_give_the_same_firmware_and_pytorch_s_outputs(name: str, tmp_path: Path) -> None:
    made = []
    for since in WRITTEN[name]:
        folder = tmp_path / since
        program = OLD / f"{name}-{since}.pte"
        assert main(["generate", str(program), "--board", "host", "-o", str(folder), "--name", name]) == 0
        texts = {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".cpp", ".h")}
        made.append({one: re.sub("0x[0-9a-f]{16}", "HASH", text) for one, text in texts.items()})
        made[-1]["constants"] = (folder / "constants.bin").read_bytes().hex()
    assert made[0] and all(one == made[0] for one in made[1:])

    built = tmp_path / "host"
    assert main(["build", str(program), "--board", "host", "-o", str(built)]) == 0
    assert main(["run", str(built), "--inputs", str(OLD / f"{name}.npz")]) == 0
    with np.load(OLD / f"{name}.npz") as calls, np.load(built / "outputs.npz") as found:
        wanted = runs(calls, "output")
        got = runs(found, "output") or [(output,) for output in found["output_0"]]
    assert len(wanted) == len(got) >= 3
    for (expected,), (output,) in zip(wanted, got, strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=STEP if name == "quantized" else 1e-6)
