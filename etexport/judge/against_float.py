"""What int8 costs: outputs against the *float* network's, on samples that were not calibrated with; the board's, and at
export those of the converted network.

The comparison with the quantised network (`compare.py`) shows whether the board computes rightly; that the network was
quantised well only this one shows. The measure is the ratio of signal to noise, 10 log10(sum y^2 / sum (y - board's)^2)
in dB over all elements of an output and all samples: 6 dB are one bit. int8 outputs are dequantised for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from etexport.errors import MismatchError
from etexport.program.model import Array

WARN_BELOW_DB = 20.0
"""Below this much a warning is given: noise is a tenth of the signal's amplitude. Trained classifiers kept their
accuracy between 22 and 38 dB when this was written, and lost 8 points at 7 dB; good int8 networks have 25 to 40."""


@dataclass(frozen=True)
class Output:
    """One output. Its largest error, in the output's unit, is at `index` of `sample`: the board `got` what should be
    `expected`."""

    output: int
    name: str
    snr_db: float
    max_abs_error: float
    sample: int
    index: tuple[int, ...]
    got: float
    expected: float


@dataclass(frozen=True)
class AgainstFloat:
    """`snr_db` is over all outputs together; `on` says which samples these are."""

    samples: int
    on: str
    snr_db: float
    outputs: tuple[Output, ...]

    @property
    def lowest(self) -> Output:
        return min(self.outputs, key=lambda one: one.snr_db)


class Activation(Protocol):
    """What is known of one result inside the network: `source` is `file:line` of the script, or empty."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def snr_db(self) -> float: ...


def ratio_db(signal: float, noise: float) -> float:
    """Infinite without noise, also of a signal that is 0 throughout; minus infinite where there is nothing but
    noise."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def against_float(
    got: Sequence[Array], wanted: Sequence[Array], names: Sequence[str], chosen: Array, on: str
) -> AgainstFloat | None:
    """Outputs of the board in their own unit, samples first, against those of the float network, on the `chosen`
    samples (a mask); None where no output is a real number, or no sample chosen."""
    places = np.flatnonzero(chosen)
    found, signal, noise = [], 0.0, 0.0
    for at, (board, real) in enumerate(zip(got, wanted, strict=True)):
        if real.dtype.kind != "f" or not places.size or not real[0].size:
            continue
        mine, theirs = board[places].astype(np.float64), real[places].astype(np.float64)
        same = ~np.isfinite(theirs) & (
            (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        )  # what stands for minus infinity is no signal
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(mine - theirs))
        error[np.isnan(error)] = np.inf
        own, off = float(np.sum(np.where(np.isfinite(theirs), theirs, 0.0) ** 2)), float(np.sum(error**2))
        worst = np.unravel_index(int(error.argmax()), error.shape)
        index = tuple(int(i) for i in worst[1:])
        sample = int(places[int(worst[0])])
        name = names[at] if at < len(names) else ""
        found.append(
            Output(
                at,
                name,
                ratio_db(own, off),
                float(error.max()),
                sample,
                index,
                float(mine[tuple(worst)]),
                float(theirs[tuple(worst)]),
            )
        )
        signal, noise = signal + own, noise + off
    return AgainstFloat(len(places), on, ratio_db(signal, noise), tuple(found)) if found else None


def first_lost(activations: Sequence[Activation], below_db: float) -> Activation | None:
    """The first activation, in order of execution, that has less signal to noise."""
    return next((one for one in activations if one.snr_db < below_db), None)


def warning(found: AgainstFloat | None, activations: Sequence[Activation]) -> str:
    """One line where an output has less than `WARN_BELOW_DB`, with the first activation that loses it."""
    if found is None or found.lowest.snr_db >= WARN_BELOW_DB:
        return ""
    low = found.lowest
    text = (
        f"output {low.output} has {decibels(low.snr_db)} of signal to noise against the float network, below "
        f"{WARN_BELOW_DB:.0f} dB"
    )
    lost = first_lost(activations, WARN_BELOW_DB)
    if lost is not None:
        return f"{text}; first lost in {_placed(lost)}"
    if activations:
        return (
            f"{text}; no activation alone is below, the weakest is "
            f"{_placed(min(activations, key=lambda one: one.snr_db))}"
        )
    return f"{text}; which activation loses it is not known"


def _placed(one: Activation) -> str:
    return f"{one.name}{f' ({one.source})' if one.source else ''}, {decibels(one.snr_db)}"


def decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "no noise" if value > 0 else "nothing but noise"


def signal_line(found: AgainstFloat | None, missing: str) -> str:
    """The ratio of signal to noise against the float network, with the worst element; or why that is not known
    (`missing`)."""
    if missing or found is None:
        return f"of signal to noise nothing is known: {missing}"
    low = found.lowest
    text = f"{decibels(found.snr_db)} of signal to noise against float PyTorch, on {found.on}"
    if len(found.outputs) > 1:
        text += f"; least in output {low.output}: {decibels(low.snr_db)}"
    worst = max(found.outputs, key=lambda one: one.max_abs_error)
    index = f"[{', '.join(map(str, worst.index))}]" if worst.index else ""
    return (
        f"{text}; worst element {worst.got:.4g} for {worst.expected:.4g} (sample {worst.sample}, output "
        f"{worst.output}{index})"
    )


LOOK_INTO_REPORT = "report.html shows which layer loses it; docs/quantization.md what helps"


def require_signal(
    found: AgainstFloat | None, missing: str, at_least_db: float, where: str, hint: str = LOOK_INTO_REPORT
) -> None:
    """MismatchError (exit code 2) where an output has less than `at_least_db`, or where that is not known (`missing`
    says why)."""
    if found is None or missing:
        raise MismatchError(
            f"at least {at_least_db:g} dB are asked for, and the signal to noise is not known: {missing}", where=where
        )
    low = found.lowest
    if low.snr_db < at_least_db:
        index = f"[{', '.join(map(str, low.index))}]" if low.index else ""
        worst = f"worst is sample {low.sample}{index}: {low.got:.6g} for {low.expected:.6g}"
        what = (
            f"output {low.output} has {decibels(low.snr_db)} of signal to noise against the float network, "
            f"{at_least_db:g} are asked for"
        )
        raise MismatchError(f"{what}; {worst}", where=where, hint=hint)
