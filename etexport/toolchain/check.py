"""What a linked firmware takes, and whether its stack fits: the last check before it may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from etexport.artifacts.sizes import Frame, Parts, SizeRecord
from etexport.board import Board
from etexport.errors import PlanError
from etexport.toolchain import gcc
from etexport.toolchain.sizes import Part, Sizes, sizes
from etexport.toolchain.stack import StackReport, stack_bound

HANDLERS = ("et_fault", "et_trap", "et_systick")
"""Exception entries of `firmware/arch/`, by the names that every core uses; an image has some of them."""


@dataclass(frozen=True)
class Footprint:
    """`stack` is None on the host, whose stack is not ours."""

    sizes: Sizes
    stack: StackReport | None


def footprint(elf: Path, map_file: Path, objects: Sequence[Path], board: Board) -> Footprint:
    """Sizes by part and the bound of the stack; PlanError where the stack may need more than the board file
    reserves."""
    found = sizes(elf, map_file, objects)
    if "host" in board.features:
        return Footprint(found, None)
    usage = [path.with_suffix(".su") for path in objects if path.with_suffix(".su").exists()]
    report = stack_bound(elf, gcc.tool(board, "objdump"), usage, handlers=_handlers(elf))
    if report.bound > board.stack:
        chain = " -> ".join(f"{link.function} {link.bytes}" for link in report.chain)
        raise PlanError(
            f"the stack may need {report.bound:,} bytes, the board reserves {board.stack:,}",
            where=f"board {board.name}",
            hint=f"the deepest chain of calls: {chain}; `stack = {-(-report.bound // 256) * 256}` in the board file "
            "would be enough",
        )
    return Footprint(found, report)


def _handlers(elf: Path) -> tuple[str, ...]:
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        return tuple(
            name for name in HANDLERS if isinstance(table, SymbolTableSection) and table.get_symbol_by_name(name)
        )


def record(found: Footprint) -> SizeRecord:
    """What `sizes.json` says of it."""
    size, stack = found.sizes, found.stack
    return SizeRecord(
        flash=_parts(size.flash, size.flash_total),
        static=_parts(size.static, size.static_total),
        arena=size.arena,
        stack=size.stack,
        stack_bound=stack.bound if stack else None,
        stack_chain=tuple(Frame(link.function, link.bytes) for link in stack.chain) if stack else (),
    )


def _parts(by_part: Mapping[Part, int], total: int) -> Parts:
    return Parts(total=total, **{part.value: by_part[part] for part in Part})
