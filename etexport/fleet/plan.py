"""What a sweep is of: every model in every arithmetic, on every board, for speed and for size."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

from etexport.board import load_board
from etexport.errors import EtError, ModelError, raise_all
from etexport.stages.origin import QUANTIZATIONS, existing, model_name

OPTIMIZE = ("speed", "size")


@dataclass(frozen=True)
class Plan:
    """`quantize` and `optimize` are as the verbs take them, `boards` names or paths to a .toml. The first `samples` of
    each script are run, all where it is None, and one board gets `share` of them at a time."""

    models: tuple[Path, ...]
    boards: tuple[str, ...]
    quantize: tuple[str, ...] = ("float32",)
    optimize: tuple[str, ...] = ("speed",)
    samples: int | None = None
    share: int = 100


@dataclass(frozen=True)
class Job:
    """One row of the table."""

    model: Path
    name: str
    quantization: str
    board: str
    optimize: str

    @property
    def program(self) -> Path:
        """`model.pte`, below the sweep's folder."""
        return Path("model") / f"{self.name}-{self.quantization}" / "model.pte"

    @property
    def folder(self) -> Path:
        """Of the build, below the sweep's folder, as SCons calls it."""
        size = "-size" if self.optimize == "size" else ""
        return Path(load_board(self.board).name) / f"{self.name}-{self.quantization}{size}"


def read_plan(path: Path) -> Plan:
    """A TOML of these names; paths in it are from its own folder. ModelError for what is none."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), hint="docs/sweep.md shows one") from None
    known = [field.name for field in fields(Plan)]
    if wrong := sorted(set(table) - set(known)):
        raise ModelError(f"has {', '.join(wrong)}", where=str(path), hint=f"it may have {', '.join(known)}")
    try:
        plan = msgspec.convert(table, Plan, dec_hook=lambda kind, given: kind(given))
    except msgspec.ValidationError as error:
        raise ModelError(str(error), where=str(path), hint="docs/sweep.md shows one") from None
    return Plan(
        tuple(path.parent / model for model in plan.models),
        tuple(str(path.parent / board) if board.endswith(".toml") else board for board in plan.boards),
        plan.quantize, plan.optimize, plan.samples, plan.share,
    )  # fmt: skip


def jobs(plan: Plan) -> tuple[Job, ...]:
    """In the order of the table. All that is wrong with the plan is raised together."""
    wrong = [*_mistakes(plan)]
    raise_all(wrong)
    return tuple(
        Job(model.absolute(), model_name(model, None), quantization, board, optimize)
        for model, quantization, board, optimize in itertools.product(
            plan.models, plan.quantize, plan.boards, plan.optimize
        )
    )


def _mistakes(plan: Plan) -> Iterator[EtError]:
    if not plan.models or not plan.boards or not plan.quantize or not plan.optimize:
        yield ModelError("names no model, board, quantize or optimize", where="sweep", hint="one of each at least")
    if plan.share < 1 or (plan.samples is not None and plan.samples < 1):
        yield ModelError("samples and share are from 1 up", where="sweep")
    for key, given, known in (("quantize", plan.quantize, QUANTIZATIONS), ("optimize", plan.optimize, OPTIMIZE)):
        if other := sorted(set(given) - set(known)):
            yield ModelError(
                f"{key}: there is no {', '.join(other)}", where="sweep", hint=f"there are {', '.join(known)}"
            )
    for model in plan.models:
        try:
            existing(model)
        except EtError as error:
            yield error
    for board in plan.boards:
        try:
            if load_board(board).simulator is None:
                yield ModelError(f"{board} has no simulator", where="sweep", hint="`etexport boards` says which has")
        except EtError as error:
            yield error
    names = tuple(model_name(model, None) for model in plan.models)
    for key, given in (
        ("models", names),
        ("boards", plan.boards),
        ("quantize", plan.quantize),
        ("optimize", plan.optimize),
    ):
        if twice := sorted({one for one in given if list(given).count(one) > 1}):
            yield ModelError(f"{key}: twice {', '.join(twice)}", where="sweep")
