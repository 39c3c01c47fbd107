"""The C library's functions that kernels call, over their whole range on each core, beside float64: every exponent,
subnormal numbers, both zeros, infinities, NaN, and where rounding or a conversion to an integer may go wrong."""

from __future__ import annotations

import math
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from etexport.board import load_board
from etexport.device import run
from etexport.emit import emit
from etexport.kernel.call import Target
from etexport.kernel.cases import Case, T
from etexport.kernel.library import Library
from etexport.plan import plan
from etexport.program.model import Array
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise
from etexport.toolchain import gcc

from .batch import batch
from .cases import sample

BOARDS = ("qemu_mps2_an386", "qemu_mps2_an385", "qemu_virt_rv32")
EXACT = ("floor", "ceil", "trunc", "round", "sign")
UNARY = {
    **dict.fromkeys(EXACT, 0.0), "sin": 2.0, "cos": 2.0, "tan": 3.0, "asin": 2.0, "acos": 2.0, "atan": 2.0, "sinh": 2.0,
    "cosh": 2.0, "asinh": 2.0, "acosh": 2.0, "atanh": 2.0, "erf": 2.0, "erfc": 9.0, "expm1": 2.0, "log1p": 2.0,
    "log2": 2.0, "log10": 2.0, "log": 2.0, "sqrt": 0.5,
}  # fmt: skip
"""Units in the last place. Every library's erfc is 5e-7 of its value off at 4."""

PAIRS = {"atan2.out": 2.0, "fmod.Tensor_out": 0.0, "hypot.out": 2.0, "copysign.out": 0.0, "fmax.out": 0.0,
    "fmin.out": 0.0,
         "pow.Tensor_Tensor_out": 6.0, "div.out_mode": 0.0}  # fmt: skip

SPECIAL = (
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    2.0**-149,
    -(2.0**-149),
    2.0**-126 - 2.0**-149,
    2.0**-126,
    3.4028235e38,
    -3.4028235e38,
)
NEAR = [2.0**at + more for at in (22, 23, 24, 31, 32, 33, 63, 64) for more in (-1.0, -0.5, 0.0, 0.5, 1.0)]
VALUES = np.array(
    [
        *SPECIAL, *(sign * part * 2.0**at for at, part, sign in product(range(-149, 128, 2), (1.0, 1.3728, 1.9999),
        (1, -1))), *(at / 4 for at in range(-40, 41)), *NEAR, *(-each for each in NEAR),
        *(math.pi * at / 4 for at in range(1, 30)), 1 + 2.0**-23, 1 - 2.0**-24, -1 + 2.0**-24, 88.7, -87.3, 89.0, 127.9,
        128.0, 127.99999, 10314987.0, 12613411.0, 754704777216.0, -111481610240.0,
    ],
    np.float32,
)  # fmt: skip
ENDS = np.array(
    [
        *SPECIAL,
        *(sign * each for each in (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 33.0, 16777216.0, 8e9, 1e20) for sign in (1, -1)),
        1 - 2.0**-24,
    ],
    np.float32,
)
FIRST, SECOND = (np.ascontiguousarray(side.ravel()) for side in np.meshgrid(ENDS, ENDS))


def _tensor(values: Array) -> T:
    return T(values.shape, values=tuple(map(float, values)))


def _expected(name: str, operands: tuple[Array, ...]) -> Array:
    """In float64; a quotient is float32's own before it is cut off."""
    tensors = [torch.from_numpy(each) for each in operands]
    if name.startswith("div"):
        result: Array = torch.trunc((tensors[0] / tensors[1]).double()).numpy()
        return result
    return np.asarray(getattr(torch, name.partition(".")[0])(*(each.double() for each in tensors)).numpy())


def _wrong(name: str, units: float, operands: tuple[Array, ...], got: Array) -> list[str]:
    exact = _expected(name, operands)
    with np.errstate(all="ignore"):
        wanted = exact.astype(np.float32)
        same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
        apart = np.abs(got.astype(np.float64) - exact) / np.maximum(
            np.spacing(np.abs(wanted)).astype(np.float64), 2.0**-149
        )
        near = np.isfinite(got) & np.isfinite(wanted) & (apart <= units)
    return [
        f"{name}({', '.join(str(side[at]) for side in operands)}) = {got[at]}, not {wanted[at]}"
        for at in np.flatnonzero(~(same | near))
    ]


@pytest.mark.parametrize("board_name", BOARDS)
def test_whole_range(board_name: str, library: Library, tmp_path: Path) -> None:
    board = load_board(board_name)
    assert board.simulator is not None
    if shutil.which(board.simulator.program) is None:
        pytest.skip(f"{board.simulator.program} is not installed")
    cases = [(name, units, (VALUES,), ()) for name, units in UNARY.items()]
    pairs = [
        (name, units, (FIRST, SECOND), ("trunc",) if name.startswith("div") else ()) for name, units in PAIRS.items()
    ]
    samples, called = [], [*cases, *pairs]
    for name, _, operands, more in called:
        op = library.ops[f"aten::{name}" if "." in name else f"aten::{name}.out"]
        samples.append(sample(op, Case((*map(_tensor, operands), *more)), 0))
    whole = batch(samples, stored=True)
    specialised = specialise(whole.program, Target(board.features), library)
    the_problem = problem(specialised)
    emit(
        (Placed(specialised, the_problem, plan(the_problem)),),
        board,
        library,
        program_hash=1,
        model_name="library",
        out=tmp_path,
    )
    made = gcc.build(tmp_path, board, library.include_dirs, build_dir=tmp_path, probe_count=0, jobs=2)
    done = run(made.elf, board, [whole.inputs])
    wrong = []
    for (name, units, operands, _), positions in zip(called, whole.results, strict=True):
        wrong += _wrong(name, units, operands, np.asarray(done.outputs[0][positions[0]]).reshape(-1))
    assert not wrong, f"{len(wrong)} results:\n" + "\n".join(wrong[:20])
