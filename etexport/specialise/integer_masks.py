"""Masks of attention: where(mask, scores, so low a number that it counts for nothing), which only a softmax reads in
integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from etexport.kernel.quantized import Masked
from etexport.kernel.stored import INT8
from etexport.program.model import DType, Instruction, Ref, Value
from etexport.program.operators import WHERE
from etexport.specialise.integer_graph import Graph

SOFTMAX = "etexport::quantized_masked_softmax.out"
ZERO = INT8.low
"""What the softmax stores for 0."""

NEGLIGIBLE = 30.0
"""exp of what is so much less is nothing: e^-30 of 2^16 elements is far below half a step of 1/256."""


def masked(graph: Graph, operand: object) -> Masked | None:
    """The scores and the mask that make this operand, if such do: a quantised tensor where a condition says so, else
    one number."""
    made = graph.made_by.get(operand.id) if isinstance(operand, Value) else None
    if made is None or made.op != WHERE or not all(isinstance(arg, Ref) for arg in made.args):
        return None
    condition, yes, no = made.args
    assert isinstance(condition, Ref) and isinstance(yes, Ref) and isinstance(no, Ref)
    for scores, other, keeps in ((yes, no, True), (no, yes, False)):
        known, content = graph.quantized(scores), graph.content(other.id)
        if known is None or content is None or known.axis is not None or known.value.spec.dtype is not DType.INT8:
            continue
        lowest = (INT8.low - known.zero_point) * known.scale
        if (
            known.value.spec.shape == graph.spec(Ref(made.outs[0])).shape
            and np.all(content == content.flat[0])
            and content.flat[0] < lowest - NEGLIGIBLE
        ):
            return Masked(known, graph.values[condition.id], keeps)
    return None


def without_second_masks(graph: Graph) -> None:
    """where(mask, softmax with that mask, 0) says what a row gives that is masked whole: it is the softmax itself, with
    0 there."""
    makers = {out: one for one in graph.instructions for out in one.outs}
    uses = graph.uses()
    again = ((one.outs[0], _masked_again(graph, one, makers)) for one in graph.instructions if one.op == WHERE)
    same = {out: softmax for out, softmax in again if softmax is not None and uses[softmax] == 1}
    zeroed = set(same.values())

    def without(one: Instruction) -> tuple[Instruction, ...]:
        if one.outs and one.outs[0] in same:
            return ()
        return (replace(one, args=(*one.args[:4], ZERO, *one.args[5:])) if zeroed.intersection(one.outs) else one,)

    graph.rewrite(without)
    graph.rename(same)


def _masked_again(graph: Graph, instruction: Instruction, makers: Mapping[int, Instruction]) -> int | None:
    """The value that a softmax makes, if this is that value where its mask says so, and elsewhere 0."""
    condition, *sides = instruction.args
    for (side, other), keeps in ((sides, True), (sides[::-1], False)):
        made = makers.get(side.id) if isinstance(side, Ref) else None
        if (
            made is None
            or made.op != SOFTMAX
            or made.args[1] != condition
            or made.args[3] is not keeps
            or not isinstance(other, Ref)
        ):
            continue
        content = graph.values[other.id].data
        if content is not None and np.all(content == ZERO):
            return made.outs[0]
    return None
