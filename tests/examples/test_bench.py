"""The four MLPerf Tiny networks on the emulated Cortex-M4F: below the best peer in work, at the best plan in memory,
equal in outputs; in int8 within what is asked of one image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from etexport.__main__ import main
from etexport.report.bench import our_figures, read_reports
from etexport.report.peers import goal_of, peers_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "mlperf_tiny"
BOARD = "qemu_mps2_an386"
ARENA = {"kws": 38_144, "ic": 131_072, "vww": 149_760, "ad": 3_072}
"""Bytes in float32, inputs and outputs included."""

README_ROWS = {
    "count": "instructions an inference",
    "code": "flash without constants, bytes",
    "arena": "arena, inputs and outputs in it, bytes",
    "init_count": "instructions of the start",
}

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
    peers = [
        peer.figures[model]["count"] for peer in peers_of("Cortex-M4F", "float32", model) if peer.name != "best known"
    ]
    assert len(peers) == 3 and count < min(peers)
    arena = json.loads((folder / "memory.json").read_text())["arena"]
    assert arena["size"] <= ARENA[model] and arena["bound"] <= arena["size"]


@pytest.mark.parametrize("model", ARENA)
def test_int8_within_what_is_asked(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = in_int8(model, tmp_path, capsys)
    (read,) = read_reports([tmp_path / "built" / "report.json"])
    figures, goal = our_figures(read), goal_of("Cortex-M4F", "int8", model)
    assert report["quantization"] == "int8" and report["in_float"] == []
    assert (
        report["compare"]["mismatched"] == 0
        and report["compare"]["max_lsb_error"] <= report["compare"]["tolerance_lsb"]
    )
    for name, at_most in goal.items():
        assert figures[name] is not None and figures[name] <= at_most, (name, figures[name], at_most)  # type: ignore[operator]
    (tflm,) = [peer.figures[model] for peer in peers_of("Cortex-M4F", "int8", model) if peer.name == "TFLM + CMSIS-NN"]
    for name, row in README_ROWS.items():
        assert figures[name] is not None and figures[name] < tflm[name], name  # type: ignore[operator]
        ours, theirs = in_readme(row, model)
        assert ours == pytest.approx(figures[name], rel=0.01) and theirs == tflm[name], (
            f"README.md: {row}: {figures[name]}, {tflm[name]}"
        )
    if report["compare"]["accuracy"] is not None:  # keyword spotting on real utterances, where the data is
        judged = report["compare"]["judged"]
        right = {who: round(report["compare"][who] * judged) for who in ("accuracy", "accuracy_eager")}
        assert judged == 400 and right["accuracy_eager"] == 360
        assert right["accuracy"] >= 356 and report["compare"]["same_class"] >= 390


def in_readme(row: str, model: str) -> list[int]:
    """What the README's table of the four networks says, and TFLM's in the line beneath."""
    lines = (EXAMPLES.parents[1] / "README.md").read_text("utf-8").splitlines()
    (at,) = [at for at, line in enumerate(lines) if line.startswith(f"| {row} |")]
    return [int(line.split("|")[2 + list(ARENA).index(model)].replace(",", "")) for line in lines[at : at + 2]]


def in_int8(model: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The report of the network in int8, all samples run."""
    program, built = folder / "model.pte", folder / "built"
    assert main(["export", str(EXAMPLES / f"{model}.py"), "-o", str(program), "--quantize", "int8"]) == 0
    assert main(["build", str(program), "--board", BOARD, "-o", str(built), "--name", model]) == 0, (
        capsys.readouterr().err
    )
    assert main(["run", str(built)]) == 0
    assert main(["report", str(built), "--quiet"]) == 0
    report: dict[str, Any] = json.loads((built / "report.json").read_text())
    return report
