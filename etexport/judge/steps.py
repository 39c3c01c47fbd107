"""One step of an output of a quantised program: by how much it changes when the integers behind it change by one.

An output that is stored in integers has a step of 1. One that consists of dequantised values has their scales, element
by element, also through views, concatenations, choices and clamps. Behind float operators (a softmax of dequantised
logits) a step is what they make of it: the largest change of the output when every dequantised element moves by one
step up or down, at the values of sample 0, and at least 1/255 of the range of the expected results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.op import Layout, Op, carried
from etexport.program import operators
from etexport.program.model import Array, Instruction, Method, Ref, Role, Value

UNIT = 2e-6
"""Error of one operator whose results are sums of one term, relative to the largest result."""

AMPLIFIED = 3
"""How many times its rms distance from the float network a quantised output may be off."""

DRAWS = 8
"""Directions that are tried to see what float operators make of a step."""

QUANTIZED = ("int8", "uint8", "int16")
"""Types whose difference is spoken of in steps of the last place."""

QUANTIZE = (operators.QUANTIZE, operators.KERNEL_QUANTIZE)
DEQUANTIZE = (operators.DEQUANTIZE, operators.KERNEL_DEQUANTIZE)

Step = float | Array
"""One size for all elements, or one for each, in the shape of one sample's output."""


@dataclass(frozen=True, eq=False)
class Steps:
    """How far a quantised program may be off: `allowed` steps; `sizes[i]` is one step of output i, None where it is
    computed in float; then a step is 1/255 of the range of the expected results, or `worth[i]` where that is more."""

    allowed: int
    sizes: tuple[Step | None, ...]
    worth: tuple[float, ...] = ()


def requantises(op: str) -> bool:
    """Is it an operator of ExecuTorch's that computes in integers and rounds its result itself?"""
    return op.startswith("cortex_m::") and op not in (*QUANTIZE, *DEQUANTIZE)


def steps_of(method: Method, library: Library, seen: Mapping[int, Array] | None = None) -> Steps | None:
    """What a quantised program may be off by; None for a program that computes in float. `seen` is what its
    instructions give for one sample, by handle, where that is known."""
    rounds = sum(instruction.op in QUANTIZE or requantises(instruction.op) for instruction in method.instructions)
    if not rounds:
        return None
    sizes = _Sizes(method, library)
    found = tuple(sizes.of(one) for one in method.outputs)
    worth = tuple(
        sizes.worth(one, seen or {}) if size is None else 0.0 for one, size in zip(method.outputs, found, strict=True)
    )
    return Steps(max(2, math.ceil(math.sqrt(rounds))), found, worth)


class _Sizes:
    def __init__(self, method: Method, library: Library) -> None:
        self.method, self.library = method, library
        self.made_by = {out: one for one in method.instructions if one.op != operators.WRITE_BACK for out in one.outs}
        self.known: dict[int, Step | None] = {}

    def of(self, value_id: int) -> Step | None:
        if value_id not in self.known:
            self.known[value_id] = None  # while it is looked for: a state may be made of itself
            self.known[value_id] = self._found(value_id)
        return self.known[value_id]

    def _found(self, value_id: int) -> Step | None:
        spec, maker = self.method.values[value_id].spec, self.made_by.get(value_id)
        if spec.dtype.numpy.name in QUANTIZED:
            return 1.0
        if maker is None or not maker.args or spec.dtype.numpy.kind != "f":
            return None
        if maker.op in DEQUANTIZE:
            return float(maker.args[1]) if isinstance(maker.args[1], int | float) else None
        op = self.library.find(maker.op)
        if op is None or maker.outs[0] != value_id:
            return None
        sources = _sources(self.method, op, maker)
        exact = {source for source in sources if self.method.values[source].role in (Role.CONSTANT, Role.INPUT)}
        sizes = {
            source: 0.0 if size is None and source in exact else size
            for source in sources
            for size in (self.of(source),)
        }
        if not sizes or any(size is None for size in sizes.values()) or all(source in exact for source in sizes):
            return None
        known = {source: size for source, size in sizes.items() if size is not None}
        scalars = {size for size in known.values() if isinstance(size, float)}
        if len(scalars) == 1 and all(isinstance(size, float) for size in known.values()):
            return scalars.pop()
        return self._moved(maker, op, known)

    def _moved(self, maker: Instruction, op: Op, sizes: Mapping[int, Step]) -> Step:
        """The sizes where the elements have gone; the largest where that depends on the data."""
        contents = {
            source: np.broadcast_to(size, self.method.values[source].spec.shape) for source, size in sizes.items()
        }
        if (
            all(one in contents or self.method.values[one].role is Role.CONSTANT for one in maker.reads)
            and op.clamp is None
        ):
            moved = _results(self.method, op, maker, contents)[0].astype(np.float64)
            return np.where(np.isfinite(moved) & (moved > 0), moved, 0.0)  # what is padded with is exact
        return max(float(np.max(size, initial=0.0)) for size in sizes.values())

    def worth(self, output: int, seen: Mapping[int, Array]) -> float:
        """What float operators make of one step; 0 where their operands were not seen, and of whole numbers."""
        if self.method.values[output].spec.dtype.numpy.kind != "f":
            return 0.0
        tail: list[Instruction] = []
        needed, contents, sizes = {output}, dict[int, Array](), dict[int, Step]()
        for one in reversed(self.method.instructions):
            if not needed & set(one.outs):
                continue
            size, data = self.of(one.outs[0]), seen.get(one.handle)
            if size is not None or one.op in QUANTIZE or requantises(one.op):
                if data is None or needed & set(one.outs[1:]):
                    return 0.0
                contents[one.outs[0]] = data
                if size is not None and data.dtype.kind == "f":
                    sizes[one.outs[0]] = size
            elif (op := self.library.find(one.op)) is None or op.reference is None:
                return 0.0
            else:
                tail.insert(0, one)
                needed |= set(one.reads)
        constants = {value.id for value in self.method.values.values() if value.role is Role.CONSTANT}
        made = {out for one in tail for out in one.outs}
        if not sizes or needed - made - set(contents) - constants - {output}:
            return 0.0  # inputs and states, of which nothing was seen
        random = np.random.default_rng(0)
        right = self._through(tail, contents)[output]
        apart = 0.0
        for _ in range(DRAWS):
            moved = {
                one: contents[one] + random.choice((-1.0, 1.0), contents[one].shape) * size
                for one, size in sizes.items()
            }
            error = np.abs(self._through(tail, contents | moved)[output] - right)
            apart = max(apart, float(error[np.isfinite(error)].max(initial=0.0)))
        return apart

    def _through(self, tail: Sequence[Instruction], contents: Mapping[int, Array]) -> dict[int, Array]:
        known = dict(contents)
        for one in tail:
            known.update(zip(one.outs, _results(self.method, self.library.ops[one.op], one, known), strict=False))
        return known


def _sources(method: Method, op: Op, instruction: Instruction) -> tuple[int, ...]:
    """The operands whose elements, or clamped elements, the first result consists of."""
    if op.layout in (Layout.VIEW, Layout.PERMUTE) or op.carries:
        return tuple(one.id for one in carried(op, instruction))
    first = instruction.args[0]
    clamps = op.clamp is not None and op.clamp(node_of(method, instruction, op)) is not None
    return (first.id,) if clamps and isinstance(first, Ref) else ()


def _results(method: Method, op: Op, instruction: Instruction, known: Mapping[int, Array]) -> tuple[Array, ...]:
    """By the operator's numpy meaning, in the precision of the operands."""
    node = node_of(method, instruction, op)

    def content(operand: object) -> object:
        if isinstance(operand, tuple):
            return tuple(content(item) for item in operand)
        if isinstance(operand, Value):
            return known.get(operand.id, operand.data)
        return operand

    assert op.reference is not None
    with np.errstate(all="ignore"):
        results = op.reference(*(content(node[parameter.name]) for parameter in node.schema.parameters))
    return tuple(np.asarray(one) for one in (results if isinstance(results, tuple) else (results,)))


def step_sizes(expected: Sequence[Array], steps: Steps | None) -> tuple[Step | None, ...]:
    """One step of each output (samples first) in its own unit; None for what is not spoken of in steps. Integers that
    are indices have none."""
    if steps is None:
        return tuple(1.0 if e.dtype.name in QUANTIZED else None for e in expected)
    worth = steps.worth or (0.0,) * len(expected)
    return tuple(
        size
        if size is not None
        else max(float(np.ptp(e[np.isfinite(e)])) / 255, own)
        if e.dtype.kind == "f" and np.isfinite(e).any()
        else None
        for e, size, own in zip(expected, steps.sizes, worth, strict=True)
    )


def steps_allowed(steps: Steps, size: Step | None, noise: float | None) -> int:
    """How many steps one output may be off: what amplifies may double it, but a network far from float has no freedom
    for that alone."""
    largest = 0.0 if size is None else float(np.max(size, initial=0.0))
    return (
        max(steps.allowed, min(math.ceil(AMPLIFIED * noise / largest), 2 * steps.allowed))
        if noise and largest
        else steps.allowed
    )


def allowed_steps(expected: Array, size: Step | None, steps: int) -> Array:
    """The error allowed in each sample, shaped to broadcast: so many steps, and what float32 adds when it multiplies by
    the scale."""
    if size is None:
        return np.zeros((len(expected), *(1 for _ in expected.shape[1:])))
    rounding = (
        UNIT * float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) if expected.dtype.kind == "f" else 0.0
    )
    one = np.asarray(size, np.float64).reshape(expected.shape[1:] if np.ndim(size) else (1,) * (expected.ndim - 1))
    return np.repeat((steps * one + rounding)[None], len(expected), axis=0)


def whole_steps(error: Array, size: Step) -> int:
    """The largest error in steps; what is not finite as the largest int32."""
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = np.where(error == 0, 0.0, error / size)
    largest = float(counts.max(initial=0.0))
    return min(round(largest), 2**31 - 1) if math.isfinite(largest) else 2**31 - 1
