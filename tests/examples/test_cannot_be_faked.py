"""The demo's verdict hangs on the board: a changed weight in its image and a changed sample on the host both end in
exit code 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from etexport.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLES = 12
CHANGED = 7


def run(folder: Path, inputs: Path) -> None:
    assert main(["run", str(folder), "--inputs", str(inputs), "--samples", str(SAMPLES)]) == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    script, weights, out = str(EXAMPLES / "digits" / "model.py"), str(folder / "weights.npz"), folder / "model.pte"
    assert main(["train", script, "-o", weights]) == 0
    assert main(["export", script, weights, "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module", params=["host", "qemu_mps2_an386", "qemu_virt_rv32"])
def built(request: pytest.FixtureRequest, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = {"host": "gcc", "qemu_mps2_an386": "arm-none-eabi-gcc", "qemu_virt_rv32": "riscv64-unknown-elf-gcc"}[
        request.param
    ]
    simulator = {"host": "gcc", "qemu_mps2_an386": "qemu-system-arm", "qemu_virt_rv32": "qemu-system-riscv32"}[
        request.param
    ]
    if not shutil.which(compiler) or not shutil.which(simulator):
        pytest.skip(f"{compiler} or {simulator} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    assert main(["build", str(program), "--board", request.param, "-o", str(folder), "--name", "digits"]) == 0
    run(folder, program.with_suffix(".npz"))
    assert main(["validate", str(folder)]) == 0
    return folder


def test_a_changed_weight_is_seen(
    built: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exponent of the first weight of the last layer, in the ELF itself; the board starts from the changed
    image."""
    folder = tmp_path / "changed"
    shutil.copytree(built, folder)
    with np.load(program.with_name("weights.npz")) as weights:
        wanted = weights["classify.weight"][0, 0].astype("<f4").tobytes()
    image = bytearray((folder / "firmware.elf").read_bytes())
    with (folder / "firmware.elf").open("rb") as stream:
        spans = [
            (one["p_offset"], one["p_offset"] + one["p_filesz"])
            for one in ELFFile(stream).iter_segments()
            if one["p_type"] == "PT_LOAD"
        ]
    at = next(at for first, last in spans if (at := image.find(wanted, first, last)) >= 0)
    image[at + 3] ^= 0x02  # the exponent of a float is in its last two bytes
    (folder / "firmware.elf").write_bytes(image)
    run(folder, program.with_suffix(".npz"))
    capsys.readouterr()
    assert main(["validate", str(folder), "--program", str(program)]) == 2
    said = capsys.readouterr().err
    assert f"of {SAMPLES} samples differ from PyTorch; first: sample " in said and "output 0[0, " in said


def test_a_changed_sample_is_seen(
    built: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(built, folder)
    with np.load(program.with_suffix(".npz")) as read:
        arrays = {name: read[name].copy() for name in read.files}
    arrays["input_0"][CHANGED, 0, 0, 2, 3] += 1
    np.savez(tmp_path / "changed.npz", **arrays)  # type: ignore[arg-type]
    run(folder, tmp_path / "changed.npz")
    capsys.readouterr()
    assert main(["validate", str(folder), "--program", str(program)]) == 2
    assert f"1 of {SAMPLES} samples differ from PyTorch; first: sample {CHANGED}, output 0" in capsys.readouterr().err


def test_the_first_wrong_instruction_is_named(
    built: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight of the second convolution is changed in the generated constants: with traces, that layer and its line
    are named."""
    folder = tmp_path / "changed"
    shutil.copytree(built, folder)
    with np.load(program.with_suffix(".npz")) as read:
        outputs = {"output_0": read["output_0"][:SAMPLES].copy()}
    constants = bytearray((folder / "constants.bin").read_bytes())
    memory = json.loads((folder / "memory.json").read_text())
    second = [step for step in memory["steps"] if step["family"] == "convolution"][1]
    symbol = next(one for one in memory["constants"]["symbols"] if second["name"] in one["symbol"])
    floats = np.frombuffer(constants, "<f4", symbol["size"] // 4, symbol["offset"])
    floats[:] = floats + np.float32(0.5)
    (folder / "constants.bin").write_bytes(constants)
    outputs["output_0"][0, 0, 0] += 1
    np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]
    assert main(["validate", str(folder), "--program", str(program), "--trace"]) == 2
    assert f"first wrong in {second['name']} at {second['source']}" in capsys.readouterr().err
