"""What a board says of itself, checked: a good CRC says that the bytes are the board's, not that they can be true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from etexport.device.messages import Message, layout
from etexport.errors import DeviceLostError, ModelError
from etexport.program.model import Array, DType

_MOST_RUNS = 0xFFFF_0000
"""Runs are counted in 32 bits."""
_MOST_TICKS = 1 << 62
_MOST_DIMENSIONS = 64
"""Of an array in numpy."""
_WRONG = "a firmware that speaks the link and is not ours, or memory that was overwritten: write it again"


@dataclass(frozen=True)
class Tensor:
    """An input or output as the board has it: logical shape, which is the largest that it may have, and dimensions in
    memory from outermost to innermost."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    dim_order: tuple[int, ...]
    size: int
    """Bytes."""
    least: tuple[int, ...] = ()
    """The least sizes, where these are not those of `shape`."""

    def sized(self, shape: tuple[int, ...]) -> Tensor:
        """The tensor as it is for these sizes."""
        return replace(self, shape=shape, size=math.prod(shape) * self.dtype.itemsize)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape can be one; sizes that depend on each other the board compares."""
        least = self.least or self.shape
        return len(shape) == len(least) and all(
            low <= size <= most for low, size, most in zip(least, shape, self.shape, strict=True)
        )

    @property
    def memory_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[dimension] for dimension in self.dim_order)


@dataclass(frozen=True)
class Entry:
    """A method of the program, and its tensors."""

    name: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    @property
    def is_sized(self) -> bool:
        """Whether any of its sizes is known at run time only."""
        return any(tensor.least for tensor in (*self.inputs, *self.outputs))


@dataclass(frozen=True)
class Hello:
    """`methods` are asked for one by one, and empty until then."""

    version: int
    layout: int
    boot: int
    reset_cause: str
    runs: int
    """Since the board started."""
    program_hash: int
    image_crc: int
    image_bytes: int
    method_count: int
    steps: int
    """Of all methods."""
    init_ticks: int
    stack_bytes: int
    stack_used: int
    chunk: int
    """Bytes of data that one WRITE may have."""
    features: frozenset[str]
    """"probes", "trace", "reset_clock"."""
    bad_frames: int
    clock_hz: int
    """Of the core; 0 where the board file does not say."""
    board: str
    program: str
    methods: tuple[Entry, ...] = ()

    def method(self, name: str) -> int:
        """The number of the method of this name; for "" of the only one, or of that called forward. ModelError where
        there is none."""
        for number, entry in enumerate(self.methods):
            if entry.name == (name or "forward") or (not name and len(self.methods) == 1):
                return number
        known = ", ".join(entry.name for entry in self.methods)
        raise ModelError(
            f"the program has no method {name!r}" if name else "the program has several methods, none called forward",
            hint=f"its methods: {known}",
        )


def hello_of(message: Message, where: str) -> Hello:
    """The board's HELLO; DeviceLostError for what no firmware can mean. `where` is the port."""
    page = layout()
    told = dict(message.fields)
    told["features"] = frozenset(name for name, bit in page.features.items() if told["features"] & bit)
    told["reset_cause"] = page.reset_causes.get(told["reset_cause"], f"cause {told['reset_cause']}")
    told["method_count"] = told.pop("methods")
    hello = Hello(**told)
    if hello.chunk == 0:
        raise DeviceLostError("the board says that it takes 0 bytes at once", where=where, hint=_WRONG)
    if hello.runs > _MOST_RUNS:
        raise DeviceLostError(
            f"the board says that it has run {hello.runs:,} times", where=where, hint="reset it; else " + _WRONG
        )
    if hello.init_ticks >= _MOST_TICKS:
        raise DeviceLostError(
            f"the board says that its start took {hello.init_ticks:,} ticks", where=where, hint=_WRONG
        )
    return hello


def tensor_of(told: Mapping[str, Any], what: str, most_bytes: int | None, where: str) -> Tensor:
    """One TENSOR; DeviceLostError for a type, a shape or a size that cannot be. `what` is as in "input 3", `most_bytes`
    what fits the board's memory where that is known."""

    def impossible(why: str) -> DeviceLostError:
        return DeviceLostError(f"{what} of the board cannot be: {why}", where=where, hint=_WRONG)

    try:
        dtype = DType.of_code(told["dtype"])
    except ValueError:
        raise impossible(f"it has type {told['dtype']}, which no version of the link knows") from None
    shape, order, least = tuple(told["sizes"]), tuple(told["dim_order"]), told.get("least")
    shown = f"[{', '.join(map(str, shape[:8]))}{', ...' if len(shape) > 8 else ''}]"
    if min(shape, default=0) < 0:
        raise impossible(f"its shape is {shown}")
    if len(shape) > _MOST_DIMENSIONS:
        raise impossible(f"it has {len(shape)} dimensions")
    if sorted(order) != list(range(len(shape))):
        raise impossible(f"its order of dimensions is {list(order)}, of {len(shape)}")
    if least is not None and not all(0 <= low <= high for low, high in zip(least, shape, strict=True)):
        raise impossible(f"its least sizes are {list(least[:8])}, its largest {shown}")
    size = math.prod(shape) * np.dtype(dtype.numpy).itemsize
    if size != told["size"]:
        raise impossible(
            f"it has {told['size']:,} bytes, but {dtype.numpy}{shown} has {size if size < 1 << 64 else 'many more'}"
        )
    if most_bytes is not None and size > most_bytes:
        raise impossible(f"it has {size:,} bytes, but all of the firmware with its memory has {most_bytes:,}")
    return Tensor(told["name"], dtype, shape, order, size, () if least in (None, told["sizes"]) else tuple(least))


def in_memory(tensor: Tensor, array: Array) -> Array:
    """A tensor in logical order as it lies in the board's memory."""
    shape = array.shape if tensor.least else tensor.shape
    return np.ascontiguousarray(array.reshape(shape).transpose(tensor.dim_order))


def in_logical_order(tensor: Tensor, data: bytes) -> Array:
    """The opposite: bytes of the board's memory as an array in the script's order."""
    stored = np.frombuffer(data, tensor.dtype.numpy).reshape(tensor.memory_shape)
    # ascontiguousarray would give a scalar a dimension
    return np.array(stored.transpose(np.argsort(tensor.dim_order)), order="C")
