"""One verdict on a run, whatever the road to it: do the outputs agree with PyTorch's, and is every operator right?

An int8 network amplifies what its layers round, and chooses between values that are equal: outputs may be further off
than is allowed although nothing is wrong, or within although something is. So operators decide. Of the samples that are
furthest off (and at least of one) every operator is computed again on the operands that the board had; a wrong one is a
fault, however near the outputs. A sample that is further off than is allowed is no mismatch where

- every operator of its run is right, and the run left the outputs that are judged;
- and the program is PyTorch's network: computed exactly from the sample's inputs, it gives PyTorch's outputs as near as
  is allowed. Where it chooses among equal values (`topk`, `argmax`, `sort`) PyTorch may choose otherwise, and what lies
  half-way between two stored values PyTorch's float32 may round to the other one, which then has to give PyTorch's
  outputs (`halfway.py`). Either way each of the program's operators must give PyTorch's results from PyTorch's own
  operands.

Nothing else excuses a sample.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from etexport.artifacts.reference import Reference
from etexport.artifacts.sized import cut
from etexport.errors import MismatchError
from etexport.judge.compare import (
    Comparison,
    Traced,
    absolute_error,
    compare,
    first_divergence,
    limits,
    placed,
    ranked,
    relative_tolerance,
    require_equal,
)
from etexport.judge.halfway import Halfway
from etexport.judge.replay import LEEWAY, Exact, Passed, Replayed, Replaying, compared_with_pytorch, summed_up
from etexport.judge.sized import in_use
from etexport.judge.steps import Steps, steps_of
from etexport.kernel.library import Library
from etexport.kernel.sizes import at, sizes_of
from etexport.program.model import JUMPS, Array, Method

FARTHEST = 1e3
"""As how many times what is allowed an error counts at most: infinity would hide what brings another one nearer."""

TRIED = 8
"""Of how many of the samples that are further off than is allowed operators are computed again, furthest first."""


@dataclass(frozen=True, eq=False)
class Question:
    """A run to be judged: `got` (samples first) against `reference`, of the same number of samples; `keeps_state` where
    one sample's outputs depend on those before."""

    method: Method
    library: Library
    reference: Reference
    got: Sequence[Array]
    keeps_state: bool
    rounding: str
    handles: Collection[int]
    """Of the board's steps that the program has as well."""
    feeding: tuple[Method, ...] = ()
    """The methods that leave their results in states for this one."""
    sized: Method | None = None
    """The method as the program has it, where sizes are known at run time; `method` is it for the largest then."""

    def method_of(self, sample: int) -> Method:
        """As it is for the sizes of this sample."""
        if self.sized is None:
            return self.method
        return at(self.sized, self.library, sizes_of(self.sized, self.reference.input_sizes[sample]))

    def inputs_of(self, sample: int) -> list[Array]:
        return _used(self.reference.inputs, self.reference.input_sizes, sample)

    def in_use(self, traced: Sequence[Traced], sample: int) -> Sequence[Traced]:
        """The results of its steps, at its sizes."""
        return traced if self.sized is None else in_use(traced, self.method, self.method_of(sample))

    def used(self, outputs: Sequence[Array], sample: int) -> list[Array]:
        """The outputs, samples first, of this one."""
        return _used(outputs, self.reference.sizes, sample)

    @functools.cached_property
    def steps(self) -> Steps | None:
        """Where sizes are known at run time, one step an output: which element has which depends on them."""
        found = steps_of(self.method_of(0), self.library, self.reference.steps)
        if found is None or self.sized is None:
            return found
        return replace(
            found, sizes=tuple(None if one is None else float(np.max(one, initial=0.0)) for one in found.sizes)
        )

    @property
    def tolerance(self) -> float:
        return relative_tolerance(self.method, self.library, self.feeding)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What runs of an image with traces left, by sample: the results of its steps, and its outputs. The samples of a
    program with a state are the first ones, all of them."""

    traced: Mapping[int, Sequence[Traced]]
    outputs: Mapping[int, Sequence[Array]]


@dataclass(frozen=True)
class Verdict:
    """`exact` is None where no operators were computed again; `missing` says why, for a program of which they should
    have been."""

    comparison: Comparison
    exact: Exact | None = None
    missing: str = ""


def _used(arrays: Sequence[Array], sizes: Sequence[Sequence[tuple[int, ...]]], sample: int) -> list[Array]:
    if not sizes:
        return [one[sample] for one in arrays]
    return [cut(one[sample], size) for one, size in zip(arrays, sizes[sample], strict=True)]


def by_outputs(question: Question) -> Comparison:
    """What the outputs alone say."""
    return compare(question.got, question.reference, question.tolerance, question.steps)


def wanted(question: Question, comparison: Comparison, most: int) -> tuple[int, ...]:
    """The samples whose runs are to be traced, in order: those furthest off that are beyond what is allowed, or the
    furthest of all. Of a program with a state all up to these, at most the first `most`; none of a float program whose
    outputs agree."""
    if not comparison.beyond and question.steps is None:
        return ()
    if not question.keeps_state:
        return comparison.beyond[:TRIED] or tuple(worst.sample for worst in comparison.worst[:1])
    within = [sample for sample in comparison.beyond if sample < most][:TRIED]
    return tuple(range(max(within, default=_furthest(question, most)) + 1))


def _furthest(question: Question, most: int) -> int:
    errors, allowed = _apart(question)
    order, _, _ = ranked(errors, allowed, question.reference.samples)
    return next((int(sample) for sample in order if sample < most), 0)


def _apart(question: Question) -> tuple[list[Array], list[Array]]:
    errors = [absolute_error(g, e) for g, e in zip(question.got, question.reference.outputs, strict=True)]
    return errors, limits(question.reference, question.tolerance, question.steps)


def verdict(question: Question, evidence: Evidence | None, missing: str = "") -> Verdict:
    """`missing` says why there is no evidence."""
    comparison = by_outputs(question)
    if evidence is None or not evidence.traced:
        return Verdict(comparison, None, missing)
    by_sample = _replayed(question, evidence)
    handles = _ran(question, evidence)
    exact = summed_up([one for found in by_sample.values() for one in found], handles, tuple(sorted(by_sample)))
    tried = comparison.beyond[:TRIED]
    proven = [
        sample
        for sample in tried
        if sample in by_sample
        and summed_up(by_sample[sample], _ran(question, evidence, sample)).proven
        and _same_outputs(question, evidence, sample)
    ]
    excused, notes = _excused(question, tried, proven)
    if excused and len(excused) == len(tried):
        excused = comparison.beyond  # the others are less far off, and the same image's
    if excused:
        share = comparison.worst[0].share
        times = f", up to {share:.3g} times" if math.isfinite(share) else ""  # of whole numbers nothing is allowed
        what = f"{len(excused)} of {comparison.samples} samples are further off than is allowed{times}"
        checked = "of each" if len(proven) == len(excused) else f"of the {len(proven)} furthest"
        notes = (
            f"{what}: no fault, for every operator {checked} gives what exact arithmetic does, and exactly computed "
            "they agree",
            *notes,
        )
    comparison = compare(
        question.got, question.reference, question.tolerance, question.steps, excused=excused, notes=notes
    )
    if comparison.first_difference is not None and 0 in evidence.traced:  # the reference has the steps of the first one
        where = first_divergence(
            question.in_use(evidence.traced[0], 0), question.reference.steps, question.tolerance, question.steps
        )
        comparison = placed(comparison, where)
    return Verdict(comparison, exact)


def _ran(question: Question, evidence: Evidence, *samples: int) -> frozenset[int]:
    """The steps to be computed again: of a program with jumps those that ran in these samples (or in any)."""
    if not _jumps(question):
        return frozenset(question.handles)
    traced = (one.handle for sample in samples or evidence.traced for one in evidence.traced[sample])
    return frozenset(question.handles) & frozenset(traced)


def _jumps(question: Question) -> bool:
    return any(one.op in JUMPS for one in question.method.instructions)


def _replayed(question: Question, evidence: Evidence) -> dict[int, tuple[Replayed, ...]]:
    found, states = {}, dict[int, Array]()
    for sample in sorted(evidence.traced):
        checking = Replaying(question.method_of(sample), question.library, LEEWAY[question.rounding])
        checking.states |= states
        outputs = _cut_all(evidence.outputs[sample], question.reference.sizes, sample)
        found[sample] = checking.run(
            Passed(question.inputs_of(sample), question.in_use(evidence.traced[sample], sample), outputs)
        )
        states = checking.states if question.keeps_state else {}
    return found


def _cut_all(arrays: Sequence[Array], sizes: Sequence[Sequence[tuple[int, ...]]], sample: int) -> list[Array]:
    return [cut(one, size) for one, size in zip(arrays, sizes[sample], strict=True)] if sizes else list(arrays)


def _same_outputs(question: Question, evidence: Evidence, sample: int) -> bool:
    """The image with traces gave what the image without gave."""
    traced = _cut_all(evidence.outputs[sample], question.reference.sizes, sample)
    return all(
        one.tobytes() == other.tobytes() for one, other in zip(traced, question.used(question.got, sample), strict=True)
    )


def _excused(
    question: Question, tried: Sequence[int], proven: Sequence[int]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which of the samples that the board computed rightly PyTorch's network would have computed nearly so; and what to
    say of them."""
    if not proven or _jumps(question):  # values half-way are looked for along one way
        return (), ()
    reference, tolerance = question.reference, question.tolerance
    if reference.by == "the host board":  # it ran this very program
        return tuple(proven), ()
    allowed = limits(reference, tolerance, question.steps)
    states = dict[int, Array]()
    plain, otherwise = list[int](), list[int]()
    ties, turned = set[str](), 0
    for sample in range(max(proven) + 1) if question.keeps_state else proven:
        every = [np.broadcast_to(one, e.shape) for one, e in zip(allowed, reference.outputs, strict=True)]
        limit, expected = question.used(every, sample), question.used(reference.outputs, sample)
        computing = Halfway(question.method_of(sample), question.library)
        computing.states |= states
        found = computing.sample(question.inputs_of(sample), partial(_apart_from, expected, limit))
        states = computing.states if question.keeps_state else {}
        if sample not in proven:
            continue
        if found.near and not found.others:
            plain.append(sample)
        elif found.near or found.ties:
            otherwise.append(sample)
            ties.update(() if found.near else found.ties)
            turned = max(turned, found.others)
    if not otherwise or not _is_pytorchs(question):
        return tuple(plain), ()
    notes = [f"equal values come in another order in {one}: no difference" for one in sorted(ties)]
    if turned:
        what = "one value" if turned == 1 else f"up to {turned} values"
        notes.append(
            f"PyTorch's float32 rounds {what} half-way between two stored ones to the other one: no difference"
        )
    return (*plain, *otherwise), tuple(notes)


def _apart_from(expected: Sequence[Array], allowed: Sequence[Array], outputs: Sequence[Array | None]) -> float:
    """0 where outputs are as near as is allowed, infinity where one could not be computed; else a measure of how far
    they are."""
    sizes = []
    for one, e, limit in zip(outputs, expected, allowed, strict=True):
        if one is None:
            return math.inf
        error = absolute_error(one.astype(e.dtype), e)
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes.append(np.where(error == 0, 0.0, np.minimum(error / limit, FARTHEST)).reshape(-1))
    shares = np.concatenate(sizes) if sizes else np.zeros(0)
    return float((shares**2).sum()) if (shares > 1).any() else 0.0


def _is_pytorchs(question: Question) -> bool:
    """Whether each operator of the program gives PyTorch's results, of sample 0, from PyTorch's own operands."""
    reference, made, method = question.reference, [], question.method_of(0)
    for one in method.instructions:
        if (data := reference.steps.get(one.handle)) is not None:
            others = tuple(reference.choices.get((one.handle, at)) for at in range(1, len(one.outs)))
            made.append(Traced(one.handle, one.name, one.source, data, others))
    run = Passed(question.inputs_of(0), outputs=question.used(reference.outputs, 0))
    replayed, complete = compared_with_pytorch(method, question.library, made, run)
    return complete and bool(made) and not any(one.wrong for one in replayed)


def require_right(judged: Verdict, where: str) -> None:
    """MismatchError (exit code 2) that names the first instruction with a wrong result, else the first sample that
    differs."""
    exact = judged.exact
    # a float program's first difference says more
    if exact is not None and exact.wrong and judged.comparison.tolerance_lsb is not None:
        more = f"; {exact.wrong - 1} more are wrong by their own operands" if exact.wrong > 1 else ""
        raise MismatchError(f"first wrong is {exact.first_wrong}{more}", where=where)
    require_equal(judged.comparison, where)
