"""Loop nests for kernels that take operands in any dim order: the host's half of `firmware/et/strided.h`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from etexport.program.model import TensorSpec

RANK = 4
"""Loop nests have at least this many dimensions (leading ones of size 1), so that most calls of a kernel share one
geometry type."""


@dataclass(frozen=True)
class Nest:
    """Loop counts from outermost to innermost, and each operand's strides in elements for them."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def nest(shape: tuple[int, ...], *strides: tuple[int, ...], ordered: bool = False, rank: int = RANK) -> Nest:
    """The shortest loop nest over `shape` for operands with these strides per logical dimension.

    Dimensions of size 1 go, the rest is sorted by the first operand's strides (which makes its addresses ascend;
    `ordered` keeps the logical order instead), and neighbours that every operand walks through in one stride become
    one.
    """
    dims = [dim for dim, size in enumerate(shape) if size != 1]
    if not ordered:
        dims.sort(key=lambda dim: tuple(-operand[dim] for operand in strides))
    sizes: list[int] = []
    steps: list[tuple[int, ...]] = []
    for dim in dims:
        step = tuple(operand[dim] for operand in strides)
        if sizes and all(outer == inner * shape[dim] for outer, inner in zip(steps[-1], step, strict=True)):
            sizes[-1] *= shape[dim]
            steps[-1] = step
        else:
            sizes.append(shape[dim])
            steps.append(step)
    missing = max(0, rank - len(sizes))
    # a lone element may as well count as a row of one: kernels look at the innermost strides to choose the fast loop
    unit = [(1,) * len(strides)] if not sizes else []
    outer = [(0,) * len(strides)] * (missing - len(unit))
    steps = [*outer, *unit, *steps]
    return Nest((1,) * missing + tuple(sizes), tuple(tuple(step[at] for step in steps) for at in range(len(strides))))


class Strided(Protocol):
    """What has a stride in elements for each dimension."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def strides(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Repeated:
    """An operand as it is walked over a larger shape: a stride of 0 where it repeats."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


def lines(dim: int, **specs: Strided) -> dict[str, int | tuple[int, ...]]:
    """Geometry of a kernel that goes along dimension `dim`, the same loops for all other dimensions of each operand.

    `sizes` and `<name>_strides` of these loops, `<name>_step` along the dimension, and its `length` in the last
    operand. A scalar is a line of one element.
    """
    *_, last = specs.values()
    here = dim % max(len(last.shape), 1)

    def others(values: tuple[int, ...]) -> tuple[int, ...]:
        return values[:here] + values[here + 1 :]

    loops = nest(others(last.shape), *(others(spec.strides) for spec in specs.values()), rank=3)
    strides = {f"{name}_strides": found for name, found in zip(specs, loops.strides, strict=True)}
    steps = {f"{name}_step": spec.strides[here] if spec.shape else 1 for name, spec in specs.items()}
    return {"sizes": loops.sizes, **strides, **steps, "length": last.shape[here] if last.shape else 1}


def broadcast_strides(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides that walk `spec` over the larger `shape`, as PyTorch broadcasts: 0 where the operand repeats."""
    missing = len(shape) - len(spec.shape)
    steps = (0 if size == 1 else stride for size, stride in zip(spec.shape, spec.strides, strict=True))
    return (0,) * missing + tuple(steps)


def repeated(spec: TensorSpec, shape: tuple[int, ...]) -> Repeated:
    return Repeated(shape, broadcast_strides(spec, shape))


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The common shape under PyTorch's broadcasting rule, or None where there is none."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            return None
        result.append(wide.pop() if wide else 1)
    return tuple(result)
