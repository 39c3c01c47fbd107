"""Concatenation along any dimension. Along the outermost one in memory the parts can be made in place, and nothing is
copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import COMPUTED, Value


def _is_nothing(value: Value) -> bool:
    """PyTorch skips tensors of shape [0], whatever the shape of the others."""
    return value.spec.shape == (0,)


def _dim(node: Node) -> int:
    shape = _shapes(node)[0]
    if not -len(shape) <= node["dim"] < len(shape):
        raise node.error(f"dimension {node['dim']} of tensors with {len(shape)} dimensions")
    return int(node["dim"] % len(shape))


def _shapes(node: Node) -> list[tuple[int, ...]]:
    tensors = node["tensors"]
    return [value.spec.shape for value in tensors if not _is_nothing(value)] or [
        value.spec.shape for value in tensors[:1]
    ]


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    tensors = node["tensors"]
    if not tensors:
        raise node.error("a concatenation of no tensors")
    dtype = tensors[0].spec.dtype
    if any(value.spec.dtype is not dtype for value in tensors):
        raise node.error(
            f"a concatenation of {', '.join(str(value.spec.dtype.numpy) for value in tensors)}",
            hint="convert them to one type",
        )
    if any(not value.spec.shape for value in tensors):
        raise node.error("a concatenation of scalars")
    dim, shapes = _dim(node), _shapes(node)
    rests = {(*shape[:dim], *shape[dim + 1 :]) for shape in shapes}
    if len(rests) > 1 or len({len(shape) for shape in shapes}) > 1:
        raise node.error(
            f"shapes {', '.join(str(list(shape)) for shape in shapes)} differ elsewhere than in dimension {dim}"
        )
    return ((dtype, (*shapes[0][:dim], sum(shape[dim] for shape in shapes), *shapes[0][dim + 1 :])),)


def _starts(node: Node) -> list[int]:
    """Where each operand begins along the dimension."""
    dim, at, starts = _dim(node), 0, []
    for value in node["tensors"]:
        starts.append(at)
        at += 0 if _is_nothing(value) else value.spec.shape[dim]
    return starts


def _lower(node: Node, target: Target) -> Call:
    out, dim = node.out.spec, _dim(node)
    parts = [(value, start) for value, start in zip(node["tensors"], _starts(node), strict=True) if value.spec.numel]
    loops = [nest(value.spec.shape, out.strides, value.spec.strides) for value, _ in parts]
    rank = max((len(one.sizes) for one in loops), default=1)
    loops = [nest(value.spec.shape, out.strides, value.spec.strides, rank=rank) for value, _ in parts]
    geometry = {
        "offsets": tuple(start * out.strides[dim] for _, start in parts),
        "sizes": sum((one.sizes for one in loops), ()),
        "out_strides": sum((one.strides[0] for one in loops), ()),
        "self_strides": sum((one.strides[1] for one in loops), ()),
    }
    return Call("cat", "cat/cat.h", geometry, (Write(node.out.id), *(Read(value.id) for value, _ in parts)))


def _parts(node: Node) -> tuple[int, ...] | None:
    out, dim = node.out.spec, _dim(node)
    outer = [one for one in out.dim_order[: out.dim_order.index(dim)] if out.shape[one] != 1]
    if outer or any(_is_nothing(value) or not _lies_alike(value, node) for value in node["tensors"]):
        return None
    return tuple(start * out.strides[dim] * out.dtype.itemsize for start in _starts(node))


def _over(node: Node, buffer: int) -> bool:
    """What lies there is moved down, or stays, part for part: a window that slides."""
    there = [(one.storage.offset if one.storage else 0, one.base == buffer) for one in node["tensors"]]
    offsets = _parts(node)
    return offsets is not None and all(
        at >= offset for (at, inside), offset in zip(there, offsets, strict=True) if inside
    )


def _lies_alike(value: Value, node: Node) -> bool:
    """The operand's elements lie as they will in the output."""
    spec = value.spec
    steps = zip(spec.shape, spec.strides, node.out.spec.strides, strict=True)
    return all(size == 1 or own == wanted for size, own, wanted in steps)


def _np_cat(tensors: tuple[Any, ...], dim: int) -> Any:
    return np.concatenate([one for one in tensors if one.shape != (0,)] or list(tensors), axis=dim)


def _draw(draw: Draw) -> Case:
    shape = [draw.integer(1, 5) for _ in range(draw.integer(1, 4))]
    dim = draw.integer(0, len(shape) - 1)
    dtype = draw.choice(COMPUTED)
    parts = []
    for _ in range(draw.integer(1, 4)):
        shape[dim] = draw.integer(1, 4)
        parts.append(T(tuple(shape), dtype, low=0.0, high=100.0, constant=draw.integer(0, 3) == 0))
    return Case((tuple(parts), dim - len(shape) * draw.integer(0, 1)))


OPS = [
    Op(
        "aten::cat.out(Tensor[] tensors, int dim=0, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        dtypes=COMPUTED,
        reference=_np_cat,
        carries=("tensors",),
        over=_over,
        parts=_parts,
        exact=True,
        cases=(
            Case(((T((2, 3)), T((4, 3))), 0), "rows"),
            Case(((T((1, 2, 4, 5)), T((1, 3, 4, 5))), 1), "channels"),
            Case(
                ((T((1, 2, 4, 5), dim_order=(0, 2, 3, 1)), T((1, 3, 4, 5), dim_order=(0, 2, 3, 1))), 1), "channels last"
            ),
            Case(((T((2, 3)), T((0,)), T((2, 1), constant=True)), -1), "a tensor of shape [0] is skipped"),
        ),
        draw=_draw,
    )
]

INT8 = [
    Int8(("aten::cat", "aten::stack"), Scales.SHARED, shares=("tensors",), state=State.MOVED),
    Int8(("aten::concat",), Scales.SHARED, shares=("tensors",)),
    Int8(
        ("aten::hstack", "aten::vstack", "aten::dstack", "aten::column_stack", "aten::row_stack", "aten::concatenate"),
        Scales.PARTS,
    ),
]
