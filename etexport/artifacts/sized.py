"""Samples whose sizes differ: arrays `run_<i>_input_<j>` and `run_<i>_output_<j>`, each of its own sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from etexport.artifacts.files import Array, numbered


def runs(arrays: Mapping[str, Array], stem: str) -> list[tuple[Array, ...]]:
    """The arrays of each run; empty for a file that has samples of one size."""
    found: list[tuple[Array, ...]] = []
    while f"run_{len(found)}_{stem}_0" in arrays:
        found.append(numbered(arrays, f"run_{len(found)}_{stem}"))
    return found


def named(each: Sequence[Sequence[Array]], stem: str) -> dict[str, Array]:
    return {f"run_{at}_{stem}_{number}": one for at, given in enumerate(each) for number, one in enumerate(given)}


def padded(each: Sequence[Sequence[Array]]) -> tuple[Array, ...]:
    """Samples first: zeros are behind what is smaller than the largest."""
    columns = []
    for column in zip(*each, strict=True):
        shape = tuple(map(max, zip(*(one.shape for one in column), strict=True)))
        whole = np.zeros((len(column), *shape), column[0].dtype)
        for at, one in enumerate(column):
            whole[at, ...][tuple(slice(size) for size in one.shape)] = one
        columns.append(whole)
    return tuple(columns)


def cut(array: Array, shape: tuple[int, ...]) -> Array:
    """One of the arrays without the zeros behind it."""
    return np.asarray(array[tuple(slice(size) for size in shape)])


def sizes(each: Sequence[Sequence[Array]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The shapes of each run."""
    return tuple(tuple(one.shape for one in given) for given in each)
