"""Reductions over a list of dimensions: mean, sum, amax, amin; the mean of int8 too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from etexport.kernel.call import Call, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Channels, Int8, Scales, State
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.quantized import (
    Fused,
    IntegerNode,
    Quantized,
    Rule,
    multiplier_shift,
    requantize,
    tie_to_even,
    word_multiplier,
)
from etexport.kernel.strided import Nest, nest
from etexport.program.model import DType
from etexport_kernels.pooling.averages import Average, Columns, column_averages


def _dims(node: Node) -> tuple[int, ...]:
    """The dimensions that go, in order; None and an empty list mean all."""
    rank = len(node["self"].spec.shape)
    dims = node["dim"] or ()
    gone = {node.dimension(dim, rank) for dim in dims}
    if len(gone) != len(dims):
        raise node.error(f"a dimension is listed twice in {list(dims)}")
    return tuple(sorted(gone)) if gone and rank else tuple(range(rank))


def _reduced(node: Node) -> tuple[int, ...]:
    shape, gone = node["self"].spec.shape, _dims(node)
    if node["keepdim"]:
        return tuple(1 if dim in gone else size for dim, size in enumerate(shape))
    return tuple(size for dim, size in enumerate(shape) if dim not in gone)


def _total(node: Node) -> tuple[InferredSpec, ...]:
    """sum and mean: of integers, a sum is int64 and a mean is an error unless `dtype` says otherwise."""
    dtype = node["self"].spec.dtype
    if node["dtype"] is not None:
        try:
            dtype = DType.of_code(node["dtype"])
        except ValueError as error:
            raise node.error(str(error)) from None
    elif dtype.numpy.kind != "f" and _is_sum(node):
        dtype = DType.INT64
    if dtype.numpy.kind != "f" and not _is_sum(node):
        raise node.error(f"the mean of {dtype.numpy}", hint="convert to float32 before")
    return ((dtype, _reduced(node)),)


def _is_sum(node: Node) -> bool:
    return node.schema.name.startswith("aten::sum.")


def _extreme(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["self"].spec
    if any(spec.shape[dim] == 0 for dim in _dims(node)):
        raise node.error(f"no largest or smallest of no elements, the shape is {list(spec.shape)}")
    return ((spec.dtype, _reduced(node)),)


def _terms(node: Node) -> int:
    return math.prod(node["self"].spec.shape[dim] for dim in _dims(node))


_LOOPS = ("sizes", "reduced_sizes", "out_strides", "self_strides", "reduced_strides")


def _loops(node: Node) -> dict[str, tuple[int, ...]]:
    """The loops over the dimensions that stay, and over those that go."""
    out, self, gone = node.out.spec, node["self"].spec, _dims(node)
    kept = [dim for dim in range(len(self.shape)) if dim not in gone]
    own = kept if node["keepdim"] else range(len(kept))
    shape = tuple(self.shape[dim] for dim in kept)
    loops = nest(shape, tuple(out.strides[dim] for dim in own), tuple(self.strides[dim] for dim in kept), rank=3)
    inner = nest(tuple(self.shape[dim] for dim in gone), tuple(self.strides[dim] for dim in gone), rank=2)
    return {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "reduced_sizes": inner.sizes,
        "reduced_strides": inner.strides[0],
    }


_COUNTED = (DType.BOOL, DType.UINT8, DType.INT32, DType.INT64)
"""What sum counts in int64."""


def _kept_types(function: str) -> tuple[DType, ...]:
    """Beside float32: an extreme is one of the elements, whatever they are."""
    return (DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64) if function in ("amax", "amin") else ()


def _lower(function: str) -> Callable[[Node, Target], Call]:
    def lower(node: Node, target: Target) -> Call:
        given, gives = node["self"].spec.dtype, node.out.spec.dtype
        counts = function == "sum" and given in _COUNTED and gives is DType.INT64
        if not counts and (given is not gives or gives not in (DType.FLOAT32, *_kept_types(function))):
            raise node.error(f"no kernel from {given.numpy} to {gives.numpy}", hint="convert to float32 before")
        geometry: dict[str, GeometryField] = {**_loops(node)}
        if function == "mean":
            count = _terms(node)
            geometry["scale"] = 1.0 / count if count else math.inf  # the mean of nothing is NaN
        return Call(function, "reduce/reduce.h", geometry, (Write(node.out.id), Read(node["self"].id)))

    return lower


def _axes(x: Any, dims: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return tuple(dims) if dims and x.ndim else None


def _np_total(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, dims: tuple[int, ...] | None, keepdim: bool, code: int | None) -> Any:
        dtype = (
            DType.of_code(code).numpy if code is not None else (x.dtype if x.dtype.kind == "f" else np.dtype(np.int64))
        )
        wide = np.dtype(np.float64) if dtype.kind == "f" else dtype
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(function(x, axis=_axes(x, dims), keepdims=keepdim, dtype=wide)).astype(dtype)

    return reference


def _operand(draw: Draw) -> tuple[T, tuple[int, ...]]:
    shape = tuple(draw.integer(1, 6) for _ in range(draw.integer(0, 4)))
    return T(shape), tuple(dim - len(shape) * draw.integer(0, 1) for dim in range(len(shape)) if draw.flag())


def _draw_total(draw: Draw) -> Case:
    operand, dims = _operand(draw)
    return Case((operand, dims or draw.choice((None, ())), draw.flag(), draw.choice((None, None, DType.FLOAT32.code))))


def _draw_sum(draw: Draw) -> Case:
    drawn = _draw_total(draw)
    if draw.flag():
        return drawn
    dtype = draw.choice(_COUNTED)
    return Case((T(drawn.args[0].shape, dtype, 0, 2 if dtype is DType.BOOL else 250), *drawn.args[1:3], None))


def _draw_extreme(draw: Draw) -> Case:
    operand, dims = _operand(draw)
    return Case(
        (draw.choice((operand, T(operand.shape, draw.choice(_kept_types("amax")), -128, 128))), dims, draw.flag())
    )


_IMAGE = T((2, 8, 5, 6))
_LAST = T((2, 8, 5, 6), dim_order=(0, 2, 3, 1))


def _total_op(schema: str, function: str, reference: Callable[..., Any]) -> Op:
    return Op(
        schema,
        infer=_total,
        lower=_lower(function),
        dtypes=(DType.FLOAT32, *(_COUNTED if function == "sum" else ())),
        reference=_np_total(reference),
        sum_length=_terms,
        cases=(
            Case((_IMAGE, (2, 3), True, None), "global average pooling"),
            Case((_LAST, (-1, -2), True, None), "of channels-last data"),
            Case((_LAST, (2, 3), False, None), "without the dimensions that went"),
            Case((_IMAGE, (1,), False, None)),
            Case((_LAST, (0, 2), False, None), "dimensions that do not lie side by side"),
            Case((T((1000,)), None, False, None), "all"),
            Case((T(()), (), False, None), "a scalar"),
            *(
                Case(
                    (T((4, 5), dtype, 0, 2 if dtype is DType.BOOL else 90), (1,), False, None),
                    f"of {dtype.numpy}, in int64",
                )
                for dtype in (_COUNTED if function == "sum" else ())
            ),
        ),
        draw=_draw_total if function == "mean" else _draw_sum,
    )


def _extreme_op(name: str, reference: Callable[..., Any]) -> Op:
    return Op(
        f"aten::{name}.out(Tensor self, int[1] dim=[], bool keepdim=False, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_extreme,
        lower=_lower(name),
        dtypes=(DType.FLOAT32, *_kept_types(name)),
        reference=lambda x, dims, keepdim: np.asarray(reference(x, axis=_axes(x, dims), keepdims=keepdim)),
        carries=("self",),
        exact=True,
        cases=(
            Case((_IMAGE, (2, 3), False)),
            Case((_LAST, (1,), True), "over channels of channels-last data"),
            Case((_IMAGE, (), False), "all"),
            Case((T((2, 8, 5, 6), DType.INT8, -128, 128), (2, 3), True), "int8"),
            Case((T((3, 8), DType.INT64, -(2.0**40), 2.0**40), (1,), False), "int64"),
        ),
        draw=_draw_extreme,
    )


# ---- int8 ------------------------------------------------------------------------------------------------------------

_LEAST_SHIFT, _LARGEST_SHIFT = -31, 8
"""Of the scale s_in / (n * s_out): below it every result is the zero point, above it an input step is hundreds of
output steps."""


def _mean8(node: Node) -> tuple[InferredSpec, ...]:
    if not (0 < node["multiplier"] < 2**31 and _LEAST_SHIFT <= node["shift"] <= _LARGEST_SHIFT):
        raise node.error(f"the scale's multiplier is {node['multiplier']}, its shift {node['shift']}")
    if any(not -128 <= node[name] <= 127 for name in ("input_zero_point", "output_zero_point")):
        raise node.error(
            f"zero points {node['input_zero_point']} and {node['output_zero_point']}; they lie in -128 to 127"
        )
    if _terms(node) == 0:
        raise node.error(f"the mean of no elements, the shape is {list(node['self'].spec.shape)}")
    return ((DType.INT8, _reduced(node)),)


def _lower_mean8(node: Node, target: Target) -> Call:
    word, left = word_multiplier(node["multiplier"], node["shift"])
    if _overflows(_terms(node), node["input_zero_point"], left):
        raise node.error(f"the sum of {_terms(node)} elements is too large")
    loops = _loops(node)
    kept, gone, out_strides, self_strides, steps = (loops[name] for name in _LOOPS)
    ties = _terms_that_tie(_terms(node), node["multiplier"], node["shift"])
    average = Average(-node["input_zero_point"] * _terms(node), word, left, node["output_zero_point"], ties)
    operands = (Write(node.out.id), Read(node["self"].id))
    if kept[-1] >= 4 and out_strides[-1] == self_strides[-1] == 1 and len(gone) == 2:
        outer = Nest(kept[:-1], (out_strides[:-1], self_strides[:-1]))
        return column_averages(
            target, outer, Columns(gone[0], steps[0], gone[1], steps[1], kept[-1]), average, operands
        )
    geometry: dict[str, GeometryField] = {
        **loops,
        "start": average.start,
        "multiplier": word,
        "left_shift": left,
        "out_zero_point": average.zero_point,
        "terms_that_tie": ties,
    }
    variant = "dsp" if "dsp" in target.features and steps[-1] == 1 and gone[-1] >= 4 else "portable"
    header = f"reduce/quantized{'' if variant == 'portable' else '_dsp'}.h"
    return Call(f"quantized_mean<et::{variant.capitalize()}Sum>", header, geometry, operands, variant=variant)


def _terms_that_tie(terms: int, multiplier: int, shift: int) -> int:
    """The number of elements where the scale stays and ties occur, which go to even; else 0."""
    return terms if terms % 2 == 0 and (multiplier, shift) == multiplier_shift(1 / terms) else 0


def _overflows(terms: int, zero_point: int, left: int) -> bool:
    return (terms * (128 + abs(zero_point))) << left >= 2**31


def _np_mean8(
    x: Any, dims: tuple[int, ...], keepdim: bool, zero_in: int, zero_out: int, multiplier: int, shift: int
) -> Any:
    total = np.sum(x.astype(np.int64) - zero_in, axis=_axes(x, dims), keepdims=keepdim)
    stored = requantize(total, *word_multiplier(multiplier, shift))
    if terms := _terms_that_tie(x.size // max(np.size(total), 1), multiplier, shift):
        stored = tie_to_even(stored, total, terms)
    return np.clip(stored + zero_out, -128, 127).astype(np.int8)


def _rule8(op: str) -> Rule:
    """The rule for `aten::mean.out` or `aten::sum.IntList_out`."""
    name = "mean" if "mean" in op else "sum"

    def build(node: IntegerNode) -> Fused | str:
        x = node.quantized["self"]
        if not isinstance(x, Quantized) or x.axis is not None or x.value.spec.dtype is not DType.INT8:
            return "its operand is not quantised per tensor to int8"
        if (node.out.low, node.out.high) != (-128, 127):
            return f"a {name} has no activation of its own"
        terms = _terms(node.node)
        multiplier, shift = multiplier_shift(x.scale / ((max(terms, 1) if name == "mean" else 1) * node.out.scale))
        left = word_multiplier(multiplier, shift)[1]
        if not terms or not _LEAST_SHIFT <= shift <= _LARGEST_SHIFT or _overflows(terms, x.zero_point, left):
            return (
                f"the {name} of {terms} elements from scale {x.scale:.3g} to {node.out.scale:.3g} does not fit 32 bits"
            )
        args = (x.ref, _dims(node.node), node.node["keepdim"], x.zero_point, node.out.zero_point, multiplier, shift)
        return Fused(f"etexport::quantized_{name}.out", args)

    return Rule(op, build)


def _case8(shape: tuple[int, ...], dims: tuple[int, ...], keepdim: bool, zeros: tuple[int, int], scale: float,
    note: str = "",
           order: tuple[int, ...] | None = None) -> Case:  # fmt: skip
    terms = math.prod(shape[dim] for dim in dims) if dims else math.prod(shape)
    return Case(
        (T(shape, DType.INT8, -128, 128, dim_order=order), dims, keepdim, *zeros, *multiplier_shift(scale / terms)),
        note,
    )


def _draw_mean8(draw: Draw) -> Case:
    operand, dims = _operand(draw)
    wide = draw.integer(0, 3)  # kernels take several elements at a time along this one
    shape = tuple(size * (7 if dim == wide else 1) for dim, size in enumerate(operand.shape))
    zeros = draw.integer(-128, 127), draw.integer(-128, 127)
    return _case8(shape, dims, draw.flag(), zeros, draw.choice((1.0, draw.number(0.05, 3.0))))


_MEAN8 = Op(
    "etexport::quantized_mean.out(Tensor self, int[] dim, bool keepdim, int input_zero_point, int output_zero_point, "
    "int multiplier, "
    "int shift, *, Tensor(a!) out) -> Tensor(a!)",
    infer=_mean8,
    lower=_lower_mean8,
    dtypes=(DType.INT8,),
    reference=_np_mean8,
    exact=True,
    cases=(
        _case8((2, 8, 5, 6), (2, 3), True, (3, -5), 0.9, "global average pooling"),
        _case8((2, 8, 5, 6), (-1, -2), False, (-128, -128), 1.3, "of channels-last data", (0, 2, 3, 1)),
        _case8((2, 8, 5, 6), (0, 2), False, (127, 0), 1.0, "dimensions that do not lie side by side"),
        _case8((3, 43), (1,), False, (-128, 127), 1.0, "a sequence"),
        _case8((1, 13, 20, 20), (2, 3), False, (-128, -128), 1.0, "many elements", (0, 2, 3, 1)),
        _case8((3, 300, 5), (1,), True, (7, 9), 1.0, "of the middle"),
        _case8((6,), (0,), False, (0, 0), 100.0, "a scale that saturates"),
    ),
    draw=_draw_mean8,
)

_SUM8 = replace(
    _MEAN8,
    schema=_MEAN8.schema.replace("quantized_mean", "quantized_sum"),
    cases=(
        _case8((2, 8, 5, 6), (1,), True, (3, -5), 4.0, "over channels"),
        _case8((1, 30), (0, 1), False, (-128, -128), 30.0, "all"),
        _case8((3, 40), (1,), False, (0, 0), 8.0, "a sum that saturates"),
    ),
)
"""The same arithmetic, named for the report: a mean is a sum whose scale has the number of elements in it."""

RULES = [_rule8("aten::mean.out"), _rule8("aten::sum.IntList_out")]

_ARGUMENTS = "(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None, Tensor(a!) out) -> Tensor(a!)"

OPS = [
    _total_op(f"aten::mean.out{_ARGUMENTS}", "mean", np.mean),
    _total_op(f"aten::sum.IntList_out{_ARGUMENTS}", "sum", np.sum),
    _extreme_op("amax", np.max),
    _extreme_op("amin", np.min),
    _MEAN8,
    _SUM8,
]

INT8 = [
    Int8(("aten::mean.dim",), Scales.OWN, state=State.MOVED, channels=Channels.REDUCED),
    Int8(("aten::mean",), Scales.OWN, state=State.MOVED),
    Int8(("aten::sum.dim_IntList",), Scales.OWN, state=State.TOTAL, channels=Channels.REDUCED),
    Int8(("aten::sum",), Scales.OWN, state=State.TOTAL),
    Int8(("aten::amax", "aten::amin"), Scales.SHARED, channels=Channels.REDUCED),
]
