"""States whose every value is stored in one int8 scale: they are int8 themselves, a quarter of the memory, and nothing
is quantised anew.

In the board-neutral form such a state is float: what is written to it is dequantised, and what reads it quantises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from etexport.kernel.quantized import QuantizedOutput
from etexport.program.draft import Draft
from etexport.program.model import Arg, Array, DType, Instruction, Method, QParams, Ref, Role, TensorSpec, Value
from etexport.program.operators import CLONE, DEQUANTIZE, QUANTIZE, WRITE_BACK
from etexport.specialise.integer_graph import quantise_array


def integer_states(method: Method) -> Method:
    """The method with int8 states where their readers and writers agree on a scale; the very same one where none do.
    States that other methods have too stay as they are: these read them as well."""
    made_by = {out: one for one in method.instructions for out in one.outs}
    own = (value for value in method.values.values() if value.role is Role.STATE and value.id not in method.shared)
    floats = [value for value in own if value.spec.dtype is DType.FLOAT32]
    quantised = {state.id: out for state in floats if (out := _scale(method, made_by, state)) is not None}
    if not quantised:
        return method
    sources = {
        one.handle: _source(made_by, one)
        for one in method.instructions
        if one.op == WRITE_BACK and one.outs[0] in quantised
    }
    first = next(at for at, one in enumerate(method.instructions) if one.handle in sources)
    # what a state was may be wanted when it is written already
    wanted = {source.id for source in sources.values()} | {
        read for one in method.instructions[first:] for read in one.reads
    }
    draft = Draft(method)
    for number, out in quantised.items():
        state = draft.values[number]
        draft.revise(replace(state, spec=out.spec, data=_initial(state, out)))
    same: dict[int, int] = {}

    def of_integers(one: Instruction) -> Iterator[Instruction]:
        read = [number for number in dict.fromkeys(one.reads) if number in quantised]
        if one.handle in sources:
            one, read = replace(one, args=(one.args[0], sources[one.handle], *one.args[2:])), []
        elif read and one.op == QUANTIZE and one.outs[0] in wanted:
            one, read = replace(one, op=CLONE, args=(one.args[0], False, draft.values[read[0]].spec.dim_order)), []
        elif read and one.op == QUANTIZE:
            same[one.outs[0]] = read[0]
            return
        for state in read:
            real = draft.add_value(f"{draft.values[state].name}_real", method.values[state].spec)
            out = quantised[state]
            args = (Ref(state), out.scale, out.zero_point, out.low, out.high, out.spec.dtype.code, None)
            yield Instruction(DEQUANTIZE, args, (real.id,), draft.handle(), real.name, one.source)
            one = one.renamed({state: real.id})
        yield one

    draft.rewrite(of_integers)
    draft.rename(same)
    return draft.done()


def _scale(method: Method, made_by: dict[int, Instruction], state: Value) -> QuantizedOutput | None:
    """The int8 scale in which every value of the state is stored; None where there is not one."""
    writes = [one for one in method.instructions if state.id in one.outs]
    readers = [one for one in method.instructions if state.id in one.reads and one not in writes]
    quantises = [one for one in readers if one.op == QUANTIZE]
    others = [one for one in readers if one not in quantises]
    given_out = state.id in method.outputs or any(out in method.outputs for one in quantises for out in one.outs)
    if given_out or not quantises or not writes or any(one.op != WRITE_BACK for one in writes):
        return None
    sources = [made_by.get(_ref(one.args[1]).id) for one in writes]
    scales = {one.args[1:6] for one in quantises} | {
        one.args[1:6] if one is not None and one.op == DEQUANTIZE else () for one in sources
    }
    shapes = {method.values[_ref(one.args[1]).id].spec.shape for one in writes}
    if len(scales) != 1 or shapes != {state.spec.shape}:
        return None
    out = _output(quantises[0], state)
    if out.spec.dtype is not DType.INT8:
        return None
    restored = (_initial(state, out).astype(np.float32) - np.float32(out.zero_point)) * np.float32(out.scale)
    return out if not others or np.array_equal(restored, _content(state)) else None


def _initial(state: Value, out: QuantizedOutput) -> Array:
    return quantise_array(_content(state), out).astype(np.int8)


def _content(state: Value) -> Array:
    return np.zeros(state.spec.shape, np.float32) if state.data is None else state.data


def _source(made_by: dict[int, Instruction], write: Instruction) -> Ref:
    """The integers that a write-back dequantises."""
    return _ref(made_by[_ref(write.args[1]).id].args[0])


def _ref(arg: Arg) -> Ref:
    assert isinstance(arg, Ref), arg
    return arg


def _output(quantise: Instruction, state: Value) -> QuantizedOutput:
    scale, zero_point, low, high, code = quantise.args[1:6]
    assert (
        isinstance(scale, (int, float))
        and isinstance(zero_point, int)
        and isinstance(low, int)
        and isinstance(high, int)
    )
    single = float(np.float32(scale))
    dtype = next((one for one in DType if one.code == code), DType.FLOAT32)
    spec = TensorSpec(
        dtype, state.spec.shape, state.spec.dim_order, qparams=QParams((single,), (zero_point,), low, high)
    )
    return QuantizedOutput(spec, single, zero_point, low, high)
