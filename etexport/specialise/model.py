"""What the target side hands to the planner and the code generator."""

from __future__ import annotations

from dataclasses import dataclass

from etexport.kernel.call import Call, Target
from etexport.plan.problem import Place, Problem, Solution
from etexport.program.model import Instruction, Method, Value


@dataclass(frozen=True, eq=False)
class Step:
    """One instruction with the call that runs it."""

    instruction: Instruction
    call: Call


@dataclass(frozen=True)
class InFloat:
    """An instruction of a quantised program that computes in float, and why."""

    instruction: Instruction
    reason: str


@dataclass(frozen=True, eq=False)
class Specialised:
    """The method after layout, fusion and addressing: every instruction has a step, in order of
    execution; views are gone (`Value.storage`).
    """

    method: Method
    steps: tuple[Step, ...]
    target: Target
    in_float: tuple[InFloat, ...] = ()
    """What of a quantised program is not computed in integers; empty for a program without quantisation."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A specialised program with an address for every byte it needs in RAM. Emit walks `specialised.steps`."""

    specialised: Specialised
    problem: Problem
    solution: Solution

    def place(self, value: Value) -> Place:
        """Where the value lies; not for constants."""
        if value.storage is not None:
            return self.place(self.specialised.method.values[value.storage.base]) + value.storage.offset
        if not value.spec.nbytes:
            return Place(self.problem.regions[0].name, 0)  # what has no bytes is not planned
        return self.solution.places[value.name]

    def scratch(self, instruction: Instruction) -> Place:
        """Where the instruction's scratch lies."""
        return self.solution.places[scratch_name(instruction)]


def scratch_name(instruction: Instruction) -> str:
    """Name of the planner's buffer for the scratch of this instruction."""
    return f"{instruction.name}.scratch"
