"""`validate` takes what is legal and rejects 200 corruptions of good plans, each of which is shown to be illegal by
painting bytes."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from etexport.errors import PlanError
from etexport.plan import Buffer, Overlap, Problem, Region, Solution, plan, validate
from tests.plan.nets import autoencoder, ds_cnn, resnet_8
from tests.plan.oracle import in_ram, is_legal, offsets_of, smallest


def good_plans() -> list[tuple[Problem, Solution]]:
    """Small enough to paint: networks with their sizes divided, and random problems with overlaps, in a region just
    large enough."""
    found = []
    for net in (autoencoder(), ds_cnn(), resnet_8()):
        problem = net.problem()
        small = tuple(replace(buffer, size=-(-buffer.size // 512), align=4) for buffer in problem.buffers)
        found.append(replace(problem, buffers=small))
    for seed in range(12):
        chance = random.Random(seed)
        buffers = []
        for number in range(9):
            first = chance.randint(0, 6)
            buffers.append(
                Buffer(
                    f"b{number}", chance.randint(4, 40), ((first, first + chance.randint(1, 4)),), chance.choice((4, 8))
                )
            )
        overlaps = tuple(
            Overlap(low.name, high.name, chance.randint(0, low.size // 2))
            for low in buffers
            for high in buffers
            if low.live[0][0] + 1 == high.live[0][0] and chance.random() < 0.3
        )
        found.append(Problem(tuple(buffers), overlaps=overlaps))
    plans = []
    for problem in found:
        free = plan(problem)
        bounded = replace(problem, regions=(Region("ram", free.size["ram"]),))
        plans.append((bounded, plan(bounded)))
    return plans


def corrupt(problem: Problem, solution: Solution, kind: str, chance: random.Random) -> Solution:
    """One thing is changed; the stated size follows, so that it cannot be what gives the plan away (except where it is
    the corruption)."""
    offsets = offsets_of(solution)
    name = chance.choice(list(offsets))
    buffer = next(buffer for buffer in problem.buffers if buffer.name == name)
    if kind == "shifted":
        offsets[name] += buffer.align * chance.choice([-3, -2, -1, 1, 2, 3])
    elif kind == "swapped":
        other = chance.choice(list(offsets))
        offsets[name], offsets[other] = offsets[other], offsets[name]
    elif kind == "misaligned":
        offsets[name] += chance.randint(1, buffer.align - 1)
    elif kind == "beyond":
        offsets[name] = solution.size["ram"] - buffer.size + buffer.align
    elif kind == "below":
        offsets[name] = -buffer.align
    elif kind == "missing":
        del offsets[name]
    elif kind == "renamed":
        offsets[name + "_"] = offsets.pop(name)
    elif kind == "shrunk":
        smaller = tuple(replace(other, size=other.size // 2) if other is buffer else other for other in problem.buffers)
        offsets = offsets_of(plan(replace(problem, buffers=smaller)))
    elif kind == "stated too small":
        size = solution.size["ram"] - 1
        return replace(solution, size={"ram": size}, bound={"ram": min(size, solution.bound["ram"])})
    elif kind == "laid upon another":
        offsets[name] = offsets[chance.choice([other for other in offsets if other != name])]
    ends = [offsets[buffer.name] + buffer.size for buffer in problem.buffers if buffer.name in offsets]
    size = {"ram": max(ends)}
    return replace(solution, places=in_ram(offsets), size=size, bound={"ram": min(size["ram"], solution.bound["ram"])})


KINDS = (
    "shifted",
    "swapped",
    "misaligned",
    "beyond",
    "below",
    "missing",
    "renamed",
    "shrunk",
    "stated too small",
    "laid upon another",
)


def test_200_corruptions() -> None:
    plans = good_plans()
    chance = random.Random(7)
    rejected: Counter[str] = Counter()
    while sum(rejected.values()) < 200:
        problem, solution = chance.choice(plans)
        kind = min(KINDS, key=lambda kind: rejected[kind])
        bad = corrupt(problem, solution, kind, chance)
        if is_legal(problem, bad.places) and kind != "stated too small":
            validate(problem, bad)  # not every change is wrong, and then it is let through
            continue
        with pytest.raises(PlanError):
            validate(problem, bad)
        rejected[kind] += 1
    assert all(rejected[kind] == 20 for kind in KINDS)


def test_random_placements_agree_with_painting() -> None:
    """Both verdicts, on addresses at random."""
    chance = random.Random(3)
    verdicts: Counter[bool] = Counter()
    for problem, solution in good_plans()[3:]:
        for _ in range(60):
            offsets = offsets_of(solution)
            for name in chance.sample(list(offsets), chance.randint(1, 3)):
                offsets[name] = 4 * chance.randint(0, solution.size["ram"] // 4)
            size = max(offsets[buffer.name] + buffer.size for buffer in problem.buffers)
            tried = Solution(in_ram(offsets), {"ram": size}, {"ram": 0})
            legal = is_legal(problem, in_ram(offsets))
            verdicts[legal] += 1
            if legal:
                validate(problem, tried)
            else:
                with pytest.raises(PlanError):
                    validate(problem, tried)
    assert verdicts[True] > 20 and verdicts[False] > 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": {"ram": 63_999}}, "stated size"),
        ({"size": {"ram": 64_001}}, "highest end"),
        ({"size": {}}, "no size"),
        ({"bound": {"ram": 64_001}}, "bound"),
        ({"bound": {"ram": -1}}, "bound"),
        ({"bound": {}}, "no bound"),
    ],
)
def test_figures_must_agree(change: dict[str, dict[str, int]], words: str) -> None:
    problem = ds_cnn().problem()
    solution = plan(problem)
    with pytest.raises(PlanError, match=words):
        validate(problem, replace(solution, **change))


def test_buffers_and_steps_are_named() -> None:
    problem = Problem((Buffer("conv1", 64, ((0, 5),)), Buffer("conv2", 64, ((3, 7),)), Buffer("fc", 32, ((3, 4),))))
    clash = Solution(in_ram({"conv1": 0, "conv2": 32, "fc": 96}), {"ram": 128}, {"ram": 128})
    with pytest.raises(
        PlanError, match=r"conv1 \[0, 64\) and conv2 \[32, 96\) of region ram share bytes, and both live at step 3"
    ):
        validate(problem, clash)


def test_a_forged_overlap_is_believed_and_a_missing_one_is_not() -> None:
    """What validate knows are the rules of the problem: whether a kernel keeps them is for the poison run."""
    buffers = (Buffer("x", 64, ((0, 2),)), Buffer("y", 64, ((1, 3),)))
    at_zero = Solution(in_ram({"x": 0, "y": 0}), {"ram": 64}, {"ram": 64})
    validate(Problem(buffers, overlaps=(Overlap("x", "y", 0),)), at_zero)
    for overlaps in ((), (Overlap("x", "y", 16),), (Overlap("y", "x", 1),)):
        with pytest.raises(PlanError, match="share bytes"):
            validate(Problem(buffers, overlaps=overlaps), at_zero)


def test_validate_shares_no_code_with_planners() -> None:
    text = Path(sys.modules["etexport.plan.validate"].__file__ or "").read_text()
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert [line for line in imports if "etexport" in line] == [
        "from etexport.errors import PlanError",
        "from etexport.plan.problem import Buffer, Problem, Solution",
    ]


def test_the_oracle_itself() -> None:
    two = Problem((Buffer("a", 3, ((0, 1),), 1), Buffer("b", 2, ((0, 1),), 1)))
    assert is_legal(two, in_ram({"a": 0, "b": 3})) and not is_legal(two, in_ram({"a": 0, "b": 2}))
    assert smallest(two) == 5
