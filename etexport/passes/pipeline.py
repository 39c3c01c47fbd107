"""The board-neutral passes in their order, until nothing changes: so running the pipeline twice changes nothing.

Passes of installed packages (entry point group `etexport.passes`, each names a function) come behind ours, by entry
point name, then those of the model's own project: each a file with a function of its name.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from etexport.errors import EtError, ModelError, ProgramError
from etexport.kernel.library import Library
from etexport.kernel.sizes import largest
from etexport.passes.batch_norm import fold_batch_norms
from etexport.passes.constants import fold_constants
from etexport.passes.dead import remove_dead
from etexport.passes.forms import use_one_form
from etexport.passes.identities import remove_identities
from etexport.passes.overwritten import join_what_stays
from etexport.passes.splits import split_into_slices
from etexport.passes.stored_moves import move_stored
from etexport.passes.tables import read_stored_tables
from etexport.passes.views import simplify_views
from etexport.program.constants import share_constants
from etexport.program.model import Method, Program
from etexport.program.verify import verify
from etexport.resources import declared, leaving_nothing, load, refused

Pass = Callable[[Method, Library], Method]
"""Gives the very same object back where there is nothing to do."""

PASSES: tuple[Pass, ...] = (
    split_into_slices,  # pieces that are read become slices; later passes and kernels know one result a call
    use_one_form,  # likewise where PyTorch has several operators for one thing
    simplify_views,  # one form for all views, so that the passes below and the target know one
    # clones, casts to the same type, dropout: what they hide (a transpose of a weight) comes to light
    remove_identities,
    join_what_stays,  # of a concatenation, once slices and copies between are gone
    move_stored,  # of branches and loops in int8
    fold_constants,  # weight transposes, scalars cast to float
    fold_batch_norms,  # needs the weights as constants
    read_stored_tables,  # likewise
    remove_dead,  # what the passes above left behind
)

ROUNDS = 100
"""Far more than any program needs: a chain of views shortens by at least one a round."""


@dataclass(frozen=True)
class Stage:
    """A pass in the pipeline; `refused` makes the error that blames whoever wrote it (None: us)."""

    run: Pass
    refused: Callable[[str], EtError] | None = None


def run(program: Program, library: Library) -> Program:
    """The program after all passes; the very same object where they change nothing. Sizes that are known at run time
    are the largest.

    AssertionError names a pass of ours that broke it, PackageError one of an installed package, ModelError one of the
    project's.
    """
    verify(program)
    if any(method.bounded for method in program.methods):
        program = replace(program, methods=tuple(largest(method, library) for method in program.methods))
    stages = (*(Stage(one) for one in PASSES), *installed(), *map(_own, library.project.passes))
    methods = tuple(_run(method, library, stages) for method in program.methods)
    if all(new is old for new, old in zip(methods, program.methods, strict=True)):
        return program
    if len(methods) > 1:
        methods = share_constants(methods)
    after = replace(program, methods=methods)
    verify(after, "the passes")
    # what no other method needs any more may be dead now
    same = all(new.shared == old.shared for new, old in zip(after.methods, program.methods, strict=True))
    return after if same else run(after, library)


def installed() -> tuple[Stage, ...]:
    """The passes of installed packages. PackageError for what is no function."""
    stages = []
    for entry in declared("etexport.passes"):
        one = load(entry)
        if not callable(one):
            raise refused(entry, f"is a {type(one).__name__}; a function (method, library) -> method belongs there")
        stages.append(Stage(one, functools.partial(refused, entry)))
    return tuple(stages)


def _own(path: Path) -> Stage:
    """The pass in a file of the project's."""

    def blamed(what: str) -> ModelError:
        return ModelError(f"{path.stem} {what}", where=str(path), hint="docs/passes.md says what belongs there")

    spec = importlib.util.spec_from_file_location(f"etexport_pass_{path.stem}", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    try:
        with leaving_nothing():
            spec.loader.exec_module(module)
    except Exception as error:
        raise blamed(f"cannot be read: {type(error).__name__}: {error}") from None
    found = getattr(module, path.stem, None)
    if not callable(found):
        raise blamed("is no function of this file; (method, library) -> method belongs there")
    return Stage(found, blamed)


def _run(method: Method, library: Library, stages: tuple[Stage, ...]) -> Method:
    for _ in range(ROUNDS):
        before, changed = method, []
        for stage in stages:
            after = _after(stage, method, library)
            if after is not method:
                _check(after, stage)
                changed.append(stage)
            method = after
        if method is before:
            return method
    for blame in (stage.refused for stage in changed if stage.refused is not None):
        raise blame(
            f"finds something to do for ever on method {method.name}; where nothing is left it gives its argument back"
        )
    raise AssertionError(f"the passes do not come to an end on method {method.name}")


def _after(stage: Stage, method: Method, library: Library) -> Method:
    """The method after one pass. What goes wrong in a pass of others is told as theirs."""
    if stage.refused is None:
        return stage.run(method, library)
    try:
        after: object = stage.run(method, library)
    except EtError:
        raise  # what a pass has to say about the program
    except Exception as error:
        raise stage.refused(f"failed on method {method.name}: {type(error).__name__}: {error}") from error
    if not isinstance(after, Method):
        raise stage.refused(f"gave a {type(after).__name__} for method {method.name}; a Method belongs there")
    return after


def _check(method: Method, stage: Stage) -> None:
    try:
        verify(Program((method,)), stage=getattr(stage.run, "__name__", ""))
    except ProgramError as error:
        if stage.refused is not None:
            raise stage.refused(f"broke the program: {error}") from error
        raise AssertionError(f"a pass broke the program: {error}") from error
