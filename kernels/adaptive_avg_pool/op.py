"""Average pooling to a given output size."""

from __future__ import annotations

import numpy as np

from etexport.integer_average import Average, windows
from etexport.integer_layer import activation
from etexport.op import Call, Case, Const, Draw, GeometryField, InferredSpec, Layout, Node, Op, Read, T, Target, Write
from etexport.program.model import Array, DType, TensorSpec
from etexport.quantized import (
    Fused,
    IntegerNode,
    Rule,
    multiplier_shift,
    real_scale,
    requantize,
    tie_to_even,
    word_multiplier,
)
from etexport.windows import adaptive_shape

_INF = float("inf")


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, adaptive_shape(node)),)


def _images(x: TensorSpec, out: TensorSpec) -> dict[str, int]:
    """As they lie in memory. "Channels last" of (C, H, W) is (C, W, H): each channel an image of one channel whose rows are the columns."""
    rows, columns = (2, 3) if len(x.shape) == 4 else (2, 1)
    return {
        "batch": x.shape[0],
        "in_height": x.shape[rows],
        "in_width": x.shape[columns],
        "out_height": out.shape[rows],
        "out_width": out.shape[columns],
        "channels": x.shape[1] if len(x.shape) == 4 else 1,
    }


def _lower(node: Node, target: Target) -> Call:
    x, out = node["self"], node.out
    epilogue = node.instruction.epilogue
    low, high = (epilogue.low, epilogue.high) if epilogue is not None else (-_INF, _INF)
    geometry: dict[str, GeometryField] = {**_images(x.spec, out.spec), "low": low, "high": high}
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


# ---- int8 ------------------------------------------------------------------------------------------------------------------------------

_INT8 = "etexport::quantized_adaptive_avg_pool2d.out"
_LARGEST_SHIFT = 8


def _infer8(node: Node) -> tuple[InferredSpec, ...]:
    if not (0 < node["multiplier"] < 2**31 and -31 <= node["shift"] <= _LARGEST_SHIFT):
        raise node.error(f"the scale's multiplier is {node['multiplier']}, its shift {node['shift']}")
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"an activation from {node['activation_min']} to {node['activation_max']}")
    return _infer(node)


def _sizes(inputs: int, outputs: int) -> list[int]:
    """From the shortest window to the longest."""
    lengths = [window.stop - window.start for window in _windows(inputs, outputs)]
    return list(range(min(lengths), max(lengths) + 1))


def _words(scale: float, counts: list[int]) -> tuple[Array, int, bool]:
    """The multiplier for each number of elements, the left shift that suits all of them, and whether ties go to even: the scale stays."""
    left = max(word_multiplier(*multiplier_shift(scale / count))[1] for count in counts)
    words = np.array([round(scale / count * 2.0 ** (32 - left)) for count in counts], np.int32)
    return words, left, scale == 1.0


def _lower8(node: Node, target: Target) -> Call:
    images = _images(node["self"].spec, node.out.spec)
    rows, columns = (_sizes(images[f"in_{side}"], images[f"out_{side}"]) for side in ("height", "width"))
    words, left, even = _words(real_scale(node["multiplier"], node["shift"]), [down * across for down in rows for across in columns])
    zero, largest = node["input_zero_point"], rows[-1] * columns[-1]
    if (largest * (128 + abs(zero))) << left >= 2**31:
        raise node.error(f"the sum of {largest} elements is too large")
    low, high = node["activation_min"], node["activation_max"]
    average = Average(0, 0, left, node["output_zero_point"], int(even), False, low, high)
    geometry: dict[str, GeometryField] = {
        **images, "least_rows": rows[0], "least_columns": columns[0], "widths": len(columns), "in_zero_point": zero,
        "out_zero_point": average.zero_point, "left_shift": left, "low": low, "high": high,
    }  # fmt: skip
    core, variant = windows(target, images["channels"], largest, left, (low, high))
    header = f"adaptive_avg_pool/quantized{'' if variant == 'portable' else '_dsp'}.h"
    operands = (Write(node.out.id), Read(node["self"].id), Const("multipliers", words))
    return Call(f"quantized_adaptive_avg_pool<{core}, {average.rounding}>", header, geometry, operands, variant=variant)


def _reference8(
    x: Array, size: tuple[int, ...], zero_in: int, zero_out: int, multiplier: int, shift: int, low: int, high: int
) -> Array:  # fmt: skip
    sides = [_windows(inputs, outputs) for inputs, outputs in zip(x.shape[-2:], size, strict=True)]
    counts = sorted({rows * columns for rows in _sizes(x.shape[-2], size[0]) for columns in _sizes(x.shape[-1], size[1])})
    words, left, even = _words(real_scale(multiplier, shift), counts)
    out = np.empty((*x.shape[:-2], *size), np.int8)
    for row, down in enumerate(sides[0]):
        for column, across in enumerate(sides[1]):
            elements = x[..., down, across].astype(np.int64) - zero_in
            count = elements.shape[-2] * elements.shape[-1]
            total = elements.sum((-2, -1))
            stored = requantize(total, words[counts.index(count)], left)
            stored = tie_to_even(stored, total, count) if even else stored
            out[..., row, column] = np.clip(stored + zero_out, low, high)
    return out


def _rule(node: IntegerNode) -> Fused | str:
    x = activation(node, "self")
    if isinstance(x, str):
        return x
    scale = multiplier_shift(x.scale / node.out.scale)
    if scale[1] > _LARGEST_SHIFT:
        return "its scale is too large beside the result's"
    size = tuple(node.node["output_size"])
    return Fused(_INT8, (x.ref, size, x.zero_point, node.out.zero_point, *scale, node.out.low, node.out.high))


def _case8(
    shape: tuple[int, ...], size: tuple[int, int], scale: float = 1.0, zeros: tuple[int, int] = (3, -5), low: int = -128, note: str = ""
) -> Case:
    return Case((T(shape, DType.INT8, -128, 128), size, *zeros, *multiplier_shift(scale), low, 127), note)


def _draw8(draw: Draw) -> Case:
    operand, size = _draw(draw).args
    zeros = draw.integer(-128, 127), draw.integer(-128, 127)
    return _case8(operand.shape, size, draw.choice((1.0, draw.number(0.05, 3.0))), zeros, draw.choice((-128, zeros[1])))


RULES = [Rule("aten::_adaptive_avg_pool2d.out", _rule)]

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
    ),
    Op(
        f"{_INT8}(Tensor self, int[] output_size, int input_zero_point, int output_zero_point, int multiplier, int shift, "
        "int activation_min, int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer8,
        lower=_lower8,
        dtypes=(DType.INT8,),
        reference=_reference8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            _case8((1, 8, 6, 6), (2, 3), note="windows of one size"),
            _case8((2, 19, 7, 8), (3, 5), note="overlapping windows, the scale stays: ties go to even"),
            _case8((1, 16, 9, 9), (4, 2), 1.7, (-128, 127), note="another scale"),
            _case8((3, 4, 6), (2, 5), 0.4, note="one image without a batch"),
            _case8((1, 4, 2, 3), (5, 6), 2.0, (0, 0), 0, "more results than elements, a relu"),
        ),
        draw=_draw8,
    ),
]
