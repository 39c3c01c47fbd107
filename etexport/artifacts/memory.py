"""`memory.json`: what a build folder holds, and where it lies. Sizes and offsets in bytes, times in steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from etexport.artifacts.records import read_record
from etexport.project import NOTHING, Project, at
from etexport.sources import Sources


@dataclass(frozen=True)
class TensorType:
    """`dtype` as numpy calls it; `shape` in the script's order of dimensions, `dim_order` that in memory, outermost
    first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dim_order: tuple[int, ...]

    def __post_init__(self) -> None:
        np.dtype(self.dtype)  # TypeError for what is none
        if sorted(self.dim_order) != list(range(len(self.shape))) or min(self.shape, default=0) < 0:
            raise ValueError(f"tensor {self.name} of shape {self.shape} in the order {self.dim_order}")

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class PlacedTensor(TensorType):
    """An input or output; `region` and `offset` are None where it is a constant in flash."""

    bytes: int
    region: str | None
    offset: int | None


@dataclass(frozen=True)
class HeldTensor(TensorType):
    """A value in a buffer, at its offset in the region."""

    offset: int


@dataclass(frozen=True)
class Arena:
    """All regions together, against the proven lower bound. `io`, `state` and `scratch` are parts of it, and may
    overlap."""

    size: int
    bound: int
    gap: int
    optimal: bool
    proof: str
    io: int
    state: int
    scratch: int


@dataclass(frozen=True)
class RegionUse:
    name: str
    capacity: int | None
    cost: float
    size: int
    bound: int


@dataclass(frozen=True)
class BufferUse:
    """One buffer of the plan; it is `live` from the first up to before the second step of each pair."""

    name: str
    region: str
    offset: int
    size: int
    touched: int
    live: tuple[tuple[int, int], ...]
    role: str
    values: tuple[HeldTensor, ...]
    source: str


@dataclass(frozen=True)
class LiveBuffer:
    name: str
    region: str
    offset: int
    size: int
    why: str
    """Where the content comes from, and what still needs it."""


@dataclass(frozen=True)
class Step:
    """`kind` is "call", "begin", "next", "jump" or "move"; `kernel`, `variant`, `macs` and `results` are of calls."""

    step: int
    handle: int
    name: str
    op: str
    kind: str
    family: str
    kernel: str
    variant: str
    source: str
    """`file:line` of the model script."""
    code: str
    macs: int
    bytes_constants: int
    results: tuple[TensorType, ...]
    bytes_live: int
    live: tuple[LiveBuffer, ...]
    target: int | None = None
    """Of a jump: the step at which it goes on, always or where the `condition`, a value, does not hold."""
    condition: str = ""


@dataclass(frozen=True)
class InFloat:
    """A step of a quantised program that computes in float, and why."""

    handle: int
    name: str
    op: str
    source: str
    reason: str


@dataclass(frozen=True)
class Symbol:
    symbol: str
    offset: int
    size: int
    dtype: str


@dataclass(frozen=True)
class Constants:
    size: int
    symbols: tuple[Symbol, ...]


@dataclass(frozen=True)
class MethodUse:
    """A method: the number of its first step, and how many of the steps, inputs and outputs are its; each list goes
    method by method."""

    name: str
    first: int
    steps: int
    inputs: int
    outputs: int
    wires: tuple[tuple[int | str, int | str], ...] = ()
    """(who made it, who may read it): a step by its number, an input, output or state by its name."""


@dataclass(frozen=True)
class Linked:
    """What the folder `family` of a kernel or delegate brings in C and C++; `sha256` is that of its own files."""

    family: str
    sources: Sources
    sha256: str


@dataclass(frozen=True)
class MemoryMap:
    model: str
    board: str
    program_hash: str
    quantization: str
    """"int8" where values stand for reals by a scale, "int8-weights" and its like where weights alone do, else
    "float32"."""
    optimize: str
    rounding: str
    arena: Arena
    regions: tuple[RegionUse, ...]
    methods: tuple[MethodUse, ...]
    inputs: tuple[PlacedTensor, ...]
    outputs: tuple[PlacedTensor, ...]
    buffers: tuple[BufferUse, ...]
    steps: tuple[Step, ...]
    in_float: tuple[InFloat, ...]
    constants: Constants
    sources: tuple[Linked, ...] = ()
    project: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Folders and files of the model's own project by kind (`etexport.project.LISTS`), as paths from this folder."""


def project_in(folder: Path) -> Project:
    """Whose kernels, passes and delegates the program in a build folder has; nobody's where no sources were generated
    there."""
    if not (folder / "memory.json").is_file():
        return NOTHING
    memory = read_memory(folder)
    return at(folder, memory.project)


def read_memory(folder: Path) -> MemoryMap:
    """`memory.json` of a build folder; ModelError where there is none, or somebody changed it."""
    return read_record(folder / "memory.json", MemoryMap, "`etexport build` writes it")
