"""Instructions whose results nobody reads, and values that nobody reads or writes."""

from __future__ import annotations

from dataclasses import replace

from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.model import JUMPS, Method, Role


def remove_dead(method: Method, library: Library) -> Method:
    """What reaches neither an output nor a jump goes, with states that nothing reads but what computes them anew (a
    batch normalisation counts what it has seen); other methods read what they share. Inputs stay, read or not: they are
    the model's interface."""
    draft = Draft(method)
    live = {*method.outputs, *method.shared}
    size = -1
    # until nothing is added: with jumps, a value may be read before the place where it is written
    while size != len(live):
        size = len(live)
        for instruction in reversed(method.instructions):
            if instruction.op in JUMPS or not instruction.outs or not live.isdisjoint(instruction.outs):
                live.update(instruction.reads)
                live.update(instruction.outs)
    draft.drop(
        at
        for at, instruction in enumerate(method.instructions)
        if instruction.outs and live.isdisjoint(instruction.outs)
    )
    live.update(method.inputs)
    live.update(method.values[value].storage.base for value in tuple(live) if method.values[value].storage is not None)  # type: ignore[union-attr]
    read = {value for instruction in draft.instructions for value in (*instruction.reads, *instruction.outs)}
    keep = {
        value.id
        for value in method.values.values()
        if value.id in live and (value.role is not Role.STATE or value.id in read)
    }
    result = draft.done()
    if result.values.keys() <= keep:
        return result
    return replace(result, values={value.id: value for value in result.values.values() if value.id in keep})
