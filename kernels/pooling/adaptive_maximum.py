"""Maximum pooling to a given output size, with and without indices. Where all windows are alike a pass makes it
max_pool2d."""

from __future__ import annotations

from etexport.kernel.call import Call, GeometryField, Target
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, DType
from etexport_kernels.pooling.averages import windows
from etexport_kernels.pooling.pools import INF, adaptive, adaptive_shape, indexed, maximum, pool_of, swept


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    shape = adaptive_shape(node)
    return ((node["self"].spec.dtype, shape), (DType.INT64, shape))


def _lower(node: Node, target: Target) -> Call:
    pool = pool_of(node, *adaptive(node["self"].spec.shape, node["output_size"]))
    eight = node["self"].spec.dtype is DType.INT8
    least, most = (-128, 127) if eight else (-INF, INF)
    bounds: dict[str, GeometryField] = {"low": least, "high": most}
    if 1 not in node.unused_outs:
        return indexed(node, pool, {"least": least, **bounds})
    if not eight:
        return swept(node, pool, "max_pool", "pooling/rows.h", bounds)
    core, variant = windows(target, pool.channels, most_words=4)
    header = f"pooling/quantized{'' if variant == 'portable' else '_dsp'}.h"
    return swept(node, pool, "quantized_max_pool", header, bounds, template=(core,), variant=variant)


def _reference(x: Array, output_size: tuple[int, ...]) -> tuple[Array, Array]:
    return maximum(x, *adaptive(x.shape, output_size))


def _draw(draw: Draw) -> Case:
    image = (draw.integer(1, 5), draw.integer(1, 10), draw.integer(1, 10))
    dtype = draw.choice((DType.FLOAT32, DType.FLOAT32, DType.INT8))
    shape = image if draw.integer(0, 3) == 0 else (draw.integer(1, 2), *image)
    return Case((T(shape, dtype, -9.0, 9.0), (draw.integer(1, 7), draw.integer(1, 7))))


_NAN = float("nan")

OPS = [
    Op(
        "aten::adaptive_max_pool2d.out(Tensor self, int[2] output_size, *, Tensor(a!) out, Tensor(b!) indices) -> "
        "(Tensor(a!), Tensor(b!))",
        infer=_infer,
        lower=_lower,
        dtypes=(DType.FLOAT32, DType.INT8),
        reference=_reference,
        layout=Layout.CHANNELS_LAST,
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
