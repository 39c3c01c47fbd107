"""A placed program as C++ sources, constants, linker script and memory map."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2

from etexport.artifacts.files import write_whole
from etexport.artifacts.records import record_text
from etexport.board import Board
from etexport.emit.code import Arena, arenas, prepare
from etexport.emit.constants import ALIGN, Flash, collect
from etexport.emit.geometry import geometry
from etexport.emit.memory_map import memory_map
from etexport.emit.names import comment, identifier, quoted
from etexport.emit.poison import poison as poison_of
from etexport.emit.table import table
from etexport.errors import PlanError
from etexport.kernel.library import Library
from etexport.specialise.memory import directed, entered
from etexport.specialise.model import Placed

__all__ = ["emit"]


def emit(
    placed: Placed,
    board: Board,
    library: Library,
    *,
    program_hash: int,
    model_name: str,
    out: Path,
    poison: bool = False,
    explain: bool = True,
) -> list[Path]:
    """Write the sources of one program into the folder `out` and return their paths.

    program.h, program.cpp     the model as C++; kernels are included from the library's folders
    binding.cpp                ties it to the bundled runtime
    constants.S, constants.bin what stays in flash
    link.ld                    the board's memory; not for the host, whose own script is used
    memory.json                where every byte of the arena is, and why; only if it is to `explain` itself

    `program_hash` is the first 8 bytes (big-endian) of the SHA-256 of the program. With `poison`, worthless bytes of the arena
    are overwritten round each step, so that a wrong plan changes the outputs. The same input gives the same bytes.
    """
    name = identifier(model_name)
    placed = directed(placed)
    flash = collect(placed, name)
    _check_flash(flash, board)
    shapes = geometry(placed.specialised.calls, placed.specialised.target.optimize)
    code = prepare(placed, library, flash, shapes)
    # a program of views has no steps, and C++ no table of nothing
    steps = table(code.statements, shapes) if placed.specialised.target.optimize == "size" and code.statements else None
    arena_bytes = sum(arena.bytes for arena in code.arenas)
    texts = {
        "program.h": render("program.h.j2", name=model_name, space=name, hash=program_hash, code=code, arena_bytes=arena_bytes,
                             constant_bytes=len(flash.content)),
        "program.cpp": render("program.cpp.j2", name=model_name, space=name, code=code, geometry=shapes, constants=flash.constants,
                               table=steps, optimize=placed.specialised.target.optimize, arenas=arenas(placed),
                               poison=_poison(placed) if poison else None),
        "binding.cpp": render("binding.cpp.j2", board=board, name=model_name, space=name, code=code, constants=flash.constants),
        "constants.S": render("constants.S.j2", name=model_name, space=name, groups=_groups(flash), align=ALIGN),
    }  # fmt: skip
    if explain:
        map = memory_map(placed, library, flash, model=model_name, board=board.name, program_hash=program_hash, arena_bytes=arena_bytes)
        texts["memory.json"] = record_text(map)
    if "host" not in board.features:
        texts["link.ld"] = _link_script(board, model_name, code.arenas)
    files = [write_whole(out / file, text.encode()) for file, text in texts.items()]
    return [*files, write_whole(out / "constants.bin", flash.content)]


def _check_flash(flash: Flash, board: Board) -> None:
    """PlanError in the model's terms where the constants alone are more than the board's flash: no need to compile anything."""
    size = next((memory.size for memory in board.memory if memory.kind == "flash"), 0)
    if not size or len(flash.content) <= size:
        return
    largest = sorted(flash.constants, key=lambda constant: -constant.size)[:5]
    raise PlanError(
        f"the program's constants take {len(flash.content):,} bytes of flash, the board has {size:,}",
        where=f"board {board.name}",
        hint=f"the largest: {', '.join(f'{constant.symbol} {constant.size:,} ({constant.note})' for constant in largest)}",
    )


def _link_script(board: Board, model_name: str, arenas: tuple[Arena, ...]) -> str:
    regions = {kind: next(memory.name for memory in board.memory if memory.kind == kind) for kind in ("flash", "ram")}
    return render("link.ld.j2", name=model_name, board=board, arenas=arenas, stack_bytes=board.stack, **regions)


def _groups(flash: Flash) -> list[dict[str, object]]:
    """Constants by offset: all symbols of one stretch of `constants.bin` together."""
    offsets = sorted({constant.offset for constant in flash.constants})
    by_offset = {offset: [constant for constant in flash.constants if constant.offset == offset] for offset in offsets}
    return [{"offset": at, "size": max(one.size for one in group), "constants": group} for at, group in by_offset.items()]


def _poison(placed: Placed) -> object:
    return poison_of(placed.problem, placed.solution, placed.specialised.schedule.steps, entered(placed.specialised))


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
    return environment
