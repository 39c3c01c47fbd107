"""Maximum and average pooling of images, (N, C, H, W) or (C, H, W)."""

from __future__ import annotations

from math import prod

import numpy as np

from etexport.kernel.call import Call, GeometryField, Target
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Scales
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.quantized import Fused, IntegerNode, Quantized, Rule, multiplier_shift, real_scale
from etexport.program.model import Array, DType
from etexport_kernels.pooling import adaptive_average, adaptive_maximum
from etexport_kernels.pooling.averages import Averaged, pooled_averages, reference, windows, zero_points
from etexport_kernels.pooling.pools import INF, Sliding, average, clamp, indexed, maximum, pool_of, swept

_LIMIT = 2**31 - 1


def _axes(node: Node, include_pad: bool = False) -> tuple[Sliding, Sliding]:
    """Height and width, with the sizes that PyTorch's `pooling_output_shape` gives; node.error for what it refuses."""
    x = node["self"].spec
    if len(x.shape) not in (3, 4) or 0 in x.shape[-3:]:
        raise node.error(f"pooling of {list(x.shape)}; images (N, C, H, W) and (C, H, W) have a kernel")
    kernel = _pair(node, "kernel_size", 1)
    stride = _pair(node, "stride", 1) if node["stride"] else kernel
    padding = _pair(node, "padding", 0)
    dilation = _pair(node, "dilation", 1) if "dilation" in node.operands else (1, 1)
    for at, size in enumerate(x.shape[-2:]):
        reach = dilation[at] * (kernel[at] - 1) + 1
        if padding[at] > reach // 2:
            raise node.error(f"padding {padding[at]} is more than half of a window of {reach}")
        if _windows(size, kernel[at], stride[at], padding[at], dilation[at], node["ceil_mode"]) < 1:
            raise node.error(f"a window of {reach} over {size} elements with padding {padding[at]}")
    room = (size + 2 * pad + step for size, pad, step in zip(x.shape[-2:], padding, stride, strict=True))
    if max(prod((*x.shape[:-2], *room)), *kernel) > _LIMIT:
        raise node.error(f"windows of {list(kernel)} over {list(x.shape)} are too large for 32-bit offsets")
    return _sliding(x.shape, kernel, stride, padding, dilation, node["ceil_mode"], include_pad)


def _windows(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    room = size + 2 * pad - dilation * (kernel - 1) - 1
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    # a window must not begin in the padding at the end
    return out - 1 if ceil_mode and (out - 1) * stride >= size + pad else out


def _sliding(shape: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
             dilation: tuple[int, ...], ceil_mode: bool, include_pad: bool = False) -> tuple[Sliding,
             Sliding]:  # fmt: skip
    """Height and width, of attributes with one number for each or for both; no stride is the kernel."""
    axes = []
    for at, size in enumerate(shape[-2:]):
        k, step, pad, far = (values[at % len(values)] for values in (kernel, stride or kernel, padding, dilation))
        axes.append(
            Sliding(size, _windows(size, k, step, pad, far, ceil_mode), k, step, pad, far if k > 1 else 1, include_pad)
        )
    return axes[0], axes[1]


def _pair(node: Node, name: str, least: int) -> tuple[int, int]:
    values: tuple[int, ...] = node[name]
    if len(values) not in (1, 2) or not all(least <= value <= _LIMIT for value in values):
        raise node.error(f"{name} is {list(values)}")
    return values[0], values[-1]


def _shape(node: Node) -> tuple[int, ...]:
    """Of the result."""
    return (*node["self"].spec.shape[:-2], *(axis.out for axis in _axes(node)))


# ---- maximum ---------------------------------------------------------------------------------------------------------


def _infer_max(node: Node) -> tuple[InferredSpec, ...]:
    shape = _shape(node)
    return ((node["self"].spec.dtype, shape), (DType.INT64, shape))


def _lower_max(node: Node, target: Target) -> Call:
    pool = pool_of(node, *_axes(node))
    if 1 in node.unused_outs:
        return swept(node, pool, "max_pool", "pooling/rows.h", clamp(node))
    return indexed(node, pool, {"least": -INF, **clamp(node)})


def _reference_max(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...],
                   ceil_mode: bool) -> tuple[Array, Array]:  # fmt: skip
    return maximum(x, *_sliding(x.shape, kernel, stride, padding, dilation, ceil_mode))


# ---- average ---------------------------------------------------------------------------------------------------------


def _infer_avg(node: Node) -> tuple[InferredSpec, ...]:
    divisor = node["divisor_override"]
    if divisor == 0 or (divisor is not None and abs(divisor) > _LIMIT):
        raise node.error(f"divisor_override is {divisor}")
    return ((node["self"].spec.dtype, _shape(node)),)


def _lower_avg(node: Node, target: Target) -> Call:
    pool = pool_of(node, *_axes(node, node["count_include_pad"]))
    return swept(node, pool, "avg_pool", "pooling/rows.h", {"divisor": node["divisor_override"] or 0, **clamp(node)})


def _reference_avg(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    ceil_mode: bool,
                   count_include_pad: bool, divisor_override: int | None) -> Array:  # fmt: skip
    return average(x, *_sliding(x.shape, kernel, stride, padding, (1,), ceil_mode, count_include_pad), divisor_override)


def _sum_length(node: Node) -> int:
    return prod(axis.kernel for axis in _axes(node))


# ---- int8 ------------------------------------------------------------------------------------------------------------

_AVERAGE8 = "etexport::quantized_avg_pool2d.out"


def _infer_max8(node: Node) -> tuple[InferredSpec, ...]:
    if node["input_zero_point"] != node["output_zero_point"]:
        raise node.error("a maximum keeps the zero point")
    _check_bounds(node)
    return ((DType.INT8, _shape(node)),)


def _check_bounds(node: Node) -> None:
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"an activation from {node['activation_min']} to {node['activation_max']}")


def _lower_max8(node: Node, target: Target) -> Call:
    pool = pool_of(node, *_axes(node))
    # a result begins at the least value allowed
    core, variant = windows(target, pool.channels, bounds=(-128, node["activation_max"]), most_words=4)
    bounds: dict[str, GeometryField] = {"low": node["activation_min"], "high": node["activation_max"]}
    header = f"pooling/quantized{'' if variant == 'portable' else '_dsp'}.h"
    return swept(node, pool, "quantized_max_pool", header, bounds, template=(core,), variant=variant)


def _reference_max8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...],
                    ceil_mode: bool, zero_in: int, zero_out: int, low: int, high: int) -> Array:  # fmt: skip
    return np.clip(_reference_max(x, kernel, stride, padding, dilation, ceil_mode)[0], low, high)


def _infer_avg8(node: Node) -> tuple[InferredSpec, ...]:
    _averaged(node)
    return ((DType.INT8, _shape(node)),)


def _averaged(node: Node) -> tuple[Averaged, bool]:
    """And whether padding counts."""
    if node.schema.name != _AVERAGE8:  # ExecuTorch's operator: one scale, only what is inside counts
        return Averaged(*zero_points(node, "zero_point") * 2, 1.0), False
    _check_bounds(node)
    if not (0 < node["multiplier"] < 2**31 and -31 <= node["shift"] <= 8):
        raise node.error(f"the scale's multiplier is {node['multiplier']}, its shift {node['shift']}")
    if node["divisor_override"] is not None and not 1 <= node["divisor_override"] <= _LIMIT:
        raise node.error(f"divisor_override is {node['divisor_override']}", "int8 takes positive ones of 32 bits")
    zeros = zero_points(node, "input_zero_point", "output_zero_point")
    bounds = node["activation_min"], node["activation_max"]
    how = Averaged(*zeros, real_scale(node["multiplier"], node["shift"]), *bounds, node["divisor_override"] or 0)
    return how, node["count_include_pad"]


def _lower_avg8(node: Node, target: Target) -> Call:
    how, include_pad = _averaged(node)
    divided = target.rounding == "tflm" and node.schema.name != _AVERAGE8
    return pooled_averages(node, target, pool_of(node, *_axes(node, include_pad)), how, divided)


def _reference_avg8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    ceil_mode: bool,
                    include_pad: bool, divisor: int | None, zero_in: int, zero_out: int, multiplier: int, shift: int,
                    low: int, high: int) -> Array:  # fmt: skip
    how = Averaged(zero_in, zero_out, real_scale(multiplier, shift), low, high, divisor or 0)
    return reference(x, *_sliding(x.shape, kernel, stride, padding, (1,), ceil_mode, include_pad), how)


def _reference_stock_avg8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    ceil_mode: bool,
                          zero: int, multiplier: int, shift: int, scratch: None) -> Array:  # fmt: skip
    return reference(x, *_sliding(x.shape, kernel, stride, padding, (1,), ceil_mode), Averaged(zero, zero, 1.0))


def _stored(node: IntegerNode) -> Quantized | None:
    found = node.quantized["self"]
    return (
        found if isinstance(found, Quantized) and found.axis is None and found.value.spec.dtype is DType.INT8 else None
    )


def _maximum_rule(node: IntegerNode) -> Fused | str:
    x = _stored(node)
    if x is None:
        return "its operand is not quantised per tensor to int8"
    if (x.scale, x.zero_point) != (node.out.scale, node.out.zero_point):
        return "its result has another scale than its operand"
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    window = (node.node[name] for name in names)
    bounds = (x.zero_point, x.zero_point, node.out.low, node.out.high)
    return Fused("cortex_m::quantized_max_pool2d.out", (x.ref, *window, *bounds))


def _average_rule(node: IntegerNode) -> Fused | str:
    x = _stored(node)
    if x is None:
        return "its operand is not quantised per tensor to int8"
    scale = multiplier_shift(x.scale / node.out.scale)
    if scale[1] > 8 or (node.node["divisor_override"] or 1) < 1:
        return "its scale is too large beside the result's, or its divisor negative"
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    window = (node.node[name] for name in names)
    return Fused(_AVERAGE8, (x.ref, *window, x.zero_point, node.out.zero_point, *scale, node.out.low, node.out.high))


def _eight(draw: Draw, image: T) -> T:
    """Cores with DSP instructions take 4, 8 or 16 channels at a time."""
    *batch, channels, height, width = image.shape
    return T((*batch, draw.choice((channels, channels, 11, 16, 21)), height, width), DType.INT8, -128, 128)


def _draw_max8(draw: Draw) -> Case:
    x, kernel, stride, padding, dilation = _draw_window(draw, (1, 1, 2))
    zero = draw.integer(-128, 127)
    return Case(
        (
            _eight(draw, x),
            kernel,
            stride,
            padding,
            dilation,
            draw.flag(),
            zero,
            zero,
            draw.choice((-128, zero)),
            draw.choice((127, zero)),
        )
    )


def _draw_avg8(draw: Draw) -> Case:
    x, kernel, stride, padding, _ = _draw_window(draw, (1,))
    zeros = draw.integer(-128, 127), draw.integer(-128, 127)
    scale = draw.choice((_ONE, multiplier_shift(draw.number(0.05, 2.0))))
    divisor = draw.choice((None, None, 1, 6, 7))
    bounds = draw.choice(((-128, 127), (-128, 127), (-20, 90)))
    return Case((_eight(draw, x), kernel, stride, padding, draw.flag(), draw.flag(), divisor, *zeros, *scale, *bounds))


def _draw_stock_avg8(draw: Draw) -> Case:
    x, kernel, stride, padding, _ = _draw_window(draw, (1,))
    return Case((_eight(draw, x), kernel, stride, padding, draw.flag(), draw.integer(-128, 127), 2**30, 1, None))


_ONE = multiplier_shift(1.0)

_OPS8 = [
    Op(
        "cortex_m::quantized_max_pool2d.out(Tensor self, int[] kernel_size, int[] stride, int[] padding, int[] "
        "dilation, bool ceil_mode, "
        "int input_zero_point, int output_zero_point, int activation_min, int activation_max, *, Tensor(a!) out) -> "
        "Tensor(a!)",
        infer=_infer_max8,
        lower=_lower_max8,
        dtypes=(DType.INT8,),
        reference=_reference_max8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case((T((1, 8, 6, 6), DType.INT8, -128, 128), (2, 2), (2, 2), (0, 0), (1, 1), False, 0, 0, -128, 127)),
            Case(
                (T((2, 5, 7, 7), DType.INT8, -128, 128), (3, 3), (2, 2), (1, 1), (1, 1), False, 3, 3, 3, 127),
                "padded, with a relu",
            ),
            Case(
                (T((1, 6, 5, 8), DType.INT8, -128, 128), (2, 3), (1, 2), (1, 0), (1, 1), False, -7, -7, -128, 127),
                "not square",
            ),
        ),
        draw=lambda draw: _draw_max8(draw),
    ),
    Op(
        "cortex_m::quantized_avg_pool2d.out(Tensor self, int[] kernel_size, int[] stride, int[] padding, bool "
        "ceil_mode, int zero_point, "
        "int multiplier, int shift, Tensor? scratch, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_avg8,
        lower=_lower_avg8,
        dtypes=(DType.INT8,),
        reference=_reference_stock_avg8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case(
                (T((1, 64, 25, 5), DType.INT8, -128, 128), (25, 5), (25, 5), (0, 0), False, -128, *_ONE, None), "global"
            ),
            Case(
                (T((2, 5, 7, 7), DType.INT8, -128, 128), (3, 3), (2, 2), (1, 1), False, 4, *_ONE, None),
                "padding does not count",
            ),
        ),
        draw=lambda draw: _draw_stock_avg8(draw),
    ),
    Op(
        f"{_AVERAGE8}(Tensor self, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, bool "
        "count_include_pad, "
        "int? divisor_override, int input_zero_point, int output_zero_point, int multiplier, int shift, int "
        "activation_min, "
        "int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_avg8,
        lower=_lower_avg8,
        dtypes=(DType.INT8,),
        reference=_reference_avg8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case(
                (
                    T((1, 64, 25, 5), DType.INT8, -128, 128),
                    (25, 5),
                    (),
                    (0, 0),
                    False,
                    True,
                    None,
                    -128,
                    -128,
                    *_ONE,
                    -128,
                    127,
                ),
                "global",
            ),
            Case(
                (
                    T((2, 5, 7, 7), DType.INT8, -128, 128),
                    (3, 3),
                    (2, 2),
                    (1, 1),
                    True,
                    True,
                    None,
                    4,
                    -3,
                    *_ONE,
                    -128,
                    127,
                ),
                "padding counts",
            ),
            Case(
                (
                    T((2, 9, 9, 5), DType.INT8, -128, 128),
                    (4, 3),
                    (2, 2),
                    (2, 1),
                    True,
                    False,
                    None,
                    4,
                    -3,
                    *_ONE,
                    -128,
                    127,
                ),
                "padding does not count, ceil_mode, a batch",
            ),
            Case(
                (
                    T((1, 9, 7, 7), DType.INT8, -128, 128),
                    (3, 3),
                    (1, 1),
                    (1, 1),
                    False,
                    True,
                    6,
                    4,
                    4,
                    *_ONE,
                    -128,
                    127,
                ),
                "divisor_override, padded",
            ),
            Case(
                (T((1, 5, 6, 6), DType.INT8, -128, 128), (2, 2), (), (0, 0), False, True, None, 4, 4, *_ONE, -128, 127),
                "the scale stays: ties to even",
            ),
            Case(
                (
                    T((2, 13, 20, 17), DType.INT8, -128, 128),
                    (20, 17),
                    (),
                    (0, 0),
                    False,
                    True,
                    None,
                    4,
                    4,
                    *_ONE,
                    -128,
                    127,
                ),
                "long",
            ),
            Case(
                (
                    T((1, 6, 19, 33), DType.INT8, -128, 128),
                    (17, 16),
                    (2, 9),
                    (0, 0),
                    False,
                    True,
                    None,
                    -128,
                    0,
                    *_ONE,
                    -9,
                    127,
                ),
                "long windows side by side, a relu",
            ),
        ),
        draw=lambda draw: _draw_avg8(draw),
    ),
]

RULES = [
    Rule("aten::max_pool2d_with_indices.out", _maximum_rule),
    Rule("aten::avg_pool2d.out", _average_rule),
    *adaptive_average.RULES,
]


# ---- cases -----------------------------------------------------------------------------------------------------------


def _draw_window(
    draw: Draw, dilations: tuple[int, ...]
) -> tuple[T, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    kernel = (draw.integer(1, 5), draw.integer(1, 5))
    dilation = (draw.choice(dilations), draw.choice(dilations))
    reach = [far * (size - 1) + 1 for far, size in zip(dilation, kernel, strict=True)]
    # PyTorch compares the padding with half of the window, and where there is dilation some versions with half of the
    # kernel
    padding = tuple(draw.integer(0, size // 2) for size in kernel)
    sizes = tuple(max(draw.integer(1, 11), far - 2 * pad) for far, pad in zip(reach, padding, strict=True))
    stride = draw.choice(((), (draw.integer(1, 4),), (draw.integer(1, 4), draw.integer(1, 4))))
    image = (draw.integer(1, 9), *sizes)
    shape = image if draw.integer(0, 3) == 0 else (draw.integer(1, 2), *image)
    return T(shape), kernel, stride, padding, dilation


def _draw_max(draw: Draw) -> Case:
    x, kernel, stride, padding, dilation = _draw_window(draw, (1, 1, 1, 2, 3))
    return Case((x, kernel, stride, padding, dilation, draw.flag()))


def _draw_avg(draw: Draw) -> Case:
    x, kernel, stride, padding, _ = _draw_window(draw, (1,))
    return Case((x, kernel, stride, padding, draw.flag(), draw.flag(), draw.choice((None, None, 1, 7, -3))))


_NAN = float("nan")

OPS = [
    Op(
        schema="aten::max_pool2d_with_indices.out(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, "
        "int[2] dilation=1,"
        " bool ceil_mode=False, *, Tensor(a!) out, Tensor(b!) indices) -> (Tensor(a!), Tensor(b!))",
        infer=_infer_max,
        lower=_lower_max,
        reference=_reference_max,
        layout=Layout.CHANNELS_LAST,
        absorbs=frozenset({"clamp"}),
        exact=True,
        cases=(
            Case((T((1, 8, 6, 6)), (2, 2), (), (0, 0), (1, 1), False), "the stride is the kernel's"),
            Case((T((2, 5, 7, 7)), (3, 3), (2, 2), (1, 1), (1, 1), False), "padded, 3x3, stride 2"),
            Case(
                (T((1, 4, 6, 6)), (3, 3), (2, 2), (0, 0), (1, 1), True),
                "ceil_mode: the last window reaches over the edge",
            ),
            Case((T((1, 3, 6, 6)), (2, 2), (3, 3), (1, 1), (1, 1), True), "ceil_mode: no window begins in the padding"),
            Case((T((1, 4, 9, 9)), (2, 3), (1, 2), (0, 1), (3, 2), False), "dilation"),
            Case((T((4, 5, 6)), (2, 3), (1,), (1, 0), (1,), False), "one image without a batch"),
            Case(
                (T((1, 1, 1, 4), values=(1.0, _NAN, -INF, -INF)), (1, 2), (), (0,), (1,), False), "NaN wins; -inf alone"
            ),
            Case((T((1, 1, 1, 4), values=(-0.0, 0.0, 3.0, 3.0)), (1, 2), (), (0,), (1,), False), "ties: the first"),
            Case(
                (T((1, 2, 2), values=(1.0, 3.0, 3.0, 1.0)), (2, 2), (), (0,), (1,), False),
                "ties without a batch: the first along (H, W)",
            ),
            Case(
                (T((1, 2, 2), values=(1.0, _NAN, _NAN, 1.0)), (2, 2), (), (0,), (1,), False),
                "NaNs without a batch: the last",
            ),
        ),
        draw=_draw_max,
    ),
    Op(
        schema="aten::avg_pool2d.out(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, bool "
        "ceil_mode=False,"
        " bool count_include_pad=True, int? divisor_override=None, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_avg,
        lower=_lower_avg,
        reference=_reference_avg,
        layout=Layout.CHANNELS_LAST,
        absorbs=frozenset({"clamp"}),
        sum_length=_sum_length,
        cases=(
            Case((T((1, 64, 25, 5)), (25, 5), (), (0, 0), False, True, None), "global"),
            Case((T((2, 5, 7, 7)), (3, 3), (2, 2), (1, 1), False, True, None), "padding counts"),
            Case((T((2, 5, 7, 7)), (3, 3), (2, 2), (1, 1), False, False, None), "padding does not count"),
            Case(
                (T((1, 4, 6, 6)), (3, 3), (2, 2), (1, 1), True, True, None),
                "ceil_mode: the divisor ends with the padding",
            ),
            Case((T((1, 4, 6, 6)), (3, 3), (2, 2), (1, 1), True, False, None), "ceil_mode, padding does not count"),
            Case((T((1, 4, 6, 6)), (3, 2), (1, 2), (1, 0), False, True, 5), "divisor_override"),
            Case((T((1, 4, 50, 3)), (40, 2), (7, 1), (3, 1), False, False, None), "windows of many rows"),
            Case((T((4, 5, 6)), (2, 3), (1,), (1, 0), False, True, None), "one image without a batch"),
            Case((T((4, 5, 6)), (2, 3), (2,), (1, 1), True, False, None), "one image without a batch, ceil_mode"),
            Case(
                (T((1, 1, 1, 6), values=(1.0, _NAN, -INF, 1.0, INF, -INF)), (1, 2), (), (0,), False, True, None),
                "NaN, infinities",
            ),
        ),
        draw=_draw_avg,
    ),
    *_OPS8,
    *adaptive_average.OPS,
    *adaptive_maximum.OPS,
]

_KINDS = ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")

INT8 = [
    Int8(tuple(f"aten::{kind}{size}d" for kind in _KINDS), Scales.SHARED, channels=Channels.WINDOW, spatial=size)
    for size in (1, 2)
]
