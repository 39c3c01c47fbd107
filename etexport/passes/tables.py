"""A table in few bits is read by the operator that ExecuTorch has for it: half the file in 4 bits, and its runtime
dequantises the rows that are asked for alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from etexport.kernel.kept import DEQUANTISED, MOVES, kept_of, weights_alone
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.supported import legal
from etexport.kernel.weights import Kept
from etexport.program.draft import Draft
from etexport.program.model import Arg, Instruction, Method, Ref, Value


def read_stored_tables(method: Method, library: Library) -> Method:
    """Where a kernel folder says so (`Weights.stored`), and nothing else reads what is dequantised: an output layer
    that has the table's weights would need them a second time."""
    if not weights_alone(method):
        return method
    draft, kept = Draft(method), dict[int, Kept]()
    uses = draft.uses()

    def stored(instruction: Instruction) -> tuple[Instruction]:
        rule, op = library.weights.get(instruction.op), library.find(instruction.op)
        if rule is not None and rule.stored is not None:
            assert op is not None, instruction.op
            node = node_of(draft.as_it_is(), instruction, op) if legal(draft, instruction, library) else None
            table = kept.get(node[rule.operand].id) if node is not None else None
            fused = rule.stored(node, table) if node is not None and table is not None else None
            if fused is not None:
                args = tuple(_argument(draft, instruction, at, arg) for at, arg in enumerate(fused.args))
                return (replace(instruction, op=fused.op, args=args),)
        elif instruction.op in (*DEQUANTISED, *MOVES) and legal(draft, instruction, library):
            made = kept_of(draft, instruction, kept)
            if made is not None and uses[instruction.outs[0]] == 1:
                kept[instruction.outs[0]] = made
        return (instruction,)

    draft.rewrite(stored)
    return draft.done()


def _argument(draft: Draft, instruction: Instruction, at: int, arg: object) -> Arg:
    if isinstance(arg, Value):
        return Ref(arg.id)
    return draft.add_constant(f"{instruction.name}_{at}", arg) if isinstance(arg, np.ndarray) else arg  # type: ignore[return-value]
