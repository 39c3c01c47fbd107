"""The verdict on calls of several methods: each method's outputs against PyTorch's, and where one differs the operators
of all calls up to it, computed again in order with the states that they share.

A sample is a call, and has its number among all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from etexport.judge.compare import Comparison, Traced, Worst, first_divergence, placed
from etexport.judge.replay import LEEWAY, Exact, Passed, Replayed, Replaying, summed_up
from etexport.judge.verdict import Evidence, Question, Verdict, by_outputs
from etexport.program.model import Array


@dataclass(frozen=True, eq=False)
class Calls:
    """A run of several methods, to be judged: their names in the order of the calls, `INIT` among them, and the calls
    of each method as a question of its own, whose samples have the numbers `Reference.calls`."""

    names: tuple[str, ...]
    questions: tuple[Question, ...]


def by_outputs_of(calls: Calls) -> Comparison:
    """What the outputs alone say."""
    return _together([(one, by_outputs(one)) for one in calls.questions])


def wanted_of(calls: Calls, comparison: Comparison, most: int) -> tuple[int, ...]:
    """The calls to be traced: all up to the first that differs, at most the first `most`, for states go through them.
    None of float methods whose outputs agree."""
    if not comparison.beyond and all(one.steps is None for one in calls.questions):
        return ()
    last = min(comparison.beyond, default=len(calls.names) - 1)
    return tuple(range(min(last + 1, most)))


def verdict_of_calls(calls: Calls, evidence: Evidence) -> Verdict:
    found: list[tuple[Question, Comparison]] = []
    for question in calls.questions:
        comparison = by_outputs(question)
        at = question.reference.calls[0]  # of which the reference has the steps
        if min(comparison.beyond, default=None) == 0 and at in evidence.traced:
            where = first_divergence(
                question.in_use(evidence.traced[at], 0), question.reference.steps, question.tolerance, question.steps
            )
            comparison = placed(comparison, where)
        found.append((question, comparison))
    return Verdict(_together(found), _exact(calls, evidence))


def _together(found: Sequence[tuple[Question, Comparison]]) -> Comparison:
    """One comparison of all calls."""
    every = [_numbered(question, comparison) for question, comparison in found]
    first = min(
        (one.first_difference for one in every if one.first_difference is not None),
        key=lambda one: one.sample,
        default=None,
    )
    worst = sorted((one for comparison in every for one in comparison.worst), key=lambda one: (-one.share, one.sample))
    shares = {one.sample: one.share for one in worst}
    beyond = sorted((call for one in every for call in one.beyond), key=lambda call: (-shares.get(call, 0.0), call))
    steps = [one.tolerance_lsb for one in every if one.tolerance_lsb is not None]
    lsb = [one.max_lsb_error for one in every if one.max_lsb_error is not None]
    return Comparison(
        against=every[0].against,
        samples=sum(one.samples for one in every),
        judged=sum(one.judged for one in every),
        max_abs_error=max(one.max_abs_error for one in every),
        max_lsb_error=max(lsb, default=None),
        tolerance=max(one.tolerance for one in every),
        tolerance_lsb=max(steps, default=None),
        mismatched=sum(one.mismatched for one in every),
        rounded=0,
        first_difference=first,
        accuracy=None,
        accuracy_eager=None,
        same_class=None,
        flags=tuple(
            f"{question.method.name}: {flag}"
            for (question, _), one in zip(found, every, strict=True)
            for flag in one.flags
        ),
        worst=tuple(worst[:8]),
        beyond=tuple(beyond),
    )


def _numbered(question: Question, comparison: Comparison) -> Comparison:
    """With the numbers that its samples have among all calls."""
    calls, difference = question.reference.calls, comparison.first_difference

    def call(worst: Worst) -> Worst:
        return replace(worst, sample=calls[worst.sample], got_class=None, expected_class=None)

    return replace(
        comparison,
        first_difference=difference
        and replace(difference, sample=calls[difference.sample], method=question.method.name),
        worst=tuple(map(call, comparison.worst)),
        beyond=tuple(calls[one] for one in comparison.beyond),
    )


def _exact(calls: Calls, evidence: Evidence) -> Exact:
    """The operators of all traced calls, by method, and the first that is wrong in the order of the calls."""
    made: dict[str, list[Replayed]] = {one.method.name: [] for one in calls.questions}
    wrong: list[str] = []
    for name, found in _replayed(calls, evidence):
        made[name] += found
        wrong += (f"{name}: {one}" for one in found if one.wrong)
    every = []
    for question in calls.questions:
        ran = frozenset(one.handle for at in question.reference.calls for one in _traced(evidence, at))
        every.append(summed_up(made[question.method.name], frozenset(question.handles) & ran))
    return Exact(
        operators=sum(one.operators for one in every),
        checked=sum(one.checked for one in every),
        wrong=sum(one.wrong for one in every),
        results=sum(one.results for one in every),
        worst_lsb=max(one.worst_lsb for one in every),
        first_wrong=next(iter(wrong), None),
        samples=tuple(sorted(evidence.traced)),
    )


def _traced(evidence: Evidence, call: int) -> Sequence[Traced]:
    return evidence.traced.get(call, ())


def _replayed(calls: Calls, evidence: Evidence) -> Iterator[tuple[str, tuple[Replayed, ...]]]:
    """Call by call: what one leaves in a state the next one finds there, of whichever method it is."""
    by_call = {
        call: (question, sample) for question in calls.questions for sample, call in enumerate(question.reference.calls)
    }
    replaying: dict[str, Replaying] = {}
    states: Mapping[int, Array] = {}
    for call in range(max(evidence.traced, default=-1) + 1):
        if call not in by_call:  # every state has its first content again
            replaying, states = {}, {}
            continue
        question, sample = by_call[call]
        name = question.method.name
        if name not in replaying or question.sized is not None:
            replaying[name] = Replaying(question.method_of(sample), question.library, LEEWAY[question.rounding])
        mine = replaying[name]
        mine.states = {id: states.get(id, first) for id, first in mine.states.items()}
        traced = question.in_use(_traced(evidence, call), sample)
        yield name, mine.run(Passed(question.inputs_of(sample), traced, evidence.outputs[call]))
        states = {**states, **mine.states}
