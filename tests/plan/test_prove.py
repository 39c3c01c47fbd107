"""The optional solver agrees with trying everything, also where our own search may not prove; without it there is a
hint."""

from __future__ import annotations

import importlib.util
import random

import pytest

from etexport.errors import ToolMissingError
from etexport.plan import Buffer, Overlap, Problem, plan
from etexport.plan.portfolio import portfolio
from tests.plan.oracle import is_legal, smallest
from tests.plan.test_planners import sliced

PROVE = "etexport.plan.prove:prove"
INSTALLED = importlib.util.find_spec("ortools") is not None


@pytest.mark.skipif(INSTALLED, reason="OR-tools is installed")
def test_without_the_solver() -> None:
    with pytest.raises(ToolMissingError, match="prove"):
        plan(Problem((Buffer("a", 16, ((0, 1),)),)), PROVE)


@pytest.mark.skipif(not INSTALLED, reason="OR-tools is not installed")
def test_circles_and_negative_distances() -> None:
    decided = 0
    for seed in range(120):
        chance = random.Random(seed)
        buffers = tuple(
            Buffer(f"b{n}", chance.randint(1, 6), ((n // 2, n // 2 + chance.randint(1, 3)),), chance.choice((1, 2)))
            for n in range(6)
        )
        pairs = [(low, high) for low in buffers for high in buffers if low is not high and chance.random() < 0.4]
        overlaps = tuple(Overlap(low.name, high.name, chance.randint(-2, low.size)) for low, high in pairs)
        problem = Problem(buffers, overlaps=overlaps)
        if portfolio(problem).optimal:
            continue
        solution = plan(problem, PROVE)
        assert is_legal(problem, solution.places)
        assert solution.optimal and solution.proof == "constraint solver"
        assert solution.size["ram"] == smallest(problem)
        decided += 1
    assert decided >= 3


@pytest.mark.skipif(not INSTALLED, reason="OR-tools is not installed")
def test_never_worse_than_ours() -> None:
    problem = sliced(80, 1, 60, 64)
    ours, proven = plan(problem), plan(problem, PROVE)
    assert proven.bound["ram"] >= ours.bound["ram"]
    assert proven.size["ram"] <= ours.size["ram"]
