"""Do the outputs of a board agree with PyTorch's?

The tolerance is stated, not tuned. One operator may err by 2e-6 of its largest result times the square root of the
number of terms in its sum (rounding errors of a sum grow like a random walk). Errors of operators that follow each
other add up like a random walk too, so a program may err by `2e-6 * sqrt(sum of all operators' sum lengths)` of the
largest result: `relative_tolerance`. Integers, booleans and the results of programs that only move or compare numbers
must be equal.

A quantised program is compared with the quantised network, in steps of the output's quantisation. Each requantisation
may round to the neighbour, so `max(2, ceil(sqrt(requantisations)))` steps are allowed: `steps_of`. A network may
amplify what its layers round; by how much tells its own distance from the float network, which is the rounding errors
of all of its elements, while the board rounds few of them otherwise: `AMPLIFIED` times the root of the mean square of
that distance is allowed as well, up to twice as many steps. That each single rounding is right is for `replay.py` to
see, and what it means for samples that are further off for `verdict.py`. What users ask of it, classes, accuracy,
signal to noise, is judged against the float network, on samples that were not calibrated with: `against_float.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from etexport.artifacts.reference import OUR_SAMPLES, Reference
from etexport.artifacts.sized import cut, padded
from etexport.errors import MismatchError, ModelError
from etexport.judge.against_float import AgainstFloat, against_float, decibels
from etexport.judge.steps import QUANTIZED, UNIT, Steps, allowed_steps, step_sizes, steps_allowed, whole_steps
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.program.model import Array, Method, Source


@dataclass(frozen=True)
class Difference:
    """One element that differs. `instruction` and `source` say where the first difference arose, where a trace was
    taken."""

    sample: int
    output: int
    index: tuple[int, ...]
    got: float
    expected: float
    tolerance: float
    instruction: str = ""
    source: Source | None = None
    method: str = ""
    """That was called, where samples are calls of several."""

    def __str__(self) -> str:
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        which = f"call {self.sample} ({self.method})" if self.method else f"sample {self.sample}"
        text = f"{which}, output {self.output}{place}: got {self.got:.9g}, expected {self.expected:.9g}"
        text += f" (tolerance {self.tolerance:.2g})"
        if self.instruction:
            text += f"; first wrong in {self.instruction}" + (f" at {self.source}" if self.source else "")
        return text


@dataclass(frozen=True)
class Worst:
    """The largest error of one sample; `share` is the error divided by what is allowed there (above 1: mismatched)."""

    sample: int
    max_abs_error: float
    share: float
    got_class: int | None
    expected_class: int | None
    label: int | None


@dataclass(frozen=True)
class Comparison:
    """`mismatched` and `same_class` count samples; accuracies are fractions of the labelled samples.

    `against` says who computed what is expected, `tolerance` is relative to the largest result; for a quantised program
    `tolerance_lsb` counts instead, in steps of the outputs. `judged` samples were not calibrated with: on these the
    accuracies and `same_class` are, against the float network. `beyond` are the samples that are further off than is
    allowed, furthest first; `rounded` of them are no mismatches, as every operator was computed again and is right
    (`verdict.py`). `flags` tells of what is allowed but strange: NaN or infinity in both, an output that never changes.
    """

    against: str
    samples: int
    judged: int
    max_abs_error: float
    max_lsb_error: int | None
    tolerance: float
    tolerance_lsb: int | None
    mismatched: int
    rounded: int
    first_difference: Difference | None
    accuracy: float | None
    accuracy_eager: float | None
    same_class: int | None
    flags: tuple[str, ...]
    worst: tuple[Worst, ...]
    beyond: tuple[int, ...] = ()
    against_float: AgainstFloat | None = None
    """On the judged samples; where all were calibrated with, on these."""
    snr_missing: str = "there is no float network to compare with"
    """Why the ratio of signal to noise is not known; empty where it is."""
    min_snr_db: float | None = None
    """What the script asks for at least."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """How many judged samples of each label (rows) got each class on the board; empty without labels."""

    @property
    def snr_db(self) -> float | None:
        return None if self.against_float is None or self.snr_missing else self.against_float.snr_db


def relative_tolerance(method: Method, library: Library, feeding: Sequence[Method] = ()) -> float:
    """How far the program's float results may be off, relative to the largest: 0 where every operator is exact.
    `feeding` are the methods that leave their results in states for this one."""
    return UNIT * math.sqrt(sum(_terms(one, library) for one in (method, *feeding)))


def _terms(method: Method, library: Library) -> int:
    terms = 0
    for instruction in method.instructions:
        op = library.find(instruction.op)
        if op is None:
            continue
        node = node_of(method, instruction, op)
        if op.exact or op.lower is None:
            continue
        terms += max(1, op.sum_length(node)) if op.sum_length else 1
    return terms


def compare(
    got: Sequence[Array],
    reference: Reference,
    tolerance: float,
    steps: Steps | None = None,
    *,
    listed: int = 8,
    excused: Collection[int] = (),
    notes: tuple[str, ...] = (),
) -> Comparison:
    """Compare outputs (samples first) with the reference; `tolerance` as `relative_tolerance` gives it, or `steps` as
    `steps_of` does. Lists the `listed` worst samples. `excused` samples may be further off than is allowed; `notes` say
    why, and join the flags.

    NaN equals NaN, and an infinity equals the same infinity. ModelError where number, shape or type of the outputs
    differ.
    """
    expected = reference.outputs
    check_form(got, expected)
    samples = reference.samples
    errors = [absolute_error(g, e) for g, e in zip(got, expected, strict=True)]
    sizes = step_sizes(expected, steps)
    allowed = limits(reference, tolerance, steps)
    wrong = [error > limit for error, limit in zip(errors, allowed, strict=True)]
    far = np.zeros(samples, dtype=bool)
    for one in wrong:
        far |= flat(one).any(axis=1)
    bad = far.copy()
    bad[list(excused)] = False
    voted = () if reconstructs(reference) else got
    mine, theirs = classes(voted), classes(voted and (reference.float_outputs or expected))
    labels = None if reference.labels is None else np.asarray(reference.labels).reshape(-1)
    order, share, largest = ranked(errors, allowed, samples)
    lsb = [whole_steps(error, size) for error, size in zip(errors, sizes, strict=True) if size is not None]
    judged = _judged(reference)
    counts = (
        []
        if steps is None
        else [steps_allowed(steps, size, noise) for size, noise in zip_longest(sizes, reference.noise)]
    )

    def at(votes: Array | None, sample: int) -> int | None:
        return None if votes is None else int(votes[sample])

    return Comparison(
        against=reference.by,
        samples=samples,
        judged=int(judged.sum()),
        max_abs_error=max((float(error.max(initial=0)) for error in errors), default=0.0),
        max_lsb_error=max(lsb, default=None),
        tolerance=0.0 if steps is not None else tolerance,
        tolerance_lsb=None if steps is None else max(counts, default=steps.allowed),
        mismatched=int(bad.sum()),
        rounded=int((far & ~bad).sum()),
        first_difference=first_difference(got, expected, allowed, wrong, bad),
        accuracy=agreement(mine, labels, judged),
        accuracy_eager=agreement(theirs, labels, judged),
        same_class=None if mine is None or theirs is None else int((mine == theirs)[judged].sum()),
        flags=(*flags(got, expected, reference.by), *notes),
        worst=tuple(
            Worst(int(s), float(largest[s]), float(share[s]), at(mine, s), at(theirs, s), at(labels, s))
            for s in order[:listed]
        ),
        beyond=tuple(int(s) for s in order if far[s]),
        against_float=(noise := _noise(got, reference, judged, steps is not None))[0],
        snr_missing=noise[1],
        min_snr_db=reference.min_snr_db,
        confusion=confusion(mine, labels, judged),
    )


def confusion(votes: Array | None, labels: Array | None, judged: Array) -> tuple[tuple[int, ...], ...]:
    """`Comparison.confusion`, of as many classes as there are among labels and votes."""
    if votes is None or labels is None or not judged.any():
        return ()
    count = 1 + int(max(votes.max(), labels.max()))
    found = np.zeros((count, count), np.int64)
    np.add.at(found, (labels[judged], votes[judged]), 1)
    return tuple(map(tuple, found.tolist()))


def converted_against_float(reference: Reference) -> tuple[AgainstFloat | None, str]:
    """What int8 costs before there is a board: the converted network's outputs against the float network's, and why
    that is not known."""
    return _noise(reference.outputs, reference, _judged(reference), quantized=True)


def _judged(reference: Reference) -> Array:
    """Which samples were not calibrated with."""
    return np.ones(reference.samples, dtype=bool) if reference.calibrated is None else ~reference.calibrated


def _noise(
    got: Sequence[Array], reference: Reference, judged: Array, quantized: bool
) -> tuple[AgainstFloat | None, str]:
    """The board's outputs against the float network's, and why that is not what is asked for."""
    wanted = reference.float_outputs or (reference.outputs if reference.by == "PyTorch" and not quantized else ())
    if not wanted:
        came = "without one" if reference.by != "PyTorch" else "quantised"
        return None, f"there is no float network to compare with, the program came {came}"
    real = [_real(one, *scale) for one, scale in zip(got, reference.scales or ((0.0, 0),) * len(got), strict=True)]
    if reference.sizes:  # what is behind a smaller sample stands for nothing
        rows = [
            [cut(one[at], size) for one, size in zip(real, sizes, strict=True)]
            for at, sizes in enumerate(reference.sizes)
        ]
        real = list(padded(rows))
    count, random = len(judged), reference.origin != OUR_SAMPLES
    chosen = judged if judged.any() else ~judged
    on = f"{int(chosen.sum())} samples" + (
        " that were calibrated with" if not judged.any() else "" if judged.all() else " not calibrated with"
    )
    on += f": {reference.origin}" if random else ""
    found = against_float(real, wanted, reference.names, chosen, on)
    if found is None:
        return None, "no output is a real number"
    return (
        found,
        ""
        if judged.any()
        else f"all {count} samples were calibrated with ({decibels(found.lowest.snr_db)} on these, which flatters)",
    )


def _real(stored: Array, scale: float, zero_point: int) -> Array:
    return (stored.astype(np.float64) - zero_point) * scale if scale and stored.dtype.kind in "iu" else stored


def limits(reference: Reference, tolerance: float, steps: Steps | None) -> list[Array]:
    """The error allowed in each output, shaped to broadcast against it."""
    expected = reference.outputs
    if steps is None:
        return [allowed_error(e, tolerance) for e in expected]
    sizes = step_sizes(expected, steps)
    counts = [steps_allowed(steps, size, noise) for size, noise in zip_longest(sizes, reference.noise)]
    return [allowed_steps(e, size, count) for e, size, count in zip(expected, sizes, counts, strict=True)]


def ranked(errors: Sequence[Array], allowed: Sequence[Array], samples: int) -> tuple[Array, Array, Array]:
    """(samples nearest to or beyond what is allowed, worst first and the earlier of two that are alike; error over what
    is allowed, and largest error, of each sample)."""
    share, largest = np.zeros(samples), np.zeros(samples)
    for error, limit in zip(errors, allowed, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            of_limit = np.where(error == 0, 0.0, error / limit)
        share = np.maximum(share, flat(of_limit).max(axis=1, initial=0.0))
        largest = np.maximum(largest, flat(error).max(axis=1, initial=0.0))
    return np.argsort(-share, kind="stable"), share, largest


def check_form(got: Sequence[Array], expected: Sequence[Array]) -> None:
    if len(got) != len(expected):
        raise ModelError(f"the board gave {len(got)} outputs, PyTorch {len(expected)}")
    for index, (g, e) in enumerate(zip(got, expected, strict=True)):
        if g.shape != e.shape or g.dtype != e.dtype:
            raise ModelError(
                f"output {index} is {g.dtype} {list(g.shape)} from the board and {e.dtype} {list(e.shape)} from "
                "PyTorch (samples first)",
                hint="were both files made of the same model?",
            )


def absolute_error(got: Array, expected: Array) -> Array:
    """|got - expected| as float64; 0 for two NaN or the same infinity, infinity where only one of them is not
    finite."""
    if got.dtype.kind in "biu":
        # Python-sized integers, so that int64 extremes do not wrap round.
        return np.asarray(np.abs(got.astype(object) - expected.astype(object)), dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        # numpy makes numbers of arrays without dimensions
        error = np.asarray(np.abs(got.astype(np.float64) - expected.astype(np.float64)))
    error[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0.0
    error[np.isnan(error)] = np.inf
    return error


def allowed_error(expected: Array, tolerance: float) -> Array:
    """The error allowed in each sample, shaped to broadcast against `expected`: `tolerance` of the largest finite
    result.

    The largest result is that of the sample, or the median over samples where that is larger: a result that cancels to
    almost nothing carries the rounding of the terms it was made from, and one huge sample must not excuse the others.
    """
    shape = (len(expected), *(1 for _ in expected.shape[1:]))
    if expected.dtype.kind in "biu":
        return np.zeros(shape)
    magnitudes = np.abs(np.where(np.isfinite(expected), expected, 0)).astype(np.float64)
    largest = flat(magnitudes).max(axis=1, initial=0.0)
    typical = float(np.median(largest)) if len(largest) else 0.0
    return np.asarray(tolerance * np.maximum(largest, typical)).reshape(shape)


def flat(array: Array) -> Array:
    """(samples, elements), also for samples that are scalars."""
    flattened: Array = array.reshape(len(array), -1)
    return flattened


def first_difference(
    got: Sequence[Array], expected: Sequence[Array], allowed: Sequence[Array], wrong: Sequence[Array], bad: Array
) -> Difference | None:
    """The first wrong element of the first wrong sample."""
    if not bad.any():
        return None
    sample = int(bad.argmax())
    for output, mask in enumerate(wrong):
        where = np.argwhere(mask[sample])
        if len(where):
            index = tuple(int(i) for i in where[0])
            limit = float(np.broadcast_to(allowed[output], got[output].shape)[(sample, *index)])
            return Difference(
                sample,
                output,
                index,
                float(got[output][(sample, *index)]),
                float(expected[output][(sample, *index)]),
                limit,
            )
    raise AssertionError("a wrong sample without a wrong element")


def classes(outputs: Sequence[Array]) -> Array | None:
    """The class that the first output votes for in each sample; None where it is not one row of two or more scores."""
    if not outputs:
        return None
    scores = outputs[0]
    if scores.dtype.kind in "iu" and flat(scores).shape[1] == 1:
        return flat(scores)[:, 0]  # the model ends in an argmax
    if scores.ndim < 2 or scores.shape[-1] < 2 or flat(scores).shape[1] != scores.shape[-1]:
        return None
    return np.asarray(flat(scores).argmax(axis=1))


def reconstructs(reference: Reference) -> bool:
    """The first output is as large as an input, as an autoencoder's: it votes for nothing."""
    if reference.labels is not None or not reference.outputs:
        return False
    sizes = {flat(one).shape[1] for one in reference.inputs}
    return flat(reference.outputs[0]).shape[1] in sizes - {0, 1}


def agreement(voted: Array | None, labels: Array | None, judged: Array) -> float | None:
    if voted is None or labels is None or not judged.any():
        return None
    return float(np.mean((voted == labels)[judged]))


def flags(got: Sequence[Array], expected: Sequence[Array], by: str = "PyTorch") -> tuple[str, ...]:
    """What a person should know although it may be right."""
    found = []
    for index, (g, e) in enumerate(zip(got, expected, strict=True)):
        for who, array in (("board", g), (by, e)):
            if array.dtype.kind != "f":
                continue
            nan = flat(np.isnan(array)).any(axis=1).sum()
            infinite = flat(np.isinf(array)).any(axis=1).sum()
            if nan:
                found.append(f"output {index} from {who} has NaN in {nan} of {len(array)} samples")
            if infinite:
                found.append(f"output {index} from {who} has infinities in {infinite} of {len(array)} samples")
        if len(g) > 1 and g.size and all(sample.tobytes() == g[0].tobytes() for sample in g[1:]):
            found.append(f"output {index} is the same for all {len(g)} samples")
    return tuple(found)


def require_equal(comparison: Comparison, where: str) -> None:
    """MismatchError (exit code 2) that names the first sample which differs."""
    if comparison.mismatched:
        assert comparison.first_difference is not None
        differ = f"{comparison.mismatched} of {comparison.samples} samples differ from {comparison.against}"
        raise MismatchError(
            f"{differ}; first: {comparison.first_difference}",
            where=where,
            hint=""
            if comparison.first_difference.instruction
            else "`etexport validate DIR --trace` looks for the first instruction that differs",
        )


# ---- where a difference arose ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Traced:
    """One instruction's first result as the board computed it for one sample, indexed as in the script; `others` are
    its further ones, None where there was nothing to see."""

    handle: int
    name: str
    source: Source | None
    data: Array
    others: tuple[Array | None, ...] = ()
    dim_order: tuple[int, ...] = ()
    """Of `data` in memory, where that is known."""


def first_divergence(
    board: Sequence[Traced], eager: Mapping[int, Array], tolerance: float, steps: Steps | None = None
) -> Traced | None:
    """The first instruction, in order of execution, whose result is not eager PyTorch's (`Reference.steps`); None where
    all agree.

    Instructions that eager PyTorch does not have (a layout conversion) are passed over. An instruction fused from
    several has the handle of the one that makes the result.
    """
    for traced in board:
        expected = eager.get(traced.handle)
        if expected is None or expected.shape != traced.data.shape or expected.dtype != traced.data.dtype:
            continue
        if steps is not None:
            own = 1.0 if expected.dtype.name in QUANTIZED else None
            (size,) = step_sizes([expected], Steps(steps.allowed, (own,)))
            limit = allowed_steps(expected[None], size, steps.allowed)[0]
        else:
            limit = allowed_error(expected[None], tolerance)[0]
        if (absolute_error(traced.data, expected) > limit).any():
            return traced
    return None


def placed(comparison: Comparison, divergence: Traced | None) -> Comparison:
    """The comparison with the instruction named in which the first difference arose."""
    if comparison.first_difference is None or divergence is None:
        return comparison
    difference = replace(comparison.first_difference, instruction=divergence.name, source=divergence.source)
    return replace(comparison, first_difference=difference)
