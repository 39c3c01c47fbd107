"""int8 inputs and outputs: the quantise behind an input and the dequantise before an output are left to the caller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from etexport.errors import ModelError
from etexport.program.draft import Draft
from etexport.program.model import Arg, Array, Instruction, Method, QParams, Ref, TensorSpec
from etexport.program.operators import CLONE, DEQUANTIZE, QUANTIZE


def without_boundary(method: Method) -> Method:
    """The method whose inputs are what their quantises give, and whose outputs are what the last dequantises take, each
    with its scale.

    An input that something reads in float stays in float, as does an output that is computed in float; ModelError if
    all do.
    """
    method = _layout_in_int8(method)
    made_by = {out: instruction for instruction in method.instructions for out in instruction.outs}
    same: dict[int, int] = {}
    draft = Draft(method)
    values = draft.values
    for value in method.inputs:
        readers = [one for one in method.instructions if value in one.reads]
        if readers and value not in method.outputs and len({_stored(method, one) for one in readers}) == 1:
            spec = _stored(method, readers[0])
            if spec is not None:
                draft.revise(replace(values[value], spec=replace(spec, dim_order=values[value].spec.dim_order)))
                same.update({reader.outs[0]: value for reader in readers})
    outputs: list[int] = []
    for value in method.outputs:
        made = made_by.get(value)
        source = made.args[0] if made is not None and made.op == DEQUANTIZE else None
        keeps_order = isinstance(source, Ref) and values[source.id].spec.dim_order == values[value].spec.dim_order
        if made is not None and isinstance(source, Ref) and keeps_order and source.id not in method.inputs:
            spec = values[source.id].spec
            draft.revise(replace(values[source.id], spec=replace(spec, qparams=_qparams(made))))
            value = source.id
        outputs.append(value)
    if not same and tuple(outputs) == method.outputs:
        raise ModelError(
            "int8_io, but no input is quantised and no output dequantised", hint='quantize = "int8" does that'
        )
    draft.rewrite(lambda one: () if one.outs and one.outs[0] in same else (one,))
    draft.outputs = tuple(outputs)
    draft.rename(same)
    draft.drop_dead()
    return draft.done()


def _layout_in_int8(method: Method) -> Method:
    """The method with the layout of an input changed behind its quantise, that of an output before its dequantise."""
    method = _with_own_dequantise(method)
    draft = Draft(method)
    values = draft.values
    for at, layout in enumerate(method.instructions):
        if layout.op != CLONE:
            continue
        source, out = layout.args[0], layout.outs[0]
        assert isinstance(source, Ref)
        readers = [one for one in method.instructions if out in one.reads]
        dequantise = next((one for one in method.instructions if one.op == DEQUANTIZE and source.id in one.outs), None)
        if source.id in method.inputs and len(readers) == 1 and readers[0].op == QUANTIZE:
            # input -> layout -> quantise: the quantise reads the input, the layout what it gives
            (quantise,) = readers
            spec = replace(values[quantise.outs[0]].spec, dim_order=values[source.id].spec.dim_order)
            draft.revise(replace(values[out], spec=spec))
            draft.put(at, replace(quantise, args=(source, *quantise.args[1:]), outs=(out,)))
            later = replace(layout, args=(Ref(out), *layout.args[1:]), outs=quantise.outs)
            draft.put(method.instructions.index(quantise), later)
        elif out in method.outputs and not readers and dequantise is not None and source.id not in method.outputs:
            # dequantise -> layout -> output: the layout changes what the dequantise reads
            stored = dequantise.args[0]
            assert isinstance(stored, Ref)
            spec = replace(values[stored.id].spec, dim_order=values[out].spec.dim_order)
            draft.revise(replace(values[source.id], spec=spec))
            earlier = replace(layout, args=(stored, *layout.args[1:]), outs=(source.id,))
            draft.put(method.instructions.index(dequantise), earlier)
            draft.put(at, replace(dequantise, args=(source, *dequantise.args[1:]), outs=(out,)))
    return draft.done()


def _with_own_dequantise(method: Method) -> Method:
    """The method in which a change of layout that gives an output reads a dequantised value that nothing else reads."""
    draft = Draft(method)
    uses = method.uses()
    dequantises = {one.outs[0]: one for one in method.instructions if one.op == DEQUANTIZE}

    def with_own(layout: Instruction) -> tuple[Instruction, ...]:
        source = layout.args[0] if layout.op == CLONE and layout.outs[0] in method.outputs else None
        dequantise = dequantises.get(source.id) if isinstance(source, Ref) else None
        if dequantise is None or not isinstance(source, Ref) or uses[source.id] == 1:
            return (layout,)
        own = draft.add_value(draft.values[source.id].name, draft.values[source.id].spec)
        uses[source.id] -= 1
        return replace(dequantise, outs=(own.id,), handle=draft.handle()), layout.renamed({source.id: own.id})

    draft.rewrite(with_own)
    return draft.done()


def without_scales(method: Method) -> Method:
    """The method as a file keeps it: without the scales of its inputs and outputs."""
    plain = {number: replace(value, spec=replace(value.spec, qparams=None)) for number, value in method.values.items()}
    return replace(method, values=plain)


def stored(real: Array, spec: TensorSpec) -> Array:
    """What quantize_per_tensor gives for real numbers: clamp(zero_point + rint(x / scale)), the reciprocal in float32,
    NaN as 0."""
    if spec.qparams is None or real.dtype.kind != "f":
        return real
    (scale,), (zero_point,) = spec.qparams.scales, spec.qparams.zero_points
    with np.errstate(all="ignore"):
        scaled = np.rint(real * np.float32(1.0 / np.float32(scale))).astype(np.float64)
    clamped = np.clip(np.nan_to_num(scaled) + zero_point, spec.qparams.qmin, spec.qparams.qmax)
    return np.where(np.isnan(scaled), 0, clamped).astype(spec.dtype.numpy)


def _stored(method: Method, instruction: Instruction) -> TensorSpec | None:
    """What a quantise gives; None for any other instruction."""
    if instruction.op != QUANTIZE:
        return None
    return replace(method.values[instruction.outs[0]].spec, qparams=_qparams(instruction))


def _qparams(instruction: Instruction) -> QParams:
    scale, zero_point, low, high = (_number(arg) for arg in instruction.args[1:5])
    return QParams((float(scale),), (int(zero_point),), int(low), int(high))


def _number(arg: Arg) -> float:
    assert isinstance(arg, (int, float)), arg
    return arg
