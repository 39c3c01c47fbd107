"""Operators whose operands are all constants: their results become constants. Weight transposes and `x * 2` end
here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.supported import legal
from etexport.program.draft import Draft
from etexport.program.model import HALVES, Arg, Array, Instruction, Method, Ref, Role, TensorSpec, Value
from etexport.program.operators import ARANGE, CONVERT, FULL_LIKE, ONES_LIKE, ZEROS_LIKE

FREE_BYTES = 64 * 1024
GROWTH = 4
"""A result may take up to `FREE_BYTES`, or `GROWTH` times the bytes of its operands: else it is cheaper to compute it
on the device."""

FACTORIES: dict[str, Callable[..., Array]] = {
    "aten::full.out": lambda shape, size, fill, *_: np.full(shape, fill),
    "aten::zeros.out": lambda shape, *_: np.zeros(shape),
    "aten::ones.out": lambda shape, *_: np.ones(shape),
    "aten::scalar_tensor.out": lambda shape, value, *_: np.full(shape, value),
    "aten::empty.out": lambda shape, *_: np.zeros(shape),
    "dim_order_ops::_empty_dim_order.out": lambda shape, *_: np.zeros(shape),
    FULL_LIKE: lambda shape, like, fill, *_: np.full(shape, fill),
    ZEROS_LIKE: lambda shape, *_: np.zeros(shape),
    ONES_LIKE: lambda shape, *_: np.ones(shape),
    ARANGE: lambda shape, start, end, step, *_: start + step * np.arange(shape[0]),
    "aten::arange.out": lambda shape, *_: np.arange(shape[0]),
}
"""Operators that make a tensor from nothing, as functions of its shape and their arguments (what a tensor among these
holds does not matter). They need no kernel: they end here.
"""

FACTORY_BYTES = 1 << 24
"""More than any microcontroller holds; a damaged file may ask for any size."""


def fold_constants(method: Method, library: Library) -> Method:
    """Compute what depends on constants only. The result has the dtype of the output, as the kernel would store it."""
    draft = Draft(method)
    writers = draft.writers()
    gone: list[int] = []
    replaced: dict[int, int] = {}
    known: dict[int, Value] = {value.id: value for value in draft.values.values() if value.role is Role.CONSTANT}
    for at, instruction in enumerate(method.instructions):
        reads = [known.get(replaced.get(read, read)) for read in instruction.reads]
        ready = None not in reads or instruction.op in FACTORIES
        if not instruction.outs or not ready or not all(draft.unchanging(out, writers) for out in instruction.outs):
            continue
        results = _compute(instruction, known, replaced, library, draft)
        if results is None:
            continue
        operands = sorted((value for value in reads if value is not None), key=lambda value: value.spec.nbytes)
        name = operands[-1].name if operands else ""
        for out, result in zip(instruction.outs, results, strict=True):
            ref = draft.add_constant(name or draft.values[out].name, result)
            known[ref.id] = draft.values[ref.id]
            replaced[out] = ref.id
        gone.append(at)
    draft.drop(gone)
    draft.rename(replaced)
    return draft.done()


def _compute(
    instruction: Instruction, known: dict[int, Value], replaced: dict[int, int], library: Library, draft: Draft
) -> tuple[Array, ...] | None:
    """The results as the kernel would store them, or None where they cannot or should not be computed here."""
    specs = [draft.values[out].spec for out in instruction.outs]
    # a factory (full_like of a state) may read what is not known
    first = next((draft.values[read].spec.dtype for read in instruction.reads), None)
    if instruction.op == CONVERT and first in HALVES:
        return None  # weights stay in 16 bits
    if any(not spec.is_contiguous for spec in specs):
        return None  # an output or a stock program with a layout of its own: not worth a rule

    def literal(arg: Arg) -> Any:
        if isinstance(arg, Ref):
            value = known.get(replaced.get(arg.id, arg.id))
            return value.data if value is not None else None
        return [literal(item) for item in arg] if isinstance(arg, tuple) else arg

    arguments = [literal(arg) for arg in instruction.args]
    with np.errstate(all="ignore"):  # infinities and NaN in constants are the model's
        if instruction.op in FACTORIES:
            made = _made(instruction, specs[0], arguments)
            # a damaged file may give it the results of another operator
            return None if made is None or len(specs) > 1 else (made,)
        operand_bytes = sum(known[replaced.get(read, read)].spec.nbytes for read in instruction.reads)
        op = library.find(instruction.op)
        if op is None or op.reference is None or not legal(draft, instruction, library):
            return None
        if sum(spec.nbytes for spec in specs) > max(FREE_BYTES, GROWTH * operand_bytes):
            return None
        try:
            results = op.reference(*arguments)
        except IndexError:
            return None  # a row that a table does not have
        results = results if isinstance(results, tuple) else (results,)
        stored = tuple(np.asarray(result).astype(spec.dtype.numpy) for result, spec in zip(results, specs, strict=True))
    assert all(result.shape == spec.shape for result, spec in zip(stored, specs, strict=True)), (
        f"the reference of {instruction.op}"
    )
    return stored


def _made(instruction: Instruction, spec: TensorSpec, arguments: list[Any]) -> Array | None:
    """What a factory makes; None where its arguments are not what the operator takes, as in a damaged file."""
    if spec.nbytes > FACTORY_BYTES:
        return None
    try:
        return FACTORIES[instruction.op](spec.shape, *arguments).astype(spec.dtype.numpy)
    except (TypeError, ValueError, IndexError):
        return None
