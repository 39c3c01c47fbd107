"""Runs a placed program in numpy, on real bytes at the planned addresses: an oracle for layout, addressing and plan
without any C++.

Each step reads its operands from the arena as their specs say they lie, computes the operator's numpy meaning, and
writes the result back. Bytes of buffers that are not live are overwritten with poison between the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.program.model import Array, Role, Value
from etexport.specialise.model import Placed
from etexport.specialise.schedule import BeginStep, CallStep, JumpStep, NextStep

POISON = 0xA5


Watch = Callable[[Value, Array], Array]


def interpret(
    placed: Placed,
    library: Library,
    inputs: Sequence[Array],
    states: dict[int, Array] | None = None,
    watch: Watch | None = None,
) -> list[Array]:
    """Outputs of one run, logical order. `states` hold what the run before left, and then what this one leaves;
    without, they begin as the program says. `watch` sees each result and says what is stored in its place."""
    method = placed.specialised.method
    arena = np.full(max(placed.solution.size.get("ram", 0), 1), POISON, dtype=np.uint8)

    def view(value: Value) -> Array:
        spec = value.spec
        start = placed.place(value).offset
        raw = arena[start : start + spec.nbytes].view(spec.dtype.numpy)
        physical = raw.reshape([spec.shape[dim] for dim in spec.dim_order])
        return np.transpose(physical, [spec.dim_order.index(dim) for dim in range(len(spec.shape))])

    def read(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(read(item) for item in value)
        if not isinstance(value, Value):
            return value
        return value.data if value.role is Role.CONSTANT else view(value).copy()

    for value in method.values.values():
        if value.role is Role.STATE:
            first = value.data if value.data is not None else 0
            view(value)[...] = first if states is None else states.get(value.id, first)
    for value_id, array in zip(method.inputs, inputs, strict=True):
        if method.values[value_id].spec.nbytes:
            view(method.values[value_id])[...] = array
    at, steps = 0, placed.specialised.schedule.steps
    while at < len(steps):
        step = steps[at]
        poison(placed, arena, at)
        at += 1
        if isinstance(step, BeginStep):
            view(method.values[step.count])[...] = 0
        elif isinstance(step, NextStep):
            view(method.values[step.count])[...] += 1
            at = step.target if read(method.values[step.count]) < step.rounds else at
        elif isinstance(step, JumpStep) and (step.condition is None or not read(method.values[step.condition])):
            at = step.target
        if not isinstance(step, CallStep):
            continue
        op = library.find(step.instruction.op)
        assert op is not None and op.reference is not None, step.instruction.op
        node = node_of(method, step.instruction, op)
        results = op.reference(*(read(node[parameter.name]) for parameter in node.schema.parameters))
        for index, (out, result) in enumerate(
            zip(node.outs, results if isinstance(results, tuple) else (results,), strict=False)
        ):
            if index in node.unused_outs:
                continue
            if index == 0:
                result = finish(node, result, read)
            view(out)[...] = result if watch is None else watch(out, np.asarray(result))
    if states is not None:
        states.update({value.id: read(value) for value in method.values.values() if value.role is Role.STATE})
    return [read(method.values[out]) for out in method.outputs]


def finish(node: Node, result: Array, read: Any) -> Array:
    """The epilogue: residual, then clamp."""
    epilogue = node.instruction.epilogue
    if epilogue is None:
        return result
    if node.residual is not None:
        result = result + read(node.residual)
    return (
        np.minimum(np.maximum(result, np.float32(epilogue.low)), np.float32(epilogue.high))
        if epilogue.clamps
        else result
    )


def poison(placed: Placed, arena: Array, step: int) -> None:
    """Overwrite every byte that no buffer live at this step or from an earlier one holds."""
    kept = np.zeros(len(arena), dtype=bool)
    for buffer in placed.problem.buffers:
        if any(start <= step < stop for start, stop in buffer.live):
            offset = placed.solution.places[buffer.name].offset
            kept[offset : offset + buffer.size] = True
    arena[~kept] = POISON
