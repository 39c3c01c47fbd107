"""Operators without a kernel of their own that are a few others: each form gives the instructions that stand in its
place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod

import numpy as np

from etexport.kernel.strided import broadcast_shape
from etexport.program.draft import Draft
from etexport.program.model import Arg, Array, DType, Instruction, Ref, TensorSpec, contiguous
from etexport.program.operators import MM, PERMUTE, VIEW, WHERE

SELECT = "aten::index_select.out"
INDEX_BYTES = 64 * 1024
"""Indices that say which element comes where may take up so much of the file."""


@dataclass
class Rewrite:
    """One instruction that becomes several. Each step's result is read by the next; the last one gives the
    instruction's own result."""

    draft: Draft
    instruction: Instruction
    steps: list[Instruction]

    @property
    def out(self) -> TensorSpec:
        return self.draft.values[self.instruction.outs[0]].spec

    def spec(self, at: int) -> TensorSpec | None:
        """Of the argument at this position, where it is a tensor in its logical order."""
        args = self.instruction.args
        value = self.draft.value(args[at]) if at < len(args) else None
        return (
            value.spec if value is not None and value.spec.physical_dims == _plain(value.spec).physical_dims else None
        )

    def numbers(self, at: int, count: int | None = None) -> tuple[int, ...] | None:
        """The argument at this position as whole numbers; one number stands for `count` equal ones."""
        arg = self.instruction.args[at]
        if not isinstance(arg, tuple):
            return None
        found = tuple(one for one in arg if isinstance(one, int) and not isinstance(one, bool))
        if len(found) != len(arg):
            return None
        if count is not None and len(found) == 1:
            found *= count
        return found if count is None or len(found) == count else None

    def step(
        self, op: str, args: tuple[Arg, ...], shape: tuple[int, ...], *, dtype: DType | None = None, last: bool = False
    ) -> Ref:
        """Append a step; its result, of the type of the instruction's own unless `dtype` says another, and that one if
        it is the last."""
        if last:
            self.steps.append(replace(self.instruction, op=op, args=args))
            return Ref(self.instruction.outs[0])
        number = len(self.steps)
        name = f"{self.instruction.name}_{op.partition('::')[2].partition('.')[0]}"
        name_of_value = f"{self.draft.values[self.instruction.outs[0]].name}_{number}"
        made = self.draft.add_value(name_of_value, TensorSpec(dtype or self.out.dtype, shape))
        self.steps.append(Instruction(op, args, (made.id,), self.draft.handle(), name, self.instruction.source))
        return Ref(made.id)


def rewritten(draft: Draft, instruction: Instruction) -> Sequence[Instruction]:
    """What stands for an instruction of `FORMS`: itself where its arguments are not of the form."""
    rewrite = Rewrite(draft, instruction, [])
    if len(instruction.outs) == 1:
        FORMS[instruction.op](rewrite)
    return rewrite.steps or (instruction,)


def _plain(spec: TensorSpec) -> TensorSpec:
    return spec.with_order(contiguous(len(spec.shape)))


def _clamp(rewrite: Rewrite) -> None:
    """clamp between tensors: the larger of x and min, then the smaller of that and max."""
    args = rewrite.instruction.args
    bounds = [
        (op, bound) for op, bound in zip(("maximum", "minimum"), args[1:], strict=False) if isinstance(bound, Ref)
    ]
    if len(args) != 3 or not isinstance(args[0], Ref) or not bounds:
        return
    x: Arg = args[0]
    for at, (op, bound) in enumerate(bounds):
        x = rewrite.step(f"aten::{op}.out", (x, bound), rewrite.out.shape, last=at == len(bounds) - 1)


def _clamp_integers(rewrite: Rewrite) -> None:
    """Bounds of whole numbers are tensors of one element."""
    args, x = rewrite.instruction.args, rewrite.spec(0)
    bounds = (0, None) if rewrite.instruction.op == "aten::relu.out" else args[1:]
    if x is None or x.dtype.numpy.kind not in "iu" or len(bounds) != 2 or x.dtype is not rewrite.out.dtype:
        return
    limits = np.iinfo(x.dtype.numpy)
    given = [(op, bound) for op, bound in zip(("maximum", "minimum"), bounds, strict=True) if bound is not None]
    if not given or not all(type(bound) is int and limits.min <= bound <= limits.max for _, bound in given):
        return
    value = args[0]
    for at, (op, bound) in enumerate(given):
        limit = rewrite.draft.add_constant(f"{rewrite.instruction.name}_{op}", np.array(bound, x.dtype.numpy))
        value = rewrite.step(f"aten::{op}.out", (value, limit), rewrite.out.shape, last=at == len(given) - 1)


def _power_of_two(rewrite: Rewrite) -> None:
    if len(rewrite.instruction.args) == 1:
        rewrite.step("aten::pow.Scalar_out", (2, rewrite.instruction.args[0]), rewrite.out.shape, last=True)


def _as_strided(rewrite: Rewrite) -> None:
    """Elements at computed places of what lies in logical order."""
    x = rewrite.spec(0)
    if x is None or len(rewrite.instruction.args) != 4:
        return
    sizes, strides, offset = rewrite.numbers(1), rewrite.numbers(2), rewrite.instruction.args[3]
    if (
        sizes != rewrite.out.shape
        or strides is None
        or len(strides) != len(sizes)
        or not isinstance(offset, int | None)
    ):
        return
    if prod(sizes) * 8 > max(INDEX_BYTES, 8 * x.numel):
        return
    at = np.full(sizes, offset or 0, np.int64)
    for size, stride, axis in zip(sizes, strides, np.indices(sizes, sparse=True), strict=True):
        at += axis * min(stride, x.numel) if size > 1 else 0
    if at.size and (at.min() < 0 or at.max() >= x.numel):
        return
    _gather(rewrite, x, at)


def _gather(rewrite: Rewrite, x: TensorSpec, at: Array) -> None:
    """Element `at[i]` of the flattened operand is element i of the result."""
    operand, sizes = rewrite.instruction.args[0], rewrite.out.shape
    if np.array_equal(at.reshape(-1), np.arange(x.numel)):
        rewrite.step(VIEW, (operand, sizes), sizes, last=True)
        return
    flat = rewrite.step(VIEW, (operand, (x.numel,)), (x.numel,))
    places = rewrite.draft.add_constant(f"{rewrite.instruction.name}_places", at.reshape(-1))
    chosen = rewrite.step(SELECT, (flat, 0, places), (at.size,))
    rewrite.step(VIEW, (chosen, sizes), sizes, last=True)


def _unfold(rewrite: Rewrite) -> None:
    """Windows along a dimension: its elements are repeated, and the place within the window becomes the last
    dimension."""
    x, args = rewrite.spec(0), rewrite.instruction.args
    if x is None or len(args) != 4 or not all(isinstance(arg, int) for arg in args[1:]):
        return
    dim, size, step = (arg for arg in args[1:] if isinstance(arg, int))
    rank = len(x.shape)
    if not -rank <= dim < rank or size < 1 or step < 1 or size > x.shape[dim]:
        return
    dim %= rank
    windows = (x.shape[dim] - size) // step + 1
    before, behind = x.shape[:dim], x.shape[dim + 1 :]
    if rewrite.out.shape != (*before, windows, *behind, size) or windows * size * 8 > INDEX_BYTES:
        return
    places = (np.arange(windows) * step)[:, None] + np.arange(size)
    index = rewrite.draft.add_constant(f"{rewrite.instruction.name}_places", places.reshape(-1))
    chosen = rewrite.step(SELECT, (args[0], dim, index), (*before, windows * size, *behind))
    split = (*before, windows, size, *behind)
    if dim == rank - 1:
        rewrite.step(VIEW, (chosen, split), split, last=True)
        return
    order = (*range(dim + 1), *range(dim + 2, rank + 1), dim + 1)
    rewrite.step(PERMUTE, (rewrite.step(VIEW, (chosen, split), split), order), rewrite.out.shape, last=True)


def _put_where(rewrite: Rewrite) -> None:
    """x[mask] = y, where y does not depend on how much the mask takes, is a choice between y and x."""
    x, args = rewrite.spec(0), rewrite.instruction.args
    if x is None or len(args) != 4 or not isinstance(args[1], tuple) or args[3] is not False:
        return
    given = [(dim, index) for dim, index in enumerate(args[1]) if index is not None]
    values = rewrite.spec(2)
    if len(given) != 1 or values is None or values.dtype is not x.dtype or rewrite.out.shape != x.shape:
        return
    ((dim, index),) = given
    mask = rewrite.draft.value(index)
    if mask is None or mask.spec.dtype is not DType.BOOL or not mask.spec.shape or not mask.spec.is_contiguous:
        return
    rank = len(mask.spec.shape)
    behind = len(x.shape) - dim - rank
    if x.shape[dim : dim + rank] != mask.spec.shape:
        return
    kept = values.shape[max(len(values.shape) - behind, 0) :]
    if prod(values.shape) != prod(kept) or len(values.shape) > len(x.shape) - rank + 1:
        return  # an element for each place that the mask takes
    shape = (*mask.spec.shape, *(1 for _ in range(behind)))
    condition: Arg = index
    if shape != mask.spec.shape:
        condition = rewrite.step(VIEW, (index, shape), shape, dtype=DType.BOOL)
    value = args[2] if kept == values.shape else rewrite.step(VIEW, (args[2], kept), kept)
    rewrite.step(WHERE, (condition, value, args[0]), rewrite.out.shape, last=True)


def _diagonal(rewrite: Rewrite) -> None:
    """Every (width + 1)th element of the two dimensions, which are moved to the end."""
    x, args = rewrite.spec(0), rewrite.instruction.args
    if x is None or len(args) != 4 or len(x.shape) < 2 or not all(isinstance(arg, int) for arg in args[1:]):
        return
    offset, *dims = (arg for arg in args[1:] if isinstance(arg, int))
    rank = len(x.shape)
    if not all(-rank <= dim < rank for dim in dims) or dims[0] % rank == dims[1] % rank:
        return
    rows, columns = (dim % rank for dim in dims)
    height, width = x.shape[rows], x.shape[columns]
    top, left = max(-offset, 0), max(offset, 0)
    count = max(min(height - top, width - left), 0)
    others = tuple(dim for dim in range(rank) if dim not in (rows, columns))
    outer = tuple(x.shape[dim] for dim in others)
    if rewrite.out.shape != (*outer, count) or count == 0 or count * 8 > INDEX_BYTES:
        return
    source: Arg = args[0]
    if (*others, rows, columns) != tuple(range(rank)):
        source = rewrite.step(PERMUTE, (source, (*others, rows, columns)), (*outer, height, width))
    flat = rewrite.step(VIEW, (source, (*outer, height * width)), (*outer, height * width))
    places = rewrite.draft.add_constant(
        f"{rewrite.instruction.name}_places", (np.arange(count) + top) * width + np.arange(count) + left
    )
    rewrite.step(SELECT, (flat, len(outer), places), rewrite.out.shape, last=True)


def _distances(rewrite: Rewrite) -> None:
    """Of each row of one operand to each of the other: their differences, squared and added up, or their sizes added up
    or compared."""
    args, x, y = rewrite.instruction.args, rewrite.spec(0), rewrite.spec(1)
    if x is None or y is None or len(args) != 4 or args[2] not in (1, 2, inf) or min(len(x.shape), len(y.shape)) < 2:
        return
    if (
        x.dtype is not DType.FLOAT32
        or y.dtype is not x.dtype
        or 0 in (*x.shape, *y.shape)
        or x.shape[-1] != y.shape[-1]
    ):
        return
    rows, columns = (*x.shape[:-1], 1, x.shape[-1]), (*y.shape[:-2], 1, *y.shape[-2:])
    every = (*rewrite.out.shape, x.shape[-1])
    if broadcast_shape(rows, columns) != every:
        return
    each = rewrite.step(VIEW, (args[0], rows), rows), rewrite.step(VIEW, (args[1], columns), columns)
    difference = rewrite.step("aten::sub.out", (*each, 1), every)
    last = (len(every) - 1,)
    if args[2] == 2:
        squares = rewrite.step("aten::mul.out", (difference, difference), every)
        total = rewrite.step("aten::sum.IntList_out", (squares, last, False, None), rewrite.out.shape)
        rewrite.step("aten::sqrt.out", (total,), rewrite.out.shape, last=True)
        return
    sizes = rewrite.step("aten::abs.out", (difference,), every)
    if args[2] == 1:
        rewrite.step("aten::sum.IntList_out", (sizes, last, False, None), rewrite.out.shape, last=True)
    else:
        rewrite.step("aten::amax.out", (sizes, last, False), rewrite.out.shape, last=True)


def _average_of_rows(rewrite: Rewrite) -> None:
    """An average over the first of three dimensions (as in local response normalisation) is one over rows of images."""
    x, args = rewrite.spec(0), rewrite.instruction.args
    if x is None or len(x.shape) not in (4, 5) or len(args) != 7:
        return
    kernel, padding = rewrite.numbers(1, 3), rewrite.numbers(3, 3)
    stride = kernel if args[2] == () else rewrite.numbers(2, 3)
    if (
        kernel is None
        or padding is None
        or stride is None
        or (*kernel[1:], *stride[1:], *padding[1:]) != (1, 1, 1, 1, 0, 0)
    ):
        return
    *outer, depth, height, width = x.shape
    rows, averaged = (*outer, depth, height * width), (*outer, rewrite.out.shape[-3], height * width)
    flat = rewrite.step(VIEW, (args[0], rows), rows)
    pooling = ((kernel[0], 1), (stride[0], 1), (padding[0], 0), *args[4:])
    pooled = rewrite.step("aten::avg_pool2d.out", (flat, *pooling), averaged)
    rewrite.step(VIEW, (pooled, rewrite.out.shape), rewrite.out.shape, last=True)


def _factors(rewrite: Rewrite, rank: int) -> tuple[TensorSpec, TensorSpec] | None:
    """Both factors of a product, where they are of this rank and one type."""
    specs = [rewrite.spec(at) for at in range(len(rewrite.instruction.args))]
    found = [one for one in specs if one is not None and len(one.shape) == rank and one.dtype is rewrite.out.dtype]
    return (found[0], found[1]) if len(found) == len(specs) == 2 else None


def _matrix_by_vector(rewrite: Rewrite) -> None:
    """A matrix of the model times a column is the same as the column, as a row, times the matrix transposed: a layer
    with weights."""
    factors, args = _factors(rewrite, 2), rewrite.instruction.args
    content = None if factors is None else rewrite.draft.constant(args[0])
    if factors is None or content is None or rewrite.draft.constant(args[1]) is not None:
        return
    rows, columns = factors[0].shape
    if rewrite.out.shape != (rows, 1) or factors[1].shape != (columns, 1):
        return
    weight = rewrite.draft.add_constant(f"{rewrite.instruction.name}_weight", content.T)
    row = rewrite.step(VIEW, (args[1], (1, columns)), (1, columns))
    product = rewrite.step(MM, (row, weight), (1, rows))
    rewrite.step(VIEW, (product, rewrite.out.shape), rewrite.out.shape, last=True)


def _one_product(rewrite: Rewrite) -> None:
    """A batch of one product with a matrix of the model is a product, a layer with weights."""
    factors, args = _factors(rewrite, 3), rewrite.instruction.args
    if factors is None or rewrite.draft.constant(args[1]) is None:
        return
    (count, rows, columns), weight = factors[0].shape, factors[1].shape
    if count != 1 or weight[:2] != (1, columns) or rewrite.out.shape != (1, rows, weight[2]):
        return
    matrices = [rewrite.step(VIEW, (arg, one.shape[1:]), one.shape[1:]) for arg, one in zip(args, factors, strict=True)]
    product = rewrite.step(MM, tuple(matrices), rewrite.out.shape[1:])
    rewrite.step(VIEW, (product, rewrite.out.shape), rewrite.out.shape, last=True)


FORMS: Mapping[str, Callable[[Rewrite], None]] = {
    "aten::clamp.Tensor_out": _clamp,
    "aten::clamp.out": _clamp_integers,
    "aten::relu.out": _clamp_integers,
    "aten::exp2.out": _power_of_two,
    "aten::as_strided_copy.out": _as_strided,
    "aten::unfold_copy.out": _unfold,
    "aten::avg_pool3d.out": _average_of_rows,
    "aten::index_put.out": _put_where,
    "aten::diagonal_copy.out": _diagonal,
    "aten::_cdist_forward.out": _distances,
    MM: _matrix_by_vector,
    "aten::bmm.out": _one_product,
}
