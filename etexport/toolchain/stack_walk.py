"""Follows the instructions of one function and keeps count of the stack: how deep it goes, and how deep it is wherever
another is called.

What single instructions do is said by `stack_arm.py` and `stack_riscv.py`; this file knows flow only. Nothing is
guessed: a stack pointer that becomes unknown, or a jump through a register whose value is unknown, is written down as a
problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Instruction:
    address: int
    next: int
    """Address of the instruction behind it."""
    mnemonic: str
    operands: tuple[str, ...]
    comment: str


class What(Enum):
    CONST = "const"
    """The number is known."""
    STACK = "stack"
    """An address of this frame: `number` bytes below the stack pointer at entry."""
    RETURN = "return"
    """The address to which the function returns."""
    TABLE = "table"
    """A word of a table at address `number`, index unknown, with `bias` added to the word."""
    INDEX = "index"
    """An unknown index added to `number`."""


@dataclass(frozen=True)
class Known:
    """What is known of a register."""

    what: What
    number: int = 0
    bias: int = 0


Registers = dict[str, Known]


class Flow(Enum):
    NEXT = "next"
    BRANCH = "branch"
    """To `target` or on."""
    JUMP = "jump"
    CALL = "call"
    RETURN = "return"
    RETURN_OR_NEXT = "return or next"
    SWITCH = "switch"
    """To one of several places of the same function."""
    UNKNOWN_JUMP = "unknown jump"
    UNKNOWN_CALL = "unknown call"
    STOP = "stop"


@dataclass(frozen=True)
class Effect:
    """`depth` and `registers` after the instruction; `lost` says why the depth is not known (and `depth` is then that
    before it)."""

    flow: Flow
    depth: int
    registers: Registers
    target: int = 0
    lost: str = ""
    sets_stack: bool = False
    """The stack pointer was given a new start, as reset code does."""


Step = Callable[[Instruction, int, Registers, "Code"], Effect]


@dataclass(frozen=True)
class Code:
    """All that is needed of the ELF: its instructions, where functions start and end, and words of memory."""

    instructions: Mapping[int, Instruction]
    names: dict[int, str]
    """Functions by address. Those that are only found because they are called are added."""
    ends: dict[int, int]
    word: Callable[[int], int | None]
    step: Step
    entry_registers: Mapping[str, Known]

    def function_at(self, address: int) -> bool:
        return address in self.names


@dataclass
class Walk:
    """What was seen. `calls` and `jumps` (tail calls) have the largest depth at which each callee is entered."""

    depth: int = 0
    calls: dict[int, int] = field(default_factory=dict)
    jumps: dict[int, int] = field(default_factory=dict)
    unknown_calls: dict[int, int] = field(default_factory=dict)
    """Depth by address of the instruction."""
    lost: dict[int, str] = field(default_factory=dict)
    sets_stack: list[int] = field(default_factory=list)
    dynamic: bool = False
    """The stack grows each time a loop goes round."""


# A place is looked at again whenever it is reached with a deeper stack; in code of compilers that settles at once.
_MOST_VISITS = 12


def walk(code: Code, start: int, frame: int | None = None) -> Walk:
    """Follow the function at `start`. `frame` is the compiler's figure for a fixed frame: where the depth is lost it is
    taken instead."""
    seen = Walk()
    states: dict[int, tuple[int, Registers]] = {}
    visits: dict[int, int] = {}
    todo: list[tuple[int, int, Registers, bool]] = [(start, 0, dict(code.entry_registers), False)]
    switch: tuple[int, Registers] | None = None

    def leave(into: dict[int, int], callee: int, depth: int) -> None:
        into[callee] = max(depth, into.get(callee, 0))

    while todo or (todo := _places_left(code, start, states, *(switch or (seen.depth, {})))):
        address, depth, registers, after_call = todo.pop()
        if address != start and code.function_at(address):
            # What stands behind a call right before the next function is never reached: the callee does not return.
            if not after_call:
                leave(seen.jumps, address, depth)
            continue
        instruction = code.instructions.get(address)
        if instruction is None:
            continue
        if address in states:
            old_depth, old_registers = states[address]
            merged = _common(old_registers, registers)
            if depth <= old_depth and merged == old_registers:
                continue
            depth, registers = max(depth, old_depth), merged
        visits[address] = visits.get(address, 0) + 1
        if visits[address] > _MOST_VISITS:
            seen.dynamic = True
            continue
        states[address] = (depth, registers)

        effect = code.step(instruction, depth, dict(registers), code)
        after = effect.depth
        if effect.lost:
            if frame is None:
                seen.lost[address] = effect.lost
            else:
                after = frame
        if effect.sets_stack:
            seen.sets_stack.append(address)
        seen.depth = max(seen.depth, depth, after)
        behind = (instruction.next, after, effect.registers, after_call and instruction.mnemonic.startswith("nop"))
        if effect.flow is Flow.NEXT or effect.flow is Flow.RETURN_OR_NEXT:
            todo.append(behind)
        elif effect.flow in (Flow.BRANCH, Flow.JUMP):
            if effect.target != start and code.function_at(effect.target):
                leave(seen.jumps, effect.target, after)
            else:
                todo.append((effect.target, after, dict(effect.registers), False))
            if effect.flow is Flow.BRANCH:
                todo.append(behind)
        elif effect.flow is Flow.CALL:
            leave(seen.calls, effect.target, after)
            todo.append((instruction.next, after, effect.registers, True))
        elif effect.flow is Flow.UNKNOWN_CALL:
            seen.unknown_calls[address] = after
            todo.append((instruction.next, after, effect.registers, True))
        elif effect.flow is Flow.UNKNOWN_JUMP:
            seen.unknown_calls[address] = after
        elif effect.flow is Flow.SWITCH:
            known_before = effect.registers if switch is None else switch[1]
            switch = (max(after, switch[0] if switch else 0), _common(known_before, effect.registers))
    return seen


def _common(one: Registers, other: Registers) -> Registers:
    return {name: known for name, known in one.items() if other.get(name) == known}


def _places_left(
    code: Code, start: int, states: Mapping[int, object], depth: int, registers: Registers
) -> list[tuple[int, int, Registers, bool]]:
    """The first place of the function not seen yet. A switch may go anywhere in its function, at the depth that it has
    itself; and where there is no switch, code that nothing seems to lead to is better counted than trusted to be
    dead."""
    address = start
    while address < code.ends[start]:
        instruction = code.instructions.get(address)
        if instruction is not None and address not in states and not instruction.mnemonic.startswith("nop"):
            return [(address, depth, dict(registers), False)]
        address = instruction.next if instruction is not None else address + 1
    return []
