"""State in place: what a state is written back from is made in the state's own memory, so that only what is new is
written.

A key-value cache of which one row is put, a ring buffer, a window that slides: PyTorch's program makes a whole new
tensor and copies it onto the state at the end. Where nobody reads any more what the state held before, the new tensor
is the state, and the write-back a move, which costs nothing.
"""

from __future__ import annotations

from dataclasses import replace

from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.flow import Life, lives
from etexport.program.model import MOVE, Instruction, Method, Ref, Role, Storage, Value
from etexport.program.operators import WRITE_BACK
from etexport.specialise.branches import NO_OPERATORS, lay_into, never_both
from etexport.specialise.in_place import takes_over


def write_in_place(method: Method, library: Library) -> Method:
    """The method with each write-back a move where that is right; what is left of them are copies."""
    if not any(instruction.op == WRITE_BACK for instruction in method.instructions):
        return method
    draft = Draft(method)
    known = lives(_with_states_passed(method))
    for at, instruction in enumerate(method.instructions):
        if instruction.op != WRITE_BACK:
            continue
        state, source = draft.values[instruction.outs[0]], draft.value(instruction.args[1])
        assert source is not None, instruction.where
        alike = (
            source.spec.dtype is state.spec.dtype
            and source.spec.shape == state.spec.shape
            and source.spec.physical_dims == state.spec.physical_dims
        )
        if alike and _lay_into(draft, source, state.id, at, known, library):
            draft.put(at, replace(instruction, op=MOVE, args=(Ref(source.id),)))
    return draft.done()


def _with_states_passed(method: Method) -> Method:
    """The method with states that are given to it and given out: what they hold is alive only where it is read
    later."""
    states = tuple(id for id, value in method.values.items() if value.role is Role.STATE)
    return replace(
        method,
        values={**method.values, **{id: replace(method.values[id], role=Role.INPUT) for id in states}},
        instructions=tuple(_only_writing(one) for one in method.instructions),
        inputs=(*method.inputs, *states),
        outputs=(*method.outputs, *states),
    )


def _only_writing(instruction: Instruction) -> Instruction:
    """A write-back without its first operand, which says where it writes and is not read."""
    return replace(instruction, args=instruction.args[1:]) if instruction.op == WRITE_BACK else instruction


def _lay_into(draft: Draft, source: Value, state: int, at: int, known: dict[int, Life], library: Library) -> bool:
    """Lays the value into the state if it is all of a buffer that may lie there until the instruction at position `at`
    reads it; and after it what its kernel makes it over."""
    base, method = draft.values[source.base], draft.as_it_is()
    whole = base.role is Role.ACTIVATION and base.spec.nbytes == draft.values[state].spec.nbytes > 0
    if not whole or not never_both(method, base.id, state, known, at, library):
        return False
    lay_into(draft, base.id, Storage(state))
    known[state] |= known.pop(base.id)
    for place, maker in enumerate(method.instructions):
        if maker.outs == (base.id,) and maker.op not in NO_OPERATORS:
            any(_lay_into(draft, one, state, place, known, library) for one in takes_over(method, maker, library))
    return True
