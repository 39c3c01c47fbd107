"""Average pooling to a given output size."""

from __future__ import annotations

import numpy as np

from etexport.op import Call, Case, Draw, InferredSpec, Layout, Node, Op, Read, T, Target, Write
from etexport.program.model import Array

_INF = float("inf")
_LIMIT = 2**31 - 1


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    x, size = node["self"].spec, node["output_size"]
    if len(x.shape) not in (3, 4) or 0 in x.shape[1:]:
        raise node.error(f"adaptive pooling of {list(x.shape)}; images (N, C, H, W) and (C, H, W) have a kernel")
    if len(size) != 2 or min(size) < 1:
        raise node.error(f"output_size is {list(size)}")
    height, width = size
    if max(height * x.shape[-2], width * x.shape[-1], height * width * max(x.numel, 1)) > _LIMIT:
        raise node.error(f"output_size {list(size)} of {list(x.shape)} is too large for 32-bit offsets")
    return ((x.dtype, (*x.shape[:-2], height, width)),)


def _lower(node: Node, target: Target) -> Call:
    x, out = node["self"], node.out
    epilogue = node.instruction.epilogue
    low, high = (epilogue.low, epilogue.high) if epilogue is not None else (-_INF, _INF)
    # "Channels last" of (C, H, W) is (C, W, H) in memory: each channel an image of one channel whose rows are the columns.
    rows, columns = (2, 3) if len(x.spec.shape) == 4 else (2, 1)
    geometry = {
        "batch": x.spec.shape[0],
        "in_height": x.spec.shape[rows],
        "in_width": x.spec.shape[columns],
        "out_height": out.spec.shape[rows],
        "out_width": out.spec.shape[columns],
        "channels": x.spec.shape[1] if len(x.spec.shape) == 4 else 1,
        "low": low,
        "high": high,
    }
    return Call("adaptive_avg_pool", "adaptive_avg_pool/adaptive.h", geometry, (Write(out.id), Read(x.id)))


def _windows(inputs: int, outputs: int) -> list[slice]:
    return [slice(at * inputs // outputs, -(-(at + 1) * inputs // outputs)) for at in range(outputs)]


def _reference(x: Array, output_size: tuple[int, ...]) -> Array:
    height, width = output_size
    out = np.empty((*x.shape[:-2], height, width), x.dtype)
    for row, down in enumerate(_windows(x.shape[-2], height)):
        for column, across in enumerate(_windows(x.shape[-1], width)):
            out[..., row, column] = x[..., down, across].mean((-2, -1), dtype=np.float64)
    return out


def _sum_length(node: Node) -> int:
    shape, size = node["self"].spec.shape, node.out.spec.shape
    return int((shape[-2] // size[-2] + 2) * (shape[-1] // size[-1] + 2))


def _draw(draw: Draw) -> Case:
    image = (draw.integer(1, 9), draw.integer(1, 10), draw.integer(1, 10))
    size = (draw.integer(1, 7), draw.integer(1, 7))
    return Case((T(image if draw.integer(0, 3) == 0 else (draw.integer(1, 2), *image)), size))


OPS = [
    Op(
        schema="aten::_adaptive_avg_pool2d.out(Tensor self, SymInt[2] output_size, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        reference=_reference,
        layout=Layout.CHANNELS_LAST,
        absorbs=frozenset({"clamp"}),
        sum_length=_sum_length,
        cases=(
            Case((T((1, 8, 6, 6)), (1, 1)), "global"),
            Case((T((2, 5, 5, 7)), (3, 4)), "overlapping windows"),
            Case((T((1, 4, 2, 3)), (5, 6)), "more results than elements"),
            Case((T((3, 4, 6)), (2, 5)), "one image without a batch"),
            Case((T((1, 4, 6, 6)), (2, 6)), "one side as it is"),
            Case((T((1, 1, 2, 2), values=(1.0, float("nan"), _INF, -_INF)), (2, 1)), "NaN and infinities"),
        ),
        draw=_draw,
    )
]
