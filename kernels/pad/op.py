"""Padding with a constant; negative amounts crop."""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Scales
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import COMPUTED, DType


def _amounts(pad: tuple[int, ...], rank: int) -> list[tuple[int, int]]:
    """(before, after) of each dimension; PyTorch lists them from the last dimension."""
    pairs = [(pad[at], pad[at + 1]) for at in range(0, len(pad), 2)]
    return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    spec, pad = node["self"].spec, node["pad"]
    if len(pad) % 2 or len(pad) > 2 * len(spec.shape):
        raise node.error(
            f"{len(pad)} amounts for a tensor with {len(spec.shape)} dimensions", hint="two a dimension, the last first"
        )
    amounts = _amounts(pad, len(spec.shape))
    shape = tuple(size + before + after for size, (before, after) in zip(spec.shape, amounts, strict=True))
    cropped = (size + min(before, 0) + min(after, 0) for size, (before, after) in zip(spec.shape, amounts, strict=True))
    if any(size < 0 for size in (*shape, *cropped)):
        raise node.error(f"padding {list(pad)} leaves the shape {list(shape)}")
    return ((spec.dtype, shape),)


def _kept(size: int, before: int, after: int) -> int:
    """How many elements of a dimension appear in the result."""
    return max(0, size + min(before, 0) + min(after, 0))


def _lower(node: Node, target: Target) -> Call:
    out, self = node.out.spec, node["self"].spec
    amounts = _amounts(node["pad"], len(self.shape))
    kept = tuple(_kept(size, *pair) for size, pair in zip(self.shape, amounts, strict=True))
    loops = nest(kept, out.strides, self.strides)
    geometry = {
        "count": out.numel,
        "padded": kept != out.shape,
        "out_offset": sum(max(before, 0) * stride for (before, _), stride in zip(amounts, out.strides, strict=True)),
        "self_offset": sum(max(-before, 0) * stride for (before, _), stride in zip(amounts, self.strides, strict=True)),
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
    }
    value = Const("value", np.array([node["value"]], dtype=self.dtype.numpy))
    return Call("pad", "pad/pad.h", geometry, (Write(node.out.id), Read(node["self"].id), value))


def _np_pad(x: Any, pad: tuple[int, ...], value: float) -> Any:
    amounts = _amounts(pad, x.ndim)
    cropped = x[
        tuple(
            slice(max(-before, 0), size - max(-after, 0))
            for size, (before, after) in zip(x.shape, amounts, strict=True)
        )
    ]
    return np.pad(cropped, [(max(before, 0), max(after, 0)) for before, after in amounts], constant_values=value)


def _draw(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(1, 4)))
    pad: list[int] = []
    for size in shape[::-1][: draw.integer(1, len(shape))]:
        before = draw.integer(-size + 1, 3)
        pad += [before, draw.integer(max(-size + 1, -size - before + 1), 3)]
    dtype = draw.choice((*COMPUTED, DType.FLOAT32, DType.FLOAT32))
    value = draw.choice((0, draw.number(-5.0, 5.0))) if dtype.numpy.kind == "f" else draw.integer(0, 1)
    return Case((T(shape, dtype, low=0.0, high=100.0), tuple(pad), value))


OPS = [
    Op(
        "aten::constant_pad_nd.out(Tensor self, SymInt[] pad, Scalar value=0, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        dtypes=COMPUTED,
        reference=_np_pad,
        carries=("self",),
        exact=True,
        cases=(
            Case((T((1, 3, 4, 5)), (1, 1, 1, 1), 0.0), "images"),
            Case((T((1, 3, 4, 5), dim_order=(0, 2, 3, 1)), (0, 1, 2, 0), -1.5), "channels last, one side"),
            Case((T((2, 3, 5)), (-1, 2, 0, -1), 7), "negative amounts crop"),
            Case((T((4,)), (0, 0), 0), "nothing to do"),
        ),
        draw=_draw,
    )
]

INT8 = [Int8(("aten::pad", "aten::constant_pad_nd"), Scales.SHARED, channels=Channels.PADDED)]
