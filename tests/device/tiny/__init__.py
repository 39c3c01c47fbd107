"""The meaning of the tiny program, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HANG, WRITE_NOWHERE, BAD_INSTRUCTION, OVERFLOW = np.float32(1e30), np.float32(2e30), np.float32(3e30), np.float32(4e30)
"""First elements of x that make the program go wrong."""


def sample(index: int, first: float | None = None) -> tuple[Array, Array]:
    """Inputs in the script's order, different for each index."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3) + np.float32(index)
    if first is not None:
        x[0, 0] = first
    image = ((np.arange(48) * (index + 3)) % 251 - 125).astype(np.int8).reshape(1, 3, 4, 4)
    return x, image


def expected(inputs: tuple[Array, Array], runs: int) -> tuple[Array, Array]:
    """Outputs of run number `runs` (from 1)."""
    x, image = inputs
    sums = (x[:, 0] + x[:, 1]) + x[:, 2]
    at = np.arange(600)
    stored = image.transpose(0, 2, 3, 1).ravel().astype(np.int32)
    return sums, (stored[at % 48] * at + runs).astype(np.int32)
