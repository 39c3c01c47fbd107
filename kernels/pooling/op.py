"""Maximum and average pooling of images, (N, C, H, W) or (C, H, W)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from etexport.integer_average import Average, Columns, column_averages, windows
from etexport.op import (
    Call,
    Case,
    Const,
    Draw,
    GeometryField,
    InferredSpec,
    Layout,
    Node,
    Op,
    Read,
    T,
    Target,
    Window,
    Write,
    swept_call,
)
from etexport.program.model import Array, DType
from etexport.quantized import Fused, IntegerNode, Quantized, Rule, multiplier_shift, real_scale, requantize, tie_to_even, word_multiplier
from etexport.strided import nest

_INF = float("inf")
_LIMIT = 2**31 - 1
_TABLE = 32  # the caller of a windowed kernel keeps a pointer for each row of the window on its stack


@dataclass(frozen=True)
class _Axis:
    size: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    out: int

    @property
    def whole(self) -> bool:
        """No window goes beyond the padding, which `ceil_mode` allows."""
        return (self.out - 1) * self.stride + self.dilation * (self.kernel - 1) + 1 <= self.size + 2 * self.pad

    def windows(self) -> list[range]:
        """For each window the positions it looks at, inside or not."""
        reach = self.kernel * self.dilation
        return [range(at, at + reach, self.dilation) for at in range(-self.pad, self.out * self.stride - self.pad, self.stride)]


def _axes(node: Node) -> tuple[_Axis, _Axis]:
    """Height and width, with the sizes that PyTorch's `pooling_output_shape` gives; node.error for what it refuses."""
    x = node["self"].spec
    if len(x.shape) not in (3, 4) or 0 in x.shape[-3:]:
        raise node.error(f"pooling of {list(x.shape)}; images (N, C, H, W) and (C, H, W) have a kernel")
    kernel = _pair(node, "kernel_size", 1)
    stride = _pair(node, "stride", 1) if node["stride"] else kernel
    padding = _pair(node, "padding", 0)
    dilation = _pair(node, "dilation", 1) if "dilation" in node.operands else (1, 1)
    axes = []
    for at, size in enumerate(x.shape[-2:]):
        reach = dilation[at] * (kernel[at] - 1) + 1
        if padding[at] > reach // 2:
            raise node.error(f"padding {padding[at]} is more than half of a window of {reach}")
        room = size + 2 * padding[at] - reach
        out = (room + (stride[at] - 1 if node["ceil_mode"] else 0)) // stride[at] + 1
        if node["ceil_mode"] and (out - 1) * stride[at] >= size + padding[at]:
            out -= 1  # a window must not begin in the padding at the end
        if out < 1:
            raise node.error(f"a window of {reach} over {size} elements with padding {padding[at]}")
        axes.append(_Axis(size, kernel[at], stride[at], padding[at], dilation[at], out))
    if max(prod((*x.shape[:-2], *(axis.size + 2 * axis.pad + axis.stride for axis in axes))), *(axis.kernel for axis in axes)) > _LIMIT:
        raise node.error(f"windows of {list(kernel)} over {list(x.shape)} are too large for 32-bit offsets")
    return axes[0], axes[1]


def _pair(node: Node, name: str, least: int) -> tuple[int, int]:
    values: tuple[int, ...] = node[name]
    if len(values) not in (1, 2) or not all(least <= value <= _LIMIT for value in values):
        raise node.error(f"{name} is {list(values)}")
    return values[0], values[-1]


def _image(node: Node, axes: tuple[_Axis, _Axis]) -> tuple[int, int, _Axis, _Axis]:
    """(images, channels, rows, columns) as they lie in memory. "Channels last" of (C, H, W) is (C, W, H) in memory: each channel is an
    image of one channel whose rows are the columns."""
    shape = node["self"].spec.shape
    return (shape[0], shape[1], *axes) if len(shape) == 4 else (shape[0], 1, axes[1], axes[0])


def _clamp(node: Node) -> dict[str, float]:
    epilogue = node.instruction.epilogue
    return {"low": -_INF if epilogue is None else epilogue.low, "high": _INF if epilogue is None else epilogue.high}


def _swept(node: Node, function: str, header: str, geometry: dict[str, GeometryField], pad_value: float) -> Call:
    """A call for each output row."""
    batch, channels, rows, columns = _image(node, _axes(node))
    row = columns.size * channels
    outside = rows.pad > 0 or not rows.whole
    window = Window(
        input=node["self"].id,
        output=node.out.id,
        batch=batch,
        in_rows=rows.size,
        in_row=row,
        out_rows=rows.out,
        out_row=columns.out * channels,
        kernel=rows.kernel,
        stride=rows.stride,
        pad=rows.pad,
        dilation=rows.dilation,
        pad_value=pad_value,
        pad_elements=row if outside else 0,
    )
    return swept_call(node, function, header, geometry, window)


# ---- maximum ----------------------------------------------------------------------------------------------------------------------


def _infer_max(node: Node) -> tuple[InferredSpec, ...]:
    x = node["self"].spec
    shape = (*x.shape[:-2], *(axis.out for axis in _axes(node)))
    return ((x.dtype, shape), (DType.INT64, shape))


def _lower_max(node: Node, target: Target) -> Call:
    batch, channels, rows, columns = _image(node, _axes(node))
    if 1 in node.unused_outs:
        geometry: dict[str, GeometryField] = {
            "in_width": columns.size, "out_width": columns.out, "channels": channels, "kernel_rows": rows.kernel,
            "kernel_width": columns.kernel, "stride": columns.stride, "pad": columns.pad, "dilation": columns.dilation, **_clamp(node),
        }  # fmt: skip
        return _swept(node, "max_pool", "pooling/maximum.h", geometry, -_INF)
    # An index counts along (H, W), whichever of the two lies outside in memory.
    row_index, column_index = (columns.size, 1) if len(node["self"].spec.shape) == 4 else (1, rows.size)
    geometry = {
        "batch": batch, "in_height": rows.size, "in_width": columns.size, "out_height": rows.out, "out_width": columns.out,
        "channels": channels, "kernel_height": rows.kernel, "kernel_width": columns.kernel, "stride_y": rows.stride,
        "stride_x": columns.stride, "pad_y": rows.pad, "pad_x": columns.pad, "dilation_y": rows.dilation, "dilation_x": columns.dilation,
        "row_index": row_index, "column_index": column_index, **_clamp(node),
    }  # fmt: skip
    operands = (Write(node.out.id), Write(node.outs[1].id), Read(node["self"].id))
    return Call("max_pool_with_indices", "pooling/maximum.h", geometry, operands)


def _reference_axes(shape: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
                    dilation: tuple[int, ...], ceil_mode: bool) -> tuple[_Axis, _Axis]:  # fmt: skip
    axes = []
    for at, size in enumerate(shape[-2:]):
        k, pad, far = kernel[at % len(kernel)], padding[at % len(padding)], dilation[at % len(dilation)]
        step = stride[at % len(stride)] if stride else k
        room = size + 2 * pad - far * (k - 1) - 1
        out = (room + (step - 1 if ceil_mode else 0)) // step + 1
        axes.append(_Axis(size, k, step, pad, far, out - (ceil_mode and (out - 1) * step >= size + pad)))
    return axes[0], axes[1]


def _reference_max(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> tuple[Array, Array]:
    axes = _reference_axes(x.shape, kernel, stride, padding, dilation, ceil_mode)
    out = np.empty((*x.shape[:-2], axes[0].out, axes[1].out), x.dtype)
    indices = np.empty(out.shape, np.int64)
    for (row, down), (column, across) in product(*(enumerate(axis.windows()) for axis in axes)):
        at = np.array([y * x.shape[-1] + c for y in down for c in across if 0 <= y < x.shape[-2] and 0 <= c < x.shape[-1]], np.int64)
        if not at.size:  # a dilated window that sees nothing but padding; its index is where PyTorch begins to look
            first_y, first_x = (taps.start % taps.step if taps.start < 0 else taps.start for taps in (down, across))
            out[..., row, column] = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
            indices[..., row, column] = first_y * x.shape[-1] + first_x
            continue
        seen = x.reshape(*x.shape[:-2], -1)[..., at]
        nans = np.isnan(seen) if x.dtype.kind == "f" else np.zeros(seen.shape, bool)
        last_nan = len(at) - 1 - nans[..., ::-1].argmax(-1)
        best = np.where(nans.any(-1), last_nan, seen.argmax(-1))  # the last NaN, or the first of equals
        indices[..., row, column] = at[best]
        out[..., row, column] = np.take_along_axis(seen, best[..., None], -1)[..., 0]
    return out, indices


# ---- average ----------------------------------------------------------------------------------------------------------------------


def _infer_avg(node: Node) -> tuple[InferredSpec, ...]:
    x, divisor = node["self"].spec, node["divisor_override"]
    if divisor == 0 or (divisor is not None and abs(divisor) > _LIMIT):
        raise node.error(f"divisor_override is {divisor}")
    return ((x.dtype, (*x.shape[:-2], *(axis.out for axis in _axes(node)))),)


def _lower_avg(node: Node, target: Target) -> Call:
    batch, channels, rows, columns = _image(node, _axes(node))
    include_pad, divisor = node["count_include_pad"], node["divisor_override"] or 0
    geometry: dict[str, GeometryField] = {
        "in_width": columns.size, "out_width": columns.out, "channels": channels, "kernel_rows": rows.kernel,
        "kernel_width": columns.kernel, "stride": columns.stride, "pad": columns.pad, "include_pad": include_pad, "divisor": divisor,
        **_clamp(node),
    }  # fmt: skip
    if rows.kernel <= _TABLE and (divisor or (rows.whole and (include_pad or rows.pad == 0))):
        return _swept(node, "avg_pool", "pooling/average.h", geometry, 0.0)
    images = {"batch": batch, "in_height": rows.size, "out_height": rows.out, "stride_y": rows.stride, "pad_y": rows.pad}
    operands = (Write(node.out.id), Read(node["self"].id))
    return Call("avg_pool_images", "pooling/average.h", {**geometry, **images}, operands)


def _reference_avg(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    axes = _reference_axes(x.shape, kernel, stride, padding, (1,), ceil_mode)
    out = np.empty((*x.shape[:-2], axes[0].out, axes[1].out), x.dtype)
    for (row, down), (column, across) in product(*(enumerate(axis.windows()) for axis in axes)):
        inside = [[at for at in span if 0 <= at < axis.size] for span, axis in zip((down, across), axes, strict=True)]
        padded = [[at for at in span if at < axis.size + axis.pad] for span, axis in zip((down, across), axes, strict=True)]
        divisor = divisor_override or prod(len(span) for span in (padded if count_include_pad else inside))
        out[..., row, column] = x[..., inside[0], :][..., inside[1]].sum((-2, -1), dtype=np.float64) / divisor
    return out


def _sum_length(node: Node) -> int:
    return prod(axis.kernel for axis in _axes(node))


# ---- int8 -------------------------------------------------------------------------------------------------------------------------

_AVERAGE8 = "etexport::quantized_avg_pool2d.out"


def _infer_max8(node: Node) -> tuple[InferredSpec, ...]:
    x = node["self"].spec
    if node["input_zero_point"] != node["output_zero_point"]:
        raise node.error("a maximum keeps the zero point")
    _check_bounds(node)
    return ((DType.INT8, (*x.shape[:-2], *(axis.out for axis in _axes(node)))),)


def _check_bounds(node: Node) -> None:
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"an activation from {node['activation_min']} to {node['activation_max']}")


def _lower_max8(node: Node, target: Target) -> Call:
    _, channels, rows, columns = _image(node, _axes(node))
    geometry: dict[str, GeometryField] = {
        "in_width": columns.size, "out_width": columns.out, "channels": channels, "kernel_rows": rows.kernel,
        "kernel_width": columns.kernel, "stride": columns.stride, "pad": columns.pad, "dilation": columns.dilation,
        "low": node["activation_min"], "high": node["activation_max"],
    }  # fmt: skip
    core, variant = windows(
        target, channels, bounds=(-128, node["activation_max"]), most_words=4
    )  # a result begins at the least value allowed
    return replace(_swept(node, f"quantized_max_pool<{core}>", _header8(variant), geometry, -128), variant=variant)


def _header8(variant: str) -> str:
    return f"pooling/quantized{'' if variant == 'portable' else '_dsp'}.h"


def _reference_max8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...],
                    ceil_mode: bool, zero_in: int, zero_out: int, low: int, high: int) -> Array:  # fmt: skip
    return np.clip(_reference_max(x, kernel, stride, padding, dilation, ceil_mode)[0], low, high)


def _infer_avg8(node: Node) -> tuple[InferredSpec, ...]:
    x = node["self"].spec
    _averaged(node)
    return ((DType.INT8, (*x.shape[:-2], *(axis.out for axis in _axes(node)))),)


@dataclass(frozen=True)
class _Averaged:
    """What an int8 average does besides summing: `scale` is that of input to output, for one element."""

    include_pad: bool
    divisor: int
    zero_in: int
    zero_out: int
    scale: float
    low: int
    high: int


def _averaged(node: Node) -> _Averaged:
    if node.schema.name != _AVERAGE8:  # ExecuTorch's operator: one scale, only what is inside counts
        return _Averaged(False, 0, node["zero_point"], node["zero_point"], 1.0, -128, 127)
    _check_bounds(node)
    if not (0 < node["multiplier"] < 2**31 and -31 <= node["shift"] <= 8):
        raise node.error(f"the scale's multiplier is {node['multiplier']}, its shift {node['shift']}")
    if node["divisor_override"] is not None and node["divisor_override"] < 1:
        raise node.error(f"divisor_override is {node['divisor_override']}", "int8 takes positive ones")
    scale = real_scale(node["multiplier"], node["shift"])
    zeros = node["input_zero_point"], node["output_zero_point"]
    bounds = node["activation_min"], node["activation_max"]
    return _Averaged(node["count_include_pad"], node["divisor_override"] or 0, *zeros, scale, *bounds)


def _to_even(how: _Averaged, counts: list[int]) -> bool:
    """Whether ties occur that are rounded to even: the scale stays, and a count is even."""
    return how.scale == 1.0 and any(count % 2 == 0 for count in counts)


def _words(scale: float, counts: list[int]) -> tuple[list[int], int]:
    """The multiplier for each count, with the left shift that suits all of them."""
    left = max(word_multiplier(*multiplier_shift(scale / count))[1] for count in counts)
    return [round(scale / count * 2.0 ** (32 - left)) for count in counts], left


def _lower_avg8(node: Node, target: Target) -> Call:
    batch, channels, rows, columns = _image(node, _axes(node))
    how = _averaged(node)
    size = rows.kernel * columns.kernel
    one = how.divisor or (size if rows.whole and columns.whole and (how.include_pad or rows.pad == columns.pad == 0) else 0)
    counts = [one] if one else list(range(1, size + 1))
    words, left = _words(how.scale, counts)
    if (size * (128 + abs(how.zero_in))) << left >= 2**31:
        raise node.error(f"the sum of {size} elements is too large")
    divided = target.rounding == "tflm" and node.schema.name != _AVERAGE8
    even = (how.divisor or size) if _to_even(how, counts) else 0
    average = Average(-size * how.zero_in, words[0], left, how.zero_out, even, divided, how.low, how.high)
    operands = (Write(node.out.id), Read(node["self"].id))
    if one and rows.out == columns.out == 1 and rows.pad == columns.pad == 0:
        loops = nest((batch,), (channels,), (rows.size * columns.size * channels,))
        window = Columns(rows.kernel, columns.size * channels, columns.kernel, channels, channels)
        return column_averages(target, loops, window, average, operands)
    geometry: dict[str, GeometryField] = {
        "batch": batch, "in_height": rows.size, "in_width": columns.size, "out_height": rows.out, "out_width": columns.out,
        "channels": channels, "kernel_height": rows.kernel, "kernel_width": columns.kernel, "stride_y": rows.stride,
        "stride_x": columns.stride, "pad_y": rows.pad, "pad_x": columns.pad, "include_pad": how.include_pad, "same": bool(one),
        "divisor": how.divisor, "in_zero_point": how.zero_in, "out_zero_point": how.zero_out, "left_shift": left,
        "low": how.low, "high": how.high,
    }  # fmt: skip
    core, variant = ("et::PortableWindows", "portable") if divided else windows(target, channels, size, left, (how.low, how.high))
    table = Const("multipliers", None if divided else np.array(words, np.int32))
    function = f"quantized_avg_pool<{core}, {average.rounding}>"
    return Call(function, _header8(variant), geometry, (*operands, table), variant=variant)


def _average8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], ceil_mode: bool,
              how: _Averaged) -> Array:  # fmt: skip
    axes = _reference_axes(x.shape, kernel, stride, padding, (1,), ceil_mode)
    size = axes[0].kernel * axes[1].kernel
    whole = all(axis.whole for axis in axes) and (how.include_pad or axes[0].pad == axes[1].pad == 0)
    counts = [how.divisor] if how.divisor else [size] if whole else list(range(1, size + 1))
    words, left = _words(how.scale, counts)
    out = np.empty((*x.shape[:-2], axes[0].out, axes[1].out), np.int8)
    for (row, down), (column, across) in product(*(enumerate(axis.windows()) for axis in axes)):
        inside = [[at for at in span if 0 <= at < axis.size] for span, axis in zip((down, across), axes, strict=True)]
        padded = [[at for at in span if at < axis.size + axis.pad] for span, axis in zip((down, across), axes, strict=True)]
        count = prod(len(span) for span in (padded if how.include_pad else inside))
        total = (x[..., inside[0], :][..., inside[1]].astype(np.int64) - how.zero_in).sum((-2, -1))
        stored = requantize(total, words[0 if len(words) == 1 else count - 1], left)
        if _to_even(how, counts):
            stored = tie_to_even(stored, total, how.divisor or count)
        out[..., row, column] = np.clip(stored + how.zero_out, how.low, how.high)
    return out


def _reference_avg8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], ceil_mode: bool,
                    include_pad: bool, divisor: int | None, zero_in: int, zero_out: int, multiplier: int, shift: int,
                    low: int, high: int) -> Array:  # fmt: skip
    how = _Averaged(include_pad, divisor or 0, zero_in, zero_out, real_scale(multiplier, shift), low, high)
    return _average8(x, kernel, stride, padding, ceil_mode, how)


def _reference_stock_avg8(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], ceil_mode: bool,
                          zero: int, multiplier: int, shift: int, scratch: None) -> Array:  # fmt: skip
    return _average8(x, kernel, stride, padding, ceil_mode, _Averaged(False, 0, zero, zero, 1.0, -128, 127))


def _stored(node: IntegerNode) -> Quantized | None:
    found = node.quantized["self"]
    return found if isinstance(found, Quantized) and found.axis is None and found.value.spec.dtype is DType.INT8 else None


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
        (_eight(draw, x), kernel, stride, padding, dilation, draw.flag(), zero, zero, draw.choice((-128, zero)), draw.choice((127, zero)))
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
        "cortex_m::quantized_max_pool2d.out(Tensor self, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode, "
        "int input_zero_point, int output_zero_point, int activation_min, int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_max8,
        lower=_lower_max8,
        dtypes=(DType.INT8,),
        reference=_reference_max8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case((T((1, 8, 6, 6), DType.INT8, -128, 128), (2, 2), (2, 2), (0, 0), (1, 1), False, 0, 0, -128, 127)),
            Case((T((2, 5, 7, 7), DType.INT8, -128, 128), (3, 3), (2, 2), (1, 1), (1, 1), False, 3, 3, 3, 127), "padded, with a relu"),
            Case((T((1, 6, 5, 8), DType.INT8, -128, 128), (2, 3), (1, 2), (1, 0), (1, 1), False, -7, -7, -128, 127), "not square"),
        ),
        draw=lambda draw: _draw_max8(draw),
    ),
    Op(
        "cortex_m::quantized_avg_pool2d.out(Tensor self, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, int zero_point, "
        "int multiplier, int shift, Tensor? scratch, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_avg8,
        lower=_lower_avg8,
        dtypes=(DType.INT8,),
        reference=_reference_stock_avg8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case((T((1, 64, 25, 5), DType.INT8, -128, 128), (25, 5), (25, 5), (0, 0), False, -128, *_ONE, None), "global"),
            Case((T((2, 5, 7, 7), DType.INT8, -128, 128), (3, 3), (2, 2), (1, 1), False, 4, *_ONE, None), "padding does not count"),
        ),
        draw=lambda draw: _draw_stock_avg8(draw),
    ),
    Op(
        f"{_AVERAGE8}(Tensor self, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, bool count_include_pad, "
        "int? divisor_override, int input_zero_point, int output_zero_point, int multiplier, int shift, int activation_min, "
        "int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_avg8,
        lower=_lower_avg8,
        dtypes=(DType.INT8,),
        reference=_reference_avg8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            Case(
                (T((1, 64, 25, 5), DType.INT8, -128, 128), (25, 5), (), (0, 0), False, True, None, -128, -128, *_ONE, -128, 127), "global"
            ),
            Case(
                (T((2, 5, 7, 7), DType.INT8, -128, 128), (3, 3), (2, 2), (1, 1), True, True, None, 4, -3, *_ONE, -128, 127),
                "padding counts",
            ),
            Case(
                (T((1, 5, 6, 6), DType.INT8, -128, 128), (2, 2), (), (0, 0), False, True, None, 4, 4, *_ONE, -128, 127),
                "the scale stays: ties to even",
            ),
            Case((T((2, 13, 20, 17), DType.INT8, -128, 128), (20, 17), (), (0, 0), False, True, None, 4, 4, *_ONE, -128, 127), "long"),
            Case(
                (T((1, 6, 19, 33), DType.INT8, -128, 128), (17, 16), (2, 9), (0, 0), False, True, None, -128, 0, *_ONE, -9, 127),
                "long windows side by side, a relu",
            ),
        ),
        draw=lambda draw: _draw_avg8(draw),
    ),
]

RULES = [Rule("aten::max_pool2d_with_indices.out", _maximum_rule), Rule("aten::avg_pool2d.out", _average_rule)]


# ---- cases ------------------------------------------------------------------------------------------------------------------------


def _draw_window(draw: Draw, dilations: tuple[int, ...]) -> tuple[T, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    kernel = (draw.integer(1, 5), draw.integer(1, 5))
    dilation = (draw.choice(dilations), draw.choice(dilations))
    reach = [far * (size - 1) + 1 for far, size in zip(dilation, kernel, strict=True)]
    # PyTorch compares the padding with half of the window, and where there is dilation some versions with half of the kernel
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
        schema="aten::max_pool2d_with_indices.out(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, int[2] dilation=1,"
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
            Case((T((1, 4, 6, 6)), (3, 3), (2, 2), (0, 0), (1, 1), True), "ceil_mode: the last window reaches over the edge"),
            Case((T((1, 3, 6, 6)), (2, 2), (3, 3), (1, 1), (1, 1), True), "ceil_mode: no window begins in the padding"),
            Case((T((1, 4, 9, 9)), (2, 3), (1, 2), (0, 1), (3, 2), False), "dilation"),
            Case((T((4, 5, 6)), (2, 3), (1,), (1, 0), (1,), False), "one image without a batch"),
            Case((T((1, 1, 1, 4), values=(1.0, _NAN, -_INF, -_INF)), (1, 2), (), (0,), (1,), False), "NaN wins; -inf alone"),
            Case((T((1, 1, 1, 4), values=(-0.0, 0.0, 3.0, 3.0)), (1, 2), (), (0,), (1,), False), "ties: the first"),
        ),
        draw=_draw_max,
    ),
    Op(
        schema="aten::avg_pool2d.out(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, bool ceil_mode=False,"
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
            Case((T((1, 4, 6, 6)), (3, 3), (2, 2), (1, 1), True, True, None), "ceil_mode: the divisor ends with the padding"),
            Case((T((1, 4, 6, 6)), (3, 3), (2, 2), (1, 1), True, False, None), "ceil_mode, padding does not count"),
            Case((T((1, 4, 6, 6)), (3, 2), (1, 2), (1, 0), False, True, 5), "divisor_override"),
            Case((T((4, 5, 6)), (2, 3), (1,), (1, 0), False, True, None), "one image without a batch"),
            Case((T((4, 5, 6)), (2, 3), (2,), (1, 1), True, False, None), "one image without a batch, ceil_mode"),
            Case((T((1, 1, 1, 6), values=(1.0, _NAN, -_INF, 1.0, _INF, -_INF)), (1, 2), (), (0,), False, True, None), "NaN, infinities"),
        ),
        draw=_draw_avg,
    ),
    *_OPS8,
]
