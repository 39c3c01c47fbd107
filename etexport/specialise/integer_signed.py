"""Activations that are stored as uint8, as torchao's quantizer for x86 has them, become int8: 128 less, and so is the
zero point. Real values stay what they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

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
    values = dict(method.values)
    for one in stored:
        values[one] = replace(values[one], spec=replace(values[one].spec, dtype=DType.INT8))

    def changed(instruction: Instruction) -> Instruction:
        source = instruction.args[0] if instruction.args else None
        if stored.isdisjoint(instruction.outs) and not (isinstance(source, Ref) and source.id in stored):
            return instruction
        shifted = (_less(arg) for arg in instruction.args[2:5])
        return replace(instruction, args=(*instruction.args[:2], *shifted, DType.INT8.code, *instruction.args[6:]))

    return replace(method, values=values, instructions=tuple(changed(one) for one in method.instructions))


def _less(arg: Arg) -> int:
    assert isinstance(arg, int), arg
    return arg - SHIFT
