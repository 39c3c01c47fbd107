"""The four MLPerf Tiny networks on the emulated Cortex-M4F: below the best peer in work, at the best plan in memory, equal in outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from etexport.__main__ import main
from etexport.inspect.peers import peers_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "mlperf_tiny"
BOARD = "qemu_mps2_an386"
ARENA = {"kws": 64_000, "ic": 131_072, "vww": 221_184, "ad": 3_072}
"""Bytes, inputs and outputs included."""

pytestmark = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"),
    reason="arm-none-eabi-gcc or qemu-system-arm is not installed",
)


@pytest.mark.parametrize("model", ARENA)
def test_work_memory_and_outputs(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, folder = tmp_path / "model.pte", tmp_path / "built"
    assert main(["export", str(EXAMPLES / f"{model}.py"), "-o", str(program)]) == 0
    assert main(["build", str(program), "--board", BOARD, "-o", str(folder), "--name", model]) == 0
    assert main(["run", str(folder), "--samples", "2"]) == 0
    assert main(["validate", str(folder)]) == 0, capsys.readouterr().err
    count = json.loads((folder / "run.json").read_text())["counters"][0]
    peers = [peer.figures[model]["count"] for peer in peers_of("Cortex-M4F", "float32", model) if peer.name != "best known"]
    assert len(peers) == 3 and count < min(peers)
    arena = json.loads((folder / "memory.json").read_text())["arena"]
    assert arena["size"] <= ARENA[model] and arena["bound"] <= arena["size"]
