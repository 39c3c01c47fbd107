"""The language model of `examples/decoder`: text that an emulated Cortex-M4 writes through the link, each character
made from the one before, is the text that PyTorch writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from etexport.__main__ import main

FOLDER = Path(__file__).parents[2] / "examples/decoder"
PROMPT = "the kettle"


def test_a_board_writes_what_pytorch_writes(tmp_path: Path) -> None:
    weights, program, out = tmp_path / "weights.npz", tmp_path / "model.pte", tmp_path / "out"
    assert main(["train", str(FOLDER / "model.py"), "-o", str(weights)]) == 0
    assert main(["export", str(FOLDER / "model.py"), str(weights), "-o", str(program)]) == 0
    assert main(["build", str(program), "--board", "qemu_mps2_an386", "-o", str(out)]) == 0
    url = f"qemu://qemu_mps2_an386?elf={out / 'firmware.elf'}"
    wrote = subprocess.run(
        [sys.executable, str(FOLDER / "generate.py"), url], capture_output=True, text=True, check=True
    )
    with np.load(program.with_suffix(".npz")) as read:  # the samples are the prompt and the text that was learned
        given, follows = read["input_0"].reshape(-1), read["output_0"].reshape(-1)
    assert np.array_equal(given[len(PROMPT) :], follows[len(PROMPT) - 1 : -1])
    assert wrote.stdout == PROMPT + bytes(follows[len(PROMPT) - 1 : -1].tolist()).decode("ascii") + "\n"
