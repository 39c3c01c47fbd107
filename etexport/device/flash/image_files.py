"""The files that flash tools take, made of an ELF: raw bytes, Intel HEX, UF2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from etexport.errors import BoardError, BuildError

_PAGE = 256
"""Bytes of a UF2 block's payload, and of what an RP2 chip programs at once."""
_UF2 = struct.Struct("<IIIIIIII476sI")
_UF2_MAGIC = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
_UF2_FAMILY_PRESENT = 0x2000
_HEX_BYTES = 16


def segments(elf: Path) -> tuple[tuple[int, bytes], ...]:
    """(load address, bytes) of what the ELF puts into memory, in order; BuildError for what is no ELF."""
    try:
        with elf.open("rb") as file:
            loads = [
                (segment["p_paddr"], bytes(segment.data()))
                for segment in ELFFile(file).iter_segments()
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
            ]
    except OSError as error:
        raise BuildError(
            f"cannot be read: {error.strerror}", where=str(elf), hint="build the firmware first"
        ) from error
    except ELFError as error:
        raise BuildError(f"is no ELF: {error}", where=str(elf)) from error
    if not loads:
        raise BuildError("has nothing to load", where=str(elf))
    return tuple(sorted(loads))


def raw(elf: Path) -> tuple[int, bytes]:
    """(address, bytes) from the first to the last, with zeros between, as `objcopy -O binary` makes it."""
    parts = segments(elf)
    start = parts[0][0]
    whole = bytearray(max(address + len(data) for address, data in parts) - start)
    for address, data in parts:
        whole[address - start : address - start + len(data)] = data
    return start, bytes(whole)


def intel_hex(elf: Path) -> bytes:
    """Records of 16 bytes, with extended linear addresses (Intel, Hexadecimal Object File Format Specification,
    revision A)."""
    lines, upper = [], -1
    for address, data in segments(elf):
        at = 0
        while at < len(data):
            place = address + at
            if place >> 16 != upper:
                upper = place >> 16
                lines.append(_hex_record(0, 4, upper.to_bytes(2, "big")))
            count = min(_HEX_BYTES - place % _HEX_BYTES, len(data) - at)
            lines.append(_hex_record(place & 0xFFFF, 0, data[at : at + count]))
            at += count
    return "".join((*lines, _hex_record(0, 1, b""))).encode()


def _hex_record(address: int, kind: int, data: bytes) -> str:
    record = bytes((len(data), address >> 8, address & 0xFF, kind)) + data
    return f":{(record + bytes((-sum(record) & 0xFF,))).hex().upper()}\n"


def uf2(elf: Path, family: int) -> bytes:
    """Blocks of 512 bytes for pages of 256 (https://github.com/microsoft/uf2): pages that the image touches, the rest
    of them zero."""
    pages: dict[int, bytearray] = {}
    for address, data in segments(elf):
        for at, byte in _by_page(address, data):
            page, offset = divmod(at, _PAGE)
            pages.setdefault(page, bytearray(_PAGE))[offset : offset + len(byte)] = byte
    head, second, end = _UF2_MAGIC
    return b"".join(
        _UF2.pack(
            head, second, _UF2_FAMILY_PRESENT, page * _PAGE, _PAGE, number, len(pages), family, bytes(pages[page]), end
        )
        for number, page in enumerate(sorted(pages))
    )


def _by_page(address: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The bytes cut where a page ends."""
    at = 0
    while at < len(data):
        count = min(_PAGE - (address + at) % _PAGE, len(data) - at)
        yield address + at, data[at : at + count]
        at += count


def write_image(elf: Path, kind: str, family: int, board: str) -> tuple[Path, int]:
    """The file of this format beside the ELF, which is the ELF itself for "elf", and the address of its first byte."""
    address, content = raw(elf)
    if kind == "elf":
        return elf, address
    if kind == "hex":
        content = intel_hex(elf)
    elif kind == "uf2":
        if not family:
            raise BoardError(
                "'attach.uf2_family' is missing", where=board, hint="uf2_family = 0xE48B_FF56 for an RP2040"
            )
        content = uf2(elf, family)
    path = elf.with_name(f"firmware.{kind}")
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    aside.replace(path)
    return path, address
