"""Problems survive being written and read; files that are none are refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from etexport.errors import PlanError
from etexport.plan import Buffer, Overlap, Problem, Region, plan
from etexport.plan.files import from_csv, from_json, to_csv, to_json
from tests.plan.nets import NETS

RICH = Problem(
    (Buffer("x", 64, ((0, 2), (4, 9)), 32, "fast"), Buffer("y", 10, ((1, 3),))),
    (Region("ram", 4096), Region("fast")),
    (Overlap("x", "y", -8),),
)


@pytest.mark.parametrize("problem", [RICH, Problem(()), NETS["resnet_8"]().problem()])
def test_json(problem: Problem) -> None:
    assert from_json(to_json(problem)) == (problem, None)
    solution = plan(problem)
    assert from_json(to_json(problem, solution)) == (problem, solution)


def test_csv() -> None:
    problem = Problem((Buffer("x", 64, ((0, 2), (4, 9)), 32), Buffer("y", 10, ((1, 3),), 1)))
    text = to_csv(problem)
    assert text == "id,lower,upper,size,alignment,gaps\nx,0,9,64,32,2-4\ny,1,3,10,1,\n"
    assert from_csv(text) == problem
    assert from_csv("id,lower,upper,size\nb1,0,3,4\n", 8) == Problem(
        (Buffer("b1", 4, ((0, 3),), 1),), (Region("ram", 8),)
    )
    with pytest.raises(PlanError, match="JSON"):
        to_csv(RICH)


WRONG_TYPE = '{"buffers": [{"name": "a", "size": "x", "live": [[0, 1]]}]}'


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"buffers": [{"name": "a"}]}', WRONG_TYPE, "\0"])
def test_no_problem(text: str) -> None:
    with pytest.raises(PlanError):
        from_json(text)


@pytest.mark.parametrize(
    "text", ["id,lower\na,0\n", "id,lower,upper,size\na,0,x,4\n", "id,lower,upper,size,gaps\na,0,9,4,5\n"]
)
def test_no_list(text: str) -> None:
    with pytest.raises(PlanError):
        from_csv(text)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "etexport.plan", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_command(tmp_path: Path) -> None:
    problem = NETS["resnet_8"]().problem()
    (tmp_path / "p.json").write_text(to_json(problem))
    (tmp_path / "p.csv").write_text(to_csv(problem))
    done = run(str(tmp_path / "p.json"), "--picture", str(tmp_path / "p.svg"))
    assert done.returncode == 0
    assert "196,608 bytes, optimal" in done.stderr
    assert from_json(done.stdout) == (problem, plan(problem))
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert run(str(tmp_path / "p.csv")).stdout == done.stdout
    (tmp_path / "bad.json").write_text("{}")
    wrong = run(str(tmp_path / "bad.json"))
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    assert run(str(tmp_path / "none.json")).returncode == 1
