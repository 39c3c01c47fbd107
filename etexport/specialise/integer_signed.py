"""Activations that are stored as uint8, as torchao's quantizer for x86 has them, become int8: 128 less, and so is the
zero point. Real values stay what they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from etexport.program.draft import Draft
from etexport.program.model import Arg, DType, Instruction, Method, Ref
from etexport.program.operators import DEQUANTIZE, QUANTIZE

SHIFT = 128


def signed(method: Method) -> Method:
    """The method with int8 where a quantise gives uint8 for dequantises and nothing else; the very same object where
    none does.

    What enters or leaves the program as uint8 stays so.
    """
    readers: dict[int, list[Instruction]] = defaultdict(list)
    for instruction in method.instructions:
        for read in instruction.reads:
            readers[read].append(instruction)
    stored = {
        out
        for instruction in method.instructions
        for out in instruction.outs
        if instruction.op == QUANTIZE
        and method.values[out].spec.dtype is DType.UINT8
        and out not in method.outputs
        and all(reader.op == DEQUANTIZE for reader in readers[out])
    }
    if not stored:
        return method
    draft = Draft(method)
    for one in stored:
        value = draft.values[one]
        draft.revise(replace(value, spec=replace(value.spec, dtype=DType.INT8)))

    def shifted(instruction: Instruction) -> Instruction:
        source = instruction.args[0] if instruction.args else None
        if stored.isdisjoint(instruction.outs) and not (isinstance(source, Ref) and source.id in stored):
            return instruction
        less = (_less(arg) for arg in instruction.args[2:5])
        return replace(instruction, args=(*instruction.args[:2], *less, DType.INT8.code, *instruction.args[6:]))

    draft.rewrite(lambda instruction: (shifted(instruction),))
    return draft.done()


def _less(arg: Arg) -> int:
    assert isinstance(arg, int), arg
    return arg - SHIFT
