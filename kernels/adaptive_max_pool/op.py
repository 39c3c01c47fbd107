"""Maximum pooling to a given output size, with and without indices. Where all windows are alike a pass makes it max_pool2d."""

from __future__ import annotations

import numpy as np

from etexport.op import Call, Case, Draw, GeometryField, InferredSpec, Node, Op, Operand, Read, T, Target, Write
from etexport.program.model import Array, DType, TensorSpec
from etexport.windows import adaptive_shape


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    shape = adaptive_shape(node)
    return ((node["self"].spec.dtype, shape), (DType.INT64, shape))


def _steps(spec: TensorSpec) -> tuple[int, ...]:
    """Along images, channels, rows and columns."""
    return (0,) * (4 - len(spec.shape)) + spec.strides


def _lower(node: Node, target: Target) -> Call:
    x, (out, indices) = node["self"], node.outs
    geometry: dict[str, GeometryField] = {
        "sizes": (1,) * (4 - len(out.spec.shape)) + out.spec.shape,
        "in_sizes": x.spec.shape[-2:],
        "self_strides": _steps(x.spec),
        "out_strides": _steps(out.spec),
    }
    second: tuple[Operand, ...] = ()
    if 1 not in node.unused_outs:
        geometry["index_strides"] = _steps(indices.spec)
        second = (Write(indices.id),)
    return Call("adaptive_max_pool", "adaptive_max_pool/adaptive_max.h", geometry, (Write(out.id), *second, Read(x.id)))


def _windows(inputs: int, outputs: int) -> list[slice]:
    return [slice(at * inputs // outputs, -(-(at + 1) * inputs // outputs)) for at in range(outputs)]


def _reference(x: Array, output_size: tuple[int, ...]) -> tuple[Array, Array]:
    height, width = output_size
    places = np.empty((*x.shape[:-2], height, width), np.int64)
    for row, down in enumerate(_windows(x.shape[-2], height)):
        for column, across in enumerate(_windows(x.shape[-1], width)):
            window = x[..., down, across].reshape(*x.shape[:-2], -1)
            reverse = window.shape[-1] - 1 - np.argmax(np.isnan(window)[..., ::-1], axis=-1)  # the last NaN
            first = np.where(np.isnan(window).any(-1), reverse, np.argmax(window, axis=-1))
            length = across.stop - across.start
            places[..., row, column] = (down.start + first // length) * x.shape[-1] + across.start + first % length
    flat = places.reshape(*x.shape[:-2], -1)
    return np.take_along_axis(x.reshape(*x.shape[:-2], -1), flat, -1).reshape(places.shape), places


def _draw(draw: Draw) -> Case:
    image = (draw.integer(1, 5), draw.integer(1, 10), draw.integer(1, 10))
    dtype = draw.choice((DType.FLOAT32, DType.FLOAT32, DType.INT8))
    shape = image if draw.integer(0, 3) == 0 else (draw.integer(1, 2), *image)
    return Case((T(shape, dtype, -9.0, 9.0), (draw.integer(1, 7), draw.integer(1, 7))))


_NAN = float("nan")

OPS = [
    Op(
        "aten::adaptive_max_pool2d.out(Tensor self, int[2] output_size, *, Tensor(a!) out, Tensor(b!) indices) -> (Tensor(a!), Tensor(b!))",
        infer=_infer,
        lower=_lower,
        dtypes=(DType.FLOAT32, DType.INT8),
        reference=_reference,
        carries=("self",),
        exact=True,
        cases=(
            Case((T((2, 5, 7, 5)), (3, 2)), "windows of several sizes"),
            Case((T((2, 5, 7, 5), dim_order=(0, 2, 3, 1)), (3, 4)), "channels last, overlapping windows"),
            Case((T((3, 4, 6), DType.INT8, -9, 9), (3, 5)), "one image of int8 without a batch, with equal elements"),
            Case((T((1, 4, 2, 3)), (5, 6)), "more results than elements"),
            Case((T((1, 1, 2, 3), values=(1.0, _NAN, 2.0, _NAN, 0.0, 3.0)), (1, 2)), "NaN"),
        ),
        draw=_draw,
    ),
]
