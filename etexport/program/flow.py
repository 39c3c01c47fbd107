"""Facts that hold at each instruction, computed forward over jumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from etexport.errors import ProgramError
from etexport.program.model import JUMP_FALSE, Instruction

S = TypeVar("S")

MAX_JUMPS = 256
MAX_PASSES = 16


def jump_targets(instructions: Sequence[Instruction]) -> tuple[int | None, ...]:
    """For each instruction the position that it may jump to (the number of instructions: the end), None where it does not jump.

    ProgramError where a jump has no legal destination.
    """
    positions = {instruction.handle: position for position, instruction in enumerate(instructions)}
    positions[-1] = len(instructions)
    found: list[int | None] = []
    for instruction in instructions:
        if instruction.op != JUMP_FALSE:
            found.append(None)
            continue
        destination = instruction.args[1] if len(instruction.args) == 2 else None
        if not isinstance(destination, int) or destination not in positions:
            raise ProgramError(f"it jumps to {destination!r}, which is no instruction", where=instruction.where)
        found.append(positions[destination])
    if sum(target is not None for target in found) > MAX_JUMPS:
        raise ProgramError(f"the method has more than {MAX_JUMPS} jumps")
    return tuple(found)


def forward(
    instructions: Sequence[Instruction],
    start: S,
    step: Callable[[int, S], None],
    copy: Callable[[S], S],
    meet: Callable[[S, S], S],
) -> S | None:
    """Run `step(position, state)`, which changes the state, over every instruction that can be reached, until loops are stable.

    `meet` joins what two ways to the same instruction bring, and only ever takes away: `step` may report what it finds missing
    at once, since a later pass finds no more. Returns the state at the end, None when the end cannot be reached.
    """
    targets = jump_targets(instructions)
    count = len(instructions)
    back: dict[int, S] = {}
    for _ in range(MAX_PASSES):
        arriving: dict[int, S] = dict(back)
        new_back: dict[int, S] = {}
        state: S | None = copy(start)
        for position in range(count + 1):
            if position in arriving:
                state = copy(arriving[position]) if state is None else meet(state, arriving[position])
            if position == count or state is None:
                continue
            instruction, target = instructions[position], targets[position]
            step(position, state)
            if target is None:
                continue
            into = new_back if target <= position else arriving
            into[target] = meet(into[target], state) if target in into else copy(state)
            if instruction.args[0] is False:
                state = None
        if new_back == back:
            return state
        back = new_back
    raise ProgramError("its loops are nested too deeply to follow")
