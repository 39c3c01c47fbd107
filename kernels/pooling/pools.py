"""Pooling of images: where windows lie along rows and columns, at a fixed distance or adaptive, and what both share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from etexport.kernel.call import Call, GeometryField, Operand, RowWrite, Window, swept_call
from etexport.kernel.node import Node
from etexport.kernel.windows import LIMIT
from etexport.program.model import Array

INF = float("inf")


@dataclass(frozen=True)
class Reach:
    """What a window sees: `inside` are positions, the first of which is its tap `first`; an average counts
    `counted`."""

    first: int
    inside: range
    counted: int


@dataclass(frozen=True)
class Sliding:
    """`out` windows of `kernel` taps at a fixed distance. `include_pad`: what lies in the padding counts, but nothing
    beyond it."""

    size: int
    out: int
    kernel: int
    stride: int
    pad: int = 0
    dilation: int = 1
    include_pad: bool = False

    @cached_property
    def windows(self) -> tuple[Reach, ...]:
        return tuple(self._reach(at * self.stride - self.pad) for at in range(self.out))

    def _reach(self, begin: int) -> Reach:
        first, end = (min(max(-((begin - at) // self.dilation), 0), self.kernel) for at in (0, self.size))
        taps = max(end - first, 0)
        start = begin + first * self.dilation
        counted = min(begin + self.kernel, self.size + self.pad) - begin if self.include_pad else taps
        return Reach(first, range(start, start + taps * self.dilation, self.dilation), counted)

    @property
    def firsts(self) -> tuple[int, ...]:
        return ()

    @property
    def cpp(self) -> str:
        return "et::Dilated" if self.dilation > 1 else "et::Sliding"

    @property
    def across(self) -> dict[str, GeometryField]:
        more: dict[str, GeometryField] = (
            {"dilation": self.dilation} if self.dilation > 1 else {"include_pad": self.include_pad}
        )
        return {"in_width": self.size, "kernel_width": self.kernel, "stride": self.stride, "pad": self.pad, **more}

    @property
    def down(self) -> dict[str, GeometryField]:
        more: dict[str, GeometryField] = (
            {"dilation_y": self.dilation} if self.dilation > 1 else {"include_pad": self.include_pad}
        )
        return {"in_height": self.size, "kernel_rows": self.kernel, "stride_y": self.stride, "pad_y": self.pad, **more}


@dataclass(frozen=True)
class Adaptive:
    """`out` windows that differ in size and may overlap: [i * size / out, (i + 1) * size / out), rounded outwards."""

    size: int
    out: int

    cpp = "et::Adaptive"
    stride, pad, dilation = 0, 0, 1

    @cached_property
    def windows(self) -> tuple[Reach, ...]:
        inside = (range(at * self.size // self.out, -(-(at + 1) * self.size // self.out)) for at in range(self.out))
        return tuple(Reach(0, one, len(one)) for one in inside)

    @property
    def kernel(self) -> int:
        """Of the largest window."""
        return max(len(reach.inside) for reach in self.windows)

    @property
    def firsts(self) -> tuple[int, ...]:
        return tuple(reach.inside.start for reach in self.windows)

    @property
    def across(self) -> dict[str, GeometryField]:
        return {"in_width": self.size, "out_width": self.out}

    @property
    def down(self) -> dict[str, GeometryField]:
        return {"in_height": self.size, "out_height": self.out}


Axis = Sliding | Adaptive


def adaptive_shape(node: Node) -> tuple[int, ...]:
    """Of the result of pooling to `output_size`, after checking it; node.error for what PyTorch refuses or we cannot
    do."""
    x, size = node["self"].spec, node["output_size"]
    if len(x.shape) not in (3, 4) or 0 in x.shape[1:]:
        raise node.error(f"adaptive pooling of {list(x.shape)}; images (N, C, H, W) and (C, H, W) have a kernel")
    if len(size) != 2 or min(size) < 1:
        raise node.error(f"output_size is {list(size)}")
    height, width = size
    if max(height * x.shape[-2], width * x.shape[-1], height * width * max(x.numel, 1)) > LIMIT:
        raise node.error(f"output_size {list(size)} of {list(x.shape)} is too large for 32-bit offsets")
    return (*x.shape[:-2], height, width)


def adaptive(shape: tuple[int, ...], output_size: tuple[int, ...]) -> tuple[Axis, Axis]:
    """Height and width of adaptive pooling; windows that are alike and side by side slide."""
    height, width = zip(shape[-2:], output_size, strict=True)
    return _parts(*height), _parts(*width)


def _parts(size: int, out: int) -> Axis:
    return Adaptive(size, out) if size % out else Sliding(size, out, size // out, size // out)


def counts(axis: Axis) -> range:
    """How many elements its windows count, from the least to the most."""
    found = [reach.counted for reach in axis.windows]
    return range(min(found), max(found) + 1)


def _alike(axis: Axis) -> bool:
    """Whether every window has as many elements inside as the largest: none needs to know which it is."""
    return all(len(reach.inside) == axis.kernel for reach in axis.windows)


def _across(axis: Axis) -> tuple[str, dict[str, GeometryField]]:
    """The C++ type of columns, and its geometry."""
    if isinstance(axis, Sliding) and axis.dilation == 1 and _alike(axis):
        return "et::Inside", {"kernel_width": axis.kernel, "stride": axis.stride}
    return axis.cpp, axis.across


def _down(axis: Axis, placed: bool) -> tuple[str, dict[str, GeometryField]]:
    """The same for rows; `placed`: the kernel wants to know their numbers."""
    return (axis.cpp, axis.down) if placed or not _alike(axis) else ("et::Inside", {"kernel_rows": axis.kernel})


@dataclass(frozen=True)
class Pool:
    """Images as they lie in memory."""

    batch: int
    channels: int
    rows: Axis
    columns: Axis

    @property
    def once(self) -> bool:
        """One window an image, all of it inside."""
        return all(axis.out == 1 and _alike(axis) for axis in (self.rows, self.columns))


def pool_of(node: Node, height: Axis, width: Axis) -> Pool:
    """ "Channels last" of (C, H, W) is (C, W, H) in memory: each channel is an image of one channel whose rows are the
    columns."""
    shape = node["self"].spec.shape
    return Pool(shape[0], shape[1], height, width) if len(shape) == 4 else Pool(shape[0], 1, width, height)


def clamp(node: Node) -> dict[str, GeometryField]:
    epilogue = node.instruction.epilogue
    return {"low": -INF if epilogue is None else epilogue.low, "high": INF if epilogue is None else epilogue.high}


def swept(
    node: Node, pool: Pool, function: str, header: str, geometry: dict[str, GeometryField],
    operands: tuple[Operand, ...] = (), template: tuple[str, ...] = (), variant: str = "portable", placed: bool = False,
) -> Call:  # fmt: skip
    """A call for each output row of `function<*template, columns, rows>`, which reads no row outside the image."""
    rows, columns = pool.rows, pool.columns
    window = Window(
        input=node["self"].id, output=node.out.id, batch=pool.batch, in_rows=rows.size,
        in_row=columns.size * pool.channels, out_rows=rows.out, out_row=columns.out * pool.channels, kernel=rows.kernel,
        stride=rows.stride, pad=rows.pad, dilation=rows.dilation, pad_value=0.0, pad_elements=0, firsts=rows.firsts,
        numbered=True,
    )  # fmt: skip
    (across, width), (down, height) = _across(columns), _down(rows, placed)
    shape = {"out_width": columns.out, "channels": pool.channels, **width, **height, **geometry}
    types = ", ".join((*template, across, down))
    return swept_call(node, f"{function}<{types}>", header, shape, window, operands, variant=variant)


def indexed(node: Node, pool: Pool, bounds: dict[str, GeometryField]) -> Call:
    """A maximum with its indices: `bounds` are the least of all values, and what results are clamped to."""
    shape = node["self"].spec.shape
    geometry, operands = {"line": shape[-1], **bounds}, (RowWrite(node.outs[1].id),)
    template = ("false" if len(shape) == 4 else "true",)
    return swept(node, pool, "max_pool_with_indices", "pooling/indexed.h", geometry, operands, template, placed=True)


# ---- the same in numpy, for (..., H, W) ------------------------------------------------------------------------------


def each_window(height: Axis, width: Axis) -> Iterator[tuple[tuple[int, int], Reach, Reach]]:
    """(row, column) of each result, and what its window sees."""
    for (row, down), (column, across) in product(enumerate(height.windows), enumerate(width.windows)):
        yield (row, column), down, across


def maximum(x: Array, height: Axis, width: Axis) -> tuple[Array, Array]:
    """Values and indices within an image: the last NaN, or the first of equals."""
    out = np.empty((*x.shape[:-2], height.out, width.out), x.dtype)
    indices = np.empty(out.shape, np.int64)
    for at, down, across in each_window(height, width):
        places = np.array([y * x.shape[-1] + c for y in down.inside for c in across.inside], np.int64)
        if not places.size:  # a dilated window that sees nothing but padding; its index is where PyTorch begins to look
            out[..., *at] = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
            indices[..., *at] = down.inside.start * x.shape[-1] + across.inside.start
            continue
        seen = x.reshape(*x.shape[:-2], -1)[..., places]
        nans = np.isnan(seen) if x.dtype.kind == "f" else np.zeros(seen.shape, bool)
        last_nan = len(places) - 1 - nans[..., ::-1].argmax(-1)
        best = np.where(nans.any(-1), last_nan, seen.argmax(-1))
        indices[..., *at] = places[best]
        out[..., *at] = np.take_along_axis(seen, best[..., None], -1)[..., 0]
    return out, indices


def average(x: Array, height: Axis, width: Axis, divisor: int | None = None) -> Array:
    out = np.empty((*x.shape[:-2], height.out, width.out), x.dtype)
    for at, down, across in each_window(height, width):
        total = x[..., down.inside, :][..., across.inside].sum((-2, -1), dtype=np.float64)
        out[..., *at] = total / (divisor or down.counted * across.counted)
    return out
