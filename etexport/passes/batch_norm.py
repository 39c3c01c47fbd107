"""BatchNorm in eval is one multiplication and one addition a channel: they become part of a convolution or linear layer
beside it.

    y = (x - mean) / sqrt(var + eps) * weight + bias = x * scale + shift

Before it: the layer's weights times `scale` for each output channel, its bias times `scale` plus `shift`. After it: the
layer's weights times `scale` for each input channel, its bias plus weights times `shift`, exact only where the layer
does not pad, because padding is zero after the BatchNorm and not before it. Computed in float64, stored as float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.supported import legal
from etexport.program.draft import Draft
from etexport.program.model import Array, Instruction, Method, Ref
from etexport.program.operators import ADDMM, CONVOLUTION, LINEAR, MM

BATCH_NORM = "aten::_native_batch_norm_legit_no_training.out"


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer with constant weights."""

    instruction: Instruction
    source: Ref
    weight: Array
    bias: Array | None

    @property
    def groups(self) -> int:
        groups = self.instruction.args[8] if self.instruction.op == CONVOLUTION else 1
        assert isinstance(groups, int), self.instruction.where
        return groups

    @property
    def transposed(self) -> bool:
        """Whether the weights are (in, out / groups, ...): transposed convolution, and the matrices of addmm and mm."""
        return self.instruction.op in (ADDMM, MM) or (
            self.instruction.op == CONVOLUTION and self.instruction.args[6] is True
        )

    @property
    def pads(self) -> bool:
        """Whether some result sees less than all of the window: at the edges of a transposed convolution it always is
        so."""
        if self.instruction.op != CONVOLUTION:
            return False
        padding = self.instruction.args[4]
        assert isinstance(padding, tuple), self.instruction.where
        return any(padding) or self.transposed

    def as_groups(self) -> Array:
        """The weights in float64 as [group, out in group, in in group, window]."""
        weight = self.weight.astype(np.float64).reshape(*self.weight.shape[:2], -1)
        first, second, window = weight.shape
        split = weight.reshape(self.groups, first // self.groups, second, window)
        return split.transpose(0, 2, 1, 3) if self.transposed else split

    def from_groups(self, weight: Array) -> Array:
        """The inverse of `as_groups`, in the stored dtype."""
        split = weight.transpose(0, 2, 1, 3) if self.transposed else weight
        return np.ascontiguousarray(split).reshape(self.weight.shape).astype(self.weight.dtype)


def fold_batch_norms(method: Method, library: Library) -> Method:
    """Fold every BatchNorm that stands directly after a layer, or directly before one that does not pad, and is read
    once."""
    draft = Draft(method)
    with np.errstate(all="ignore"):  # a variance that is no variance gives NaN in PyTorch too
        while _fold_one(draft, library):
            pass
    return draft.done()


def _fold_one(draft: Draft, library: Library) -> bool:
    uses, writers = draft.uses(), draft.writers()
    position = {instruction.handle: at for at, instruction in enumerate(draft.instructions)}
    for at, norm in enumerate(draft.instructions):
        affine = _scale_and_shift(draft, norm, library)
        source = norm.args[0] if norm.args else None
        if affine is None or not isinstance(source, Ref) or any(uses[out] for out in norm.outs[1:]):
            continue
        if not all(draft.unchanging(value, writers) for value in (source.id, norm.outs[0])):
            continue
        makers = writers.get(source.id, [])
        before = _layer(draft, makers[0], library) if makers and uses[source.id] == 1 else None
        if before is not None and _runs_over_channels(draft, before, source) and _fits(before, affine[0]):
            _fold_after(draft, position[makers[0].handle], at, before, *affine)
            return True
        readers = [number for number, one in enumerate(draft.instructions) if norm.outs[0] in one.reads]
        after = (
            _layer(draft, draft.instructions[readers[0]], library)
            if len(readers) == 1 and uses[norm.outs[0]] == 1
            else None
        )
        if (
            after is not None
            and not after.pads
            and after.source.id == norm.outs[0]
            and _runs_over_channels(draft, after, source)
        ):
            _fold_before(draft, at, readers[0], after, source, *affine)
            return True
    return False


def _scale_and_shift(draft: Draft, norm: Instruction, library: Library) -> tuple[Array, Array] | None:
    """(scale, shift) for each channel in float64, or None where the instruction is no BatchNorm with constant
    statistics."""
    if norm.op != BATCH_NORM or not legal(draft, norm, library):
        return None
    weight, bias, mean, variance = (draft.constant(arg) for arg in norm.args[1:5])
    if (
        mean is None
        or variance is None
        or (weight is None) != (norm.args[1] is None)
        or (bias is None) != (norm.args[2] is None)
    ):
        return None
    eps = norm.args[6]
    assert isinstance(eps, (int, float)), norm.where
    scale = 1.0 / np.sqrt(variance.astype(np.float64) + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean.astype(np.float64) * scale
    return scale, shift if bias is None else shift + bias


def _layer(draft: Draft, instruction: Instruction, library: Library) -> Layer | None:
    """The instruction as a layer with constant weights and a constant or no bias, else None."""
    if instruction.op not in (CONVOLUTION, LINEAR, ADDMM, MM) or not legal(draft, instruction, library):
        return None
    if instruction.op in (CONVOLUTION, LINEAR):
        source, weight, bias = instruction.args[:3]
    elif instruction.op == ADDMM and instruction.args[3:] == (1, 1):
        bias, source, weight = instruction.args[:3]
    elif instruction.op == MM:
        (source, weight), bias = instruction.args[:2], None
    else:
        return None
    weights, biases = draft.constant(weight), draft.constant(bias)
    if (
        weights is None
        or not isinstance(source, Ref)
        or (biases is None) != (bias is None)
        or weights.dtype != np.float32
    ):
        return None
    return Layer(instruction, source, weights, biases)


def _fits(layer: Layer, scale: Array) -> bool:
    """Whether there is one output for each channel, and a bias that is one number a channel."""
    grouped = layer.as_groups()
    return bool(grouped.shape[0] * grouped.shape[1] == scale.size) and (
        layer.bias is None or layer.bias.size in (1, scale.size)
    )


def _runs_over_channels(draft: Draft, layer: Layer, normalised: Ref) -> bool:
    """Whether dimension 1 of the tensor between the two, the channels of a BatchNorm, is the one that the layer's
    weights run over."""
    rank = len(draft.values[normalised.id].spec.shape)
    return rank == (layer.weight.ndim if layer.instruction.op == CONVOLUTION else 2)


def _fold_after(draft: Draft, layer_at: int, norm_at: int, layer: Layer, scale: Array, shift: Array) -> None:
    """The layer makes the result of the BatchNorm: it keeps its own name and line, and takes the handle and outs of the
    other."""
    norm = draft.instructions[norm_at]
    grouped = layer.as_groups()
    weight = layer.from_groups(grouped * scale.reshape(*grouped.shape[:2], 1, 1))
    bias = np.broadcast_to(0.0 if layer.bias is None else layer.bias.astype(np.float64), scale.shape) * scale + shift
    draft.put(layer_at, _with(draft, layer, layer.source, weight, bias, norm.outs[0], norm.handle))
    draft.drop([norm_at])


def _fold_before(
    draft: Draft, norm_at: int, layer_at: int, layer: Layer, source: Ref, scale: Array, shift: Array
) -> None:
    """The layer reads what the BatchNorm read."""
    grouped = layer.as_groups()
    per_input = scale.reshape(grouped.shape[0], 1, grouped.shape[2], 1)
    weight = layer.from_groups(grouped * per_input)
    added = (grouped * shift.reshape(per_input.shape)).sum(axis=(2, 3)).reshape(-1)
    bias = added if layer.bias is None else layer.bias.astype(np.float64) + added
    draft.put(layer_at, _with(draft, layer, source, weight, bias, layer.instruction.outs[0], layer.instruction.handle))
    draft.drop([norm_at])


def _with(draft: Draft, layer: Layer, source: Ref, weight: Array, bias: Array, out: int, handle: int) -> Instruction:
    """The layer with other weights and bias; one without a bias gets one."""
    old = layer.instruction
    weight_at, bias_at = {CONVOLUTION: (1, 2), LINEAR: (1, 2), ADDMM: (2, 0), MM: (1, None)}[old.op]
    weight_name = _name(draft, old, weight_at)
    bias_name = (
        _name(draft, old, bias_at) if bias_at is not None and old.args[bias_at] is not None else f"{weight_name}_bias"
    )
    new_weight = draft.add_constant(weight_name, weight)
    new_bias = draft.add_constant(bias_name.replace("_weight_bias", "_bias"), bias.astype(np.float32))
    if old.op in (ADDMM, MM):
        return replace(old, op=ADDMM, args=(new_bias, source, new_weight, 1, 1), outs=(out,), handle=handle)
    return replace(old, args=(source, new_weight, new_bias, *old.args[3:]), outs=(out,), handle=handle)


def _name(draft: Draft, instruction: Instruction, at: int) -> str:
    value = draft.value(instruction.args[at])
    assert value is not None, instruction.where
    return value.name
