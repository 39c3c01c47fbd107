"""Sizes that are known at run time: a method as it is for certain ones of them.

A method with `symbols` has instructions that ask for a size and compute with it, as ExecuTorch's files have. For each
choice of sizes they are numbers, and every shape follows from those of the inputs by what operators declare.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from etexport.errors import EtError, ModelError
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.program.draft import Draft
from etexport.program.model import (
    BEGIN,
    JUMPS,
    MOVE,
    NEXT,
    SET_ROW,
    Arg,
    Extent,
    Instruction,
    Method,
    Ref,
    Role,
    Symbol,
    Value,
)
from etexport.program.operators import ARANGE, FULL_LIKE, ONES_LIKE, SIZE, ZEROS_LIKE, is_number

COMPUTED: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
    "sym_max": max,
    "sym_min": min,
    "eq": operator.eq,
    "gt": operator.gt,
    "lt": operator.lt,
    "ge": operator.ge,
    "le": operator.le,
}
"""ExecuTorch's operators on numbers, by the name between `executorch_prim::` and the overload."""


def largest(method: Method, library: Library) -> Method:
    """The method for the largest sizes, which memory is planned for; itself where all sizes are fixed."""
    method = with_symbols(method, library)
    return at(method, library, [symbol.most for symbol in method.symbols]) if method.extents else method


LIKE = frozenset((FULL_LIKE, ZEROS_LIKE, ONES_LIKE))
"""Tensors of the shape of another: they end as constants, and need no kernel."""

Dimension = tuple[int, int]
"""Number of an input, and of one of its dimensions."""


def with_symbols(method: Method, library: Library) -> Method:
    """The method with the symbols of its inputs. A file of stock ExecuTorch says which inputs have sizes that vary, not
    which of their sizes, nor which are the same: a size is one that can be smaller, alone or together with one of
    another input. ModelError where no choice would do."""
    if method.extents or not method.bounded:
        return method
    inputs = [at for at, id_ in enumerate(method.inputs) if id_ in method.bounded]
    if not inputs:
        name = next(value.name for value in method.values.values() if value.id in method.bounded)
        raise ModelError(f"the size of {name} depends on what a tensor holds", where=method.name, hint=MASK)
    sizes = {(at, dim): size for at in inputs for dim, size in enumerate(_shape(method, at)) if size > 1}
    groups: list[tuple[Dimension, ...]] = [(one,) for one in sizes if _may_vary(method, library, [(one,)])]
    for at in inputs:
        if any(one[0] == at for group in groups for one in group):
            continue
        for own in (one for one in sizes if one[0] == at):
            alike = [one for one in sizes if one[0] != at and sizes[one] == sizes[own]]
            firsts = {other: next(one for one in alike if one[0] == other) for other in sorted({i for i, _ in alike})}
            for more in (*((one,) for one in alike), tuple(firsts.values())):
                joined = [group for group in groups if not set(group).isdisjoint(more)]
                group = tuple(dict.fromkeys((*(one for other in joined for one in other), *more, own)))
                if _may_vary(method, library, [group]):
                    groups = [*(other for other in groups if other not in joined), group]
                    break
            else:
                continue
            break
        else:
            name = method.values[method.inputs[at]].name
            raise ModelError(
                f"which sizes of {name} vary cannot be told from the file",
                where=method.name,
                hint="build from the script",
            )
    return _of_groups(method, groups)


MASK = "keep the full size, with a mask"


def _shape(method: Method, at: int) -> tuple[int, ...]:
    return method.values[method.inputs[at]].spec.shape


def _of_groups(method: Method, groups: Sequence[Sequence[Dimension]]) -> Method:
    symbols, extents = [], []
    for number, group in enumerate(groups):
        at, dim = group[0]
        symbols.append(Symbol(f"size_{number}", 1, _shape(method, at)[dim]))
        extents += [Extent(at, dim, number) for at, dim in group]
    return replace(method, symbols=tuple(symbols), extents=tuple(sorted(extents, key=lambda one: (one.input, one.dim))))


def _may_vary(method: Method, library: Library, groups: Sequence[Sequence[Dimension]]) -> bool:
    """Whether these sizes can be smaller, each group by one, and nothing then changes that does not vary."""
    trial = _of_groups(method, groups)
    try:
        smaller = at(trial, library, [symbol.most - 1 for symbol in trial.symbols])
    except EtError:
        return False
    return all(
        id_ in method.bounded or value.spec.shape == method.values[id_].spec.shape
        for id_, value in smaller.values.items()
    )


def sizes_of(method: Method, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What the symbols are where the inputs have these shapes."""
    found = {one.symbol: (shapes[one.input][one.dim] - one.offset) // one.factor for one in method.extents}
    return tuple(found[symbol] for symbol in range(len(method.symbols)))


def at(method: Method, library: Library, sizes: Sequence[int]) -> Method:
    """The method for these sizes, one a symbol. ModelError where an operator does not allow them."""
    values = dict(method.values)
    for extent in method.extents:
        id_ = method.inputs[extent.input]
        values[id_] = _shaped(values[id_], extent.dim, extent.of(sizes[extent.symbol]))
    numbers: dict[int, int] = {}
    instructions: list[Instruction] = []
    rounds = {one.outs[0]: one.args[1] for one in method.instructions if one.op == NEXT}
    told = ", ".join(f"{one.name} = {size}" for one, size in zip(method.symbols, sizes, strict=True))
    for instruction in method.instructions:
        try:
            if is_number(instruction.op):
                numbers[instruction.outs[0]] = _number(instruction, values, numbers)
            else:
                instruction = replace(instruction, args=tuple(_known(arg, numbers) for arg in instruction.args))
                if instruction.op == BEGIN:
                    count, *stacked = instruction.outs
                    values |= _stacked(instruction, values, stacked, _known(rounds[count], numbers))
                elif instruction.op == SET_ROW:
                    values |= _with_rows(instruction, values)
                else:
                    values |= _results(replace(method, values=values), instruction, library)
            instructions.append(instruction)
        except EtError as error:
            raise type(error)(f"for {told}: {error.what}", where=error.where, hint=error.hint) from None
    draft = Draft(replace(method, values=values, instructions=tuple(instructions), extents=(), bounded=frozenset()))
    draft.drop(at for at, one in enumerate(instructions) if is_number(one.op))
    return draft.done()


def _stacked(begin: Instruction, values: Mapping[int, Value], stacked: Sequence[int], rounds: Arg) -> dict[int, Value]:
    """What the rounds of a loop will write rows of."""
    if not isinstance(rounds, int) or rounds < 1:
        raise ModelError(f"its loop makes {rounds!r} rounds", where=begin.where, hint="a range of sizes from 1 on")
    return {id_: _shaped(values[id_], 0, rounds) for id_ in stacked}


def _with_rows(instruction: Instruction, values: Mapping[int, Value]) -> dict[int, Value]:
    """The same, with rows of the shape that is written."""
    (out,), row = instruction.outs, instruction.args[1]
    assert isinstance(row, Ref), instruction.where
    table = values[out]
    return {out: replace(table, spec=replace(table.spec, shape=(table.spec.shape[0], *values[row.id].spec.shape)))}


def _shaped(value: Value, dim: int, size: int) -> Value:
    shape = (*value.spec.shape[:dim], size, *value.spec.shape[dim + 1 :])
    return replace(value, spec=replace(value.spec, shape=shape))


def _known(arg: Arg, numbers: Mapping[int, int]) -> Arg:
    if isinstance(arg, Ref):
        return numbers.get(arg.id, arg)
    return tuple(_known(one, numbers) for one in arg) if isinstance(arg, tuple) else arg


def _number(instruction: Instruction, values: Mapping[int, Value], numbers: Mapping[int, int]) -> int:
    if instruction.op != SIZE:
        return _computed(instruction, numbers)
    source, dim = instruction.args
    assert isinstance(source, Ref) and isinstance(dim, int), instruction.where
    return values[source.id].spec.shape[dim]


def _computed(instruction: Instruction, numbers: Mapping[int, int]) -> int:
    name = instruction.op.partition("::")[2].partition(".")[0]
    operands = [_known(arg, numbers) for arg in instruction.args]
    if name not in COMPUTED or not all(isinstance(one, (int, float)) for one in operands):
        raise ModelError(f"{instruction.op} cannot compute with sizes", where=instruction.where, hint=SIMPLE)
    if name in ("floordiv", "mod") and not operands[1]:
        raise ModelError("a size is divided by 0", where=instruction.where)
    return int(COMPUTED[name](*operands))


SIMPLE = "sizes are added, multiplied, divided by whole numbers and compared"


def _made(method: Method, instruction: Instruction) -> tuple[int, ...] | None:
    """The shape of what is made from nothing; None for other operators."""
    first = instruction.args[0] if instruction.args else None
    if instruction.op in LIKE and isinstance(first, Ref):
        return method.values[first.id].spec.shape
    if instruction.op == ARANGE:
        start, end, step = (one if isinstance(one, (int, float)) else 0 for one in instruction.args[:3])
        return (max(math.ceil((end - start) / (step or 1)), 0),)
    return None


def _results(method: Method, instruction: Instruction, library: Library) -> dict[int, Value]:
    """What the instruction writes, with the shapes that it gives."""
    if instruction.op == MOVE:
        (source,), (out,) = instruction.reads, instruction.outs
        old = method.values[out]
        return {out: replace(old, spec=replace(old.spec, shape=method.values[source].spec.shape))}
    if (made := _made(method, instruction)) is not None:
        (out,) = instruction.outs
        return {out: replace(method.values[out], spec=replace(method.values[out].spec, shape=made))}
    op = library.find(instruction.op)
    if instruction.op in JUMPS or op is None:
        return {}  # who has no kernel is told so with all others
    inferred = op.infer(node_of(method, instruction, op))
    found = {}
    for out, (_, shape) in zip(instruction.outs, inferred, strict=True):
        value = method.values[out]
        if value.role is not Role.STATE and value.spec.shape != tuple(shape):
            found[out] = replace(value, spec=replace(value.spec, shape=tuple(shape)))
    return found
