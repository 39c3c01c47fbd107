"""The demo's model: trained on real data, judged on other data, and free in its size and number of classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from etexport.__main__ import main
from etexport.frontend import script

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.py"


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return script.trained(DIGITS)


def test_it_learns_what_it_has_not_seen(weights: dict[str, np.ndarray]) -> None:
    with script.opened(DIGITS, weights) as opened:
        images, digits = opened.samples
        assert images.shape == (360, 1, 1, 8, 8) and len(digits) == 360
        votes = opened.model(images.flatten(0, 1)).argmax(dim=1)
    assert float((votes == digits).float().mean()) >= 0.97


def test_training_gives_the_same_weights_again(weights: dict[str, np.ndarray]) -> None:
    again = script.trained(DIGITS)
    assert again.keys() == weights.keys()
    assert all(np.array_equal(again[name], weights[name]) for name in weights)


def test_held_out_scans_are_not_trained_on() -> None:
    with script._importable(DIGITS.parent):
        module = script._module(DIGITS)
        held_out, trained_on = module._split(held_out=True)[0], module._split(held_out=False)[0]
        calibration = module.calibration()[:, 0]
    assert len(held_out) + len(trained_on) == 1797
    seen = {image.numpy().tobytes() for image in trained_on}
    assert not any(image.numpy().tobytes() in seen for image in held_out)
    assert all(image.numpy().tobytes() in seen for image in calibration)


@pytest.mark.parametrize(("size", "classes"), [(12, 10), (8, 7), (16, 3)])
def test_size_and_classes_are_set_in_the_script_only(tmp_path: Path, size: int, classes: int) -> None:
    text = DIGITS.read_text()
    changed = text.replace("SIZE = 8\n", f"SIZE = {size}\n").replace("CLASSES = 10\n", f"CLASSES = {classes}\n")
    changed = changed.replace("EPOCHS = 30\n", "EPOCHS = 2\n")
    assert changed.count(f"SIZE = {size}\n") == 1 and changed.count(f"CLASSES = {classes}\n") == 1
    path = tmp_path / "model.py"
    path.write_text(changed)
    with script.opened(path) as opened:
        images, digits = opened.samples
        assert images.shape[1:] == (1, 1, size, size) and int(digits.max()) == classes - 1
        output = opened.model(images[0])
    assert output.shape == (1, classes) and torch.isfinite(output).all()


def test_indices_that_nobody_reads_take_no_memory(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    """max_pool2d's second result, which the network drops."""
    np.savez(tmp_path / "weights.npz", **weights)  # type: ignore[arg-type]
    assert main(["export", str(DIGITS), str(tmp_path / "weights.npz"), "-o", str(tmp_path / "model.pte")]) == 0
    assert main(["generate", str(tmp_path / "model.pte"), "--board", "host", "-o", str(tmp_path)]) == 0
    memory = json.loads((tmp_path / "memory.json").read_text())
    assert {value["dtype"] for buffer in memory["buffers"] for value in buffer["values"]} == {"float32"}
    assert sum(step["op"].startswith("aten::max_pool2d") for step in memory["steps"]) == 2


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386", "qemu_microbit", "qemu_virt_rv32"])
def test_int8_is_as_good(
    board: str, weights: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within half a point of float32 on the held-out scans; the micro:bit has 16 KB of RAM."""
    for program in {"host": ("gcc",), "qemu_virt_rv32": ("riscv64-unknown-elf-gcc", "qemu-system-riscv32")}.get(
        board, ("arm-none-eabi-gcc", "qemu-system-arm")
    ):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    np.savez(tmp_path / "weights.npz", **weights)  # type: ignore[arg-type]
    model, folder = tmp_path / "model.pte", tmp_path / "built"
    assert main(["export", str(DIGITS), str(tmp_path / "weights.npz"), "-o", str(model), "--quantize", "int8"]) == 0
    assert main(["build", str(model), "--board", board, "-o", str(folder), "--name", "digits"]) == 0, (
        capsys.readouterr().err
    )
    assert main(["run", str(folder)]) == 0
    assert main(["report", str(folder), "--quiet"]) == 0
    report = json.loads((folder / "report.json").read_text())
    compare = report["compare"]
    assert (report["quantization"], compare["samples"], compare["judged"], compare["mismatched"]) == (
        "int8",
        360,
        360,
        0,
    )
    assert compare["accuracy"] >= compare["accuracy_eager"] - 0.005 and compare["accuracy_eager"] >= 0.97
    assert report["in_float"] == [] and len(report["quality"]) >= 5
    original = {array.tobytes() for array in weights.values() if array.ndim > 1}
    image = (folder / "firmware.elf").read_bytes()
    assert not any(one in image for one in original), "a float weight is in the image"
