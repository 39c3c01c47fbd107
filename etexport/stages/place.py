"""Programs to places for one board: read, passes, specialise, plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from etexport.board import Board
from etexport.delegate import library_for
from etexport.errors import doing
from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.kernel.sizes import with_symbols
from etexport.passes import pipeline as board_neutral
from etexport.plan import plan, validate
from etexport.plan.problem import Problem, Solution
from etexport.program import pte as wire
from etexport.program.interface import interface
from etexport.program.model import Method, Program
from etexport.specialise import memory
from etexport.specialise import pipeline as for_board
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.sizes import over_sizes
from etexport.stages.origin import existing, rules_of


def place(
    ptes: Sequence[Path],
    board: Board,
    library: Library,
    *,
    optimize: str,
    planner: Callable[[Problem], Solution],
    rounding: str | None = None,
) -> tuple[tuple[tuple[tuple[Placed, ...], int], ...], Library]:
    """The methods of each program with an address for every byte, all on one arena, and its hash as emit wants it; and
    the operators, those of delegates among them."""
    contents = [existing(pte).read_bytes() for pte in ptes]
    programs, specialised = [], []
    for pte in ptes:
        with doing(f"{pte}: reading"):
            program = wire.load(pte)
            library = library_for(program, library)
        with doing(f"{pte}: sizes"):
            program = replace(program, methods=tuple(with_symbols(method, library) for method in program.methods))
        with doing(f"{pte}: passes"):
            programs.append(board_neutral.run(program, library))
        target = Target(board.features, optimize, rounding or for_board.rounding_of(programs[-1]))
        with doing(f"{pte}: kernels for {board.name}"):
            specialised.append(
                for_board.specialise_all(programs[-1], target, library, _over_sizes(program, target, library))
            )
    with doing(f"{', '.join(map(str, ptes))}: memory"):
        rules = [rules_of(pte, board.name) for pte in ptes]
        placed = memory.place(specialised, memory.regions(board), planner, rules)
    memory.check_fit([one for methods in placed for one in methods], board)
    found = []
    for content, program, methods in zip(contents, programs, placed, strict=True):
        said = (
            replace(one, interface=interface(program, method))
            for one, method in zip(methods, program.methods, strict=True)
        )
        found.append((tuple(said), int.from_bytes(hashlib.sha256(content).digest()[:8], "big")))
    return tuple(found), library


def _over_sizes(program: Program, target: Target, library: Library) -> dict[str, Specialised]:
    """The methods whose sizes are known at run time, by name."""

    def neutral(method: Method) -> Method:
        methods = tuple(method if one.name == method.name else one for one in program.methods)
        return board_neutral.run(replace(program, methods=methods), library).method(method.name)

    def specialised(method: Method, moved: frozenset[int]) -> Specialised:
        whole = replace(program, methods=(method,))
        return for_board.specialise(whole, target, library, method=method.name, moved=moved)

    return {one.name: over_sizes(one, library, neutral, specialised) for one in program.methods if one.extents}


def planned(planner: str | None) -> Callable[[Problem], Solution]:
    """The planner of this name, its plans checked."""

    def run(problem: Problem) -> Solution:
        solution = plan(problem, planner)
        validate(problem, solution)
        return solution

    return run
