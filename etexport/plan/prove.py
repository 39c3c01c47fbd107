"""A planner that asks a constraint solver (OR-tools' CP-SAT): slower than ours, but it decides more, negative distances
among them.

`--planner etexport.plan.prove:prove`, after `pip install etexport[prove]` (30 MB). It starts from our own plan and can
only improve on it. One thread, a fixed seed and a limit in deterministic work, so that every machine gets the same
plan.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from typing import Any

from etexport.errors import ToolMissingError
from etexport.plan.conflicts import Conflicts, conflicts
from etexport.plan.portfolio import portfolio
from etexport.plan.problem import Place, Problem, Solution
from etexport.plan.regions import settled

# The solver's own unit, about a second of work each.
_WORK = 60.0


def prove(problem: Problem) -> Solution:
    """The best plan the solver finds, with its bound. Errors: ToolMissingError without OR-tools."""
    try:
        cp_model: Any = importlib.import_module("ortools.sat.python.cp_model")
    except ImportError as error:
        raise ToolMissingError("OR-tools is not installed", hint="pip install 'etexport[prove]'") from error
    solution = portfolio(problem)
    problem = settled(problem, solution)
    for region in problem.regions:
        name = region.name
        if solution.size[name] == solution.bound[name]:
            continue
        view = conflicts(problem, name)
        start = [solution.places[buffer].offset for buffer in view.names]
        offsets, bound = _solve(cp_model, view, start, solution.size[name], solution.bound[name])
        placed = {buffer: Place(name, offset) for buffer, offset in zip(view.names, offsets, strict=True)}
        size = max(offset + bytes_ for offset, bytes_ in zip(offsets, view.sizes, strict=True))
        solution = replace(
            solution,
            places={**solution.places, **placed},
            size={**solution.size, name: size},
            bound={**solution.bound, name: max(bound, solution.bound[name])},
            proof="constraint solver",
        )
    return solution


def _solve(cp_model: Any, view: Conflicts, start: list[int], size: int, bound: int) -> tuple[list[int], int]:
    """Offsets of at most `size` bytes and a proven bound; `start` is a plan of that size."""
    unit = math.gcd(view.unit, *view.sizes)
    model = cp_model.CpModel()
    height = model.new_int_var(bound // unit, size // unit, "height")
    places = []  # in units; a multiple of the alignment by construction
    for x in range(len(view)):
        stride = view.aligns[x] // unit
        place = model.new_int_var(0, (size - view.sizes[x]) // view.aligns[x], view.names[x])
        model.add_hint(place, start[x] // view.aligns[x])
        model.add(place * stride + view.sizes[x] // unit <= height)
        places.append(place * stride)
    for x in range(len(view)):
        for y, (up, down) in view.pairs[x].items():
            if x < y:
                above = model.new_bool_var(f"{x} below {y}")
                model.add(places[y] >= places[x] + up // unit).only_enforce_if(above)
                model.add(places[x] >= places[y] + down // unit).only_enforce_if(~above)
                model.add_hint(above, start[y] >= start[x] + up)
    model.minimize(height)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = _WORK
    status = solver.solve(model)
    assert status != cp_model.INFEASIBLE, "our own plan is a solution"
    proven = math.ceil(solver.best_objective_bound - 1e-6) * unit
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return start, proven
    return [solver.value(place) * unit for place in places], proven
