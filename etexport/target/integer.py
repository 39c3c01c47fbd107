"""Integer fusion: dequantise -> operators -> quantise becomes one integer instruction.

Dequantisations sink, and quantisations rise, through operators that only move data, so that they stand right before and behind what
computes. For each quantise, what makes its operand is then one of

- a chain of elementwise operators over one quantised tensor: a table of 256 entries, whatever the operators;
- an operator for which a kernel folder has a rule (`RULES` in its `op.py`), perhaps with an activation after it: the rule's
  instruction, which saturates where the activation would.

What is left computes in float between quantise and dequantise kernels; `in_float` says what and why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from etexport.errors import EtError
from etexport.op import Layout, Library, Node, node_of
from etexport.program.model import Arg, Array, DType, Instruction, Method, QParams, Ref, Role, TensorSpec, Value, substitute
from etexport.quantized import Fused, IntegerNode, Quantized, QuantizedOutput
from etexport.target.model import InFloat

QUANTIZE = "quantized_decomposed::quantize_per_tensor.out"
DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor.out"
DEQUANTIZE_CHANNELS = "quantized_decomposed::dequantize_per_channel.out"
TABLE = "cortex_m::quantized_activation.out"
KERNEL_QUANTIZE = "cortex_m::quantize_per_tensor.out"
KERNEL_DEQUANTIZE = "cortex_m::dequantize_per_tensor.out"

MOVES = frozenset({
    "aten::slice_copy.Tensor_out", "aten::select_copy.int_out", "aten::expand_copy.out", "aten::clone.out",
    "aten::upsample_nearest2d.vec_out",
})  # fmt: skip
"""Operators without a view's or a permute's layout that give elements of their first operand and nothing else."""

CLONE = "dim_order_ops::_clone_dim_order.out"
"""A tensor in another dim order: at the inputs and outputs of a channels-last model, and no computing."""

PAD = "aten::constant_pad_nd.out"
SEARCHES = frozenset({"aten::argmax.out", "aten::argmin.out"})
"""Operators that only compare elements of their first operand: stored values are in the order of the real ones."""


def fuse_integers(method: Method, library: Library) -> tuple[Method, tuple[InFloat, ...]]:
    """The method with integer instructions, and what stayed in float. The very same method where nothing is quantised."""
    if not any(instruction.op in (QUANTIZE, DEQUANTIZE, DEQUANTIZE_CHANNELS) for instruction in method.instructions):
        return method, ()
    return _Fusion(method, library).run()


class _Fusion:
    """The method while it changes; instructions are dropped in the end when nobody reads what they make."""

    def __init__(self, method: Method, library: Library) -> None:
        self.method = method
        self.library = library
        self.values = dict(method.values)
        self.next_id = method.next_id()
        self.next_handle = max((instruction.handle for instruction in method.instructions), default=-1) + 1
        self.made_by: dict[int, Instruction] = {}
        self.same: dict[int, int] = {}
        self.read_once: set[int] = set()
        self.reasons: dict[int, str] = {}

    def run(self) -> tuple[Method, tuple[InFloat, ...]]:
        instructions: list[Instruction] = []
        for instruction in self.method.instructions:
            instruction = replace(instruction, args=tuple(substitute(arg, self.same) for arg in instruction.args))
            for step in self._risen(instruction) if instruction.op == QUANTIZE else self._sink(instruction) or (instruction,):
                step = replace(step, args=tuple(substitute(arg, self.same) for arg in step.args))
                for done in self._quantise(step) if step.op == QUANTIZE else (step,):
                    instructions.append(done)
                    self.made_by.update((out, done) for out in done.outs)
        outputs = tuple(self.same.get(out, out) for out in self.method.outputs)
        instructions = self._alive([self._for_kernel(one) for one in instructions], outputs)
        method = replace(self.method, values=self.values, instructions=tuple(instructions), outputs=outputs)
        return method, tuple(self._in_float(instructions))

    # ---- dequantisations sink --------------------------------------------------------------------------------------------------

    def _sink(self, instruction: Instruction) -> tuple[Instruction, ...]:
        """move(dequantise(q)) as dequantise(move(q)), or nothing where that cannot be."""
        op = self.library.find(instruction.op)
        operand = instruction.args[0] if instruction.args else None
        if op is None or not isinstance(operand, Ref) or len(instruction.outs) != 1:
            return ()
        dequantise = self.made_by.get(operand.id)
        if dequantise is None or dequantise.op not in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
            return ()
        source = dequantise.args[0]
        assert isinstance(source, Ref)
        if instruction.op in SEARCHES:
            whole = dequantise.op == DEQUANTIZE and self.values[source.id].spec.dtype in op.dtypes
            return (replace(instruction, args=(source, *instruction.args[1:])),) if whole else ()
        if instruction.op == PAD:
            fill = self._stored_fill(instruction, operand)
            if fill is None:
                return ()
            instruction = replace(instruction, args=(*instruction.args[:2], fill))
        elif not self._moves(instruction):
            return ()
        stored, out = self.values[source.id], self.values[instruction.outs[0]]
        args = dequantise.args[1:]
        if dequantise.op == DEQUANTIZE_CHANNELS:
            axis = dequantise.args[3]
            if instruction.op != "aten::permute_copy.out" or not isinstance(axis, int):
                return ()
            dims = instruction.args[1]
            assert isinstance(dims, tuple)
            rank = len(dims)
            args = (*args[:2], [dim % rank for dim in dims].index(axis % rank), *args[3:])
        if stored.role is Role.CONSTANT and op.reference is not None:
            moved = self._constant(stored.name, np.asarray(op.reference(stored.data, *instruction.args[1:])))
            return (replace(dequantise, args=(moved, *args), outs=instruction.outs, handle=self._handle()),)
        spec = TensorSpec(stored.spec.dtype, out.spec.shape, qparams=stored.spec.qparams)
        moved = self._value(f"{out.name}_q", spec)
        move = replace(instruction, args=(source, *instruction.args[1:]), outs=(moved.id,))
        return move, replace(dequantise, args=(moved, *args), outs=instruction.outs, handle=self._handle())

    def _moves(self, instruction: Instruction) -> bool:
        op = self.library.find(instruction.op)
        return op is not None and (op.layout in (Layout.VIEW, Layout.PERMUTE) or instruction.op in MOVES)

    # ---- quantisations rise ----------------------------------------------------------------------------------------------------

    def _risen(self, quantise: Instruction) -> tuple[Instruction, ...]:
        """quantise(move(x)) as move(quantise(x)); a clamp after the movement comes before the quantise, for it is the kernel's."""
        path: list[Instruction] = []
        at = quantise.args[0]
        assert isinstance(at, Ref)
        while (made := self.made_by.get(at.id)) is not None and len(made.outs) == 1 and self._uses(at.id) == 1:
            source = made.args[0] if made.args else None
            if not isinstance(source, Ref) or not (self._moves(made) or self._clamp(made) is not None):
                break
            path.append(made)
            at = source
        moves = [made for made in path[::-1] if self._moves(made)]
        if not moves:
            return (quantise,)
        steps: list[Instruction] = []
        for clamp in (made for made in path[::-1] if made not in moves):
            source, at = at, self._value(self.values[clamp.outs[0]].name, self.values[at.id].spec)
            self.read_once.add(at.id)
            steps.append(replace(clamp, args=(source, *clamp.args[1:]), outs=(at.id,), handle=self._handle()))
        out = self.values[quantise.outs[0]]
        spec = self._output(quantise).spec

        def stored(real: int) -> Ref:
            """What holds in int8 the elements of this float value."""
            return self._value(f"{out.name}_q", TensorSpec(spec.dtype, self.values[real].spec.shape, qparams=spec.qparams))

        source, at = at, stored(at.id)
        steps.append(replace(quantise, args=(source, *quantise.args[1:]), outs=(at.id,), handle=self._handle()))
        for move in moves[:-1]:
            source, at = at, stored(move.outs[0])
            steps.append(replace(move, args=(source, *move.args[1:]), outs=(at.id,), handle=self._handle()))
        self.values[out.id] = replace(out, spec=spec)
        steps.append(replace(moves[-1], args=(at, *moves[-1].args[1:]), outs=quantise.outs, handle=quantise.handle))
        return tuple(steps)

    def _clamp(self, instruction: Instruction) -> tuple[float, float] | None:
        """The bounds of an instruction that is nothing but a clamp, if they are in order."""
        op = self.library.find(instruction.op)
        bounds = op.clamp(self._node(instruction)) if op is not None and op.clamp is not None else None
        return bounds if bounds is not None and bounds[0] <= bounds[1] else None

    def _stored_fill(self, pad: Instruction, operand: Ref) -> int | None:
        """The stored value that a padding's real one is, if there is one: the zero point for zero."""
        known, fill = self._quantized(operand), pad.args[2]
        if known is None or known.axis is not None or not isinstance(fill, (bool, int, float)) or not math.isfinite(fill):
            return None
        stored = round(fill / known.scale) + known.zero_point
        limits = np.iinfo(known.value.spec.dtype.numpy)
        exact = np.float32(stored - known.zero_point) * np.float32(known.scale) == np.float32(fill)
        return stored if exact and limits.min <= stored <= limits.max else None

    # ---- one quantise ----------------------------------------------------------------------------------------------------------

    def _quantise(self, quantise: Instruction) -> tuple[Instruction, ...]:
        """What makes the quantised value: nothing where it exists already, else a table, a rule's instruction, or the quantise itself."""
        operand = quantise.args[0]
        assert isinstance(operand, Ref)
        out = self._output(quantise)
        known = self._quantized(operand)
        stored = None if known is None or known.axis is not None else (known.value.spec.dtype, known.scale, known.zero_point)
        if known is not None and stored == (out.spec.dtype, out.scale, out.zero_point):
            self.same[quantise.outs[0]] = known.value.id
            return ()
        self.values[quantise.outs[0]] = replace(self.values[quantise.outs[0]], spec=out.spec)
        return self._table(quantise, out) or self._rule(quantise, out) or (quantise,)

    def _output(self, quantise: Instruction) -> QuantizedOutput:
        scale, zero_point, low, high = (quantise.args[at] for at in (1, 2, 3, 4))
        assert isinstance(scale, (int, float)) and isinstance(zero_point, int) and isinstance(low, int) and isinstance(high, int)
        spec = self.values[quantise.outs[0]].spec
        qparams = QParams((float(scale),), (zero_point,), low, high)
        return QuantizedOutput(replace(spec, qparams=qparams), float(scale), zero_point, low, high)

    def _table(self, quantise: Instruction, out: QuantizedOutput) -> tuple[Instruction, ...]:
        """The elementwise operators before the quantise, as one table, if they start from one quantised int8 tensor."""
        operand = quantise.args[0]
        assert isinstance(operand, Ref)
        if out.spec.dtype is not DType.INT8:
            return ()
        shape = self.values[operand.id].spec.shape
        chain: dict[int, Instruction] = {}
        sources: dict[int, Quantized] = {}
        todo = [operand.id]
        while todo:
            value = todo.pop()
            known = self._quantized(Ref(value))
            if known is not None and known.value.role is not Role.CONSTANT:
                if known.axis is not None or known.value.spec.dtype is not DType.INT8 or known.value.spec.shape != shape:
                    return ()
                sources[value] = known
                continue
            constant = self._content(value)
            if constant is not None and constant.size == 1:
                continue
            made = self.made_by.get(value)
            op = self.library.find(made.op) if made is not None else None
            if made is None or op is None or not op.elementwise or op.reference is None or len(made.outs) != 1:
                return ()
            chain[value] = made
            todo.extend(read for read in made.reads if read not in chain)
        if len({source.value.id for source in sources.values()}) != 1:
            return ()
        source = next(iter(sources.values()))
        table = self._evaluated(operand.id, chain, sources, out)
        lut = self._constant(f"{self.values[quantise.outs[0]].name}_table", table)
        last = chain.get(operand.id, quantise)
        return (replace(last, op=TABLE, args=(source.ref, lut), outs=quantise.outs, handle=quantise.handle),)

    def _evaluated(self, end: int, chain: Mapping[int, Instruction], sources: Mapping[int, Quantized], out: QuantizedOutput) -> Array:
        """The chain for each of the 256 stored values, in float32 as PyTorch would compute it; a NaN is stored as 0."""
        stored = np.arange(-128, 128, dtype=np.float32)
        known: dict[int, Array] = {
            value: (stored - np.float32(source.zero_point)) * np.float32(source.scale) for value, source in sources.items()
        }

        def evaluate(value: int) -> Array:
            if value not in known:
                if value in chain:
                    made = chain[value]
                    op = self.library.find(made.op)
                    assert op is not None and op.reference is not None
                    with np.errstate(all="ignore"):
                        known[value] = np.asarray(op.reference(*(self._resolved(arg, evaluate) for arg in made.args)))
                else:
                    content = self._content(value)
                    assert content is not None
                    known[value] = content.reshape(())
            return known[value]

        return quantise_array(np.broadcast_to(evaluate(end), 256), out).astype(np.int8)

    def _resolved(self, arg: Arg, evaluate: Any) -> Any:
        if isinstance(arg, Ref):
            return evaluate(arg.id)
        return tuple(self._resolved(item, evaluate) for item in arg) if isinstance(arg, tuple) else arg

    def _rule(self, quantise: Instruction, out: QuantizedOutput) -> tuple[Instruction, ...]:
        """The integer instruction for the operator before the quantise, with the clamps between the two as saturation."""
        operand = quantise.args[0]
        assert isinstance(operand, Ref)
        made = self.made_by.get(operand.id)
        while made is not None and (bounds := self._clamp(made)) is not None and self._uses(made.outs[0]) == 1:
            low, high = (int(quantise_array(np.asarray(bound, np.float32), out)) for bound in bounds)
            out = replace(out, low=min(max(out.low, low), high), high=max(min(out.high, high), low))
            source = made.args[0]
            assert isinstance(source, Ref)
            made = self.made_by.get(source.id)
        if made is None or made.op in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
            return ()
        if self._uses(made.outs[0]) != 1:
            self.reasons[made.handle] = "its float result is read by more than a quantise"
            return ()
        rule = self.library.rules.get(made.op)
        if rule is None:
            self.reasons[made.handle] = "it has no integer form"
            return ()
        node = self._node(made)
        quantized = {name: self._known(operand) for name, operand in node.operands.items()}
        try:
            fused = rule.build(IntegerNode(node, quantized, out))
        except EtError as error:
            fused = error.what
        if isinstance(fused, str):
            self.reasons[made.handle] = fused
            return ()
        return (self._instruction(made, quantise, fused),)

    def _instruction(self, made: Instruction, quantise: Instruction, fused: Fused) -> Instruction:
        name = made.name or self.values[made.outs[0]].name
        args = tuple(self._constant(f"{name}_{at}", arg) if isinstance(arg, np.ndarray) else arg for at, arg in enumerate(fused.args))
        outs = [*quantise.outs]
        op = self.library.find(fused.op)
        assert op is not None, f"the rule for {made.op} makes {fused.op}, which nobody declares"
        return replace(made, op=fused.op, args=args, outs=tuple(outs), handle=quantise.handle)

    # ---- what is known of a value ----------------------------------------------------------------------------------------------

    def _known(self, operand: Any) -> Any:
        if isinstance(operand, tuple):
            return tuple(self._known(item) for item in operand)
        return self._quantized(Ref(operand.id)) if isinstance(operand, Value) else None

    def _quantized(self, ref: Ref) -> Quantized | None:
        """The integer value behind a float one, if it is a dequantisation."""
        made = self.made_by.get(ref.id)
        if made is None or made.op not in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
            return None
        source = made.args[0]
        assert isinstance(source, Ref)
        value = self.values[source.id]
        if made.op == DEQUANTIZE:
            return Quantized(value, np.float64(np.float32(made.args[1])), np.int64(made.args[2]), None)  # type: ignore[arg-type]
        scales, zeros, axis = made.args[1], made.args[2], made.args[3]
        assert isinstance(scales, Ref) and isinstance(axis, int)
        found = self.values[scales.id].data
        zero_points = self.values[zeros.id].data if isinstance(zeros, Ref) else None
        if found is None or (isinstance(zeros, Ref) and zero_points is None):
            return None
        count = np.zeros(found.shape, np.int64) if zero_points is None else zero_points.astype(np.int64)
        return Quantized(value, found.astype(np.float64), count, axis % len(value.spec.shape))

    def _content(self, value: int) -> Array | None:
        """The real content of a constant, dequantised where it is stored as integers."""
        known = self._quantized(Ref(value))
        if known is not None and known.axis is None and known.value.data is not None:
            return ((known.value.data.astype(np.float32) - np.float32(known.zero_point)) * np.float32(known.scale)).astype(np.float32)
        found = self.values[value]
        return found.data if found.role is Role.CONSTANT else None

    def _node(self, instruction: Instruction) -> Node:
        op = self.library.find(instruction.op)
        assert op is not None
        return node_of(replace(self.method, values=self.values), instruction, op)

    def _uses(self, value: int) -> int:
        if value in self.read_once:
            return 1
        reads = Counter(self.method.outputs)
        for instruction in self.method.instructions:
            reads.update(instruction.reads)
        return reads[value]

    # ---- making --------------------------------------------------------------------------------------------------------------

    def _value(self, name: str, spec: TensorSpec, data: Array | None = None) -> Ref:
        role = Role.ACTIVATION if data is None else Role.CONSTANT
        value = Value(self.next_id, name, spec, role, data)
        self.values[value.id] = value
        self.next_id += 1
        return Ref(value.id)

    def _constant(self, name: str, data: Array) -> Ref:
        data = np.ascontiguousarray(data).reshape(np.shape(data))
        return self._value(name, TensorSpec(DType.of_numpy(data.dtype), data.shape), data)

    def _handle(self) -> int:
        self.next_handle += 1
        return self.next_handle - 1

    # ---- the end -------------------------------------------------------------------------------------------------------------

    def _for_kernel(self, instruction: Instruction) -> Instruction:
        """Quantise and dequantise by the kernels' names; weights that a float kernel reads are dequantised on the host."""
        if instruction.op == QUANTIZE:
            return replace(instruction, op=KERNEL_QUANTIZE)
        if instruction.op in (DEQUANTIZE, DEQUANTIZE_CHANNELS):
            known = self._quantized(Ref(instruction.outs[0]))
            if known is not None and known.value.data is not None:
                out = self.values[instruction.outs[0]]
                shape = [-1 if dim == known.axis else 1 for dim in range(len(out.spec.shape))]
                scales, zeros = (np.reshape(part, shape) if known.axis is not None else part for part in (known.scales, known.zero_points))
                data = ((known.value.data.astype(np.float32) - zeros.astype(np.float32)) * scales.astype(np.float32)).astype(np.float32)
                self.values[out.id] = replace(out, role=Role.CONSTANT, data=data)
            elif instruction.op == DEQUANTIZE:
                return replace(instruction, op=KERNEL_DEQUANTIZE, args=instruction.args[:6])
        return instruction

    def _alive(self, instructions: list[Instruction], outputs: tuple[int, ...]) -> list[Instruction]:
        """Without what nobody reads; state write-backs stay."""
        needed = set(outputs)
        alive: list[Instruction] = []
        for instruction in reversed(instructions):
            outs = [self.values[out] for out in instruction.outs]
            if all(out.role is Role.CONSTANT for out in outs) and outs:
                continue
            if any(out.id in needed or out.role is Role.STATE for out in outs) or not outs:
                needed.update(instruction.reads)
                alive.append(instruction)
        return alive[::-1]

    def _in_float(self, instructions: list[Instruction]) -> list[InFloat]:
        """The instructions that compute with float tensors: not the quantise and dequantise at the edges, nor another layout of these."""
        found = []
        for instruction in instructions:
            touched = [self.values[value].spec.dtype for value in (*instruction.reads, *instruction.outs)]
            if DType.FLOAT32 in touched and instruction.op not in (KERNEL_QUANTIZE, KERNEL_DEQUANTIZE, CLONE):
                reason = self.reasons.get(instruction.handle, "its operands or its result are not quantised")
                found.append(InFloat(instruction, reason))
        return found


def quantise_array(real: Array, out: QuantizedOutput) -> Array:
    """Stored values: clamp(zero_point + rint(real / scale)), the reciprocal in float32 as PyTorch takes it; NaN is stored as 0."""
    with np.errstate(all="ignore"):
        scaled = np.rint(np.asarray(real, np.float32) * np.float32(1.0 / np.float32(out.scale)))
    stored = np.clip(np.nan_to_num(scaled.astype(np.float64), nan=0.0) + out.zero_point, out.low, out.high)
    return np.where(np.isnan(scaled), 0, stored).astype(np.int64)
