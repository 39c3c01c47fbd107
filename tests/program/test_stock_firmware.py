"""Files of ExecuTorch's default pipeline become the same firmware as our scripts: the same arena, and the same outputs
on a board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.passes import pipeline
from etexport.plan import plan, validate
from etexport.program import pte
from etexport.specialise import memory
from etexport.specialise.pipeline import specialise

ROOT = Path(__file__).parents[2]
SAMPLES = 2
ARENA = {"kws": (38_144, 38_144), "ic": (131_072, 131_072), "vww": (149_760, 221_184), "ad": (3_072, 3_072)}
"""Bytes at most, of float32, from a script of ours and from their file; ExecuTorch's own plan for its ad.pte takes
330,752. A file says in which order its input lies: VWW's image and its copy, channels last, are together larger than
anything that follows."""


@pytest.mark.parametrize("name", ARENA)
def test_the_arena_is_as_small_as_that_of_our_own(name: str, ours: dict[str, Path], theirs: dict[str, Path]) -> None:
    sizes = []
    for path in (ours[name], theirs[name]):
        program = pipeline.run(pte.read(path.read_bytes()), load_ops())
        problem = memory.problem(specialise(program, Target(), load_ops()))
        solution = plan(problem)
        validate(problem, solution)
        sizes.append(solution.size["ram"])
    assert all(size <= most for size, most in zip(sizes, ARENA[name], strict=True))
    assert sizes[0] == sizes[1] or name == "vww"


@pytest.mark.parametrize("name", ["kws", "ic", "vww", "ad", "digits"])
def test_outputs_are_those_of_our_own(
    name: str, ours: dict[str, Path], theirs: dict[str, Path], tmp_path: Path
) -> None:
    def etexport(*words: object) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "etexport", *map(str, words)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    samples = ours[name].with_suffix(".npz")
    etexport("build", theirs[name], "--board", "host", "-o", tmp_path, "--name", name)
    etexport("run", tmp_path, "--inputs", samples, "--samples", SAMPLES)
    with np.load(samples) as eager, np.load(tmp_path / "outputs.npz") as board:
        want, got = eager["output_0"][:SAMPLES], board["output_0"][:SAMPLES]
    assert np.abs(got - want.reshape(got.shape)).max() <= 2e-5 * np.abs(want).max()
