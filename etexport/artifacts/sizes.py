"""`sizes.json`: what a linked firmware takes, in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from etexport.artifacts.records import read_record


@dataclass(frozen=True)
class Parts:
    """Bytes by what they are for; the parts add up to `total`."""

    runtime: int
    """Start-up, main loop, serial link, drivers."""
    kernels: int
    """Kernels and generated code."""
    constants: int
    """Weights, biases, multipliers, tables, initial state."""
    libc: int
    """The C library and libgcc."""
    total: int


@dataclass(frozen=True)
class Frame:
    """A function of the deepest chain of calls, with its stack."""

    function: str
    bytes: int


@dataclass(frozen=True)
class SizeRecord:
    """`flash` is of the ELF's loadable segments, `static` what of RAM is neither arena nor stack. `stack_bound` is what
    was proven to be enough, None on the host."""

    flash: Parts
    static: Parts
    arena: int
    stack: int
    stack_bound: int | None
    stack_chain: tuple[Frame, ...]


def read_sizes(folder: Path) -> SizeRecord:
    """`sizes.json` of a build folder; ModelError where there is none, or somebody changed it."""
    return read_record(folder / "sizes.json", SizeRecord, "`etexport build` writes it")
