"""On which operands an instruction's result may lie, as far as its kernel goes: elementwise, it reads an element before
it writes it."""

from __future__ import annotations

from collections.abc import Mapping

from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.program.model import Instruction, Method, Value


def takes_over(method: Method, instruction: Instruction, library: Library) -> tuple[Value, ...]:
    """Operands (or a residual) that are all of a buffer of the only result's size, laid out as it is, best first."""
    op = library.find(instruction.op)
    assert op is not None, instruction.where
    if len(instruction.outs) != 1:
        return ()
    node = node_of(method, instruction, op)
    found = [operand for name in op.inplace if _fits(method.values, node, operand := node[name], False)]
    if op.over is not None:
        bases = dict.fromkeys(method.values[operand.base] for operand in node.tensors)
        found += [base for base in bases if base.spec.nbytes == node.out.spec.nbytes and op.over(node, base.id)]
    return (
        (*found, node.residual)
        if _fits(method.values, node, node.residual, True) and node.residual is not None
        else tuple(found)
    )


def _fits(values: Mapping[int, Value], node: Node, operand: object, is_residual: bool) -> bool:
    if not isinstance(operand, Value):
        return False
    out, base = node.out, operand.base
    return (
        values[base].spec.nbytes == out.spec.nbytes
        and operand.spec.dtype is out.spec.dtype
        and operand.spec.shape == out.spec.shape
        and operand.spec.physical_dims == out.spec.physical_dims
        # element i of an operand is read before element i is written; of what gets a residual any element may be read
        # later. A second operand on the same memory under another shape or order would be overwritten before it is read
        and not any(other.base == base for other in node.tensors if is_residual or other.id != operand.id)
    )
