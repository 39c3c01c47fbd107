"""What the host reads from a firmware's ELF: symbols, places in the source, which addresses are code."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from etexport.board import Board
from etexport.errors import BuildError

HASH_SYMBOL = "_ZN2et7program4hashE"
"""`et::program::hash` of firmware/et/program.h."""
_FUNCTION = 2
"""STT_FUNC of the ELF specification."""


@dataclass(frozen=True)
class Place:
    """A place in the source: `function` is as in C++, `line` 0 where the compiler left none; `folder` is the name of
    that in which the file lies."""

    function: str
    file: str
    line: int
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.function} at {self.file}:{self.line}" if self.line else self.function


@dataclass(frozen=True)
class Symbols:
    addresses: dict[str, int]
    code: tuple[tuple[int, int], ...]
    """(first, behind) of each executable section."""

    def is_code(self, address: int) -> bool:
        return any(first <= address < behind for first, behind in self.code)


def symbols(elf: Path) -> Symbols:
    """All symbols by their linker name; BuildError where the file is no ELF."""
    try:
        with elf.open("rb") as file:
            parsed = ELFFile(file)
            addresses = addresses_in(parsed)
            code = tuple(
                (section["sh_addr"], section["sh_addr"] + section["sh_size"])
                for section in parsed.iter_sections()
                if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR
            )
    except OSError as error:
        raise BuildError(f"cannot be read: {error.strerror}", where=str(elf)) from error
    except ELFError as error:
        raise BuildError(f"is no ELF: {error}", where=str(elf)) from error
    return Symbols(addresses, code)


def functions(elf: Path) -> list[int]:
    """Where the functions begin, ascending; on Arm with the Thumb bit."""
    with elf.open("rb") as file:
        return sorted({address for _, address, kind in _entries(ELFFile(file)) if kind == _FUNCTION})


def addresses_in(parsed: ELFFile) -> dict[str, int]:
    """Symbol -> address."""
    return {name: address for name, address, _ in _entries(parsed)}


def _entries(parsed: ELFFile) -> Iterator[tuple[str, int, int]]:
    """Name, address and kind of each symbol. Of thousands in an image, pyelftools makes an object each, which takes
    fifty times as long."""
    table = parsed.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return
    names, content = table.stringtable.data(), table.data()
    fields_of, value_at, info_at = ("IIIBBH", 1, 3) if parsed.elfclass == 32 else ("IBBHQQ", 4, 1)
    entry = struct.Struct(("<" if parsed.little_endian else ">") + fields_of)
    for fields in entry.iter_unpack(content[: len(content) // entry.size * entry.size]):
        end = names.find(b"\0", fields[0])
        yield names[fields[0] : end].decode("utf-8", "replace"), fields[value_at], fields[info_at] & 15


def program_hash(elf: Path) -> int | None:
    """`et::program::hash` as it lies in the ELF; None where it has none."""
    address = symbols(elf).addresses.get(HASH_SYMBOL)
    found = loaded(elf, address, 8) if address is not None else None
    return int.from_bytes(found, "little") if found is not None else None


@dataclass(frozen=True)
class Counts:
    """`tensors`: how many inputs and outputs each method has. `steps` of all methods."""

    tensors: tuple[tuple[int, int], ...]
    steps: int


def program_counts(elf: Path) -> Counts | None:
    """What of a program there is in the ELF; None where it does not say."""
    table = symbols(elf).addresses

    def read(name: str, size: int) -> bytes | None:
        symbol = f"_ZN2et7program{len(name)}{name}E"
        return loaded(elf, table[symbol], size) if symbol in table else None

    methods, steps = read("method_count", 4), read("step_count", 4)
    count = int.from_bytes(methods, "little") if methods is not None else 0
    tensors = read("tensor_counts", 4 * count)
    if not count or steps is None or tensors is None:
        return None
    return Counts(tuple(struct.iter_unpack("<HH", tensors)), int.from_bytes(steps, "little"))


def memory_bytes(elf: Path) -> int:
    """All that the ELF takes in the board's memories: nothing in it can be larger."""
    with elf.open("rb") as file:
        return sum(
            section["sh_size"] for section in ELFFile(file).iter_sections() if section["sh_flags"] & SH_FLAGS.SHF_ALLOC
        )


def loaded(elf: Path, address: int, size: int) -> bytes | None:
    """What the file puts at this address; None where it puts nothing."""
    with elf.open("rb") as file:
        for segment in ELFFile(file).iter_segments():
            start = segment["p_vaddr"]
            if segment["p_type"] == "PT_LOAD" and start <= address and address + size <= start + segment["p_filesz"]:
                return bytes(segment.data()[address - start : address - start + size])
    return None


def places(elf: Path, board: Board, addresses: Sequence[int]) -> list[tuple[Place, ...]]:
    """For each address the functions inlined into each other there, innermost first; () without addr2line or debug
    information."""
    program = shutil.which(f"{board.toolchain.prefix}addr2line")
    if program is None or not addresses:
        return [() for _ in addresses]
    wanted = "".join(f"{address:#x}\n" for address in addresses)
    text = subprocess.run(
        [program, "-a", "-f", "-C", "-i", "-e", str(elf)], input=wanted, capture_output=True, text=True, check=False
    ).stdout
    found: list[tuple[Place, ...]] = []
    for block in re.split(r"^0x[0-9a-f]+\n", text, flags=re.MULTILINE)[1:]:
        lines = block.splitlines()
        found.append(
            tuple(
                _place(function, place)
                for function, place in zip(lines[::2], lines[1::2], strict=False)
                if function != "??"
            )
        )
    return found if len(found) == len(addresses) else [() for _ in addresses]


def _place(function: str, place: str) -> Place:
    file, _, line = place.split(" (discriminator", 1)[0].rpartition(":")
    return Place(function, Path(file).name, int(line) if line.isdigit() else 0, Path(file).parent.name)
