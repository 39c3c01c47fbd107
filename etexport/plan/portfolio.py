"""Problem -> Solution: quick methods until the lower bound is met, then exact search, then the gap is said."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from etexport.errors import EtError, PlanError
from etexport.plan.bounds import lower_bound, peak
from etexport.plan.conflicts import Conflicts, conflicts
from etexport.plan.exact import Verdict, solve
from etexport.plan.first_fit import first_fit, height
from etexport.plan.problem import Place, Problem, Solution
from etexport.plan.regions import assigned, settled
from etexport.plan.validate import validate

Planner = Callable[[Problem], Solution]


def plan(problem: Problem, planner: str | None = None) -> Solution:
    """An address for every buffer; `planner` is a "module:function" to use instead of ours. The result has passed
    `validate`.

    Errors: PlanError if the problem contradicts itself, a region is too small, or the planner is not to be found or
    wrong.
    """
    check(problem)
    solution = portfolio(problem) if planner is None else _with_own_bound(problem, _asked(planner, problem))
    _check_capacity(problem, solution)
    validate(problem, solution)
    return solution


def portfolio(problem: Problem) -> Solution:
    """Our planner. Deterministic: the same problem gives the same plan on every machine."""
    problem = assigned(problem)
    places: dict[str, Place] = {}
    size: dict[str, int] = {}
    bound: dict[str, int] = {}
    proofs: dict[str, str] = {}
    for region in problem.regions:
        view = conflicts(problem, region.name)
        placed, bound[region.name], proofs[region.name] = _solve_region(view)
        size[region.name] = height(view, placed)
        places.update((name, Place(region.name, offset)) for name, offset in zip(view.names, placed, strict=True))
    ordered = {buffer.name: places[buffer.name] for buffer in problem.buffers}
    return Solution(places=ordered, size=size, bound=bound, proof=_one_line(proofs))


# Effort of exact search for one region, in buffers looked at: two seconds in the worst case, none for the usual
# network.
_EFFORT = 400_000


def _solve_region(view: Conflicts) -> tuple[list[int], int, str]:
    bound = lower_bound(view)
    proof = "live bytes at the peak"
    best = first_fit(view, bound)
    unit = math.gcd(view.unit, *view.sizes)
    capacity = bound  # tried first, since it is nearly always reached
    undecided = bound  # below this the search was at its end
    nodes = _EFFORT // max(1, len(view))
    while height(view, best) > undecided and nodes > 0:
        answer = solve(view, capacity, nodes=nodes // 2 + 1)
        nodes -= answer.nodes
        if answer.verdict is Verdict.FOUND:
            best = list(answer.offsets)
        else:
            undecided = capacity + unit
            if answer.verdict is Verdict.IMPOSSIBLE:
                bound, proof = undecided, "exhaustive search"
        capacity = undecided + (height(view, best) - undecided) // 2 // unit * unit
    return best, bound, proof


def check(problem: Problem) -> None:
    """Errors: PlanError if the problem cannot be meant: names twice or unknown, sizes below 0, live ranges out of
    order."""
    seen: set[str] = set()
    regions = {region.name for region in problem.regions}
    for buffer in problem.buffers:
        if buffer.name in seen:
            raise PlanError(f"two buffers are called {buffer.name}")
        seen.add(buffer.name)
        if buffer.size < 0 or buffer.align < 1 or buffer.touched < 0:
            raise PlanError(
                f"buffer {buffer.name} has size {buffer.size}, alignment {buffer.align}, {buffer.touched} bytes touched"
            )
        if buffer.region is not None and buffer.region not in regions:
            raise PlanError(
                f"buffer {buffer.name} wants region {buffer.region!r}", hint=f"there is {', '.join(sorted(regions))}"
            )
        ends = [end for pair in buffer.live for end in pair]
        if ends != sorted(ends) or any(begin >= end for begin, end in buffer.live):
            raise PlanError(
                f"live ranges of buffer {buffer.name} are empty, out of order or overlap: {list(buffer.live)}"
            )
    for overlap in problem.overlaps:
        for name in (overlap.low, overlap.high):
            if name not in seen:
                raise PlanError(f"an overlap names buffer {name}, which does not exist")
        if overlap.low == overlap.high:
            raise PlanError(f"an overlap of buffer {overlap.low} with itself")


def load(planner: str) -> Planner:
    """The function that "module:function" names."""
    module, _, function = planner.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise PlanError(
            f"no planner {planner}: {error}", hint="name it as module:function, the module on PYTHONPATH"
        ) from error
    except Exception as error:
        raise PlanError(f"no planner {planner}: its module fails with {type(error).__name__}: {error}") from error
    if not callable(found):
        raise PlanError(f"planner {planner} is not a function")
    return found


def _asked(planner: str, problem: Problem) -> Solution:
    """What somebody's planner says. PlanError where it fails or gives something else."""
    function = load(planner)
    try:
        solution: object = function(problem)
    except EtError:
        raise
    except Exception as error:
        raise PlanError(f"planner {planner} failed: {type(error).__name__}: {error}") from error
    if not isinstance(solution, Solution):
        raise PlanError(f"planner {planner} returned a {type(solution).__name__}, not a Solution")
    wrong = sorted(
        str(name)
        for name, place in solution.places.items()
        if not isinstance(place, Place) or type(place.offset) is not int
    )
    if wrong:
        raise PlanError(f"planner {planner} gives no Place(region, offset) for {', '.join(wrong[:5])}")
    return solution


def _with_own_bound(problem: Problem, solution: Solution) -> Solution:
    """A planner may leave the bound away (or state a lower one): ours always holds."""
    problem = settled(problem, solution)
    own = {region.name: lower_bound(conflicts(problem, region.name)) for region in problem.regions}
    stated: Mapping[str, int] = solution.bound
    return replace(solution, bound={name: max(bytes_, stated.get(name, 0)) for name, bytes_ in own.items()})


def _check_capacity(problem: Problem, solution: Solution) -> None:
    problem = settled(problem, solution)
    for region in problem.regions:
        size, bound = solution.size.get(region.name, 0), solution.bound.get(region.name, 0)
        if region.capacity is None or size <= region.capacity:
            continue
        worst = peak(problem, region.name)
        live = ", ".join(f"{buffer.name} {buffer.size:,}" for buffer in worst.buffers)
        least = "no plan needs less" if size == bound else f"every plan needs at least {bound:,}"
        raise PlanError(
            f"region {region.name} needs {size:,} bytes ({least}), there are {region.capacity:,}",
            hint=f"at the peak, step {worst.step}: {live}",
        )


def _one_line(proofs: Mapping[str, str]) -> str:
    if len(proofs) == 1:
        return next(iter(proofs.values()))
    return "; ".join(f"{region}: {proof}" for region, proof in proofs.items())
