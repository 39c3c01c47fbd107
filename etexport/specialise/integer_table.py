"""Elementwise chains over one int8 tensor: a table of 256 entries, whatever the operators; of a condition, a comparison
of integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from etexport.kernel.quantized import Quantized, QuantizedOutput
from etexport.kernel.stored import INT8
from etexport.program.model import Arg, Array, DType, Instruction, Ref, Role
from etexport.specialise.integer_graph import Graph, quantise_array

TABLE = "cortex_m::quantized_activation.out"


@dataclass(frozen=True, eq=False)
class _Chain:
    """Elementwise instructions by what they make, from `sources` (dequantisations of one tensor) to `end`."""

    end: int
    instructions: Mapping[int, Instruction]
    sources: Mapping[int, Quantized]

    @property
    def source(self) -> Quantized:
        return next(iter(self.sources.values()))


def table(graph: Graph, quantise: Instruction, out: QuantizedOutput) -> tuple[Instruction, ...]:
    """The elementwise operators before the quantise, as one table, if they start from one quantised int8 tensor."""
    operand = quantise.args[0]
    assert isinstance(operand, Ref)
    chain = _chain(graph, operand.id) if out.spec.dtype is DType.INT8 else None
    if chain is None:
        return ()
    entries = quantise_array(np.broadcast_to(_evaluated(graph, chain), INT8.count), out).astype(np.int8)
    lut = graph.add_constant(f"{graph.values[quantise.outs[0]].name}_table", entries)
    last = chain.instructions.get(operand.id, quantise)
    return (replace(last, op=TABLE, args=(chain.source.ref, lut), outs=quantise.outs, handle=quantise.handle),)


def ends_chain(graph: Graph, operand: Ref) -> bool:
    """Whether elementwise operators over one quantised int8 tensor make this value."""
    chain = _chain(graph, operand.id)
    return chain is not None and bool(chain.instructions)


def continues_chain(graph: Graph, instruction: Instruction) -> bool:
    """Whether it is one more elementwise operator of such a chain."""
    op = graph.op(instruction)
    if op is None or not op.elementwise or len(instruction.outs) != 1:
        return False
    graph.made_by[instruction.outs[0]] = instruction
    return ends_chain(graph, Ref(instruction.outs[0]))


def condition(graph: Graph, instruction: Instruction) -> Instruction:
    """A condition on a chain over one quantised int8 tensor as a comparison of stored values with a number, where that
    says it: true from one on or up to one, for one alone or for all others. Any other instruction as it is."""
    op = graph.op(instruction)
    if (
        op is None
        or not op.elementwise
        or len(instruction.outs) != 1
        or graph.values[instruction.outs[0]].spec.dtype is not DType.BOOL
    ):
        return instruction
    chain = _chain(graph, instruction.outs[0])
    if chain is None:
        return instruction
    holds = np.broadcast_to(_evaluated(graph, chain), INT8.count).astype(bool)
    stored = INT8.numbers
    first, last = int(stored[np.argmax(holds)]), int(stored[::-1][np.argmax(holds[::-1])])
    candidates = (("gt", INT8.high), ("ge", first), ("le", last), ("eq", first), ("ne", int(stored[np.argmin(holds)])))
    compare = {"gt": np.greater, "ge": np.greater_equal, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal}
    for name, number in candidates:
        if np.array_equal(compare[name](stored, number), holds):
            return replace(instruction, op=f"aten::{name}.Scalar_out", args=(chain.source.ref, number))
    return instruction


def _chain(graph: Graph, end: int) -> _Chain | None:
    shape = graph.values[end].spec.shape
    instructions: dict[int, Instruction] = {}
    sources: dict[int, Quantized] = {}
    todo = [end]
    while todo:
        value = todo.pop()
        known = graph.quantized(Ref(value))
        if known is not None and known.value.role is not Role.CONSTANT:
            if known.axis is not None or known.value.spec.dtype is not DType.INT8 or known.value.spec.shape != shape:
                return None
            sources[value] = known
            continue
        constant = graph.content(value)
        if constant is not None and constant.size == 1:
            continue
        made = graph.made_by.get(value)
        op = graph.op(made) if made is not None else None
        if made is None or op is None or not op.elementwise or op.reference is None or len(made.outs) != 1:
            return None
        instructions[value] = made
        todo.extend(read for read in made.reads if read not in instructions)
    if len({source.value.id for source in sources.values()}) != 1:
        return None
    return _Chain(end, instructions, sources)


def _evaluated(graph: Graph, chain: _Chain) -> Array:
    """The chain for each of the 256 stored values, in float32 as PyTorch would compute it."""
    stored = INT8.numbers.astype(np.float32)
    known: dict[int, Array] = {
        value: (stored - np.float32(source.zero_point)) * np.float32(source.scale)
        for value, source in chain.sources.items()
    }

    def evaluate(value: int) -> Array:
        if value not in known:
            if value in chain.instructions:
                made = chain.instructions[value]
                op = graph.op(made)
                assert op is not None and op.reference is not None
                with np.errstate(all="ignore"):
                    known[value] = np.asarray(op.reference(*(_resolved(arg, evaluate) for arg in made.args)))
            else:
                content = graph.content(value)
                assert content is not None
                known[value] = content.reshape(())
        return known[value]

    return evaluate(chain.end)


def _resolved(arg: Arg, evaluate: Any) -> Any:
    if isinstance(arg, Ref):
        return evaluate(arg.id)
    return tuple(_resolved(item, evaluate) for item in arg) if isinstance(arg, tuple) else arg
