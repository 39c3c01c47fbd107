"""The data of a program: what every stage from capture to code generation reads and makes anew.

Everything here is frozen. A pass returns a new `Method`; arrays are read-only, so that a constant shared by several
values cannot change behind the back of one of them.
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from etexport.errors import ProgramError

Array = npt.NDArray[Any]


class DType(enum.Enum):
    """Element types, by ExecuTorch's ScalarType code, the numpy type, and the C++ type of a kernel's pointer. Floats of
    16 bits are for weights only (`COMPUTED` has the others); numpy has no bfloat16, so its elements are two bytes."""

    UINT8 = (0, "uint8", "uint8_t")
    INT8 = (1, "int8", "int8_t")
    INT16 = (2, "int16", "int16_t")
    INT32 = (3, "int32", "int32_t")
    INT64 = (4, "int64", "int64_t")
    FLOAT32 = (6, "float32", "float")
    FLOAT64 = (7, "float64", "double")
    BOOL = (11, "bool", "bool")
    FLOAT16 = (5, "float16", "uint16_t")
    BFLOAT16 = (15, "V2", "uint16_t")

    def __init__(self, code: int, numpy_name: str, cpp: str) -> None:
        self.code = code
        self.numpy = np.dtype(numpy_name)
        self.cpp = cpp

    @property
    def itemsize(self) -> int:
        return self.numpy.itemsize

    @classmethod
    def of_code(cls, code: int, *, halves: bool = False) -> DType:
        """The type with this ScalarType code, of 16 bits where `halves` says so; ValueError where the project has
        none."""
        for dtype in cls:
            if dtype.code == code and (halves or dtype in COMPUTED):
                return dtype
        raise ValueError(f"ScalarType {code} is not supported")

    @classmethod
    def of_numpy(cls, dtype: npt.DTypeLike) -> DType:
        """The type with this numpy dtype; ValueError where the project has none."""
        for member in cls:
            if member.numpy == np.dtype(dtype):
                return member
        raise ValueError(f"{np.dtype(dtype)} is not supported")


HALVES = (DType.FLOAT16, DType.BFLOAT16)
COMPUTED = tuple(dtype for dtype in DType if dtype not in HALVES)
"""What kernels may take."""


def widened(halves: Array) -> Array:
    """Floats of 16 bits as float32."""
    if halves.dtype == DType.FLOAT16.numpy:
        return halves.astype(np.float32)
    return (halves.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class QParams:
    """Affine quantisation: real = (stored - zero_point) * scale, per tensor (`axis` None, one entry) or along
    `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    qmin: int
    qmax: int
    axis: int | None = None


@dataclass(frozen=True)
class TensorSpec:
    """Shape is logical (N, C, H, W, as in the script); `dim_order` lists the dimensions from outermost to innermost in
    memory."""

    dtype: DType
    shape: tuple[int, ...]
    dim_order: tuple[int, ...] = ()
    qparams: QParams | None = None

    def __post_init__(self) -> None:
        if len(self.dim_order) != len(self.shape):
            assert not self.dim_order, f"dim order {self.dim_order} for shape {self.shape}"
            object.__setattr__(self, "dim_order", tuple(range(len(self.shape))))

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance in elements between neighbours along each logical dimension."""
        strides = [0] * len(self.shape)
        step = 1
        for dim in reversed(self.dim_order):
            strides[dim] = step
            step *= self.shape[dim]
        return tuple(strides)

    @property
    def physical_dims(self) -> tuple[int, ...]:
        """The dim order without dimensions of size 1: two specs of one shape lie alike in memory when these are
        equal."""
        return tuple(dim for dim in self.dim_order if self.shape[dim] != 1)

    @property
    def is_contiguous(self) -> bool:
        return self.physical_dims == tuple(sorted(self.physical_dims))

    def with_order(self, dim_order: tuple[int, ...]) -> TensorSpec:
        return replace(self, dim_order=dim_order)

    def __str__(self) -> str:
        return f"{self.dtype.name.lower()} {list(self.shape)}"


def contiguous(rank: int) -> tuple[int, ...]:
    return tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """(0, 2, 3, 1) for images, (0, 2, 1) for sequences; contiguous below rank 3."""
    return contiguous(rank) if rank < 3 else (0, *range(2, rank), 1)


class Role(enum.Enum):
    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    STATE = "state"
    ACTIVATION = "activation"
    SCRATCH = "scratch"


@dataclass(frozen=True)
class Storage:
    """The value lies inside another one: `offset` bytes after the start of value `base` (which has no storage of its
    own base)."""

    base: int
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program.

    `data` is the content of a constant, or the initial content of a state, indexed logically (`data.shape ==
    spec.shape`) whatever the dim order. A state without `data` starts as zeros. `name` is unique in its method and a C
    identifier.
    """

    id: int
    name: str
    spec: TensorSpec
    role: Role
    data: Array | None = None
    storage: Storage | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            assert self.data.shape == self.spec.shape, f"{self.name}: data {self.data.shape}, spec {self.spec}"
            assert self.data.dtype == self.spec.dtype.numpy, f"{self.name}: data {self.data.dtype}, spec {self.spec}"
            if self.data.flags.writeable:
                frozen = self.data.view()
                frozen.flags.writeable = False
                object.__setattr__(self, "data", frozen)

    @property
    def base(self) -> int:
        """The value whose memory it lies in: itself, where it has memory of its own."""
        return self.id if self.storage is None else self.storage.base

    @property
    def physical_bytes(self) -> bytes:
        """The bytes of `data` as they lie in memory, in dim order, little-endian."""
        assert self.data is not None, f"{self.name} has no data"
        laid_out = np.transpose(self.data, self.spec.dim_order) if self.spec.shape else self.data
        return np.ascontiguousarray(laid_out, dtype=self.spec.dtype.numpy.newbyteorder("<")).tobytes()


@dataclass(frozen=True)
class Ref:
    """An operand that is the value with this id."""

    id: int


Scalar = bool | int | float | str | None
Arg = Ref | Scalar | tuple[Any, ...]  # a tuple holds Args: int lists, tensor lists, optional tensor lists


@dataclass(frozen=True)
class Source:
    """The innermost line of the user's own code that an instruction comes from; `file` is relative to the model
    script."""

    file: str
    line: int
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Epilogue:
    """What a kernel does to each result before it stores it: out = min(max(result + residual, low), high). Set by the
    target side only."""

    low: float = -math.inf
    high: float = math.inf
    residual: Ref | None = None

    @property
    def clamps(self) -> bool:
        return self.low != -math.inf or self.high != math.inf


MOVE = "executorch::move"
"""outs[0] becomes another name of args[0] (no bytes move), as ExecuTorch's MoveCall."""

JUMP_FALSE = "executorch::jump_false"
"""Go to the instruction with handle args[1] (-1: the end) when the bool args[0] (a Ref, or False for always) is
false."""

BEGIN = "executorch::begin"
"""Before a loop of a known number of rounds: outs[0], its count (an int32 without dimensions), is 0, and the further
outs, of which each round will write a row, hold anything."""

NEXT = "executorch::next"
"""Its end: one is added to the count outs[0] (args[0] too), and below the number args[1] the next round begins at the
instruction with handle args[2], the one behind its `BEGIN`."""

ROW = "executorch::row"
"""outs[0] is row args[1] (a count) of args[0] along its first dimension: ExecuTorch's select_copy with an index that it
counts."""

SET_ROW = "executorch::set_row"
"""args[1] becomes row args[2] (a count) of args[0], which is outs[0] too: ExecuTorch's et_copy_index."""

JUMPS = (JUMP_FALSE, NEXT)
"""The last argument of these is the handle of the instruction that they may lead to."""


@dataclass(frozen=True)
class Instruction:
    """One operator call. `op` is ExecuTorch's name with overload, `aten::add.out`; `args` are the operator's arguments
    in schema order without the out arguments; `outs` are ids of the values it writes. `handle` names the instruction
    for ever: passes keep it, an instruction made from several keeps the handle of the one that produced the result.
    """

    op: str
    args: tuple[Arg, ...]
    outs: tuple[int, ...]
    handle: int
    name: str = ""
    source: Source | None = None
    epilogue: Epilogue | None = None

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """Ids of the values it reads, each once, in order of appearance (the epilogue's residual last)."""
        found = list(_refs(self.args))
        if self.epilogue is not None and self.epilogue.residual is not None:
            found.append(self.epilogue.residual.id)
        return tuple(dict.fromkeys(found))

    def renamed(self, new: Mapping[int, int]) -> Instruction:
        """Reading value `new[id]` wherever it read `id`."""
        if new.keys().isdisjoint(self.reads):
            return self
        epilogue = self.epilogue
        if epilogue is not None and epilogue.residual is not None:
            epilogue = replace(epilogue, residual=Ref(new.get(epilogue.residual.id, epilogue.residual.id)))
        return replace(self, args=tuple(substitute(arg, new) for arg in self.args), epilogue=epilogue)

    @property
    def destination(self) -> int:
        """Of a jump: the handle of the instruction that it may lead to; -1 is the end."""
        destination = self.args[-1]
        assert self.op in JUMPS and isinstance(destination, int), self.where
        return destination

    def leading_to(self, destination: int) -> Instruction:
        """The jump, to another instruction."""
        return replace(self, args=(*self.args[:-1], destination))

    @property
    def where(self) -> str:
        """For messages: the node and, where known, the line of the script."""
        node = f"{self.name or f'instruction {self.handle}'} ({self.op})"
        return f"{self.source}: {node}" if self.source else node


def _refs(args: tuple[Arg, ...]) -> Iterator[int]:
    for arg in args:
        if isinstance(arg, Ref):
            yield arg.id
        elif isinstance(arg, tuple):
            yield from _refs(arg)


def substitute(arg: Arg, new: Mapping[int, int]) -> Arg:
    """The operand with each Ref that `new` names replaced."""
    if isinstance(arg, Ref):
        return Ref(new.get(arg.id, arg.id))
    if isinstance(arg, tuple):
        return tuple(substitute(item, new) for item in arg)
    return arg


@dataclass(frozen=True)
class Delegate:
    """What the backend called `id` made of a part of a program, ExecuTorch's BackendDelegate: `blob`, and `specs` by
    name, mean something to that backend alone. `inputs` and `outputs` are those of a call.

    Equal ones have one `op`, which is the operator of the instructions that call it."""

    id: str
    blob: bytes
    specs: tuple[tuple[str, bytes], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @cached_property
    def op(self) -> str:
        said = repr((self.id, self.blob, self.specs, self.inputs, self.outputs)).encode()
        return f"delegate::{re.sub(r'[^A-Za-z0-9_]', '_', self.id)[:64]}_{hashlib.sha256(said).hexdigest()[:8]}.out"


@dataclass(frozen=True)
class Symbol:
    """A size that is known at run time: the least and the most that it may be."""

    name: str
    least: int
    most: int


@dataclass(frozen=True)
class Extent:
    """Dimension `dim` of input number `input` is `factor` times symbol number `symbol`, and `offset` more."""

    input: int
    dim: int
    symbol: int
    factor: int = 1
    offset: int = 0

    def of(self, size: int) -> int:
        return self.factor * size + self.offset


@dataclass(frozen=True, eq=False)
class Method:
    """A graph in execution order. `inputs` and `outputs` are value ids in the script's order; an output may be an input
    or a constant, or appear twice. Of `values`, states and constants are the program's: see `Program`.
    """

    name: str
    values: Mapping[int, Value]
    instructions: tuple[Instruction, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shared: frozenset[int] = frozenset()
    """States that other methods have too, so that what is written to them is a result. Set by `Program`."""
    symbols: tuple[Symbol, ...] = ()
    """Sizes that are known at run time. Shapes of values are the largest then."""
    extents: tuple[Extent, ...] = ()
    """The sizes of inputs that they are, a symbol at one place or at several."""
    bounded: frozenset[int] = frozenset()
    """Values whose shapes depend on symbols."""

    def next_id(self) -> int:
        return max(self.values, default=-1) + 1

    def next_handle(self) -> int:
        return max((instruction.handle for instruction in self.instructions), default=-1) + 1

    def uses(self) -> Counter[int]:
        """How many instructions read each value; being an output of the method counts as one, at each place."""
        uses = Counter(self.outputs)
        for instruction in self.instructions:
            uses.update(instruction.reads)
        return uses

    def with_values(self, *new: Value) -> Method:
        """The method with these values added or replaced by id."""
        return replace(self, values={**self.values, **{value.id: value for value in new}})


@dataclass(frozen=True, eq=False)
class Program:
    """States and constants belong to the program, methods refer to them: their ids mean the same value in every method
    that has them. Ids of other values are their method's own.

    `metadata` and `constant_methods` are what ExecuTorch calls constant methods: named literals that travel in the file
    (a text alone is metadata). Their names and those of `methods` differ. `delegates` are by the operator that calls
    them.
    """

    methods: tuple[Method, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    constant_methods: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    delegates: Mapping[str, Delegate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        users = Counter(
            id_ for method in self.methods for id_, value in method.values.items() if value.role is Role.STATE
        )
        shared = {id_ for id_, count in users.items() if count > 1}
        told = tuple(_sharing(method, frozenset(shared & method.values.keys())) for method in self.methods)
        object.__setattr__(self, "methods", told)

    @cached_property
    def states(self) -> Mapping[int, Value]:
        """The states of all methods, by id."""
        return self._of(Role.STATE)

    @cached_property
    def constants(self) -> Mapping[int, Value]:
        """The constants of all methods, by id."""
        return self._of(Role.CONSTANT)

    def _of(self, role: Role) -> Mapping[int, Value]:
        return {
            id_: value for method in self.methods for id_, value in sorted(method.values.items()) if value.role is role
        }

    def method(self, name: str = "forward") -> Method:
        """The method of this name; the only one of a program that has one. ProgramError where that says nothing."""
        found = [method for method in self.methods if method.name == name or len(self.methods) == 1]
        if not found:
            known = ", ".join(method.name for method in self.methods) or "none"
            raise ProgramError(
                f"no method is called {name}, the program's are {known}",
                hint="write one method to a file, or call one forward",
            )
        return found[0]


def _sharing(method: Method, shared: frozenset[int]) -> Method:
    return method if method.shared == shared else replace(method, shared=shared)
