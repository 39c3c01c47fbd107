"""Jumps as the `if` and the loops that one would have written by hand; where they are none of these, as labels and
goto."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from etexport.specialise.schedule import BeginStep, JumpStep, MoveStep, NextStep, Step

Line = tuple[int, str]
"""How deep it stands, and its text."""


@dataclass(frozen=True)
class Form:
    """How a step stands in `run()`: `before` it, how deep it is, and what stands for it where it is a jump. `marked`:
    it runs and so has a comment and a mark; what only closes a block, or names a value, has not."""

    before: tuple[Line, ...] = ()
    depth: int = 0
    lines: tuple[Line, ...] = ()
    marked: bool = True


def forms(steps: Sequence[Step], condition: Callable[[int], str]) -> tuple[Form, ...]:
    """The form of each step, and of the end. `condition` makes the expression of a value: of a condition, or of a
    count."""
    jumps = {at: step for at, step in enumerate(steps) if isinstance(step, JumpStep)}
    try:
        made = _Structured(jumps, len(steps), condition)
        made.stretch(0, len(steps), 0, None)
        found = made.forms()
    except _NoBlocks:
        found = _with_labels(steps, condition)
    unmarked = {at for at, step in enumerate(steps) if isinstance(step, (MoveStep, BeginStep))}
    return tuple(replace(form, marked=False) if at in unmarked else form for at, form in enumerate(found))


class _NoBlocks(Exception):
    """The jumps are no nested blocks."""


@dataclass
class _Structured:
    jumps: dict[int, JumpStep]
    count: int
    condition: Callable[[int], str]
    before: dict[int, list[Line]] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)
    lines: dict[int, list[Line]] = field(default_factory=dict)

    def forms(self) -> tuple[Form, ...]:
        return tuple(
            Form(
                tuple(self.before.get(at, ())),
                self.depth.get(at, 0),
                tuple(self.lines.get(at, ())),
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
            count = self.condition(jump.count)
            self.lines[first - 1] = [(depth, f"for ({count} = 0; {count} < {jump.rounds}; ++{count}) {{")]
        else:
            self.before.setdefault(first, []).append((depth, "for (;;) {" if jump.condition is None else "do {"))
        self.stretch(first, back, depth + 1, back + 1)
        self.jumps[back] = jump
        self.depth[back] = depth + 1
        self.lines[back] = [(depth, "}" if jump.condition is None else f"}} while (!{self.text(jump)});")]
        return back + 1

    def one(self, at: int, end: int, depth: int, left_to: int | None) -> int:
        self.depth[at] = depth
        jump = self.jumps.get(at)
        if jump is None:
            return at + 1
        if jump.target == left_to:
            if jump.condition is None:
                self.lines[at] = [(depth, "break;")]
            else:
                self.lines[at] = [(depth, f"if (!{self.text(jump)}) {{"), (depth + 1, "break;"), (depth, "}")]
            return at + 1
        if jump.condition is None or not at < jump.target <= end:
            raise _NoBlocks
        self.lines[at] = [(depth, f"if ({self.text(jump)}) {{")]
        other = self.jumps.get(jump.target - 1)
        over = jump.target - 1
        if other is None or over <= at or other.condition is not None or not jump.target <= other.target <= end:
            self.stretch(at + 1, jump.target, depth + 1, left_to)
            self.before.setdefault(jump.target, []).append((depth, "}"))
            return jump.target
        self.stretch(at + 1, over, depth + 1, left_to)
        self.depth[over] = depth + 1
        self.lines[over] = [(depth, "} else {")]
        self.stretch(jump.target, other.target, depth + 1, left_to)
        self.before.setdefault(other.target, []).append((depth, "}"))
        return other.target

    def text(self, jump: JumpStep) -> str:
        assert jump.condition is not None
        return self.condition(jump.condition)


def _with_labels(steps: Sequence[Step], expression: Callable[[int], str]) -> tuple[Form, ...]:
    targets = {step.target for step in steps if isinstance(step, JumpStep)}
    found = []
    for at, step in enumerate((*steps, None)):
        before = ((0, f"step_{at}:"),) if at in targets else ()
        lines: tuple[Line, ...] = ()
        if isinstance(step, BeginStep):
            lines = ((0, f"{expression(step.count)} = 0;"),)
        elif isinstance(step, JumpStep):
            go, condition = f"goto step_{step.target};", ""
            if isinstance(step, NextStep):
                condition = f"++{expression(step.count)} < {step.rounds}"
            elif step.condition is not None:
                condition = f"!{expression(step.condition)}"
            lines = ((0, f"if ({condition}) {{"), (1, go), (0, "}")) if condition else ((0, go),)
        found.append(Form(before, 0, lines))
    return tuple(found)
