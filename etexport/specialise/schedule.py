"""What the board does, in order: steps of a kind. All that follows walks these, and takes a step to run not at all,
once, or often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from etexport.kernel.call import Call
from etexport.program.model import Instruction


@dataclass(frozen=True, eq=False)
class Step:
    """One instruction of the method after addressing; its position in the schedule is the instruction's there."""

    instruction: Instruction


@dataclass(frozen=True, eq=False)
class CallStep(Step):
    """A call of a kernel."""

    call: Call


@dataclass(frozen=True, eq=False)
class JumpStep(Step):
    """On to the step at position `target` (the number of steps: the end), always or, with a `condition`, where that
    value is false."""

    target: int
    condition: int | None = None


@dataclass(frozen=True, eq=False)
class BeginStep(Step):
    """A loop of so many rounds begins: value `count` is 0."""

    count: int
    rounds: int


@dataclass(frozen=True, eq=False)
class NextStep(JumpStep):
    """One is added to value `count`; below `rounds` it goes on at `target`, the step behind the loop's `BeginStep`."""

    count: int = -1
    rounds: int = 0


@dataclass(frozen=True, eq=False)
class MoveStep(Step):
    """Value `source` is called `out` from here on. Both lie at one place, so nothing is moved."""

    source: int
    out: int


@dataclass(frozen=True, eq=False)
class Schedule:
    steps: tuple[Step, ...]

    @cached_property
    def calls(self) -> Mapping[int, CallStep]:
        """The calls by position, in order."""
        return {at: step for at, step in enumerate(self.steps) if isinstance(step, CallStep)}
