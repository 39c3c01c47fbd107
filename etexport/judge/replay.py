"""Is each integer result of a board right, given the board's own operands?

A network amplifies what its layers round: after ten of them outputs may be several steps from PyTorch's although every
operator is right, and an operator may be wrong by a step without an output that tells. So each quantised result that a
run with traces left is computed again from the results before it, by the program's own float operators between
dequantise and quantise, and must be what exact arithmetic rounds to: at most half a step away, and `LEEWAY` for
multipliers of finite length. A zero point that is off by one fails at nearly every element, a multiplier by 1 %
wherever a result is some ten steps from zero. What only moves stored values must be exact, and the outputs must follow
from the results before them.

The same class answers two questions more. Is the program PyTorch's network? Then its operators give PyTorch's results
from PyTorch's own operands. And what does the program give where nothing but exact arithmetic computes it
(`halfway.py`)?
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from etexport.judge.compare import Traced, absolute_error
from etexport.judge.steps import DEQUANTIZE, QUANTIZE, UNIT, requantises
from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.kernel.op import Op, carried
from etexport.program.flow import jump_targets
from etexport.program.model import (
    BEGIN,
    MOVE,
    NEXT,
    Array,
    DType,
    Instruction,
    Method,
    Ref,
    Role,
    Source,
    TensorSpec,
    Value,
)
from etexport.program.operators import DEQUANTIZE_CHANNELS, WRITE_BACK

Fact = TypeVar("Fact")

LEEWAY = {"nearest": 1 / 16, "tflm": 1 / 4 + 1 / 16}
"""By how much of a step a result may be further away than half a step, for each rounding rule. Sums of products carry a
15-bit multiplier for each operand, 2^-15 of at most 255 steps twice; TFLite's second rounding sees what the first made
of it, in the worst case quarters."""


@dataclass(frozen=True)
class Replayed:
    """One instruction, as the board names it: `wrong` of `elements` results are beyond what is allowed. `worst` is the
    largest distance from the exact result `in_steps` (0.5 is perfect rounding), or for other results the largest error
    divided by what is allowed."""

    handle: int
    name: str
    source: Source | None
    elements: int
    wrong: int
    worst: float
    in_steps: bool

    def __str__(self) -> str:
        place = f"{self.name} at {self.source}" if self.source else self.name
        off = f"{self.worst:.3g} steps from exact" if self.in_steps else f"{self.worst:.3g} times the tolerance off"
        return (
            f"{place}: {self.wrong} of {self.elements} results are up to {off}, computed from the board's own operands"
        )


@dataclass(frozen=True)
class Exact:
    """A program's steps, of the runs of `samples`. `checked` of `operators` could be computed again, `wrong` of these
    have a wrong result, the first of them `first_wrong`; the worst of the integers is `worst_lsb` from exact (0.5 is
    perfect rounding).

    Steps that the program does not have (a change of layout) are not counted: what reads their results shows whether
    they are right."""

    operators: int
    checked: int
    wrong: int
    results: int
    worst_lsb: float
    first_wrong: str | None
    samples: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{self.checked - self.wrong} of {self.checked} operators agree with exact arithmetic on the board's "
            "own operands"
        )
        text += f", integers within {self.worst_lsb:.4f} steps" if self.worst_lsb else ""
        text += f", in {len(self.samples)} samples" if len(self.samples) > 1 else ""
        return text + (
            f"; {self.operators - self.checked} could not be computed again" if self.checked < self.operators else ""
        )

    @property
    def proven(self) -> bool:
        """Every operator was computed again and is right."""
        return not self.wrong and self.checked == self.operators


def summed_up(replayed: Sequence[Replayed], handles: Collection[int], samples: tuple[int, ...] = ()) -> Exact:
    """`handles`: those of the board's steps that the program has as well."""
    wrong = [one for one in replayed if one.wrong]
    worst = max((one.worst for one in replayed if one.in_steps), default=0.0)
    first = str(wrong[0]) if wrong else None
    checked = {one.handle for one in replayed} & set(handles)
    return Exact(
        len(handles),
        len(checked),
        len({one.handle for one in wrong}),
        sum(one.elements for one in replayed),
        worst,
        first,
        samples,
    )


@dataclass(frozen=True, eq=False)
class Passed:
    """One run of the program: what went in, the results that steps left (none for what is to be computed here), and
    what came out."""

    inputs: Sequence[Array]
    traced: Sequence[Traced] = ()
    outputs: Sequence[Array] = ()


def replay(
    method: Method,
    library: Library,
    board: Sequence[Traced],
    inputs: Sequence[Array],
    outputs: Sequence[Array] = (),
    rounding: str = "nearest",
) -> tuple[Replayed, ...]:
    """Each instruction that the board has a result of, in order, and each of the `outputs` that is none of these
    results. `inputs` are those of the traced sample, the first since the reset.

    What the board has no result of (a view, the inside of a fused operator) is computed here; what cannot be is passed
    over, and with it what depends on nothing else.
    """
    return next(replays(method, library, [Passed(inputs, board, outputs)], rounding))


def replays(
    method: Method, library: Library, runs: Sequence[Passed], rounding: str = "nearest"
) -> Iterator[tuple[Replayed, ...]]:
    """`replay` of runs that follow each other: what one leaves in a state the next one finds there."""
    checking = Replaying(method, library, LEEWAY[rounding])
    for one in runs:
        yield checking.run(one)


def _rename(facts: dict[int, Fact], source: int, out: int) -> None:
    """What is known of `source` holds for `out` from now on, and nothing else does."""
    facts.pop(out, None)
    if source in facts:
        facts[out] = facts[source]


def compared_with_pytorch(
    method: Method, library: Library, given: Sequence[Traced], run: Passed
) -> tuple[tuple[Replayed, ...], bool]:
    """Whether each operator of the program gives what PyTorch's gave (`given`, for the inputs and outputs of `run`),
    from PyTorch's own operands; the second says that all of them could be computed. Which of equal values an operator
    chooses is PyTorch's to say."""
    checking = Replaying(method, library, LEEWAY["nearest"], chooses=True)
    found = checking.run(replace(run, traced=given))
    return found, all(out in checking.known for instruction in method.instructions for out in instruction.outs[:1])


class Replaying:
    def __init__(
        self, method: Method, library: Library, leeway: float, *, ties: bool = False, chooses: bool = False
    ) -> None:
        """`ties` looks for those; `chooses` lets who is checked choose among equal values."""
        self.method, self.library, self.leeway, self.chooses = method, library, leeway, chooses
        self.traced: dict[int, deque[Traced]] = {}
        """What each step gave, those of its executions that are still to come."""
        self.board: dict[int, Traced] = {}
        """What each step gave when it last ran."""
        self.states: dict[int, Array] = {}
        self.known: dict[int, Array] = {}
        self.terms: dict[int, int] = {}
        """Float additions since the last result of the board's, by value: what float rounding errors grow with."""
        self.stored: dict[int, tuple[float, int]] = {}
        """Scale and zero point in int8 of dequantised values, by value, and of what consists of their elements."""
        self.ties: list[str] | None = [] if ties else None
        self.constants = {
            v.id: v.data for v in method.values.values() if v.role is Role.CONSTANT and v.data is not None
        }
        for value in method.values.values():
            if value.role is Role.STATE:
                self.states[value.id] = (
                    np.zeros(value.spec.shape, value.spec.dtype.numpy) if value.data is None else value.data
                )

    def run(self, one: Passed) -> tuple[Replayed, ...]:
        self.board, self.traced = {}, {}
        for traced in one.traced:
            self.traced.setdefault(traced.handle, deque()).append(traced)
        self.known = {**self.constants, **self.states, **dict(zip(self.method.inputs, one.inputs, strict=True))}
        self.terms, self.stored = {}, {}
        if self.ties is not None:
            self.ties = []
        found, checked = [], set()
        for instruction in self._walk():
            op = self.library.find(instruction.op)
            if op is None or not instruction.outs or any(read not in self.known for read in instruction.reads):
                continue
            result = self.result(instruction, op)
            if result is None:
                continue
            (out, *_) = instruction.outs
            spec = self.method.values[out].spec
            if (scale := self._scale(instruction, op)) is not None:
                self.stored[out] = scale
            got = self._traced(instruction, spec)
            if got is not None:
                found.append(self._checked(instruction, op, got, result))
                self.known[out], self.terms[out] = got.data, 0
                found += self._others(instruction, got)
                checked.add(out)
            else:
                stored = np.rint(result) if instruction.op in QUANTIZE else result
                self.known[out] = np.asarray(stored).astype(spec.dtype.numpy)
                self.terms[out] = 0 if instruction.op in QUANTIZE else self._terms(instruction, op)
                moved = self._moved(instruction, spec)
                if moved is not None:
                    found.append(self._compared(moved, self.known[out], self.terms[out]))
        made_by = {out: instruction for instruction in self.method.instructions for out in instruction.outs}
        for at, (out, output) in enumerate(zip(self.method.outputs, one.outputs, strict=False)):
            if out in self.known and out not in checked and out in made_by:
                made = Traced(made_by[out].handle, f"output {at}", made_by[out].source, output)
                found.append(self._compared(made, self.known[out], self.terms.get(out, 0)))
        self.states = {state: self.known[state] for state in self.states}
        return tuple(found)

    def result(self, instruction: Instruction, op: Op) -> Array | None:
        """The first result from what is known, of a quantise before it is rounded; the others become known. None for
        what cannot be computed."""
        if instruction.op in QUANTIZE:
            return self._exact(instruction)
        if instruction.op in (*DEQUANTIZE, DEQUANTIZE_CHANNELS):
            return self._dequantised(instruction)
        return self._computed(instruction, op)

    def _walk(self) -> Iterator[Instruction]:
        """The instructions as they run: on the way that known conditions choose, until one is not known."""
        instructions = self.method.instructions
        targets = jump_targets(instructions)
        at = 0
        while at < len(instructions):
            instruction, target = instructions[at], targets[at]
            at += 1
            if instruction.op == BEGIN:  # what its rounds will write rows of holds anything
                specs = {out: self.method.values[out].spec for out in instruction.outs}
                self.known.update({out: np.zeros(spec.shape, spec.dtype.numpy) for out, spec in specs.items()})
            elif instruction.op == NEXT:
                (count,), (_, rounds, _) = instruction.outs, instruction.args
                assert target is not None and isinstance(rounds, int)
                self.known[count] = self.known[count] + 1
                at = target if self.known[count] < rounds else at
            elif target is not None:
                condition = instruction.args[0]
                if isinstance(condition, Ref) and condition.id not in self.known:
                    return
                if not isinstance(condition, Ref) or not self.known[condition.id].any():
                    at = target
            elif instruction.op == MOVE:
                (source,), (out,) = instruction.reads, instruction.outs
                _rename(self.known, source, out)
                _rename(self.terms, source, out)
                _rename(self.stored, source, out)
            else:
                self.board.pop(instruction.handle, None)
                if left := self.traced.get(instruction.handle):
                    self.board[instruction.handle] = left.popleft()
                yield instruction

    def _others(self, instruction: Instruction, got: Traced) -> Iterator[Replayed]:
        """The further results of an instruction (places of maxima), checked and from now on known as they are."""
        for at, (out, data) in enumerate(zip(instruction.outs[1:], got.others, strict=False), 1):
            spec, wanted = self.method.values[out].spec, self.known.get(out)
            if data is None or wanted is None or data.dtype != spec.dtype.numpy or data.shape != spec.shape:
                continue
            name = f"result {at} of {got.name}"
            if not (self.chooses and self._same_choice(instruction, data, wanted)):
                yield self._compared(Traced(got.handle, name, got.source, data), wanted, 0)
            self.known[out] = data

    def _same_choice(self, instruction: Instruction, places: Array, wanted: Array) -> bool:
        """Are at these places the same values as at the wanted ones? Then they are equal ones, and the choice is
        free."""
        operand = instruction.args[0]
        if places.dtype.kind != "i" or not isinstance(operand, Ref) or places.size == 0:
            return False
        values = self.known[operand.id]
        node = node_of(self.method, instruction, self.library.ops[instruction.op])
        dim = next((node[one.name] for one in node.schema.parameters if one.name == "dim"), None)
        if isinstance(dim, int) and values.ndim:
            dim %= values.ndim
            if places.ndim == values.ndim - 1:
                places, wanted = np.expand_dims(places, dim), np.expand_dims(wanted, dim)
        elif (
            places.ndim == values.ndim >= 2 and places.shape[:-2] == values.shape[:-2]
        ):  # places in a plane, as pooling counts
            values, places, wanted = (one.reshape(*one.shape[:-2], -1) for one in (values, places, wanted))
            dim = values.ndim - 1
        else:
            values, places, wanted, dim = values.reshape(-1), places.reshape(-1), wanted.reshape(-1), 0
        if values.ndim != places.ndim or places.min() < 0 or places.max() >= values.shape[dim]:
            return False
        return np.array_equal(
            np.take_along_axis(values, places, dim), np.take_along_axis(values, wanted, dim), equal_nan=True
        )

    def _look_for_ties(self, instruction: Instruction, op: Op, node: Node, results: Sequence[Array]) -> None:
        """Notes an operator whose whole-numbered results (places) are others once its operand is moved by less than
        rounding."""
        operand = instruction.args[0] if instruction.args else None
        places = [at for at, one in enumerate(results) if one.dtype.kind == "i" and at not in node.unused_outs]
        if self.ties is None or not isinstance(operand, Ref) or not places:
            return
        values = self.known[operand.id]
        # else whole numbers are computed with
        chooses = values.dtype.kind == "f" or (bool(op.carries) and len(results) > 1)
        if not chooses or values.size == 0:
            return
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0)) if values.dtype.kind == "f" else 1.0
        reach = UNIT * math.sqrt(1 + self.terms.get(operand.id, 0)) * largest
        ramp = np.linspace(-reach, reach, values.size).reshape(values.shape)
        random = np.random.default_rng(0)
        moves = (ramp, -ramp, *(random.uniform(-reach, reach, values.shape) for _ in range(4)))
        for move in moves:
            again = self._results(op, node, {operand.id: values.astype(np.float64) + move})
            if any(not np.array_equal(results[at], again[at]) for at in places):
                place = f"{instruction.name} at {instruction.source}" if instruction.source else instruction.name
                self.ties.append(place)
                return

    def _scale(self, instruction: Instruction, op: Op) -> tuple[float, int] | None:
        """Scale and zero point in int8 of the elements of a float result that is nothing but dequantised values."""
        if instruction.op in DEQUANTIZE:
            operand, scale, zero_point = instruction.args[:3]
            assert isinstance(operand, Ref) and isinstance(scale, (int, float)) and isinstance(zero_point, int)
            unsigned = self.method.values[operand.id].spec.dtype is DType.UINT8
            return float(scale), zero_point - 128 * unsigned
        moved = carried(op, instruction)
        if instruction.op == WRITE_BACK and isinstance(instruction.args[1], Ref):
            moved = (instruction.args[1],)  # into a state, whatever that held
        # a constant is in int8 what the others are, where it can be exactly
        scales = {self.stored.get(one.id) for one in moved if one.id not in self.constants}
        return scales.pop() if len(scales) == 1 else None

    def _moved(self, instruction: Instruction, spec: TensorSpec) -> Traced | None:
        """What the board moved as it is stored and the program moves in float, as floats."""
        got, stored = self.board.get(instruction.handle), self.stored.get(instruction.outs[0])
        if (
            got is None
            or stored is None
            or got.data.dtype.kind != "i"
            or got.data.shape != spec.shape
            or spec.dtype is not DType.FLOAT32
        ):
            return None
        scale, zero_point = stored
        return replace(got, data=(got.data.astype(np.int64) - zero_point).astype(np.float32) * np.float32(scale))

    def _traced(self, instruction: Instruction, spec: TensorSpec) -> Traced | None:
        """The board's result of the instruction; of a quantise whose result the board computes before a view, in the
        view's shape."""
        got = self.board.get(instruction.handle)
        if got is not None and instruction.op in QUANTIZE and spec.dtype is DType.UINT8 and got.data.dtype == np.int8:
            # the target side computes in int8
            got = replace(got, data=(got.data.astype(np.int16) + 128).astype(np.uint8))
        if got is None or got.data.dtype != spec.dtype.numpy or got.data.size != math.prod(spec.shape):
            return None
        if instruction.op in QUANTIZE:
            return replace(got, data=got.data.reshape(spec.shape))
        return got if got.data.shape == spec.shape else None

    def _dequantised(self, instruction: Instruction) -> Array:
        """(q - zero point) * scale in float32; scales and zero points for each index of one dimension, or numbers."""
        operand, scale, zero_point = instruction.args[:3]
        assert isinstance(operand, Ref)
        stored = self.known[operand.id].astype(np.int64)
        if instruction.op == DEQUANTIZE_CHANNELS:
            axis = instruction.args[3]
            assert isinstance(axis, int) and isinstance(scale, Ref)
            shape = [-1 if dim == axis % stored.ndim else 1 for dim in range(stored.ndim)]
            zeros = self.known[zero_point.id].reshape(shape) if isinstance(zero_point, Ref) else 0
            return np.asarray(
                (stored - zeros).astype(np.float32) * self.known[scale.id].astype(np.float32).reshape(shape)
            )
        assert isinstance(scale, (int, float)) and isinstance(zero_point, int)
        return np.asarray((stored - zero_point).astype(np.float32) * np.float32(scale))

    def _computed(self, instruction: Instruction, op: Op) -> Array | None:
        """The instruction's first result by its numpy meaning; the others become known as well."""
        if op.reference is None:
            return None
        node = node_of(self.method, instruction, op)
        whole = self._results(op, node, {})
        self._look_for_ties(instruction, op, node, whole)
        self.known.update(zip(instruction.outs[1:], whole[1:], strict=False))
        return whole[0]

    def _results(self, op: Op, node: Node, instead: Mapping[int, Array]) -> tuple[Array, ...]:
        """What an operator makes of what is known, or of other contents `instead`."""
        assert op.reference is not None
        known, self.known = self.known, {**self.known, **instead} if instead else self.known
        with np.errstate(all="ignore"):
            results = op.reference(*(self._content(node[parameter.name]) for parameter in node.schema.parameters))
        self.known = known
        return tuple(np.asarray(one) for one in (results if isinstance(results, tuple) else (results,)))

    def _content(self, operand: object) -> object:
        if isinstance(operand, tuple):
            return tuple(self._content(item) for item in operand)
        return self.known[operand.id] if isinstance(operand, Value) else operand

    def _exact(self, quantise: Instruction) -> Array:
        """Stored values before they are rounded, float64, saturated; NaN is stored as 0."""
        operand, scale, zero_point, low, high = quantise.args[:5]
        assert isinstance(operand, Ref) and isinstance(scale, (int, float)) and isinstance(zero_point, int)
        assert isinstance(low, int) and isinstance(high, int)
        real = self.known[operand.id].astype(np.float64)
        exact: Array = np.where(np.isnan(real), 0.0, np.clip(real / float(np.float32(scale)) + zero_point, low, high))
        return exact

    def _terms(self, instruction: Instruction, op: Op) -> int:
        own = 0 if op.exact else max(1, op.sum_length(node_of(self.method, instruction, op))) if op.sum_length else 1
        return own + max((self.terms.get(read, 0) for read in instruction.reads), default=0)

    def _checked(self, instruction: Instruction, op: Op, got: Traced, wanted: Array) -> Replayed:
        """`wanted` is the exact value of a quantise, before rounding; of any other instruction, its result."""
        if instruction.op in QUANTIZE:
            allowed = 0.5 + self.leeway + self._float_noise(instruction)
            error = np.abs(got.data - wanted)
        elif requantises(instruction.op):
            allowed = 1.0  # the program rounds by itself, perhaps by the other rule
            error = absolute_error(got.data, wanted.astype(got.data.dtype))
        else:
            if self.chooses and self._same_choice(instruction, got.data, wanted):
                wanted = got.data
            return self._compared(got, wanted, max(1, self._terms(instruction, op)))
        return Replayed(
            got.handle,
            got.name,
            got.source,
            got.data.size,
            int((error > allowed).sum()),
            float(error.max(initial=0)),
            True,
        )

    def _compared(self, got: Traced, wanted: Array, terms: int) -> Replayed:
        """By the tolerance for floats after so many additions; without any it must be the same."""
        error = absolute_error(got.data, wanted.astype(got.data.dtype))
        largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0) if wanted.dtype.kind == "f" else 0
        allowed = UNIT * math.sqrt(terms) * float(largest)
        worst = float(error.max(initial=0))
        if worst:
            worst = worst / allowed if allowed else math.inf
        return Replayed(got.handle, got.name, got.source, got.data.size, int((error > allowed).sum()), worst, False)

    def _float_noise(self, quantise: Instruction) -> float:
        """By how much of a step the float sums behind the exact value may themselves be off."""
        operand, scale = quantise.args[:2]
        assert isinstance(operand, Ref) and isinstance(scale, (int, float))
        real = self.known[operand.id]
        largest = float(np.abs(real[np.isfinite(real)]).max(initial=0))
        return UNIT * math.sqrt(self.terms.get(operand.id, 0)) * largest / scale
