"""What the bytes of a firmware are for: every loadable byte of the ELF belongs to one of four parts, and RAM is split
the same way.

The linker's map says which object each input section came from; the ELF says what is really there. A byte that no input
section claims is padding, and is counted with what lies before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from etexport.errors import BuildError


class Part(Enum):
    RUNTIME = "runtime"
    """Start-up, main loop, serial link, drivers, and the binding between them and the program."""
    KERNELS = "kernels"
    """Code of the program: kernels, what they and delegates bring in C and C++, and what was generated."""
    CONSTANTS = "constants"
    """Weights, biases, multipliers, tables of kernels, initial state."""
    LIBC = "libc"
    """The C library, libgcc, and what the toolchain links by itself."""


@dataclass(frozen=True)
class Sizes:
    """`flash` adds up to `flash_total`, the bytes of all loadable segments (less an arena in them). `static` (.data,
    .bss and the like) is split by part as well; with `arena` and `stack` it is all the RAM that the ELF reserves."""

    flash: Mapping[Part, int]
    flash_total: int
    static: Mapping[Part, int]
    static_total: int
    arena: int
    stack: int


@dataclass(frozen=True)
class Piece:
    """An input section where the linker put it. `object` is as the map names it: "obj/main.o",
    ".../libm.a(lib_a-sf_exp.o)"."""

    address: int
    size: int
    section: str
    object: str
    output: str


@dataclass(frozen=True)
class _Extent:
    address: int
    size: int


# Names of the objects that hold the program; see `etexport.emit`.
_PROGRAM, _CONSTANTS = ("program", "marked", "foreign"), "constants"
_ARENA, _STACK = ".bss.et.", ".stack"
_TABLE = ".rodata.et_table"
"""The steps as a table that generated code walks (OPTIMIZE=size): it stands for code, so it is counted as such."""


def sizes(elf: Path, map_file: Path, objects: Sequence[Path]) -> Sizes:
    """Sizes of the ELF in bytes; `objects` are the object files that the build made (the rest came with the toolchain).

    Errors: BuildError if one of the files is not what it should be.
    """
    pieces = read_map(map_file.read_text(errors="replace"))
    if not pieces:
        raise BuildError("this is no map of GNU ld", where=map_file.name, hint="link with -Wl,-Map=FILE")
    own = {path.name for path in objects}
    loaded, writable, in_memory, code = _extents(elf)
    pieces = [piece for piece in pieces if piece.output in in_memory]  # debug information has addresses too, from 0 up

    def part(piece: Piece) -> Part:
        return _part(piece, own, is_code=_is_code(piece, code))

    # A board's script gives each arena a section, a host's own leaves it in .bss.
    arenas = [extent for name, extent in writable if name.split(".")[1:2] == ["arena"]]
    arenas += [_Extent(piece.address, piece.size) for piece in pieces if piece.section.startswith(_ARENA)]
    stacks = [extent for name, extent in writable if name == _STACK]
    stack = sum(extent.size for extent in stacks)
    flash = _split(loaded, pieces, part)
    static = _split([rest for _, extent in writable for rest in _without(extent, [*arenas, *stacks])], pieces, part)
    return Sizes(
        flash=flash,
        flash_total=sum(extent.size for extent in loaded),
        static=static,
        static_total=sum(static.values()),
        arena=sum(extent.size for _, extent in writable) - sum(static.values()) - stack,
        stack=stack,
    )


def _extents(elf: Path) -> tuple[list[_Extent], list[tuple[str, _Extent]], set[str], set[str]]:
    """What is loaded; sections that are written; names of all sections in memory, and of those that are executed."""
    try:
        with elf.open("rb") as stream:
            file = ELFFile(stream)
            loaded = [
                _Extent(segment["p_vaddr"], segment["p_filesz"])
                for segment in file.iter_segments()
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
            ]
            # Sections of thread-local zeros have an address and a size, but nothing of their own lies there.
            writable = [
                (section.name, _Extent(section["sh_addr"], section["sh_size"]))
                for section in file.iter_sections()
                if section["sh_flags"] & SH_FLAGS.SHF_ALLOC
                and section["sh_flags"] & SH_FLAGS.SHF_WRITE
                and not (section["sh_flags"] & SH_FLAGS.SHF_TLS and section["sh_type"] == "SHT_NOBITS")
            ]
            in_memory = {section.name for section in file.iter_sections() if section["sh_flags"] & SH_FLAGS.SHF_ALLOC}
            code = {section.name for section in file.iter_sections() if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR}
    except (ELFError, OSError) as error:
        raise BuildError(f"cannot be read: {error}", where=elf.name) from error
    return loaded, writable, in_memory, code


def program_code(elf: Path, map_file: Path) -> list[tuple[int, int]]:
    """(address, bytes) of all that `Part.KERNELS` counts in flash, ascending: input sections, and
    the padding behind them."""
    pieces = read_map(map_file.read_text(errors="replace"))
    own = {name for piece in pieces if (name := PurePath(piece.object).name).split(".")[0] in _PROGRAM}
    loaded, _, in_memory, code = _extents(elf)
    pieces = [piece for piece in pieces if piece.output in in_memory]
    owned = _owned(loaded, pieces, lambda piece: _part(piece, own, is_code=_is_code(piece, code)))
    return [(extent.address, extent.size) for part, extent in owned if part is Part.KERNELS]


def _is_code(piece: Piece, code: set[str]) -> bool:
    """`code` are the output sections that are executed."""
    return piece.section.startswith((".text", _TABLE)) or (piece.output in code and piece.section.startswith(".init"))


def _part(piece: Piece, own: set[str], *, is_code: bool) -> Part:
    name = PurePath(piece.object).name
    if piece.object.endswith(")") or name not in own:
        return Part.LIBC
    stem = name.split(".")[0]
    if stem == _CONSTANTS:
        return Part.CONSTANTS
    if stem in _PROGRAM:
        return Part.KERNELS if is_code else Part.CONSTANTS
    return Part.RUNTIME


def _without(extent: _Extent, holes: Iterable[_Extent]) -> Iterable[_Extent]:
    """What is left of the extent."""
    cursor, end = extent.address, extent.address + extent.size
    for hole in sorted(holes, key=lambda hole: hole.address):
        if hole.address < end and hole.address + hole.size > cursor:
            yield _Extent(cursor, max(0, hole.address - cursor))
            cursor = hole.address + hole.size
    if cursor < end:
        yield _Extent(cursor, end - cursor)


def _split(extents: Iterable[_Extent], pieces: Sequence[Piece], part: Callable[[Piece], Part]) -> dict[Part, int]:
    """Bytes of the extents by part."""
    found = dict.fromkeys(Part, 0)
    for owner, extent in _owned(extents, pieces, part):
        found[owner] += extent.size
    return found


def _owned(
    extents: Iterable[_Extent], pieces: Sequence[Piece], part: Callable[[Piece], Part]
) -> Iterator[tuple[Part, _Extent]]:
    """The extents in stretches of one part. Every byte is in one of them: they add up to the extents."""
    ordered = sorted((piece for piece in pieces if piece.size), key=lambda piece: (piece.address, piece.size))
    for extent in extents:
        cursor, end = extent.address, extent.address + extent.size
        inside = [piece for piece in ordered if piece.address < end and piece.address + piece.size > extent.address]
        # What comes before the first piece (the ELF's own header, where a segment holds it) goes with that piece.
        owner: Part = part(inside[0]) if inside else Part.RUNTIME
        for piece in inside:
            if piece.address > cursor:
                yield owner, _Extent(cursor, piece.address - cursor)
                cursor = piece.address
            owner = part(piece)
            stop = min(piece.address + piece.size, end)
            if stop > cursor:
                yield owner, _Extent(cursor, stop - cursor)
                cursor = stop
        if end > cursor:
            yield owner, _Extent(cursor, end - cursor)


_OUTPUT = re.compile(r"^([.\w]\S*)(?:\s+0x([0-9a-f]+)\s+0x([0-9a-f]+).*)?$")
_INPUT = re.compile(r"^ (\S+)(?:\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S.*))?$")
_REST = re.compile(r"^\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S.*)$")


def read_map(text: str) -> list[Piece]:
    """Input sections of a GNU ld map, in its order. A long name has its figures on the next line."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        # What stands before was thrown away, or is no section.
        if line.startswith("Linker script and memory map"):
            lines = lines[number + 1 :]
            break
    else:
        return []
    pieces = []
    output = pending = ""
    for line in lines:
        if pending:
            found = _REST.match(line)
            if found:
                pieces.append(Piece(int(found[1], 16), int(found[2], 16), pending, found[3], output))
            pending = ""
            if found:
                continue
        if line and not line[0].isspace():
            named = _OUTPUT.match(line)
            output = named[1] if named else ""
            continue
        found = _INPUT.match(line)
        if found is None or found[1].startswith("*"):
            continue  # a pattern, or *fill*
        if found[2] is None:
            pending = found[1]
        else:
            pieces.append(Piece(int(found[2], 16), int(found[3], 16), found[1], found[4], output))
    return pieces
