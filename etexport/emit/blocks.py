"""Jumps as the `if` and the loops that one would have written by hand; where they are none of these, as labels and
goto. `control.j2` writes the marks as C++."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from etexport.emit.geometry import text
from etexport.specialise.schedule import BeginStep, JumpStep, MoveStep, NextStep, Step


class Kind(enum.Enum):
    IF = "if"
    ELSE = "else"
    FOR = "for"
    FOREVER = "forever"
    DO = "do"
    UNTIL = "until"
    BREAK = "break"
    END = "end"
    START = "start"
    LABEL = "label"
    GOTO = "goto"
    GOTO_NEXT = "goto next"


@dataclass(frozen=True)
class Mark:
    """A line of control flow, `depth` blocks deep. `value` is the condition, or the count of rounds, by id: BREAK,
    UNTIL and GOTO go on while it is false (always, without one), GOTO_NEXT while the count is below `rounds`, START
    makes it 0. `step` is where a label stands."""

    kind: Kind
    depth: int = 0
    value: int | None = None
    rounds: str = ""
    step: int = 0


@dataclass(frozen=True)
class Form:
    """How a step stands in `run()`: `before` it, how deep it is, and what stands for it where it is a jump. `marked`:
    it runs and so has a comment and a mark; what only closes a block, or names a value, has not."""

    before: tuple[Mark, ...] = ()
    depth: int = 0
    control: tuple[Mark, ...] = ()
    marked: bool = True


def forms(steps: Sequence[Step]) -> tuple[Form, ...]:
    """The form of each step, and of the end."""
    jumps = {at: step for at, step in enumerate(steps) if isinstance(step, JumpStep)}
    try:
        made = _Structured(jumps, len(steps))
        made.stretch(0, len(steps), 0, None)
        found = made.forms()
    except _NoBlocks:
        found = _with_labels(steps)
    unmarked = {at for at, step in enumerate(steps) if isinstance(step, (MoveStep, BeginStep))}
    return tuple(replace(form, marked=False) if at in unmarked else form for at, form in enumerate(found))


class _NoBlocks(Exception):
    """The jumps are no nested blocks."""


@dataclass
class _Structured:
    jumps: dict[int, JumpStep]
    count: int
    before: dict[int, list[Mark]] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)
    control: dict[int, Mark] = field(default_factory=dict)

    def forms(self) -> tuple[Form, ...]:
        return tuple(
            Form(
                tuple(self.before.get(at, ())),
                self.depth.get(at, 0),
                (self.control[at],) if at in self.control else (),
                at not in self.jumps or self.jumps[at].condition is not None,
            )
            for at in range(self.count + 1)
        )

    def stretch(self, first: int, end: int, depth: int, left_to: int | None) -> None:
        """Steps `first` to before `end`, inside a loop that is left to step `left_to`."""
        at = first
        while at < end:
            at = self.loop(at, end, depth) or self.one(at, end, depth, left_to)

    def loop(self, first: int, end: int, depth: int) -> int | None:
        """The outermost loop that begins here; returns the step behind it."""
        back = max(
            (at for at in range(first, end) if at in self.jumps and self.jumps[at].target == first), default=None
        )
        if back is None:
            return None
        jump = self.jumps.pop(back)
        if isinstance(jump, NextStep):
            self.control[first - 1] = Mark(Kind.FOR, depth, jump.count, text(jump.rounds))
        else:
            self.before.setdefault(first, []).append(Mark(Kind.FOREVER if jump.condition is None else Kind.DO, depth))
        self.stretch(first, back, depth + 1, back + 1)
        self.jumps[back] = jump
        self.depth[back] = depth + 1
        self.control[back] = Mark(Kind.END if jump.condition is None else Kind.UNTIL, depth, jump.condition)
        return back + 1

    def one(self, at: int, end: int, depth: int, left_to: int | None) -> int:
        self.depth[at] = depth
        jump = self.jumps.get(at)
        if jump is None:
            return at + 1
        if jump.target == left_to:
            self.control[at] = Mark(Kind.BREAK, depth, jump.condition)
            return at + 1
        if jump.condition is None or not at < jump.target <= end:
            raise _NoBlocks
        self.control[at] = Mark(Kind.IF, depth, jump.condition)
        other = self.jumps.get(jump.target - 1)
        over = jump.target - 1
        if other is None or over <= at or other.condition is not None or not jump.target <= other.target <= end:
            self.stretch(at + 1, jump.target, depth + 1, left_to)
            self.before.setdefault(jump.target, []).append(Mark(Kind.END, depth))
            return jump.target
        self.stretch(at + 1, over, depth + 1, left_to)
        self.depth[over] = depth + 1
        self.control[over] = Mark(Kind.ELSE, depth)
        self.stretch(jump.target, other.target, depth + 1, left_to)
        self.before.setdefault(other.target, []).append(Mark(Kind.END, depth))
        return other.target


def _with_labels(steps: Sequence[Step]) -> tuple[Form, ...]:
    targets = {step.target for step in steps if isinstance(step, JumpStep)}
    found = []
    for at, step in enumerate((*steps, None)):
        before = (Mark(Kind.LABEL, step=at),) if at in targets else ()
        control: tuple[Mark, ...] = ()
        if isinstance(step, BeginStep):
            control = (Mark(Kind.START, value=step.count),)
        elif isinstance(step, NextStep):
            control = (Mark(Kind.GOTO_NEXT, value=step.count, rounds=text(step.rounds), step=step.target),)
        elif isinstance(step, JumpStep):
            control = (Mark(Kind.GOTO, value=step.condition, step=step.target),)
        found.append(Form(before, 0, control))
    return tuple(found)
