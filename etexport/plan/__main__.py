"""`python -m etexport.plan problem.json`: plan a problem from a file and print the plan, or draw it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etexport.errors import EtError
from etexport.plan import plan
from etexport.plan.files import from_csv, from_json, to_json
from etexport.plan.picture import picture


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m etexport.plan", description="Plan the memory of a problem in a JSON or CSV file."
    )
    parser.add_argument("problem", type=Path, help="a file as etexport.plan.files writes it; CSV as MiniMalloc's")
    parser.add_argument("--planner", metavar="MODULE:FUNCTION", help="your planner instead of ours")
    parser.add_argument("--picture", type=Path, metavar="OUT.svg", help="draw the plan")
    args = parser.parse_args()
    try:
        text = args.problem.read_text()
        problem = from_csv(text) if args.problem.suffix == ".csv" else from_json(text)[0]
        solution = plan(problem, args.planner)
    except (EtError, OSError, UnicodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(to_json(problem, solution), end="")
    for region, size in solution.size.items():
        bound = solution.bound[region]
        verdict = (
            f"optimal ({solution.proof})"
            if size == bound
            else f"bound {bound:,}, gap {(size - bound) / max(bound, 1):.1%}"
        )
        print(f"{region}: {size:,} bytes, {verdict}", file=sys.stderr)
    if args.picture:
        args.picture.write_text(picture(problem, solution))
    return 0


if __name__ == "__main__":
    sys.exit(main())
