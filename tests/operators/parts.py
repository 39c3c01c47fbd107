"""Samples shared out to as many programs as a small board needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etexport.board import Board
from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.specialise.memory import problem
from etexport.specialise.pipeline import specialise

from .batch import batch
from .boards import CASTS, Bench, stacked, takes_dtype_of_output
from .cases import Sample

STATIC = 1024
"""Bytes of RAM beside stack and arena, rounded up: link buffers and what the runtime knows."""
LONGEST = 100
"""Samples a program, at most: their code and constants lie in the flash."""


@dataclass(frozen=True)
class Parts:
    parts: tuple[tuple[Sample, ...], ...]
    left_out: tuple[Sample, ...]
    """What is too large for the board even alone."""


def room(board: Board) -> int:
    """Bytes for an arena."""
    return next(memory.size for memory in board.memory if memory.kind == "ram") - board.stack - STATIC


def need(sample: Sample, bench: Bench, library: Library) -> int:
    """Bytes of arena that the sample takes. Nothing is shared under the planner of the tests, so that programs take the
    sum."""
    widest = max(CASTS, key=lambda dtype: dtype.itemsize) if takes_dtype_of_output(sample) else None
    program = batch([sample], [widest], stored=bench.stored).program
    the_problem = problem(specialise(program, Target(bench.board.features, bench.optimize), library))
    return sum(-(-size // 16) * 16 for size in stacked(the_problem).size.values())


def shared_out(samples: Sequence[Sample], bench: Bench, library: Library) -> Parts:
    """The samples in their order, as many to a program as fit."""
    limit = room(bench.board)
    parts: list[list[Sample]] = []
    left_out: list[Sample] = []
    filled = limit
    for sample in samples:
        bytes_needed = need(sample, bench, library)
        if bytes_needed > limit:
            left_out.append(sample)
            continue
        if filled + bytes_needed > limit or len(parts[-1]) == LONGEST:
            parts.append([])
            filled = 0
        parts[-1].append(sample)
        filled += bytes_needed
    return Parts(tuple(map(tuple, parts)), tuple(left_out))
