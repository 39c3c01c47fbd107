"""How many instructions the kernels of int8 and of weights in few bits take for an element or a multiply-accumulate, on
a simulated core.

    python -m tests.operators.counts qemu_mps2_an386 [words of the names]

prints lines of a table as in docs/kernels.md. Every count is of a run whose results were compared.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from etexport.board import load_board
from etexport.device import run
from etexport.emit import emit
from etexport.kernel.call import Target
from etexport.kernel.cases import Case, T
from etexport.kernel.library import Library, load_ops
from etexport.kernel.quantized import multiplier_shift
from etexport.plan import plan
from etexport.program.model import DType, Program
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise
from etexport.toolchain import gcc

from .batch import batch
from .cases import sample
from .oracle import difference, expected


@dataclass(frozen=True)
class Counted:
    """One line of the table: `work` elements or multiply-accumulates."""

    name: str
    operator: str
    case: Case
    work: int


def _int8(*shape: int, last: bool = False, constant: bool = False, low: int = -128) -> T:
    order = (0, 2, 3, 1) if last else None
    return T(shape, DType.INT8, low, 128, dim_order=order, constant=constant)


def _binary(name: str, x: T, y: T, note: str, work: int) -> Counted:
    operator = _family(name)
    if name == "mul":
        return Counted(f"mul, {note}", operator, Case((x, 3, y, -5, 7, *multiplier_shift(0.01))), work)
    low = 7 if name == "add, relu" else -128
    args = (x, 3, *multiplier_shift(0.25), y, -5, *multiplier_shift(0.5), 7, *multiplier_shift(0.8 / 2**20), low, 127)
    return Counted(f"{name}, {note}", operator, Case(args), work)


def _family(name: str) -> str:
    return f"cortex_m::quantized_{name.partition(',')[0]}.out"


def _product(
    batches: int, rows: int, inner: int, columns: int, note: str = "", order: tuple[int, ...] | None = None
) -> Counted:
    a, b = _int8(batches, rows, inner), T((batches, inner, columns), DType.INT8, -128, 128, dim_order=order)
    case = Case((a, b, 3, -5, 7, *multiplier_shift(1 / (60 * inner**0.5)), -128, 127))
    name = f"matmul {batches}x{rows}x{inner}x{columns}{note}"
    return Counted(name, "etexport::quantized_bmm.out", case, batches * rows * inner * columns)


def _layer(shape: tuple[int, ...], axis: int, like: str = "") -> tuple[T, T, tuple[int, ...], tuple[int, ...]]:
    """Weights with the outputs along `axis`, biases, multipliers and shifts. Weights are spread evenly, which makes the
    longest sums, or `like` those of trained layers: "healthy", or one channel in eight is "dead" (no weights, a scale
    of nearly nothing), has a "large bias" or a "large scale"."""
    outputs = shape[axis]
    k = int(np.prod(shape)) // outputs
    scales = np.array([(0.4 + at % 7 / 7) / (60 * k**0.5) for at in range(outputs)])
    weights, bias = _int8(*shape, constant=True, low=-127), T((outputs,), DType.INT32, -2000, 2000, constant=True)
    if like:
        random = np.random.default_rng(k)
        rows, biases = (
            np.clip(np.rint(random.normal(0, 40, (outputs, k))), -127, 127),
            random.integers(-2000, 2000, outputs),
        )
        some = np.arange(outputs) % 8 == min(3, outputs - 1)
        sign = np.where(np.arange(outputs) % 16 < 8, 1, -1)
        if like == "dead":
            rows, biases, scales = (
                np.where(some[:, None], 0, rows),
                np.where(some, sign << 27, biases),
                np.where(some, 2.0**-22, scales),
            )
        elif like == "large bias":
            biases, scales = np.where(some, sign * 10**7, biases), np.where(some, 1e-5, scales)
        elif like == "large scale":
            scales = np.where(some, 0.7, scales)
        laid = np.moveaxis(
            rows.reshape(outputs, *(size for at, size in enumerate(shape) if at != axis % len(shape))), 0, axis
        )
        weights, bias = (
            replace(weights, values=tuple(laid.reshape(-1).tolist())),
            replace(bias, values=tuple(biases.tolist())),
        )
    multipliers, shifts = zip(*map(multiplier_shift, scales.tolist()), strict=True)
    return weights, bias, multipliers, shifts


def _words(numbers: tuple[int, ...]) -> T:
    return T((len(numbers),), DType.INT32, values=tuple(map(float, numbers)), constant=True)


def _note(like: str) -> str:
    return f", {like}" if like else ""


def _linear(rows: int, inputs: int, outputs: int, like: str = "") -> Counted:
    weights, bias, multipliers, shifts = _layer((outputs, inputs), 0, like)
    case = Case((_int8(rows, inputs), weights, bias, None, -3, 0, -5, multipliers, shifts, 127, -128))
    name = f"linear {rows}x{inputs}x{outputs}{_note(like)}"
    return Counted(name, "cortex_m::quantized_linear.out", case, rows * inputs * outputs)


def _convolution(
    x: tuple[int, ...], outputs: int, kernel: tuple[int, ...], *, stride: int = 1, padding: int = 0, dilation: int = 1,
    groups: int = 1, like: str = "",
) -> Counted:  # fmt: skip
    """Depthwise where there are as many groups as channels."""
    rank, depthwise = len(kernel), groups == x[1] and groups > 1
    attributes = tuple((one,) * rank for one in (stride, padding, dilation))
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, x[1] // groups)
    weights, bias, *scales = _layer(shape, -1 if depthwise else 0, like)
    k = int(np.prod(kernel)) * x[1] // groups
    more = (outputs // x[1],) if depthwise else ()
    case = Case(
        (_int8(*x, last=rank == 2), weights, bias, *attributes, *more, -3, -5, *map(_words, scales), -128, 127, None)
    )
    out = [
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1 for size, taps in zip(x[2:], kernel, strict=True)
    ]
    notes = [f"/{stride}" * (stride > 1), f" pad {padding}" * (padding > 0), f" dilated {dilation}" * (dilation > 1)]
    name = f"{'depthwise' if depthwise else 'conv'} {'x'.join(map(str, kernel))}{''.join(notes)}, {x[1]} to {outputs}"
    name += f" in {groups} groups" if groups > 1 and not depthwise else ""
    operator = f"cortex_m::quantized_{'depthwise_' if depthwise else ''}conv2d.out"
    name += f", of {'x'.join(map(str, x[2:]))}{_note(like)}"
    return Counted(name, operator, case, x[0] * outputs * int(np.prod(out)) * k)


def _transposed(
    x: tuple[int, ...], outputs: int, kernel: int, stride: int, padding: int = 0, like: str = ""
) -> Counted:
    weights, bias, *scales = _layer((outputs, kernel, kernel, x[1]), 0, like)
    attributes = tuple((one, one) for one in (stride, padding, 0, 1))
    case = Case((_int8(*x, last=True), weights, bias, *attributes, -3, -5, *map(_words, scales), -128, 127, None, None))
    name = f"transposed {kernel}x{kernel}/{stride} pad {padding}, {x[1]} to {outputs}, of {x[2]}x{x[3]}{_note(like)}"
    return Counted(name, "cortex_m::quantized_transpose_conv2d.out", case, int(np.prod(x)) * outputs * kernel * kernel)


def _average(shape: tuple[int, int, int, int], kernel: int, stride: int, pad: int) -> Counted:
    across = (kernel, kernel) if kernel else shape[2:]
    window = (across, (stride, stride) if kernel else (), (pad, pad), False, True, None)
    args = (_int8(*shape, last=True), *window, -3, 5, *multiplier_shift(0.9), -128, 127)
    out = [(size + 2 * pad - far) // (stride if kernel else 1) + 1 for size, far in zip(shape[2:], across, strict=True)]
    work = out[0] * out[1] * across[0] * across[1] * shape[0] * shape[1]
    size = "x".join(map(str, across))
    return Counted(
        f"average {size}/{stride} pad {pad} of {list(shape)}", "etexport::quantized_avg_pool2d.out", Case(args), work
    )


def _maximum(shape: tuple[int, int, int, int], kernel: int, stride: int, pad: int) -> Counted:
    args = (_int8(*shape, last=True), (kernel, kernel), (stride, stride), (pad, pad), (1, 1), False, 3, 3, -128, 127)
    out = [(size + 2 * pad - kernel) // stride + 1 for size in shape[2:]]
    work = out[0] * out[1] * kernel * kernel * shape[0] * shape[1]
    return Counted(
        f"maximum {kernel}x{kernel}/{stride} pad {pad} of {list(shape)}",
        "cortex_m::quantized_max_pool2d.out",
        Case(args),
        work,
    )


def _mean(shape: tuple[int, ...], dims: tuple[int, ...], last: bool, note: str) -> Counted:
    terms = int(np.prod([shape[dim] for dim in dims]))
    case = Case((_int8(*shape, last=last), dims, False, 3, -5, *multiplier_shift(0.9 / terms)))
    return Counted(f"mean, {note}", "etexport::quantized_mean.out", case, int(np.prod(shape)))


def _softmax(rows: int, n: int) -> Counted:
    case = Case((_int8(rows, n), -1, 0, -128, *multiplier_shift(0.1 * 2**26), -100))
    return Counted(f"softmax {rows}x{n}", "cortex_m::softmax.out", case, rows * n)


def _layer_norm(rows: int, n: int) -> Counted:
    weight, bias = (T((n,), DType.INT32, -(2.0**bits), 2.0**bits, constant=True) for bits in (28, 18))
    case = Case((_int8(rows, n), (n,), weight, bias, 100_000, 12, -128, 127))
    return Counted(f"layer norm {rows}x{n}", "etexport::quantized_layer_norm.out", case, rows * n)


_TABLE = T((256,), DType.INT8, -128, 128, constant=True)
_SCALE = (0.02, 3, -128, 127, 1)

LINES = (
    _binary("add", _int8(1, 16, 32, 32), _int8(1, 16, 32, 32), "16384 elements", 16384),
    _binary("add", _int8(1999), _int8(1999), "1999 elements", 1999),
    _binary("add, relu", _int8(1, 16, 32, 32), _int8(1, 16, 32, 32), "16384 elements", 16384),
    _binary("add", _int8(1, 16, 16, 16, last=True), _int8(1, 16, 1, 1, last=True), "a value a channel, channels last",
    4096), _binary("add", _int8(1, 16, 16, 16), _int8(1, 16, 1, 1), "a value a channel, contiguous", 4096),
    _binary("add", _int8(1, 16, 16, 16), _int8(1), "a number", 4096),
    _binary("mul", _int8(1, 16, 32, 32), _int8(1, 16, 32, 32), "16384 elements", 16384),
    _binary("mul", _int8(1, 16, 16, 16, last=True), _int8(1, 16, 1, 1, last=True), "a value a channel, channels last",
    4096), _product(1, 32, 64, 32),
    _product(2, 16, 32, 16, ", transposed", (0, 2, 1)),
    _product(1, 5, 17, 7),
    _product(1, 49, 16, 49),
    _linear(1, 640, 128), _linear(1, 128, 128), _linear(1, 64, 12), _linear(1, 63, 12),
    _linear(8, 64, 64), _linear(7, 30, 33), _linear(16, 10, 10), _linear(16, 250, 64),
    _convolution((1, 64, 25, 5), 64, (1, 1)), _convolution((1, 8, 48, 48), 16, (1, 1)),
    _convolution((1, 30, 12, 12), 30, (1, 1)), _convolution((1, 16, 32, 32), 32, (1, 1), stride=2),
    _convolution((1, 16, 32, 32), 16, (3, 3), padding=1), _convolution((1, 64, 8, 8), 64, (3, 3), padding=1),
    _convolution((1, 10, 15, 15), 10, (3, 3), padding=1), _convolution((1, 16, 15, 15), 6, (3, 3), padding=1),
    _convolution((1, 16, 16, 16), 16, (3, 3), padding=2, dilation=2),
    _convolution((1, 16, 12, 12), 16, (5, 5), padding=2), _convolution((1, 32, 12, 12), 32, (3, 3), padding=1,
    groups=4), _convolution((1, 32, 12, 12), 32, (3, 3), padding=1, groups=16),
    _convolution((1, 1, 49, 10), 64, (10, 4), stride=2, padding=1), _convolution((1, 1, 28, 28), 8, (3, 3)),
    _convolution((1, 1, 28, 28), 6, (5, 5), padding=2), _convolution((1, 3, 32, 32), 16, (3, 3), padding=1),
    _convolution((1, 3, 96, 96), 8, (3, 3), stride=2, padding=1), _convolution((1, 1, 128), 16, (9,), stride=2),
    _convolution((1, 16, 100), 32, (5,), padding=2), _convolution((1, 9, 64), 32, (3,)),
    _convolution((1, 64, 25, 5), 64, (3, 3), padding=1, groups=64),
    _convolution((1, 8, 48, 48), 8, (3, 3), padding=1, groups=8),
    _convolution((1, 128, 6, 6), 128, (3, 3), padding=1, groups=128),
    _convolution((1, 30, 12, 12), 30, (3, 3), padding=1, groups=30),
    _convolution((1, 16, 48, 48), 16, (3, 3), stride=2, padding=1, groups=16),
    _convolution((1, 128, 12, 12), 128, (3, 3), stride=2, padding=1, groups=128),
    _convolution((1, 32, 12, 12), 32, (5, 5), padding=2, groups=32),
    _convolution((1, 32, 14, 14), 32, (7, 7), padding=3, groups=32),
    _convolution((1, 32, 12, 12), 32, (3, 1), groups=32), _convolution((1, 32, 12, 12), 32, (1, 3), groups=32),
    _convolution((1, 32, 12, 12), 32, (3, 3), padding=2, dilation=2, groups=32),
    _convolution((1, 16, 12, 12), 32, (3, 3), padding=1, groups=16),
    _convolution((1, 3, 16, 16), 12, (3, 3), padding=1, groups=3),
    _convolution((1, 16, 64), 16, (9,), padding=4, groups=16), _transposed((1, 16, 8, 8), 16, 2, 2),
    _transposed((1, 16, 8, 8), 8, 4, 2, 1), _transposed((1, 6, 8, 8), 6, 3, 2, 1), _average((1, 64, 25, 5), 0, 1, 0),
    _average((1, 64, 8, 8), 0, 1, 0), _average((1, 256, 3, 3), 0, 1, 0), _average((1, 16, 16, 16), 2, 2, 0),
    _average((1, 16, 16, 16), 3, 1, 1), _average((1, 5, 16, 16), 3, 2, 1), _maximum((1, 16, 32, 32), 2, 2, 0),
    _maximum((1, 16, 16, 16), 3, 2, 1), _maximum((1, 6, 24, 24), 2, 2, 0), _maximum((1, 1, 24, 24), 2, 2, 0),
    _mean((1, 64, 25, 5), (2, 3), True, "global, channels last"),
    _mean((1, 64, 25, 5), (2, 3), False, "global, contiguous"), _mean((4, 64, 16), (1,), False, "of the middle"),
    Counted("table, 4096 elements", "cortex_m::quantized_activation.out", Case((_int8(4096), _TABLE)), 4096),
    Counted("quantise, 2000 elements", "cortex_m::quantize_per_tensor.out", Case((T((2000,)), *_SCALE)), 2000),
    Counted("dequantise, 2000 elements", "cortex_m::dequantize_per_tensor.out", Case((_int8(2000), *_SCALE)), 2000),
    _softmax(1, 12), _softmax(64, 10), _softmax(16, 49), _softmax(1, 1000), _layer_norm(16, 64), _layer_norm(49, 16),
    _layer_norm(4, 256), Counted("argmax, 1000 elements", "aten::argmax.out", Case((_int8(1, 1000), 1, False)), 1000),
    Counted("argmax, channels of an image", "aten::argmax.out", Case((_int8(1, 21, 16, 16, last=True), 1, False)),
    5376), Counted("pad, channels last", "aten::constant_pad_nd.out",
    Case((_int8(1, 16, 16, 16, last=True), (1, 1, 1, 1), 0)), 5184),
    Counted("cat, channels last", "aten::cat.out", Case(((_int8(1, 16, 16, 16, last=True),
    _int8(1, 16, 16, 16, last=True)), 1)), 8192), Counted("cat, rows", "aten::cat.out",
    Case(((_int8(1, 4096), _int8(1, 4096)), 1)), 8192), Counted("slice, rows of 30", "aten::slice_copy.Tensor_out",
    Case((_int8(100, 40), 1, 3, 33, 1)), 3000), Counted("permute, 64 x 64", "aten::permute_copy.out",
    Case((_int8(64, 64), (1, 0))), 4096),
)  # fmt: skip


_LIKE = ("healthy", "dead", "large bias", "large scale")

TRAINED = (
    *(_convolution((1, 64, 12, 12), 64, (1, 1), like=like) for like in _LIKE),
    *(_convolution((1, 16, 16, 16), 32, (3, 3), padding=1, like=like) for like in _LIKE),
    *(_convolution((1, 32, 12, 12), 32, (3, 3), padding=1, groups=4, like=like) for like in _LIKE),
    *(_convolution((1, 3, 32, 32), 16, (3, 3), padding=1, like=like) for like in _LIKE),
    *(_linear(1, 256, 64, like) for like in _LIKE),
    *(_linear(1, 256, 2, like) for like in _LIKE),
    *(_transposed((1, 16, 8, 8), 16, 2, 2, like=like) for like in _LIKE),
    *(_convolution((1, 64, 12, 12), 64, (3, 3), padding=1, groups=64, like=like) for like in _LIKE),
    *(_convolution((1, 64, 12, 12), 64, (3, 3), padding=1, stride=2, groups=64, like=like) for like in _LIKE),
    *(_convolution((1, 32, 12, 12), 32, (5, 5), padding=2, groups=32, like=like) for like in _LIKE),
)
"""Layers with weights like those of trained ones."""

LONG = tuple(
    line
    for like in ("healthy", "")
    for line in (
        *(_convolution((1, inputs, 6, 6), 32, (3, 3), padding=1, like=like) for inputs in (64, 128, 256)),
        *(_linear(1, inputs, 64, like) for inputs in (512, 1024, 2048, 4096)),
        _convolution((1, 2048, 4, 4), 16, (1, 1), like=like),
        _convolution((1, 512, 4, 4), 16, (3, 3), padding=1, groups=2, like=like),
        _transposed((1, 512, 4, 4), 16, 2, 1, like=like),
    )
)
"""Long sums, of weights like those of trained layers and of evenly spread ones."""


def _few_bits(rows: int, inputs: int, outputs: int, bits: int, operator: str = "linear") -> Counted:
    groups = inputs // 32 if bits == 4 else 1
    limit = 1 << (bits - 1)
    whole = T((outputs, inputs), DType.INT8, -limit, limit, constant=True)
    scales = T((outputs, groups), low=0.01, high=0.1, constant=True)
    halves = T((outputs, inputs), DType.BFLOAT16, constant=True)
    case = Case((T((rows, inputs)), *((halves, None) if bits == 16 else (whole, scales)), None, None, bits))
    name = f"{operator} in {bits} bits, {rows}x{inputs}x{outputs}"
    return Counted(name, f"etexport::few_bits_{operator}.out", case, rows * inputs * outputs)


FEW_BITS = (
    *(_few_bits(1, 64, 256, bits) for bits in (4, 8, 16)),
    *(_few_bits(1, 192, 64, bits) for bits in (4, 8, 16)),
    _few_bits(1, 64, 256, 4, "dynamic"),
)
"""Weights in few bits beside floats, a position a call; a scale for each 32 inputs in 4 bits."""


@dataclass(frozen=True)
class Count:
    """`kernel` as in reports; `instructions` of the step, the call included."""

    line: Counted
    kernel: str
    instructions: int

    def __str__(self) -> str:
        each = self.instructions / self.line.work
        return f"| {self.line.name} | {self.kernel} | {self.instructions:,} | {each:.2f} |"


def _in_order_of_inputs(program: Program) -> Program:
    """Results that are images lie as the images they come from, so that no step is a conversion."""
    method = program.method("forward")
    values = dict(method.values)
    for instruction in method.instructions:
        specs = [values[id].spec for id in (*instruction.reads[:1], *instruction.outs)]
        if all(len(spec.shape) == 4 for spec in specs):
            for out in instruction.outs:
                values[out] = replace(values[out], spec=replace(values[out].spec, dim_order=specs[0].dim_order))
    return Program((replace(method, values=values),))


def counts(
    board_name: str, lines: Sequence[Counted], library: Library, folder: Path, optimize: str = "speed"
) -> list[Count]:
    """One program of all lines, built with probes, run once. AssertionError where a result is wrong."""
    board = load_board(board_name)
    samples = [sample(library.ops[line.operator], line.case, seed) for seed, line in enumerate(lines)]
    whole = batch(samples)
    whole = replace(whole, program=_in_order_of_inputs(whole.program))
    specialised = specialise(whole.program, Target(board.features, optimize), library)
    the_problem = problem(specialised)
    emit(
        (Placed(specialised, the_problem, plan(the_problem)),),
        board,
        library,
        program_hash=1,
        model_name="counts",
        out=folder,
    )
    made = gcc.build(
        folder, board, library.include_dirs, build_dir=folder, probe_count=len(specialised.schedule.steps) + 1, jobs=2
    )
    done = run(made.elf, board, [whole.inputs], probes=True)
    for one, node, positions in zip(samples, whole.nodes, whole.results, strict=True):
        wrong = difference(one, node, 0, done.outputs[0][positions[0]], expected(one)[0])
        assert not wrong, f"{one}: {wrong}"
    made_by = {step.instruction.outs[0]: at for at, step in specialised.calls.items()}
    found = []
    for line, positions in zip(lines, whole.results, strict=True):
        at = made_by.get(specialised.method.outputs[positions[0]])
        if at is not None:
            call = specialised.calls[at].call
            found.append(Count(line, f"{call.function} ({call.variant})", done.probes[0][at]))
    return found


def main() -> None:
    board, *words = sys.argv[1:]
    print("| what | kernel | instructions | each |\n|---|---|---:|---:|")
    lines = [line for line in (*LINES, *TRAINED, *LONG, *FEW_BITS) if all(word in line.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        for count in counts(board, lines, load_ops(), Path(folder)):
            print(count)


if __name__ == "__main__":
    main()
