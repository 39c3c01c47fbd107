"""A placed program as C++ sources, constants, linker script and memory map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from etexport.artifacts.files import write_whole
from etexport.artifacts.records import record_text
from etexport.board import Board
from etexport.emit import cpp
from etexport.emit.blocks import forms
from etexport.emit.code import Code, Statement, Tensor, prepare
from etexport.emit.constants import ALIGN, Flash, collect
from etexport.emit.geometry import Geometry, geometry
from etexport.emit.memory_map import memory_map
from etexport.emit.names import comment, identifier, quoted, unique
from etexport.emit.poison import Poison
from etexport.emit.poison import poison as poison_of
from etexport.emit.table import Table, table
from etexport.errors import PlanError
from etexport.kernel.library import Library
from etexport.specialise.memory import directed, entered
from etexport.specialise.model import Placed
from etexport.specialise.schedule import BeginStep, JumpStep

__all__ = ["Model", "emit", "explained", "modelled", "sources"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One method of a program: `space` is the namespace that its inputs, outputs and run() are in, `prefix` what their
    names in C begin with. The flash has the symbols that it reads, of the constants of all."""

    name: str
    space: str
    prefix: str
    placed: Placed
    flash: Flash
    code: Code

    @functools.cached_property
    def poison(self) -> Poison:
        """What overwrites worthless bytes round its steps: program.cpp and marked.cpp ask for it."""
        specialised = self.placed.specialised
        return poison_of(self.placed.problem, self.placed.solution, specialised.schedule.steps, entered(specialised))


@dataclass(frozen=True, eq=False)
class Model:
    """What the sources of one program are written from. `space` is its namespace, and what its symbols begin with; a
    program of several methods has a namespace for each in there. `table` is None for a program that calls its kernels
    by name."""

    name: str
    space: str
    program_hash: int
    methods: tuple[Entry, ...]
    geometry: Geometry
    table: Table | None
    between: bool
    """Whether run() asks the firmware's own function before each step (`<space>_between`): for a watchdog, an RTOS, to
    stop."""
    arena: str
    """The model that has the arena, this one or another."""

    @property
    def placed(self) -> Placed:
        """The first method's. Arenas, states and constants are the same in all."""
        return self.methods[0].placed

    @property
    def code(self) -> Code:
        return self.methods[0].code

    @property
    def flash(self) -> Flash:
        return self.methods[0].flash

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Of all methods."""
        return tuple(statement for method in self.methods for statement in method.code.statements)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs and outputs of all methods."""
        return tuple(one for method in self.methods for one in (*method.code.inputs, *method.code.outputs))

    @property
    def arena_bytes(self) -> int:
        return sum(arena.bytes for arena in self.code.arenas.values())

    @property
    def sized(self) -> bool:
        """Whether any method has sizes that are known at run time."""
        return any(method.code.symbols for method in self.methods)

    @property
    def answers(self) -> bool:
        """Whether run() says that it ran: sizes may be outside their range, or the firmware's function ends it."""
        return self.between or self.sized

    @property
    def headers(self) -> tuple[str, ...]:
        """Those that program.cpp includes, in order."""
        kernels = sorted({header for method in self.methods for header in method.code.headers})
        return (*(("et/table.h",) if self.table else ()), "et/window.h", *kernels)


def modelled(
    methods: Sequence[Placed],
    library: Library,
    *,
    model_name: str,
    program_hash: int,
    between: bool = False,
    arena: str = "",
) -> Model:
    """`program_hash` is the first 8 bytes (big-endian) of the SHA-256 of the program, whose methods are placed on one
    arena: that of the model called `arena`, where another one has it."""
    space = identifier(model_name)
    arena = identifier(arena) if arena else space
    methods = [directed(placed) for placed in methods]
    optimize = methods[0].specialised.target.optimize
    sized = any(placed.specialised.method.symbols for placed in methods)
    # a table in flash holds no number that another run changes
    optimize = "speed" if sized else optimize
    shapes = geometry(
        {placed.first + at: step for placed in methods for at, step in placed.specialised.calls.items()}, optimize
    )
    entries = []
    taken: set[str] = set()
    for placed, flash in zip(methods, collect(methods, space), strict=True):
        name = placed.specialised.method.name
        own = unique(name, taken)
        inside = (f"{space}::{own}", f"{space}_{own}") if len(methods) > 1 else (space, space)
        entries.append(Entry(name, *inside, placed, flash, prepare(placed, library, flash, shapes, arena)))
    statements = [statement for entry in entries for statement in entry.code.statements]
    # a program of views has no steps, and C++ no table of nothing
    steps = table(statements) if optimize == "size" and statements else None
    return Model(model_name, space, program_hash, tuple(entries), shapes, steps, between, arena)


def emit(
    methods: Sequence[Placed],
    board: Board,
    library: Library,
    *,
    program_hash: int,
    model_name: str,
    out: Path,
    poison: bool = False,
    explain: bool = True,
) -> list[Path]:
    """Write the sources of one program, its methods placed on one arena, into the folder `out` and return their paths.

    program.h, program.cpp     the model as C++, program_c.h its header for C; kernels are included from the library's
                               folders
    marked.cpp                 program.cpp with marks between the steps, for builds that count or stream them
    binding.cpp                ties it to the bundled runtime
    constants.S, constants.bin what stays in flash
    link.ld                    the board's memory; not for the host, whose own script is used
    memory.json                where every byte of the arena is, and why; only if it is to `explain` itself

    With `poison`, worthless bytes of the arena are overwritten round each step, so that a wrong plan changes the
    outputs. The same input gives the same bytes.
    """
    model = modelled(methods, library, model_name=model_name, program_hash=program_hash)
    _check_flash(model.flash, board)
    texts = {
        **sources(model, "program", poison=poison),
        "marked.cpp": _program(model, "program", poison=poison, marks=True),
        "binding.cpp": render("binding.cpp.j2", model=model, board=board),
        "constants.S": render("constants.S.j2", model=model, align=ALIGN),
    }
    if explain:
        texts["memory.json"] = explained(model, library, board, out)
    if "host" not in board.features:
        texts["link.ld"] = _link_script(board, model)
    files = [write_whole(out / file, text.encode()) for file, text in texts.items()]
    return [*files, write_whole(out / "constants.bin", model.flash.content)]


def sources(model: Model, stem: str, *, poison: bool = False, alone: tuple[str, ...] = ()) -> dict[str, str]:
    """The model as C++, with its headers for C++ and C, by name of the file. For a build that is not ours, it stands
    `alone`: it asks gcc itself for these options ("no-ipa-modref"), and no name of its kernels is another model's."""
    return {
        f"{stem}.h": render("program.h.j2", model=model),
        f"{stem}_c.h": render("program_c.h.j2", model=model),
        f"{stem}.cpp": _program(model, stem, poison=poison, alone=alone),
    }


def explained(model: Model, library: Library, board: Board, out: Path) -> str:
    """`memory.json` of the folder `out`."""
    methods, flashes = [one.placed for one in model.methods], [one.flash for one in model.methods]
    map = memory_map(
        methods,
        library,
        flashes,
        model=model.name,
        board=board.name,
        program_hash=model.program_hash,
        arena_bytes=model.arena_bytes,
        out=out,
    )
    return record_text(map)


def _program(model: Model, stem: str, *, poison: bool, marks: bool = False, alone: tuple[str, ...] = ()) -> str:
    fills = [method.poison for method in model.methods] if poison else None
    formed = [forms(method.placed.specialised.schedule.steps) for method in model.methods]
    names = [_control_names(method) for method in model.methods]
    return render(
        "program.cpp.j2", model=model, code=model.code, stem=stem, forms=formed, names=names, marks=marks, alone=alone,
        poisons=fills,
    )  # fmt: skip


def _control_names(method: Entry) -> dict[int, str]:
    """What run() calls the conditions and counts of control flow, by the value's id."""
    steps = method.placed.specialised.schedule.steps
    named: dict[int, str] = {}
    for step, made in zip(steps, method.code.statements, strict=True):
        if isinstance(step, BeginStep) and made.count:
            named[step.count] = cpp.named(made.count)
        elif isinstance(step, JumpStep) and step.condition is not None and made.jump and made.jump.condition:
            named[step.condition] = cpp.named(made.jump.condition)
    return named


def _check_flash(flash: Flash, board: Board) -> None:
    """PlanError in the model's terms where the constants alone are more than the board's flash: no need to compile
    anything."""
    size = next((memory.size for memory in board.memory if memory.kind == "flash"), 0)
    if not size or len(flash.content) <= size:
        return
    largest = sorted(flash.constants, key=lambda constant: -constant.size)[:5]
    raise PlanError(
        f"the program's constants take {len(flash.content):,} bytes of flash, the board has {size:,}",
        where=f"board {board.name}",
        hint="the largest: "
        f"{', '.join(f'{constant.symbol} {constant.size:,} ({constant.note})' for constant in largest)}",
    )


def _link_script(board: Board, model: Model) -> str:
    regions = {kind: next(memory.name for memory in board.memory if memory.kind == kind) for kind in ("flash", "ram")}
    return render("link.ld.j2", name=model.name, board=board, arenas=tuple(model.code.arenas.values()), **regions)


def render(template: str, **data: object) -> str:
    """The text of one of the templates."""
    return _templates().get_template(template).render(**data)


@functools.cache
def _templates() -> jinja2.Environment:
    """It keeps what it has compiled, which takes longer than rendering."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("etexport.emit", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"comment": comment, "quoted": quoted}  # for what others have named: files, boards, tensors
    expressions = (
        cpp.address, cpp.call, cpp.case_call, cpp.case_swept, cpp.constant, cpp.declared, cpp.float_literal, cpp.inside,
        cpp.inverse, cpp.literal, cpp.named, cpp.parameters, cpp.record, cpp.swept, cpp.word,
    )  # fmt: skip
    environment.filters |= {function.__name__: function for function in expressions}
    return environment
