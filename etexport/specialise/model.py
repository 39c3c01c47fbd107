"""What the target side hands to the planner and the code generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from etexport.kernel.call import Target
from etexport.plan.problem import Place, Problem, Solution
from etexport.program.interface import Interface
from etexport.program.model import Instruction, Method, Value
from etexport.specialise.schedule import CallStep, Schedule


@dataclass(frozen=True)
class InFloat:
    """An instruction of a quantised program that computes in float, and why."""

    instruction: Instruction
    reason: str


@dataclass(frozen=True, eq=False)
class Specialised:
    """The method after layout, fusion and addressing: instruction and step of one position belong together; views are
    gone (`Value.storage`).
    """

    method: Method
    schedule: Schedule
    target: Target
    in_float: tuple[InFloat, ...] = ()
    """What of a quantised program is not computed in integers; empty for a program without quantisation."""
    weights: str = ""
    """In what weights lie that stay in few bits beside floats ("int4"), the fewest that there are; "" where none do."""
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Of inputs and outputs whose sizes are known at run time: `formulas.Varying` where a size is."""
    least: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The least sizes of these."""

    @property
    def calls(self) -> Mapping[int, CallStep]:
        """The steps that call kernels, by position in the schedule."""
        return self.schedule.calls


@dataclass(frozen=True, eq=False)
class Placed:
    """A specialised method with an address for every byte it needs in RAM. Emit walks `specialised.schedule`."""

    specialised: Specialised
    problem: Problem
    solution: Solution
    first: int = 0
    """Number of its first step in the program: steps are counted through all methods."""
    interface: Interface = field(default_factory=Interface)

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
