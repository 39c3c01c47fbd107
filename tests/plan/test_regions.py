"""Several memories: what is touched most lies where that costs least, and every plan is legal."""

from __future__ import annotations

import itertools
import random

import pytest

from etexport.errors import PlanError
from etexport.plan import Buffer, Overlap, Place, Problem, Region, Solution, plan, validate
from etexport.plan.regions import cost
from tests.plan.nets import NETS
from tests.plan.oracle import is_legal


def small(seed: int) -> Problem:
    chance = random.Random(seed)
    buffers = []
    for number in range(chance.randint(2, 7)):
        begin = chance.randint(0, 5)
        live = ((begin, begin + chance.randint(1, 4)),)
        where = chance.choice((None, None, None, "slow"))
        buffers.append(
            Buffer(f"b{number}", chance.randint(0, 12), live, chance.choice((1, 4)), where, chance.randint(0, 40))
        )
    overlaps = tuple(Overlap(one.name, other.name, chance.randint(0, 4)) for one, other in itertools.pairwise(buffers))
    return Problem(tuple(buffers), (Region("fast", 16, 1), Region("slow", 200, 5)), overlaps)


def all_in(problem: Problem, region: str) -> Problem:
    buffers = tuple(Buffer(one.name, one.size, one.live, one.align, region, one.touched) for one in problem.buffers)
    return Problem(buffers, problem.regions, problem.overlaps)


@pytest.mark.parametrize("seed", range(60))
def test_every_plan_is_legal_and_costs_no_more_than_the_slow_memory_alone(seed: int) -> None:
    problem = small(seed)
    solution = plan(problem)
    assert is_legal(problem, solution.places)
    assert cost(problem, solution) <= cost(problem, plan(all_in(problem, "slow")))
    assert plan(problem) == solution
    unlimited = Problem(problem.buffers, (Region("fast", None, 1), Region("slow", 200, 5)), problem.overlaps)
    everywhere = plan(unlimited).places
    assert all(everywhere[one.name].region == (one.region or "fast") for one in problem.buffers), (
        "what there is room for lies in the fast one"
    )


def test_what_is_touched_most_for_its_size_lies_in_the_fast_memory() -> None:
    often, rare, long = (
        Buffer("often", 8, ((0, 2),), touched=80),
        Buffer("rare", 8, ((0, 2),), touched=8),
        Buffer("long", 8, ((0, 9),), touched=79),
    )
    problem = Problem((rare, often, long), (Region("slow", None, 3), Region("fast", 8, 1)))
    assert plan(problem).places == {"rare": Place("slow", 0), "often": Place("fast", 0), "long": Place("slow", 16)}


@pytest.mark.parametrize("name", sorted(NETS)[:4])
def test_networks_in_a_quarter_and_the_rest(name: str) -> None:
    one = NETS[name]().problem()
    whole = plan(one).size["ram"]
    touched = tuple(Buffer(b.name, b.size, b.live, b.align, None, 2 * b.size) for b in one.buffers)
    problem = Problem(touched, (Region("fast", whole // 4 // 16 * 16, 1), Region("slow", None, 4)), one.overlaps)
    solution = plan(problem)
    assert 0 < solution.size["fast"] <= whole // 4 and solution.size["slow"] <= whole
    assert all(solution.size[region] >= solution.bound[region] for region in ("fast", "slow"))


def test_what_fits_nowhere_is_told() -> None:
    problem = Problem(
        (Buffer("large", 100, ((0, 1),)), Buffer("little", 8, ((0, 1),))), (Region("fast", 16), Region("slow", 64, 3))
    )
    with pytest.raises(PlanError, match=r"region slow needs 100 bytes \(no plan needs less\), there are 64"):
        plan(problem)


def test_a_wrong_region_is_seen() -> None:
    problem = Problem(
        (Buffer("x", 8, ((0, 1),), region="slow"), Buffer("y", 8, ((0, 1),))), (Region("fast"), Region("slow"))
    )
    size, bound = {"fast": 8, "slow": 8}, {"fast": 0, "slow": 0}
    validate(problem, Solution({"x": Place("slow", 0), "y": Place("fast", 0)}, size, bound))
    with pytest.raises(PlanError, match="buffer x lies in region fast and must lie in slow"):
        validate(problem, Solution({"x": Place("fast", 0), "y": Place("slow", 0)}, size, bound))
    with pytest.raises(PlanError, match="lies in region middle, which does not exist"):
        validate(problem, Solution({"x": Place("slow", 0), "y": Place("middle", 0)}, {"fast": 0, "slow": 8}, bound))
