"""Fusion: activations and residual additions become epilogues of the kernel that makes their operand, zero padding a
convolution's own.

The fused instruction keeps name and source of the producer (the convolution that a reader of the report looks for) and
the handle of the instruction whose result it now gives.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.program.draft import Draft
from etexport.program.model import DType, Epilogue, Instruction, Method, Ref
from etexport.program.operators import CONVOLUTION, PAD, QUANTIZED_CONVOLUTION, QUANTIZED_DEPTHWISE
from etexport.specialise.branches import NO_OPERATORS

ADD = "aten::add.out"
INTEGER_CONVOLUTIONS = {QUANTIZED_CONVOLUTION: 6, QUANTIZED_DEPTHWISE: 7}
"""Convolutions of int8, and which argument is minus the zero point, the stored value that pads their images."""


def fuse(method: Method, library: Library) -> Method:
    """Residual additions first: the epilogue adds before it clamps, so that conv -> add -> relu becomes one
    instruction."""
    return fuse_clamps(fuse_residuals(fuse_padding(method), library), library)


def fuse_padding(method: Method) -> Method:
    """Zeros round an image that only convolutions read are the convolutions' padding, which on this side may differ at
    the two ends of a dimension: `padding`, argument 4 of each, is then (before each dimension, after each
    dimension)."""
    draft = Draft(method)
    pads = {instruction.outs[0]: instruction for instruction in method.instructions if instruction.op == PAD}
    for at, instruction in enumerate(method.instructions):
        convolves = instruction.op == CONVOLUTION or instruction.op in INTEGER_CONVOLUTIONS
        operand = instruction.args[0] if convolves else None
        pad = pads.get(operand.id) if isinstance(operand, Ref) else None
        padding = None if pad is None else _joined_padding(method, pad, instruction)
        if pad is not None and padding is not None:
            args = (pad.args[0], *instruction.args[1:4], padding, *instruction.args[5:])
            draft.put(at, replace(instruction, args=args))
    uses = draft.uses()
    draft.rewrite(lambda one: () if one.op == PAD and not uses[one.outs[0]] else (one,))
    return draft.done()


def _joined_padding(method: Method, pad: Instruction, convolution: Instruction) -> tuple[int, ...] | None:
    """The convolution's padding with the padding before it, or None where that is not zeros round spatial
    dimensions."""
    source, widths, fill = pad.args
    assert isinstance(source, Ref) and isinstance(widths, tuple)
    rank = len(method.values[source.id].spec.shape) - 2
    own = convolution.args[4]
    assert isinstance(own, tuple)
    if convolution.op == CONVOLUTION:
        zero, transposed = 0, convolution.args[6]
    else:
        offset = convolution.args[INTEGER_CONVOLUTIONS[convolution.op]]
        assert isinstance(offset, int)
        zero, transposed = -offset, False
    pairs = [widths[at : at + 2] for at in range(0, len(widths), 2)] + [(0, 0)] * (rank + 2)
    spatial, rest = pairs[:rank][::-1], pairs[rank:]  # listed from the last dimension on
    if transposed or rank < 1 or fill != zero or any(width != 0 for pair in rest for width in pair):
        return None
    if any(width < 0 for pair in spatial for width in pair) or len(own) not in (1, rank, 2 * rank):
        return None
    own = own * (2 * rank // len(own))
    before = tuple(pair[0] + width for pair, width in zip(spatial, own[:rank], strict=True))
    return before + tuple(pair[1] + width for pair, width in zip(spatial, own[rank:], strict=True))


def fuse_residuals(method: Method, library: Library) -> Method:
    """add(a, b) of one shape where a or b is made for this addition only, by a kernel that can add a residual."""
    position = {out: at for at, instruction in enumerate(method.instructions) for out in instruction.outs}
    block = _blocks(method)
    uses = method.uses()
    draft = Draft(method)
    gone: set[int] = set()
    for at, add in enumerate(method.instructions):
        if add.op != ADD or add.args[2] not in (1, 1.0):
            continue
        left, right = add.args[0], add.args[1]
        out = method.values[add.outs[0]]
        if not (isinstance(left, Ref) and isinstance(right, Ref)) or left == right:
            continue
        if any(method.values[operand.id].spec.shape != out.spec.shape for operand in (left, right)):
            continue
        # The operand that is made later can take the other one in: that one exists by then.
        made, residual = sorted((left, right), key=lambda operand: position.get(operand.id, -1), reverse=True)
        if made.id not in position or uses[made.id] != 1 or block[position[made.id]] != block[at]:
            continue
        producer = draft.instructions[position[made.id]]
        if producer.epilogue is not None or len(producer.outs) != 1 or not _absorbs(library, producer, "residual"):
            continue
        epilogue = Epilogue(residual=Ref(residual.id))
        draft.put(position[made.id], replace(producer, outs=add.outs, handle=add.handle, epilogue=epilogue))
        position[add.outs[0]] = position.pop(made.id)
        gone.add(at)
    draft.drop(gone)
    return draft.done()


def fuse_clamps(method: Method, library: Library) -> Method:
    """relu, relu6 and clamp of a value that nobody else reads, made by a kernel that can clamp."""
    uses = method.uses()
    producer_at: dict[int, int] = {}
    draft = Draft(method)
    gone: set[int] = set()
    for at, instruction in enumerate(method.instructions):
        if instruction.op in NO_OPERATORS:
            producer_at.clear()
        bounds = _clamp_bounds(method, instruction, library)
        operand = instruction.args[0] if instruction.args else None
        if bounds is not None and isinstance(operand, Ref) and uses[operand.id] == 1 and operand.id in producer_at:
            place = producer_at[instruction.outs[0]] = producer_at.pop(operand.id)
            producer = draft.instructions[place]
            # only the first result is clamped; a second one (indices) is another value and stays
            outs = (instruction.outs[0], *producer.outs[1:])
            epilogue = _clamped(producer.epilogue or Epilogue(), *bounds)
            draft.put(place, replace(producer, outs=outs, handle=instruction.handle, epilogue=epilogue))
            gone.add(at)
            continue
        is_float = instruction.outs and method.values[instruction.outs[0]].spec.dtype is DType.FLOAT32
        if is_float and _absorbs(library, instruction, "clamp"):
            producer_at[instruction.outs[0]] = at
    draft.drop(gone)
    return draft.done()


def _clamped(epilogue: Epilogue, low: float, high: float) -> Epilogue:
    """The clamp to [low, high] after the clamp that is there already, as one."""

    def clamp(bound: float) -> float:
        return min(max(bound, low), high)

    return replace(epilogue, low=clamp(epilogue.low), high=clamp(epilogue.high))


def _clamp_bounds(method: Method, instruction: Instruction, library: Library) -> tuple[float, float] | None:
    op = library.find(instruction.op)
    if op is None or op.clamp is None:
        return None
    bounds = op.clamp(node_of(method, instruction, op))
    # With low > high PyTorch gives high everywhere; two such clamps do not combine as intervals do.
    return bounds if bounds is not None and bounds[0] <= bounds[1] else None


def _absorbs(library: Library, instruction: Instruction, part: str) -> bool:
    op = library.find(instruction.op)
    return op is not None and part in op.absorbs


def _blocks(method: Method) -> list[int]:
    """For each instruction the number of its block: between two of the same number no jump leads in or out, and no
    value is moved."""
    return list(itertools.accumulate(instruction.op in NO_OPERATORS for instruction in method.instructions))
