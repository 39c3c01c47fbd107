"""Integer fusion: dequantise -> operators -> quantise becomes one integer instruction.

Dequantisations sink, and quantisations rise, through operators that only move data, so that they stand right before and
behind what computes (`integer_moves.py`). For each quantise, what makes its operand is then one of

- a chain of elementwise operators over one quantised tensor: a table of 256 entries, whatever the operators
  (`integer_table.py`);
- an operator for which a kernel folder has a rule (`RULES` in its `op.py`), perhaps with an activation after it: the
  rule's instruction, which saturates where the activation would.

What is left computes in float between quantise and dequantise kernels; `in_float` says what and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from etexport.errors import EtError, doing
from etexport.kernel.library import Library
from etexport.kernel.op import Layout
from etexport.kernel.quantized import Fused, IntegerNode, QuantizedOutput
from etexport.program.draft import Draft
from etexport.program.model import DType, Instruction, Method, Ref, Role
from etexport.program.operators import (
    CLONE,
    DEQUANTIZE,
    DEQUANTIZE_CHANNELS,
    KERNEL_DEQUANTIZE,
    KERNEL_QUANTIZE,
    QUANTIZE,
)
from etexport.specialise.integer_carries import kept_apart
from etexport.specialise.integer_graph import Graph, quantise_array
from etexport.specialise.integer_masks import masked, without_second_masks
from etexport.specialise.integer_moves import behind_clamps, is_read_once, rise, sink
from etexport.specialise.integer_signed import signed
from etexport.specialise.integer_states import integer_states
from etexport.specialise.integer_table import condition, continues_chain, ends_chain, table
from etexport.specialise.model import InFloat

NO_FORM = "it has no integer form"


def fuse_integers(method: Method, library: Library) -> tuple[Method, tuple[InFloat, ...]]:
    """The method with integer instructions, and what stayed in float. The very same method where nothing is quantised.

    What ExecuTorch's own flow left in float between `cortex_m::` quantise and dequantise is looked at alike.
    """
    draft = Draft(method)
    draft.rewrite(lambda instruction: (_marked(instruction),))
    if not any(instruction.op in (QUANTIZE, DEQUANTIZE, DEQUANTIZE_CHANNELS) for instruction in draft.instructions):
        return method, ()
    graph = Graph(kept_apart(integer_states(signed(draft.done())), library), library)
    graph.rewrite(lambda instruction: _made(graph, instruction))
    graph.rename(graph.same)
    graph.rewrite(lambda instruction: _for_kernel(graph, instruction))
    graph.drop_dead()
    without_second_masks(graph)
    return graph.done(), tuple(_in_float(graph))


def _marked(instruction: Instruction) -> Instruction:
    """Kernels that quantise and dequantise by the names of the board-neutral form."""
    if instruction.op == KERNEL_QUANTIZE:
        return replace(instruction, op=QUANTIZE)
    return (
        replace(instruction, op=DEQUANTIZE, args=(*instruction.args, None))
        if instruction.op == KERNEL_DEQUANTIZE
        else instruction
    )


def _made(graph: Graph, instruction: Instruction) -> Iterator[Instruction]:
    """As `_integers`, each step known to the graph before the next."""
    with doing(instruction.where):
        for step in _integers(graph, instruction):
            graph.made_by.update((out, step) for out in step.outs)
            yield step


def _integers(graph: Graph, instruction: Instruction) -> Iterator[Instruction]:
    """The instruction as far as it can be in integers, each step after those that it reads from."""
    instruction = instruction.renamed(graph.same)
    if instruction.op != QUANTIZE:
        sunk = () if continues_chain(graph, instruction) else sink(graph, instruction)
        yield from sunk or (instruction,)
        return
    operand = instruction.args[0]
    assert isinstance(operand, Ref)
    risen = () if ends_chain(graph, operand) else rise(graph, instruction)
    for step in risen:
        yield from _integers(graph, step)
    if not risen:
        yield from _quantised(graph, instruction)


def _quantised(graph: Graph, quantise: Instruction) -> tuple[Instruction, ...]:
    """What makes the quantised value: nothing where it exists already, else a table, a rule's instruction, or the
    quantise itself."""
    operand = quantise.args[0]
    assert isinstance(operand, Ref)
    out = graph.output(quantise)
    known = graph.quantized(operand)
    stored = (
        None if known is None or known.axis is not None else (known.value.spec.dtype, known.scale, known.zero_point)
    )
    if known is not None and stored == (out.spec.dtype, out.scale, out.zero_point):
        graph.same[quantise.outs[0]] = known.value.id
        return ()
    content = graph.values[operand.id].data
    if content is not None and graph.values[operand.id].role is Role.CONSTANT and content.dtype.kind == "f":
        data = quantise_array(content, out).astype(out.spec.dtype.numpy)
        graph.same[quantise.outs[0]] = graph.add_constant(graph.values[quantise.outs[0]].name, data).id
        return ()
    graph.values[quantise.outs[0]] = replace(graph.values[quantise.outs[0]], spec=out.spec)
    return table(graph, quantise, out) or _rule(graph, quantise, out) or (quantise,)


def _rule(graph: Graph, quantise: Instruction, out: QuantizedOutput) -> tuple[Instruction, ...]:
    """The integer instruction for the operator before the quantise, with the clamps between the two as saturation."""
    operand = quantise.args[0]
    assert isinstance(operand, Ref)
    clamps, made = behind_clamps(graph, operand)
    if made is None or made.op in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
        return ()
    rule = graph.library.rules.get(made.op)
    if not is_read_once(graph, made):
        graph.reasons[made.handle] = "its float result is read by more than a quantise"
    elif out.spec.dtype is not DType.INT8:
        graph.reasons[made.handle] = f"its result is stored as {out.spec.dtype.numpy}"
    elif rule is not None:
        node = graph.node(made)
        quantized = {name: graph.known(operand) for name, operand in node.operands.items()}
        quantized.update({name: masked(graph, node[name]) or quantized[name] for name in rule.masked})
        try:
            fused = rule.build(IntegerNode(node, quantized, _saturated(graph, clamps, out)))
        except EtError as error:
            fused = error.what
        if isinstance(fused, Fused):
            return (_instruction(graph, made, quantise, fused),)
        graph.reasons[made.handle] = fused
    return ()


def _saturated(graph: Graph, clamps: Sequence[Instruction], out: QuantizedOutput) -> QuantizedOutput:
    """With the bounds of the clamps, the last of which has the last word."""
    for bounds in (graph.clamp(clamp) for clamp in reversed(clamps)):
        assert bounds is not None
        low, high = (int(quantise_array(np.asarray(bound, np.float32), out)) for bound in bounds)
        out = replace(out, low=min(max(out.low, low), high), high=max(min(out.high, high), low))
    return out


def _instruction(graph: Graph, made: Instruction, quantise: Instruction, fused: Fused) -> Instruction:
    name = made.name or graph.values[made.outs[0]].name
    args = tuple(
        graph.add_constant(f"{name}_{at}", arg) if isinstance(arg, np.ndarray) else arg
        for at, arg in enumerate(fused.args)
    )
    assert graph.library.find(fused.op) is not None, f"the rule for {made.op} makes {fused.op}, which nobody declares"
    return replace(made, op=fused.op, args=args, outs=quantise.outs, handle=quantise.handle)


# ---- the end ---------------------------------------------------------------------------------------------------------


def _for_kernel(graph: Graph, instruction: Instruction) -> tuple[Instruction, ...]:
    """Quantise and dequantise by the kernels' names; weights that a float kernel reads are dequantised on the host;
    conditions on int8 values compare these."""
    if instruction.op == QUANTIZE:
        return (replace(instruction, op=KERNEL_QUANTIZE),)
    if instruction.op not in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
        return (condition(graph, instruction),)
    known = graph.quantized(Ref(instruction.outs[0]))
    if known is None or known.value.data is None:
        kernel = replace(instruction, op=KERNEL_DEQUANTIZE, args=instruction.args[:6])
        return (kernel if instruction.op == DEQUANTIZE else instruction,)
    out = graph.values[instruction.outs[0]]
    shape = [-1 if dim == known.axis else 1 for dim in range(len(out.spec.shape))]
    scales, zeros = (
        np.reshape(part, shape) if known.axis is not None else part for part in (known.scales, known.zero_points)
    )
    real = (known.value.data.astype(np.float32) - zeros.astype(np.float32)) * scales.astype(np.float32)
    graph.revise(replace(out, role=Role.CONSTANT, data=real.astype(np.float32)))
    return ()


def _in_float(graph: Graph) -> list[InFloat]:
    """The instructions that compute with float tensors: not the quantise and dequantise at the edges, nor conditions on
    inputs, nor another layout of these, nor views, which are addresses."""
    found = []
    for instruction in graph.instructions:
        op = graph.op(instruction)
        if op is not None and op.layout is Layout.VIEW:
            continue
        if op is not None and op.elementwise and _asks_inputs(graph, instruction):
            continue
        touched = [graph.values[value].spec.dtype for value in (*instruction.reads, *instruction.outs)]
        if DType.FLOAT32 in touched and instruction.op not in (KERNEL_QUANTIZE, KERNEL_DEQUANTIZE, CLONE):
            found.append(InFloat(instruction, graph.reasons.get(instruction.handle) or _why(graph, instruction)))
    return found


def _asks_inputs(graph: Graph, instruction: Instruction) -> bool:
    """Whether it is a condition on inputs as they come: a mask of attention, say, that is added in float. To quantise
    it is no less."""
    if any(graph.values[out].spec.dtype is not DType.BOOL for out in instruction.outs):
        return False
    return all(_is_input(graph, read) for read in instruction.reads if graph.values[read].spec.dtype is DType.FLOAT32)


def _is_input(graph: Graph, value: int) -> bool:
    """An input of the program, a view of one, or a constant."""
    made = graph.made_by.get(value)
    op = graph.op(made) if made is not None else None
    if made is not None and op is not None and op.layout in (Layout.VIEW, Layout.PERMUTE):
        return all(_is_input(graph, read) for read in made.reads[:1])
    return value in graph.method.inputs or graph.values[value].role is Role.CONSTANT


def _why(graph: Graph, instruction: Instruction) -> str:
    """Why an instruction with a float operand or result is none that was looked at as an integer one."""
    op = graph.op(instruction)
    if op is None or not (op.elementwise or graph.carried(instruction) or instruction.op in graph.library.rules):
        return NO_FORM
    for read in instruction.reads:
        value = graph.values[read]
        if value.spec.dtype is DType.FLOAT32 and value.role is not Role.CONSTANT and graph.quantized(Ref(read)) is None:
            made = graph.made_by.get(read)
            return (
                f"its operand {value.name} is not quantised"
                if made is None
                else f"its operand comes in float from {made.name}"
            )
    return "its result is not quantised"
