"""What is doubtful about calibration data: said at export, because int8 is no better than what it was shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Rows = Sequence[Tensor] | Tensor
"""A tensor a sample, or one of (samples, *shape)."""
FEWEST = 32
"""Eight samples cost 5 dB against 48 (docs/quantization.md)."""
FAR_OUT = 4.0
"""A sample that reaches so many times as far as nine of ten others do. One that was ten times too large cost 10 to 18
dB."""
BEYOND = 1.25
"""Samples that reach so many times as far as the calibration data."""
FAR_FROM_ZERO = 4.0
"""A distance from 0 of so many ranges leaves 256 / 5 steps for the range, as a range has to hold 0."""


def doubts(calibration: Sequence[Rows], samples: Sequence[Rows] | None, names: Sequence[str]) -> list[str]:
    """One line each. For each input the tensors of all samples; `samples` None where the script has none."""
    found = []
    count = len(calibration[0])
    if count < FEWEST:
        found.append(
            f"calibration() gives {count} sample{'s' * (count != 1)}: fewer than {FEWEST} show too little of the ranges"
        )
    for at, (name, data) in enumerate(zip(names, calibration, strict=True)):
        if data[0].is_floating_point() and any(one.numel() for one in data):
            given = None if samples is None else _all(samples[at])
            found += [
                line for line in (_odd(name, data), _beyond(name, _all(data), given), _far(name, _all(data))) if line
            ]
    return found


def _all(data: Rows) -> Tensor:
    """The elements of all samples."""
    return torch.cat([one.reshape(-1) for one in data])


def _odd(name: str, data: Rows) -> str:
    if len(data) < 10:
        return ""
    middle = _all(data).median()
    reach = torch.stack([(one - middle).abs().max() for one in data if one.numel()])
    usual = float(reach.sort().values[int(0.9 * (len(reach) - 1))])
    odd = [at for at in range(len(reach)) if float(reach[at]) > FAR_OUT * usual]
    if not odd or usual == 0:
        return ""
    first = max(odd, key=lambda at: float(reach[at]))
    what = (
        f"sample {first} of calibration()"
        if len(odd) == 1
        else f"{len(odd)} samples of calibration(), {first} among them,"
    )
    share = float(reach[first]) / usual
    return (
        f"{name}: {what} reach{'es' * (len(odd) == 1)} {share:.1f} times as far as nine of ten others do: it makes "
        "all steps coarser"
    )


def _beyond(name: str, data: Tensor, samples: Tensor | None) -> str:
    if samples is None or not bool(torch.isfinite(samples).all()):
        return ""
    low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
    least, most = float(samples.min()), float(samples.max())
    room = (BEYOND - 1) * (high - low)
    if least >= low - room and most <= high + room:
        return ""
    return (
        f"{name}: samples() reach {least:.4g} to {most:.4g}, calibration() {low:.4g} to {high:.4g}: int8 saturates "
        "beyond"
    )


def _far(name: str, data: Tensor) -> str:
    low, high = float(data.min()), float(data.max())
    distance = max(low, -high)
    if high == low or distance <= FAR_FROM_ZERO * (high - low):
        return ""
    steps = max(1, round(255 * (high - low) / max(abs(low), abs(high))))
    offset = (low + high) / 2
    return (
        f"{name}: values lie between {low:.6g} and {high:.6g}, {steps} of int8's 256 steps, for a range has to hold 0: "
        f"give x - {offset:.6g} instead, with {offset:.6g} times the sum of its weights added to each bias of the "
        "first layer"
    )
