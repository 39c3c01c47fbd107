"""Layout: every value gets a dim order, and a conversion stands only where a kernel needs another one than it finds.

Convolutions and pooling want channels last; most kernels take strides and follow. Permutes cost nothing (the output has
other dimensions on the same memory), nor do views of dimensions that lie side by side. A flatten of channels-last data
before a linear layer is paid in the constant weights. Inputs and outputs keep the order that the program states for
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.op import Layout, Op
from etexport.program.draft import Draft
from etexport.program.flow import changing
from etexport.program.model import (
    MOVE,
    Instruction,
    Method,
    Ref,
    Role,
    TensorSpec,
    Value,
    channels_last,
    contiguous,
    substitute,
)
from etexport.program.operators import ADDMM, CLONE, CONVERT, LINEAR, MM
from etexport.specialise.branches import LABEL, NO_OPERATORS

FEATURES = {ADDMM: (1, 2, 0), MM: (0, 1, 0), LINEAR: (0, 1, 1)}
"""Linear layers: (which argument is the input, which is the weight, along which weight dimension its features lie)."""


def lay_out(method: Method, library: Library) -> Method:
    """The method with a dim order for each value, conversions inserted, and layout-only copies gone."""
    return _Pass(method, library).run()


class _Pass:
    """One run over the instructions: those of the draft grow as it goes."""

    def __init__(self, method: Method, library: Library) -> None:
        self.method = method
        self.library = library
        self.draft = Draft(method)
        self.draft.instructions = []
        self.values = self.draft.values
        self.moved: dict[int, int] = {}  # which value now stands for one whose instruction is gone
        self.revised: dict[int, Instruction] = {}  # instructions still to come that have other weights now, by handle
        self.converted: dict[tuple[int, tuple[int, ...]], int] = {}
        self.ordered: set[int] = set()  # results of branches whose order has been chosen
        self.readers: dict[int, list[Instruction]] = {}
        self.changing = changing(method)
        for instruction in self.method.instructions:
            for value in instruction.reads:
                self.readers.setdefault(value, []).append(instruction)

    def run(self) -> Method:
        for original in self.method.instructions:
            instruction = self.revised.get(original.handle, original)
            if instruction.op in NO_OPERATORS:
                self._between(instruction)
                continue
            op = self.library.find(instruction.op)
            assert op is not None, instruction.where  # missing operators were reported before
            copies = instruction.op in (CONVERT, CLONE) and self._keeps_dtype(instruction)
            if copies and self._current(instruction.args[0]) not in self.changing:
                self.moved[instruction.outs[0]] = self._current(instruction.args[0])
                continue
            self._lay(instruction.renamed(self.moved), op)
        self.draft.outputs = tuple(self._output(out) for out in self.method.outputs)
        self.draft.changed = True
        return self.draft.done()

    def _between(self, instruction: Instruction) -> None:
        """A label, a jump, or a move: what a branch gives is converted to the order of the result there."""
        if instruction.op == LABEL:  # what was converted on the way before it need not be there
            self.converted = {key: new for key, new in self.converted.items() if self.values[new].role is Role.CONSTANT}
        instruction = instruction.renamed(self.moved)
        if instruction.op == MOVE:
            (out,) = instruction.outs
            self.converted = {key: new for key, new in self.converted.items() if key[0] != out}
            if out not in self.ordered:
                self.ordered.add(out)
                self._order(out, self._followed(instruction, out))
            source = self._in_order(instruction.reads[0], self.values[out].spec.dim_order)
            instruction = replace(instruction, args=(Ref(source),))
        self.draft.instructions.append(instruction)

    def _lay(self, instruction: Instruction, op: Op) -> None:
        match op.layout:
            case Layout.CHANNELS_LAST:
                first = next(Ref(arg.id) for arg in instruction.args if isinstance(arg, Ref))
                instruction = self._with_orders(
                    instruction, lambda ref: channels_last(self._rank(ref)) if ref == first else None
                )
                self._emit(instruction, [channels_last(len(self.values[out].spec.shape)) for out in instruction.outs])
            case Layout.CONTIGUOUS:
                self._emit(self._with_orders(instruction, lambda ref: None), [None] * len(instruction.outs))
            case Layout.FOLLOW:
                self._emit(instruction, [self._followed(instruction, out) for out in instruction.outs])
            case Layout.PERMUTE:
                self._permute(instruction)
            case Layout.VIEW:
                self._view(instruction)

    def _with_orders(self, instruction: Instruction, order_of: Callable[[Ref], tuple[int, ...] | None]) -> Instruction:
        """The instruction reading each tensor in the order that `order_of(ref)` names, contiguous where it names
        none."""
        new = {}
        for value in _refs(instruction):
            order = order_of(Ref(value)) or contiguous(self._rank(Ref(value)))
            new[value] = self._in_order(value, order)
        epilogue = instruction.epilogue
        if epilogue is not None and epilogue.residual is not None:
            out_rank = len(self.values[instruction.outs[0]].spec.shape)
            op = self.library.find(instruction.op)
            assert op is not None
            order = channels_last(out_rank) if op.layout is Layout.CHANNELS_LAST else contiguous(out_rank)
            epilogue = replace(epilogue, residual=Ref(self._in_order(epilogue.residual.id, order)))
        return replace(instruction, args=tuple(substitute(arg, new) for arg in instruction.args), epilogue=epilogue)

    def _emit(self, instruction: Instruction, orders: Iterable[tuple[int, ...] | None]) -> None:
        for out, order in zip(instruction.outs, orders, strict=True):
            if self.values[out].role is not Role.STATE:  # which keeps its order: the write-back converts
                self._order(out, order or contiguous(self._rank(Ref(out))))
        self.draft.instructions.append(instruction)

    def _order(self, value_id: int, order: tuple[int, ...]) -> None:
        value = self.values[value_id]
        self.draft.revise(replace(value, spec=value.spec.with_order(order)))

    def _followed(self, instruction: Instruction, out: int) -> tuple[int, ...]:
        """The order for an output of a kernel that takes strides: what its readers want if they agree, else its first
        operand's."""
        spec = self.values[out].spec
        rank = len(spec.shape)
        readers = self.readers.get(out, [])
        if out in self.method.outputs and not readers:
            return self.method.values[out].spec.dim_order
        wanted = {self._wanted_by(reader, out) for reader in readers}
        if wanted == {Layout.CHANNELS_LAST}:
            return channels_last(rank)
        first = next((self.values[value].spec for value in _refs(instruction)), None)
        if wanted == {Layout.CONTIGUOUS} or first is None or len(first.shape) != rank:
            return contiguous(rank)
        return first.dim_order

    def _wanted_by(self, reader: Instruction, value: int) -> Layout | None:
        op = self.library.find(reader.op)
        if op is None or op.layout not in (Layout.CHANNELS_LAST, Layout.CONTIGUOUS):
            return None
        first = next(arg.id for arg in reader.args if isinstance(arg, Ref))
        return op.layout if op.layout is Layout.CONTIGUOUS or first == value else None

    def _permute(self, instruction: Instruction) -> None:
        dims = instruction.args[1]
        operand = self.values[_first(instruction)]
        rank = len(operand.spec.shape)
        source = [dim % rank for dim in dims] if isinstance(dims, tuple) else _swapped(rank, instruction.args[1:3])
        self._emit(instruction, [tuple(source.index(dim) for dim in operand.spec.dim_order)])

    def _view(self, instruction: Instruction) -> None:
        operand = self.values[_first(instruction)]
        out = self.values[instruction.outs[0]]
        order = view_order(operand.spec, out.spec.shape)
        if order is None and self._fold_into_weights(operand, instruction.outs[0]):
            order = contiguous(len(out.spec.shape))
        if order is None:
            source = self._in_order(operand.id, contiguous(len(operand.spec.shape)))
            instruction = replace(instruction, args=(Ref(source), *instruction.args[1:]))
            order = contiguous(len(out.spec.shape))
        self._emit(instruction, [order])

    def _fold_into_weights(self, operand: Value, out: int) -> bool:
        """Leave the features in memory order and permute the constant weights of every linear layer that reads them
        instead."""
        order = _flattened(operand.spec, self.values[out].spec.shape)
        readers = self.readers.get(out, [])
        if order is None or not readers or out in self.method.outputs:
            return False
        for reader in readers:
            if reader.op not in FEATURES:
                return False
            source, weight, _ = FEATURES[reader.op]
            constant = reader.args[weight]
            if (
                reader.args[source] != Ref(out)
                or not isinstance(constant, Ref)
                or self.values[constant.id].role is not Role.CONSTANT
            ):
                return False
            if sum(arg == Ref(out) for arg in reader.args) != 1:
                return False
        for reader in readers:
            reader = self.revised.get(reader.handle, reader)
            _, weight, axis = FEATURES[reader.op]
            argument = reader.args[weight]
            assert isinstance(argument, Ref)
            old = self.values[argument.id]
            assert old.data is not None
            data = np.ascontiguousarray(np.take(old.data, order, axis=axis))
            new = self.draft.add_constant(f"{old.name}_as_laid_out", data)
            args = tuple(new if at == weight else arg for at, arg in enumerate(reader.args))
            self.revised[reader.handle] = replace(reader, args=args)
        return True

    def _in_order(self, value_id: int, order: tuple[int, ...]) -> int:
        """Id of this value in that dim order: itself where it lies so already, else a constant anew, else a
        conversion."""
        value = self.values[value_id]
        spec = value.spec.with_order(order)
        if spec.physical_dims == value.spec.physical_dims:
            return value_id
        known = self.converted.get((value_id, spec.physical_dims))
        if known is not None:
            return known
        # a state changes between two reads of it, so its conversion is not kept
        new = self.draft.add_value(_in(order, value.name), spec)
        if value.role is not Role.STATE:
            self.converted[value_id, spec.physical_dims] = new.id
        if value.role is Role.CONSTANT:
            self.draft.revise(replace(new, role=Role.CONSTANT, data=value.data))
            return new.id
        source = next((one.source for one in reversed(self.draft.instructions) if value_id in one.outs), None)
        args = (Ref(value_id), False, order)
        handle, name = self.draft.handle(), f"convert_{value.name}"
        self.draft.instructions.append(Instruction(CONVERT, args, (new.id,), handle, name, source))
        return new.id

    def _output(self, out: int) -> int:
        """The output in the order that the program states, under its name."""
        now = self.moved.get(out, out)
        ordered = self._in_order(now, self.method.values[out].spec.dim_order)
        if ordered != now and self.values[now].role in (Role.ACTIVATION, Role.OUTPUT):
            name = self.values[now].name
            self.draft.name(now, _in(self.values[now].spec.dim_order, name))
            self.draft.name(ordered, name)
        return ordered

    def _keeps_dtype(self, instruction: Instruction) -> bool:
        return self.values[_first(instruction)].spec.dtype is self.values[instruction.outs[0]].spec.dtype

    def _current(self, arg: object) -> int:
        assert isinstance(arg, Ref)
        return self.moved.get(arg.id, arg.id)

    def _rank(self, ref: Ref) -> int:
        return len(self.values[ref.id].spec.shape)


def _in(order: tuple[int, ...], name: str) -> str:
    return f"{name}_{'last' if order == channels_last(len(order)) else 'first'}"


def view_order(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The dim order that makes `shape` a view of the same memory, or None where elements would have to move.

    Dimensions are grouped so that each group of the old shape has as many elements as one of the new shape. A group
    moves as a whole, so within it the old dimensions must lie in memory as they are counted.
    """
    if 0 in shape:
        return contiguous(len(shape))
    groups = list(_groups(spec.shape, shape))
    position = {dim: at for at, dim in enumerate(spec.physical_dims)}
    placed: list[tuple[int, tuple[int, ...]]] = []
    for old, new in groups:
        real = [dim for dim in old if spec.shape[dim] != 1]
        if any(position[after] != position[before] + 1 for before, after in pairwise(real)):
            return None
        placed.append((position[real[0]] if real else -1, new))
    return tuple(dim for _, new in sorted(placed, key=lambda pair: pair[0]) for dim in new)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of runs of dimensions (old, new) with the same number of elements, as fine as possible; each dimension in
    one run."""
    at_old = at_new = 0
    while at_old < len(old) or at_new < len(new):
        first_old, first_new = at_old, at_new
        left = right = 1
        while True:
            if at_old < len(old) and (left <= right or at_new == len(new)):
                left *= old[at_old]
                at_old += 1
            elif at_new < len(new):
                right *= new[at_new]
                at_new += 1
            if left == right and (at_old > first_old or at_new > first_new):
                break
            assert at_old < len(old) or at_new < len(new), f"{old} is no view of {new}"
        yield tuple(range(first_old, at_old)), tuple(range(first_new, at_new))


def _flattened(spec: TensorSpec, shape: tuple[int, ...]) -> list[int] | None:
    """Where `shape` is [..., features] with the features made of the innermost dimensions in memory: for each feature
    in memory order, its logical index. None for any other view."""
    if not shape or 0 in shape:
        return None
    split = next((at for at in range(len(spec.shape)) if int(np.prod(spec.shape[at:])) == shape[-1]), None)
    if split is None or tuple(size for size in spec.shape[:split] if size != 1) != tuple(
        size for size in shape[:-1] if size != 1
    ):
        return None
    inner = [dim for dim in spec.physical_dims if dim >= split]
    if list(spec.physical_dims) != [dim for dim in range(split) if spec.shape[dim] != 1] + inner:
        return None
    sizes = [spec.shape[dim] for dim in range(split, len(spec.shape))]
    index = np.arange(shape[-1]).reshape(sizes)
    axes = [dim - split for dim in inner] + [dim for dim, size in enumerate(sizes) if size == 1]
    return [int(feature) for feature in np.transpose(index, axes).reshape(-1)]


def _swapped(rank: int, dims: tuple[object, ...]) -> list[int]:
    order = list(range(rank))
    if not order:
        return order  # a scalar has a dimension 0 to name, and nothing to swap
    first, second = (int(str(dim)) % rank for dim in dims)
    order[first], order[second] = order[second], order[first]
    return order


def _refs(instruction: Instruction) -> tuple[int, ...]:
    """Ids of the tensor operands, without the residual."""
    return replace(instruction, epilogue=None).reads


def _first(instruction: Instruction) -> int:
    return _refs(instruction)[0]
