"""The cases of int8 convolution, and what draws more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.quantized import multiplier_shift
from etexport.program.model import DType


def _case(
    x: tuple[int, ...],
    weights: tuple[int, ...],
    note: str = "",
    *,
    bias: bool = True,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] = (0,),
    dilation: tuple[int, ...] = (1,),
    zeros: tuple[int, int] = (3, -5),
    bounds: tuple[int, int] = (-128, 127),
    scale: float = 1.0,
    least: int = -127,
    depthwise: int = 0,
    transposed: tuple[int, ...] | None = None,
    biases: int = 2000,
    dead: bool = False,
) -> Case:
    """`weights` as the operator takes them; scales spread round one that uses the range of int8, times `scale`. With
    `dead` every second output of three has no weights, a bias beyond 24 bits and a scale of nearly nothing."""
    rank = len(x) - 2
    attributes = (stride, padding, dilation) if transposed is None else (stride, padding, transposed, dilation)
    wide = [values * rank if len(values) == 1 else values for values in attributes]
    outputs = weights[-1] if depthwise else weights[0]
    k = prod(weights) // outputs
    scales = [scale * (0.4 + at % 7 / 7) / (60 * k**0.5) for at in range(outputs)]
    added = T((outputs,), DType.INT32, -biases, biases, constant=True) if bias else None
    rows = T(weights, DType.INT8, least, 128, constant=True)
    if dead:
        scales = [2.0**-24 if at % 3 == 1 else each for at, each in enumerate(scales)]
        added = _numbers([(at % 8 - 3) << 27 if at % 3 == 1 else at for at in range(outputs)])
        some = np.random.default_rng(k).integers(least, 128, weights)
        some[(..., slice(1, None, 3)) if depthwise else slice(1, None, 3)] = 0
        rows = replace(rows, values=tuple(map(float, some.reshape(-1).tolist())))
    multipliers, shifts = map(_numbers, zip(*map(multiplier_shift, scales), strict=True))
    arguments = (T(x, DType.INT8, -128, 128), rows, added, *wide)
    middle = (depthwise,) if depthwise else ()
    scratch = (None,) if transposed is None else (None, None)
    return Case((*arguments, *middle, -zeros[0], zeros[1], multipliers, shifts, *bounds, *scratch), note)


def _numbers(values: Sequence[int]) -> T:
    return T((len(values),), DType.INT32, values=tuple(map(float, values)), constant=True)


DENSE_CASES = (
    _case((1, 3, 8, 8), (8, 3, 3, 3), "dense, padded by one", padding=(1,)),
    _case((1, 4, 6, 6), (4, 3, 3, 4), "no padding, no bias", bias=False),
    _case((2, 3, 7, 5), (6, 3, 3, 3), "a batch, stride 2", stride=(2,), padding=(1,)),
    _case((1, 3, 8, 8), (8, 3, 3, 3), "padded at the ends only", stride=(2,), padding=(0, 0, 1, 1)),
    _case((1, 16, 6, 5), (16, 3, 3, 16), "16 channels", padding=(1,), zeros=(-128, -128)),
    _case((1, 32, 4, 4), (8, 3, 3, 32), "long columns", padding=(1,), zeros=(127, 0)),
    _case((1, 16, 5, 5), (12, 1, 1, 16), "pointwise, an odd number of positions"),
    _case((1, 5, 9, 4), (7, 1, 1, 5), "pointwise, nothing is a multiple of four"),
    _case((2, 64, 3, 3), (64, 1, 1, 64), "pointwise over a batch, a ReLU's bounds", zeros=(-128, 4), bounds=(4, 100)),
    _case((1, 8, 6, 6), (9, 1, 1, 8), "1x1 of stride 2 is no pointwise", stride=(2,)),
    _case((1, 4, 4, 4), (5, 1, 1, 4), "1x1 with padding: the border is the bias", padding=(1,)),
    _case((1, 1, 49, 10), (16, 10, 4, 1), "one input channel, 10x4, stride 2", stride=(2,), padding=(5, 1)),
    _case((1, 4, 5, 6), (3, 3, 3, 4), "padding wider than the kernel's reach", padding=(4, 5)),
    _case((1, 2, 3, 3), (4, 5, 5, 2), "a kernel larger than the image", padding=(2,)),
    _case((1, 3, 9, 9), (5, 3, 2, 3), "dilation", dilation=(2, 3), padding=(2, 1)),
    _case((1, 6, 5, 5), (9, 3, 3, 2), "three groups", padding=(1,)),
    _case((1, 16, 5, 6), (16, 3, 3, 2), "eight groups of two channels", padding=(1,)),
    _case((1, 8, 6, 7), (4, 1, 1, 2), "pointwise in groups, one result each"),
    _case((1, 10, 5, 7), (9, 3, 3, 10), "an odd number of positions a row, ten channels", padding=(1,)),
    _case((1, 16, 5, 5), (8, 3, 3, 16), "dilated rows of an odd number of positions", padding=(2,), dilation=(2,)),
    _case((2, 8, 5, 4), (24, 2, 3, 4), "two groups of 12", padding=(1, 2), dilation=(1, 2), stride=(2, 1)),
    _case((1, 8, 4, 4), (6, 3, 3, 8), "scales above one half", scale=150.0),
    _case((1, 8, 4, 4), (6, 3, 3, 8), "weights of -128", least=-128),
    _case((1, 512, 2, 2), (4, 3, 3, 512), "sums that need more than 24 bits", padding=(1,)),
    _case((1, 1203, 3, 1), (7, 1, 1, 1203), "long sums of an odd length, some channels left over"),
    _case((1, 606, 3, 3), (6, 3, 2, 303), "long sums in groups", padding=(1,)),
    _case((1, 12, 5, 5), (10, 3, 3, 12), "dead channels", padding=(1,), dead=True),
    _case((1, 12, 5, 5), (10, 3, 3, 12), "biases beyond 24 bits", padding=(1,), biases=2**24, scale=0.02),
    _case((1, 16, 9), (8, 3, 16), "a sequence", padding=(1,)),
    _case(
        (2, 4, 11), (6, 4, 2), "sequences in two groups, stride 3, dilated", stride=(3,), dilation=(2,), padding=(2,)
    ),
)

DEPTHWISE_CASES = (
    _case((1, 8, 7, 5), (1, 3, 3, 8), "3x3, an odd number of rows", padding=(1,), depthwise=1),
    _case((1, 64, 6, 5), (1, 3, 3, 64), "3x3, an even number of rows", padding=(1,), zeros=(-128, -128), depthwise=1),
    _case((1, 16, 5, 6), (1, 3, 3, 16), "3x3, sixteen channels", padding=(1,), depthwise=1),
    _case((2, 12, 4, 6), (1, 3, 3, 12), "a batch", padding=(1,), bias=False, depthwise=1),
    _case((1, 12, 7, 8), (1, 3, 3, 12), "stride 2", padding=(1,), stride=(2,), depthwise=1),
    _case(
        (1, 16, 8, 8),
        (1, 3, 3, 16),
        "stride 2, padded at the ends only",
        padding=(0, 0, 1, 1),
        stride=(2,),
        depthwise=1,
    ),
    _case((1, 8, 5, 5), (1, 3, 3, 8), "no padding", depthwise=1, bounds=(-20, 60)),
    _case(
        (2, 24, 7, 9), (1, 3, 3, 24), "padded below and right, an odd number of rows", padding=(0, 0, 1, 1), depthwise=1
    ),
    _case((1, 4, 1, 1), (1, 3, 3, 4), "one pixel", padding=(1,), depthwise=1),
    _case((2, 5, 6, 6), (1, 5, 3, 5), "5x3, five channels", padding=(2, 1), depthwise=1),
    _case((1, 8, 6, 6), (1, 3, 3, 8), "dilated", padding=(2,), dilation=(2,), depthwise=1),
    _case((1, 3, 6, 6), (1, 3, 3, 9), "three results a channel", padding=(1,), depthwise=3),
    _case((1, 1, 9, 6), (1, 4, 3, 8), "one channel, eight results", padding=(1,), stride=(2,), depthwise=8),
    _case((1, 8, 4, 4), (1, 3, 3, 8), "scales above one half", padding=(1,), scale=150.0, depthwise=1),
    _case((1, 8, 4, 4), (1, 3, 3, 8), "weights of -128", padding=(1,), least=-128, depthwise=1),
    _case((1, 32, 7, 6), (1, 5, 5, 32), "5x5, stride 2", padding=(2,), stride=(2,), depthwise=1),
    _case((1, 6, 5, 7), (1, 3, 3, 6), "six channels: a block and a half", padding=(1,), depthwise=1),
    _case((1, 12, 7, 6), (1, 5, 5, 12), "5x5, twelve channels, an odd number of rows", padding=(2,), depthwise=1),
    _case(
        (2, 16, 8, 9),
        (1, 7, 3, 16),
        "7x3, sixteen channels, stride 1 and 2",
        padding=(3, 1),
        stride=(1, 2),
        depthwise=1,
    ),
    _case((1, 7, 4, 5), (1, 2, 2, 14), "seven channels, two results each", padding=(1,), depthwise=2),
    _case((1, 3, 6, 5), (1, 3, 3, 3), "three channels", padding=(1,), depthwise=1),
    _case((1, 12, 9), (1, 3, 12), "along a sequence", padding=(1,), depthwise=1),
    _case((1, 12, 6, 5), (1, 3, 3, 12), "dead channels", padding=(1,), depthwise=1, dead=True),
    _case((1, 3, 6, 5), (1, 3, 3, 3), "three channels, scales above one half", padding=(1,), depthwise=1, scale=150.0),
    _case((1, 8, 6, 5), (1, 3, 3, 8), "a scale above 100", padding=(1,), depthwise=1, scale=20000.0),
)


TRANSPOSED_CASES = (
    _case((1, 4, 5, 5), (6, 2, 2, 4), "twice the size", stride=(2,), transposed=(0,)),
    _case((2, 3, 4, 5), (5, 3, 3, 3), "windows overlap", stride=(2,), padding=(1,), transposed=(1,)),
    _case((1, 8, 3, 3), (4, 4, 4, 8), "padded", stride=(2,), padding=(1,), transposed=(0,), bounds=(-50, 50)),
    _case((1, 4, 3, 4), (5, 3, 2, 4), "stride 1", stride=(1,), transposed=(0,), bias=False),
    _case(
        (1, 4, 3, 3),
        (3, 2, 2, 4),
        "a stride beyond the window: some outputs are the bias",
        stride=(3,),
        transposed=(2,),
    ),
    _case(
        (1, 4, 4, 3),
        (6, 3, 4, 4),
        "dilated, strides differ",
        stride=(2, 3),
        dilation=(3, 2),
        padding=(2, 0),
        transposed=(1, 0),
    ),
    _case((1, 4, 7), (3, 5, 4), "a sequence", stride=(3,), dilation=(2,), padding=(4,), transposed=(2,)),
    _case((1, 4, 3, 3), (3, 3, 3, 4), "scales above one half", stride=(2,), scale=150.0, transposed=(0,)),
    _case((1, 612, 2, 3), (6, 3, 3, 612), "long sums", stride=(2,), padding=(1,), transposed=(1,)),
    _case((1, 8, 4, 3), (7, 3, 3, 8), "dead channels", stride=(2,), transposed=(0,), dead=True),
)


def draw_transposed(draw: Draw) -> Case:
    kernel = tuple(draw.choice((1, 2, 2, 3, 3, 4, 5)) for _ in range(draw.choice((1, 2, 2))))
    stride, dilation = (tuple(draw.choice((1, 2, 2, 3)) for _ in kernel) for _ in range(2))
    more = tuple(draw.integer(0, max(step, far) - 1) for step, far in zip(stride, dilation, strict=True))
    sizes = tuple(draw.integer(1, 6) for _ in kernel)
    reach = [
        (n - 1) * step + far * (taps - 1) for n, step, far, taps in zip(sizes, stride, dilation, kernel, strict=True)
    ]
    padding = tuple(draw.integer(0, length // 2) for length in reach)
    inputs, outputs = draw.choice((1, 2, 3, 4, 5, 8, 16)), draw.integer(1, 12)
    return _case(
        (draw.choice((1, 1, 2)), inputs, *sizes), (outputs, *kernel, inputs), bias=draw.flag(), stride=stride,
        padding=padding, dilation=dilation, zeros=(draw.integer(-128, 127), draw.integer(-128, 127)), transposed=more,
        scale=draw.choice((1.0, 1.0, 150.0)), biases=draw.choice((2000, 2000, 2**24)), dead=draw.integer(0, 5) == 0,
    )  # fmt: skip


def _drawn(draw: Draw, channels: int, weights: tuple[int, ...], kernel: tuple[int, ...], depthwise: int) -> Case:
    stride = tuple(draw.integer(1, 3) for _ in kernel)
    dilation = tuple(draw.choice((1, 1, 1, 2, 3)) for _ in kernel)
    ends = 2 if len(kernel) == 2 and draw.integer(0, 3) == 0 else 1
    padding = tuple(draw.choice((0, 0, 1, size // 2, draw.integer(0, size + 1))) for size in kernel * ends)
    least = tuple(padding[: len(kernel)])
    sizes = tuple(
        max(draw.integer(1, 10), far * (size - 1) + 1 - around)
        for size, far, around in zip(kernel, dilation, least, strict=True)
    )
    low, high = sorted((draw.integer(-128, 127), draw.integer(-128, 127))) if draw.integer(0, 3) == 0 else (-128, 127)
    return _case(
        (draw.choice((1, 1, 2)), channels, *sizes), weights, bias=draw.flag(), stride=stride, padding=padding,
        dilation=dilation, zeros=(draw.integer(-128, 127), draw.integer(-128, 127)), bounds=(low, high),
        scale=draw.choice((1.0, 1.0, 1.0, 0.1, 20.0, 150.0)), biases=draw.choice((2000, 2000, 2**24)),
        dead=draw.integer(0, 5) == 0, least=draw.choice((-127, -127, -128)), depthwise=depthwise,
    )  # fmt: skip


def draw_dense(draw: Draw) -> Case:
    kernel = tuple(draw.choice((1, 1, 2, 3, 3, 3, 4, 5)) for _ in range(draw.choice((1, 2, 2, 2))))
    groups = draw.choice((1, 1, 1, 1, 2, 3))
    inputs = draw.choice((1, 2, 3, 4, 5, 8, 12, 16, 32))
    return _drawn(draw, inputs * groups, (groups * draw.integer(1, 17), *kernel, inputs), kernel, 0)


def draw_depthwise(draw: Draw) -> Case:
    kernel = (3, 3) if draw.flag() else tuple(draw.choice((1, 2, 3, 3, 4, 5)) for _ in range(draw.choice((1, 2, 2))))
    channels, multiplier = draw.choice((1, 2, 4, 5, 8, 12, 20, 32)), draw.choice((1, 1, 1, 1, 2, 3))
    return _drawn(draw, channels, (1, *kernel, channels * multiplier), kernel, multiplier)
