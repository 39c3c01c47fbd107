"""The board-neutral passes in their order, until nothing changes: so running the pipeline twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from etexport.errors import ProgramError
from etexport.op import Library
from etexport.passes.batch_norm import fold_batch_norms
from etexport.passes.constants import fold_constants
from etexport.passes.dead import remove_dead
from etexport.passes.forms import use_one_form
from etexport.passes.identities import remove_identities
from etexport.passes.splits import split_into_slices
from etexport.passes.views import simplify_views
from etexport.program.model import Method, Program
from etexport.program.verify import verify

Pass = Callable[[Method, Library], Method]
"""Gives the very same object back where there is nothing to do."""

PASSES: tuple[Pass, ...] = (
    split_into_slices,  # pieces that are read become slices; later passes and kernels know one result a call
    use_one_form,  # likewise where PyTorch has several operators for one thing
    simplify_views,  # one form for all views, so that the passes below and the target know one
    remove_identities,  # clones, casts to the same type, dropout: what they hide (a transpose of a weight) comes to light
    fold_constants,  # weight transposes, scalars cast to float
    fold_batch_norms,  # needs the weights as constants
    remove_dead,  # what the passes above left behind
)

ROUNDS = 100
"""Far more than any program needs: a chain of views shortens by at least one a round."""


def run(program: Program, library: Library) -> Program:
    """The program after all passes; the very same object where they change nothing. AssertionError names a pass that broke it."""
    verify(program)
    methods = tuple(_run(program, number, library) for number in range(len(program.methods)))
    if all(new is old for new, old in zip(methods, program.methods, strict=True)):
        return program
    return replace(program, methods=methods)


def _run(program: Program, number: int, library: Library) -> Method:
    method = program.methods[number]
    for _ in range(ROUNDS):
        before = method
        for one in PASSES:
            after = one(method, library)
            if after is not method:
                _check(program, number, after, one)
            method = after
        if method is before:
            return method
    raise AssertionError(f"the passes do not come to an end on method {method.name}")


def _check(program: Program, number: int, method: Method, one: Pass) -> None:
    methods = (*program.methods[:number], method, *program.methods[number + 1 :])
    try:
        verify(replace(program, methods=methods), stage=one.__name__)
    except ProgramError as error:
        raise AssertionError(f"a pass broke the program: {error}") from error
