"""Problems and plans as text, to keep one or to mail one: JSON holds everything, CSV a plain list of buffers.

The CSV columns are MiniMalloc's (`id,lower,upper,size`), with `alignment` and `gaps` ("4-7 9-10": steps in which the
buffer is not needed) where they say something, so that a problem goes either way.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from etexport.errors import PlanError
from etexport.plan.problem import Buffer, Overlap, Place, Problem, Region, Solution


def to_json(problem: Problem, solution: Solution | None = None) -> str:
    """One buffer a line, so that two files can be compared."""

    def line(item: Any) -> str:
        return json.dumps(dataclasses.asdict(item))

    def block(items: tuple[Any, ...]) -> str:
        return "[" + ",".join(f"\n  {line(item)}" for item in items) + "\n ]" if items else "[]"

    parts = [
        f' "buffers": {block(problem.buffers)}',
        f' "regions": {block(problem.regions)}',
        f' "overlaps": {block(problem.overlaps)}',
    ]
    if solution is not None:
        lines = (f"\n   {json.dumps(name)}: {line(place)}" for name, place in solution.places.items())
        rest = json.dumps({"size": dict(solution.size), "bound": dict(solution.bound), "proof": solution.proof})
        parts.append(f' "solution": {{"places": {{{",".join(lines)}\n  }},\n  {rest[1:]}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def from_json(text: str) -> tuple[Problem, Solution | None]:
    """Errors: PlanError if it is no such file."""
    try:
        data = json.loads(text)
        problem = Problem(
            buffers=tuple(
                Buffer(**{**item, "live": tuple((int(first), int(last)) for first, last in item["live"])})
                for item in data["buffers"]
            ),
            regions=tuple(Region(**item) for item in data.get("regions", [{"name": "ram"}])),
            overlaps=tuple(Overlap(**item) for item in data.get("overlaps", [])),
        )
        solution = _solution(data["solution"]) if "solution" in data else None
        numbers = [number for buffer in problem.buffers for number in (buffer.size, buffer.align, buffer.touched)]
        numbers += [overlap.distance for overlap in problem.overlaps]
        numbers += [region.capacity for region in problem.regions if region.capacity is not None]
        if not all(type(number) is int for number in numbers):
            raise ValueError("a size, alignment, distance or capacity is no whole number")
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"this is no planning problem: {error}", hint="docs/memory.md shows the format") from error
    return problem, solution


def _solution(data: dict[str, Any]) -> Solution:
    return Solution(**{**data, "places": {name: Place(**place) for name, place in data["places"].items()}})


def to_csv(problem: Problem) -> str:
    """Regions and overlaps have no column: PlanError if there are any."""
    if problem.overlaps or len(problem.regions) > 1:
        raise PlanError("CSV holds one region and no overlaps", hint="use JSON")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "lower", "upper", "size", "alignment", "gaps"])
    for buffer in problem.buffers:
        lower, upper = (buffer.live[0][0], buffer.live[-1][1]) if buffer.live else (0, 0)
        gaps = " ".join(
            f"{end}-{begin}" for (_, end), (begin, _) in zip(buffer.live, buffer.live[1:], strict=False) if end < begin
        )
        writer.writerow([buffer.name, lower, upper, buffer.size, buffer.align, gaps])
    return out.getvalue()


def from_csv(text: str, capacity: int | None = None) -> Problem:
    """Errors: PlanError if a column is missing or a number is none."""
    buffers = []
    try:
        for row in csv.DictReader(io.StringIO(text)):
            lower, upper = int(row["lower"]), int(row["upper"])
            edges = [lower]
            for gap in (row.get("gaps") or "").split():
                begin, end = gap.split("-")
                edges += [int(begin), int(end)]
            edges.append(upper)
            live = tuple((edges[at], edges[at + 1]) for at in range(0, len(edges), 2) if edges[at] < edges[at + 1])
            buffers.append(Buffer(row["id"], int(row["size"]), live, int(row.get("alignment") or 1)))
    except (KeyError, ValueError, TypeError) as error:
        hint = "the columns are id, lower, upper, size and maybe alignment, gaps"
        raise PlanError(f"this is no list of buffers: {error}", hint=hint) from error
    return Problem(tuple(buffers), (Region("ram", capacity),))
