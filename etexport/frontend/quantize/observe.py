"""What the values of a float graph are on real data: the ranges, and which numbers stand for infinity, as masks of
attention have them.

Decided by what was seen, never by the operator that made it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

OBSERVER = "activation_post_process"
"""In the names that torchao gives its observers."""
INFINITE = 1e4
"""What stands for infinity is at least as large,"""
APART = 16.0
"""at least so many times as large as the next smaller magnitude of its tensor,"""
NUMBERS = 4
"""and no more than so many numbers: it is written down, not computed."""
LONE = -32.0
"""What is below may do as minus infinity in sums (-100 is such a mask), if it is one number and the others are APART
from it."""


Change = Callable[[Node, Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """The values of one tensor over all samples.

    `low` and `high` are the smallest and the largest that stand for themselves (inf and -inf where none does). `minus`
    and `plus`: the numbers that stand for minus and plus infinity, ascending; they may be infinite themselves. NaN
    counts as nothing. `lone`: `low`, where it is a single number far below the others.
    """

    low: float
    high: float
    minus: tuple[float, ...] = ()
    plus: tuple[float, ...] = ()
    lone: float | None = None


def observed(model: GraphModule, samples: Sequence[Sequence[Tensor]], change: Change | None = None) -> dict[Node, Seen]:
    """What was seen of each float tensor of the graph, by the node that gives it.

    The samples run as the sequence that they are: a state lives on from one to the next. It is as before afterwards.
    `change` gives what takes the place of a tensor.
    """
    watch = _Watching(model, change)
    with torch.no_grad(), kept_states(model):
        for inputs in samples:
            watch.run(*inputs)
    return {node: one.seen() for node, one in watch.values.items()}


@contextlib.contextmanager
def kept_states(model: torch.nn.Module) -> Iterator[None]:
    """Within it the network may run; afterwards its buffers, but for those of observers, and the random numbers go on
    from where they were."""
    before = [(buffer, buffer.clone()) for name, buffer in model.named_buffers() if OBSERVER not in name]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            for buffer, content in before:
                buffer.detach().copy_(content)


class _Watching(Interpreter):
    def __init__(self, model: GraphModule, change: Change | None) -> None:
        super().__init__(model)
        self.change = change
        self.values: dict[Node, _Values] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if self.change is not None and isinstance(result, Tensor) and n.op != "output":
            result = self.change(n, result)
        if isinstance(result, Tensor) and result.is_floating_point() and n.op != "output":
            self.values.setdefault(n, _Values()).add(result.detach())
        return result


@dataclass
class _Values:
    """Small ones by their range; large magnitudes by power of two as well, each with its range and its first few
    numbers."""

    low: float = math.inf
    high: float = -math.inf
    large: dict[float, _Level] = field(default_factory=dict)
    below: _Level = field(default_factory=lambda: _Level())
    above: float = 0.0
    """The largest magnitude of what is not `below` LONE."""

    def add(self, x: Tensor) -> None:
        if not x.numel():
            return
        low, high = (float(bound) for bound in x.aminmax())
        if low > LONE and high < INFINITE:  # neither holds for NaN
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.above = max(self.above, -low, high)
            return
        x = x[~x.isnan()].double()
        is_large = x.abs() >= INFINITE
        small = x[~is_large]
        if small.numel():
            self.low, self.high = min(self.low, float(small.min())), max(self.high, float(small.max()))
        for number in np.unique(x[is_large].numpy()).tolist():
            power = math.inf if math.isinf(number) else float(math.frexp(number)[1])
            self.large.setdefault(power, _Level()).add(number)
        for number in np.unique(x[x <= LONE].numpy())[:2].tolist():
            self.below.add(number)
        others = x[x > LONE]
        self.above = max(self.above, float(others.abs().max())) if others.numel() else self.above

    def seen(self) -> Seen:
        """From the largest magnitude downwards, as long as what comes next lies far below."""
        levels = [level for _, level in sorted(self.large.items(), reverse=True)]
        ends = [at for at in range(1, len(levels) + 1) if self._rest(levels[at:]) * APART <= levels[at - 1].least]
        end = next((at for at in reversed(ends) if _are_written_down(levels[:at])), 0)
        numbers = sorted({number for level in levels[:end] for number in level.numbers})
        low = min([self.low, *(level.low for level in levels[end:])])
        high = max([self.high, *(level.high for level in levels[end:])])
        is_lone = len(self.below.numbers) == 1 and self.below.low == low and self.above * APART <= -low
        minus, plus = tuple(one for one in numbers if one < 0), tuple(one for one in numbers if one > 0)
        return Seen(low, high, minus, plus, low if is_lone else None)

    def _rest(self, levels: Sequence[_Level]) -> float:
        """The largest magnitude of what is small and of these."""
        small = max(abs(self.low), abs(self.high)) if self.low <= self.high else 0.0
        return max([small, *(level.most for level in levels)])


@dataclass
class _Level:
    low: float = math.inf
    high: float = -math.inf
    numbers: set[float] = field(default_factory=set)

    def add(self, number: float) -> None:
        self.low, self.high = min(self.low, number), max(self.high, number)
        if len(self.numbers) <= NUMBERS:
            self.numbers.add(number)

    @property
    def least(self) -> float:
        return min(abs(number) for number in (self.low, self.high))

    @property
    def most(self) -> float:
        return max(abs(self.low), abs(self.high))


def _are_written_down(levels: Sequence[_Level]) -> bool:
    """Infinities are, and a few numbers."""
    return len({number for level in levels for number in level.numbers if not math.isinf(number)}) <= NUMBERS
