"""From what an activation was seen to be, the range that int8 shall say: one observation, and the choice between three
rules behind it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import HistogramObserver

from etexport.program.model import Array

SMALLEST_SCALE = 2.0**-60
"""Only so that nothing is divided by zero. Products of two such scales are still ordinary float32 numbers."""
_SCALE_OF_NOTHING = 2.0**-12
"""Of an activation that was zero throughout."""

HEADROOM = 0.25
"""Of each range that depends on the inputs in a network with states: a sequence shows only where it went, its samples
are few that are independent, and what is cut off stays in a state (docs/quantization.md, "States")."""

_TAIL = 0.5e-5
_STEP = 1e-5


class RangeObserver(HistogramObserver):  # type: ignore[misc]  # torchao has no types
    """torchao's histogram, from which `rule` (one of RANGES) takes the range when the scale is asked for, on each side
    of zero `headroom` times as much wider."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"eps": SMALLEST_SCALE, **kwargs})
        self.rule = "histogram"
        self.headroom = 0.0

    def forward(self, x_orig: Tensor) -> Tensor:
        finite = torch.isfinite(x_orig)  # a histogram has no place for anything else
        super().forward(x_orig if bool(finite.all()) else x_orig[finite])
        return x_orig

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        if self.min_val > self.max_val:  # nothing was seen
            found: tuple[Tensor, Tensor] = super().calculate_qparams()
            return found
        if self.min_val == self.max_val == 0:
            return torch.tensor([_SCALE_OF_NOTHING]), torch.tensor([0], dtype=torch.int32)
        low, high = widened(*self.bounds(), self.headroom)
        return self._calculate_qparams(torch.tensor(low, dtype=torch.float32), torch.tensor(high, dtype=torch.float32))  # type: ignore[no-any-return]

    def bounds(self) -> tuple[float, float]:
        """The range by the rule, without headroom."""
        low, high = float(self.min_val), float(self.max_val)
        if self.rule == "minmax" or low == high:
            return low, high
        counts = self.histogram.double().numpy()
        first, last = _least_error(counts, low, high, self.dst_nbins) if self.rule == "histogram" else _inside(counts)
        width = (high - low) / len(counts)
        return low + width * first, low + width * (last + 1)


def widened(low: float, high: float, headroom: float) -> tuple[float, float]:
    """Each bound so much further from zero; a range that does not hold 0 grows away from it, for it will have to hold
    it."""
    return (low * (1 + headroom) if low < 0 else low), (high * (1 + headroom) if high > 0 else high)


def give_headroom(prepared: nn.Module, names: Collection[str]) -> None:
    """To the observers of these names."""
    for name, one in prepared.named_modules(remove_duplicate=False):
        if isinstance(one, RangeObserver) and name in names:
            one.headroom = HEADROOM


def choose(prepared: nn.Module, rule: str) -> None:
    """Ranges by this rule in the whole network."""
    for one in prepared.modules():
        if isinstance(one, RangeObserver):
            one.rule = rule


def _inside(counts: Array) -> tuple[int, int]:
    """The first and last bin without the tails."""
    total = np.cumsum(counts)
    first, last = np.searchsorted(total, [total[-1] * _TAIL, total[-1] * (1 - _TAIL)])
    return int(first), int(last)


def _least_error(counts: Array, low: float, high: float, steps: int) -> tuple[int, int]:
    """The first and last bin of the range whose squared error is least: what torchao's HistogramObserver searches, from
    the tails inwards by quantiles as long as the error falls. Its own loop over tensors takes a hundred times as
    long."""
    total, bins = np.cumsum(counts), len(counts)
    alpha, beta, first, last, least = 0.0, 1.0, 0, bins - 1, np.inf
    while alpha < beta:
        left = max(first, min(last, int(np.searchsorted(total, (alpha + _STEP) * total[-1]))))
        right = min(last, max(first, int(np.searchsorted(total, (beta - _STEP) * total[-1], side="right")) - 1))
        next_first, next_last = first, last
        if left - first > last - right:
            next_first, alpha = left, alpha + _STEP
        else:
            next_last, beta = right, beta - _STEP
        if (next_first, next_last) == (first, last):
            continue
        error = _error(counts, next_first, next_last, (high - low) / bins, steps)
        if error > least:
            break
        least, first, last = error, next_first, next_last
    return first, last


def _error(counts: Array, first: int, last: int, width: float, steps: int) -> float:
    """The sum of squared errors, values spread evenly over their bins, where the bins from `first` to `last` have
    `steps` steps."""
    step = width * (last - first + 1) / steps
    begin = (np.arange(len(counts)) - first) * width
    end = begin + width
    step_of_begin, step_of_end = (np.clip(np.floor(one / step), 0, steps - 1) for one in (begin, end))

    def integral(start: Any, stop: Any) -> Any:
        return (stop**3 - start**3) / 3

    from_begin = integral(begin - (step_of_begin + 0.5) * step, step / 2)
    between = (step_of_end - step_of_begin - 1) * integral(-step / 2, step / 2)
    to_end = integral(-step / 2, end - (step_of_end + 0.5) * step)
    return float((counts / width * (from_begin + between + to_end)).sum())
