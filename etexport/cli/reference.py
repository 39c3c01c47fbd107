"""Samples for a `.pte` that came without any: seeded inputs, and the outputs that the host board gives for them."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from etexport.stages.origin import existing

if TYPE_CHECKING:
    from etexport.program.model import Array, TensorSpec


EXAMPLE = "etexport reference foreign.pte -o foreign.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="X.pte")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="X.npz")
    parser.add_argument("--samples", type=int, default=16)


def main(args: argparse.Namespace) -> int:
    import numpy as np

    from etexport.artifacts.files import npz, write_whole
    from etexport.artifacts.memory import project_in
    from etexport.board import load_board
    from etexport.device import run
    from etexport.program import pte
    from etexport.resources import include_folders
    from etexport.stages.generate import generate
    from etexport.toolchain import gcc

    method = pte.load(existing(args.program)).method()
    random = np.random.default_rng(0)
    inputs = [[drawn(random, method.values[id].spec) for id in method.inputs] for _ in range(args.samples)]
    board = load_board("host")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(args.program, "host", folder, optimize="speed", name="model")
        done = run(gcc.build(folder, board, include_folders(project_in(folder))).elf, board, inputs)
    arrays: dict[str, Array] = {f"input_{at}": np.stack(column) for at, column in enumerate(zip(*inputs, strict=True))}
    arrays |= {f"output_{at}": np.stack(column) for at, column in enumerate(zip(*done.outputs, strict=True))}
    arrays["origin"] = np.array("seeded inputs, outputs of the host board: not eager PyTorch's")
    arrays["reference"] = np.array("the host board")
    write_whole(args.out, npz(arrays))
    return 0


def drawn(random: object, spec: TensorSpec) -> Array:
    """Normal numbers for floats, the whole range of small integers."""
    import numpy as np

    assert isinstance(random, np.random.Generator)
    if spec.dtype.numpy.kind == "f":
        return random.standard_normal(spec.shape).astype(spec.dtype.numpy)
    if spec.dtype.numpy.kind == "b":
        return random.random(spec.shape) < 0.5
    limits = np.iinfo(spec.dtype.numpy)
    return random.integers(max(limits.min, -128), min(limits.max, 127), spec.shape, endpoint=True).astype(
        spec.dtype.numpy
    )
