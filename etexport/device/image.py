"""What of an ELF stays the same while it runs, and its CRC: the board computes the same, so that another image is
noticed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from etexport.device.elf import addresses_in
from etexport.errors import BuildError

_PF_WRITE = 2


@dataclass(frozen=True)
class Image:
    size: int
    crc: int


def image(elf: Path) -> Image:
    """From `__image_start` to `__image_end` by load address; without those symbols (a process) the segments that cannot
    be written."""
    try:
        with elf.open("rb") as file:
            parsed = ELFFile(file)
            loads = [
                (segment["p_paddr"], segment["p_flags"], segment.data())
                for segment in parsed.iter_segments()
                if segment["p_type"] == "PT_LOAD"
            ]
            bounds = _bounds(parsed)
    except OSError as error:
        raise BuildError(f"cannot be read: {error.strerror}", where=str(elf)) from error
    except ELFError as error:
        raise BuildError(f"is no ELF: {error}", where=str(elf)) from error
    if bounds is None:
        content = b"".join(data for _, flags, data in loads if not flags & _PF_WRITE)
    else:
        start, end = bounds
        whole = bytearray(end - start)
        covered = 0
        for address, _, data in loads:
            low, high = max(address, start), min(address + len(data), end)
            if low < high:
                whole[low - start : high - start] = data[low - address : high - address]
                covered += high - low
        if covered != end - start:
            raise BuildError(
                f"{end - start - covered} bytes of the image are in no segment",
                where=str(elf),
                hint="the linker script leaves a gap",
            )
        content = bytes(whole)
    return Image(len(content), zlib.crc32(content))


def _bounds(parsed: ELFFile) -> tuple[int, int] | None:
    addresses = addresses_in(parsed)
    start, end = (addresses.get(name) for name in ("__image_start", "__image_end"))
    return None if start is None or end is None else (start, end)
