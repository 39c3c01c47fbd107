"""The arrays in which everything in RAM lies, one a region of the board."""

from __future__ import annotations

from dataclasses import dataclass

from etexport.specialise.model import Placed

SECTION = ".bss.et."
"""What their names begin with (etexport.toolchain.sizes looks for it); under -fdata-sections no variable's section
does."""


@dataclass(frozen=True)
class Arena:
    """The array of a region: its symbol, what run() calls it, the macro with which an own firmware puts it elsewhere,
    the section where it lies otherwise, and its bytes (at least 1: C++ has none of none)."""

    symbol: str
    name: str
    macro: str
    section: str
    region: str
    bytes: int


def arenas(placed: Placed, space: str) -> dict[str, Arena]:
    """By region: the first one's, and of each further one that is used its own. Stock linker scripts take sections
    called `.bss.*` for memory without content, which is no part of the image; a board's own script places them by these
    names."""
    found = {}
    for number, region in enumerate(placed.problem.regions):
        size = placed.solution.size[region.name]
        if size or not number:
            name = f"arena_{region.name}" if number else "arena"
            macro = f"ET_{name.upper()}"
            found[region.name] = Arena(
                f"{space}_{name}", name, macro, f"{SECTION}{space}_{name}", region.name, max(size, 1)
            )
    return found
