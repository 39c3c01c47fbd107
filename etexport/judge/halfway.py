"""Does a program give PyTorch's outputs once values half-way between two stored ones are rounded to the other?

A mean of four stored values lies in the middle between two every fourth time. There a last bit of float32 decides, and
with it the order in which PyTorch's kernels add, which is no property of the network. Mostly nobody sees it; a norm of
few values makes much of one step. So where exact arithmetic does not give PyTorch's outputs, the values are looked for
that a float32 cannot tell from the middle, and one after the other, in the program's order, is rounded the other way
and all behind it computed again (then two at a time). What brings the outputs nearer to PyTorch's is kept, until they
are as near as is allowed or `TRIALS` are used up. Nothing but such values is free, at most `OTHERS` of them, and they
have to explain the outputs: a step elsewhere stays a difference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from etexport.judge.replay import LEEWAY, Replaying
from etexport.judge.steps import QUANTIZE, UNIT
from etexport.kernel.library import Library
from etexport.program.model import Array, Instruction, Method, Ref

TRIALS = 512
"""How often values of one sample are rounded the other way to see what comes of it."""

OTHERS = 16
"""How many of them may be rounded otherwise than exact arithmetic would."""

WORK = 1 << 28
"""Elements computed for one sample at most: large networks have fewer trials."""

Distance = Callable[[Sequence[Array | None]], float]
"""How far outputs are from the wanted ones; 0 where they are as near as is allowed."""

Flips = Mapping[int, frozenset[int]]
"""Elements that are rounded the other way, by the place of the quantise in the program."""


@dataclass(frozen=True)
class Found:
    """What became of one sample. `near`: the outputs are the wanted ones, with `others` values rounded the other way.
    `ties`: the operators whose choice among equal or nearly equal values could have been another one (`topk` at line
    12)."""

    near: bool
    others: int
    ties: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Run:
    known: dict[int, Array]
    middles: dict[int, Array]
    """Flat indices of the elements that lie half-way, by the place of the quantise in the program."""
    flips: Flips = field(default_factory=dict)
    elements: int = 0
    """That were computed."""


def _free(run: _Run) -> list[tuple[int, int]]:
    """What may be rounded either way: the quantise's place in the program, and the element."""
    return [(at, int(one)) for at, found in sorted(run.middles.items()) for one in found]


def _turned(flips: Flips, elements: Sequence[tuple[int, int]]) -> Flips:
    """With these the other way than they were."""
    changed = dict(flips)
    for at, element in elements:
        changed[at] = changed.get(at, frozenset()) ^ {element}
    return changed


class Halfway(Replaying):
    """A program on samples that follow each other; what one leaves in a state, rounded as was found, the next one finds
    there."""

    def __init__(self, method: Method, library: Library) -> None:
        super().__init__(method, library, 0.0, ties=True)

    def sample(self, inputs: Sequence[Array], distance: Distance) -> Found:
        self.ties = []
        self.terms = {}
        run = self._run({**self.constants, **self.states, **dict(zip(self.method.inputs, inputs, strict=True))})
        ties, self.ties = tuple(self.ties), None  # looked for once
        apart = distance(self._outputs(run))
        if apart and not ties:
            run, apart = self._nearer(run, apart, distance)
        self.states = {state: run.known[state] for state in self.states}
        return Found(apart == 0.0, sum(map(len, run.flips.values())), ties)

    def _nearer(self, run: _Run, apart: float, distance: Distance) -> tuple[_Run, float]:
        """With other rounding where that brings the outputs nearer: of one value after the other, then of two at a
        time."""
        trials, work = 0, 0
        for at_once in (1, 2):
            better = True
            while better:
                better = False
                for turned in itertools.combinations(_free(run), at_once):
                    if trials == TRIALS or work > WORK:
                        return run, apart
                    flips = _turned(run.flips, turned)
                    if sum(map(len, flips.values())) > OTHERS:
                        continue
                    other = self._run(run.known, run, flips, min(at for at, _ in turned))
                    trials, work = trials + 1, work + other.elements
                    if (nearer := distance(self._outputs(other))) < apart:
                        run, apart, better = other, nearer, True
                    if not apart:
                        return run, apart
        return run, apart

    def _outputs(self, run: _Run) -> list[Array | None]:
        return [run.known.get(out) for out in self.method.outputs]

    def _run(
        self, known: Mapping[int, Array], base: _Run | None = None, flips: Flips | None = None, first: int = 0
    ) -> _Run:
        """From instruction `first` on, and of a run that there was only what has become other."""
        self.known = {**known, **self.states}
        flips, middles, changed, elements = flips or {}, dict(base.middles) if base else {}, set[int](), 0
        for at, instruction in enumerate(self.method.instructions[first:], first):
            op = self.library.find(instruction.op)
            if op is None or not instruction.outs or any(read not in self.known for read in instruction.reads):
                continue
            if (
                base
                and at > first
                and changed.isdisjoint(instruction.reads)
                and self.states.keys().isdisjoint(instruction.outs)
            ):
                continue
            before = {out: self.known.get(out) for out in instruction.outs}
            result = self.result(instruction, op)
            if result is None:
                continue
            (out, *_) = instruction.outs
            if instruction.op in QUANTIZE:
                result, middles[at] = self._rounded(instruction, result, flips.get(at, frozenset()))
            self.known[out] = np.asarray(result).astype(self.method.values[out].spec.dtype.numpy)
            self.terms[out] = 0 if instruction.op in QUANTIZE else self._terms(instruction, op)
            elements += sum(
                self.known[one].size for one in (*instruction.reads, *instruction.outs) if one in self.known
            )
            for one, old in before.items():
                if old is None or one not in self.known or old.tobytes() != self.known[one].tobytes():
                    changed.add(one)
        return _Run(self.known, middles, flips, elements)

    def _rounded(self, quantise: Instruction, exact: Array, other: frozenset[int]) -> tuple[Array, Array]:
        """To the nearest, but for those of the `other` elements that lie half-way; and all that do."""
        operand, scale = quantise.args[:2]
        assert isinstance(operand, Ref) and isinstance(scale, (int, float))
        real = self.known[operand.id]
        largest = float(np.abs(real[np.isfinite(real)]).max(initial=0))
        # PyTorch's product with 1 / scale is one term more
        blurred = UNIT * math.sqrt(1 + self.terms.get(operand.id, 0)) * largest / scale
        nearest = np.rint(exact)
        off = (exact - nearest).reshape(-1)
        middles = np.flatnonzero(np.abs(off) >= 0.5 - min(blurred, LEEWAY["nearest"]))
        stored = nearest.reshape(-1).copy()
        turned = middles[np.isin(middles, tuple(other))]
        stored[turned] += np.where(off[turned] < 0, -1, 1)
        return stored.reshape(exact.shape), middles
