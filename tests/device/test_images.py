"""Images of every real board, read from the ELF: the vector table where the core looks, everything in a memory that the
board has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from etexport.board import board_names, load_board
from etexport.device import run
from tests.device.building import build_tiny
from tests.device.conftest import Firmware
from tests.device.tiny import sample

REAL = [name for name in board_names() if load_board(name).attach is not None]
STARTS = {"rpi_pico": 256}
"""Bytes before the vector table or the first instruction: of the Pico's boot."""

_ALLOCATED, _WRITEABLE = 2, 1


@pytest.mark.parametrize("name", REAL)
def test_the_image_is_one_for_this_board(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    if shutil.which(f"{board.toolchain.prefix}g++") is None:
        pytest.skip(f"{board.toolchain.prefix}g++ is not installed")
    flash, ram = (next(region for region in board.memory if region.kind == kind) for kind in ("flash", "ram"))
    with build_tiny(board, tmp_path).open("rb") as stream:
        elf = ELFFile(stream)
        loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        for segment in loads:
            if segment["p_filesz"]:
                assert (
                    flash.address <= segment["p_paddr"]
                    and segment["p_paddr"] + segment["p_filesz"] <= flash.address + flash.size
                )
        for section in elf.iter_sections():
            if section["sh_flags"] & _ALLOCATED and section["sh_size"]:
                region = ram if section["sh_flags"] & _WRITEABLE or section["sh_type"] == "SHT_NOBITS" else flash
                inside = (
                    region.address <= section["sh_addr"]
                    and section["sh_addr"] + section["sh_size"] <= region.address + region.size
                )
                assert inside, f"{section.name} at 0x{section['sh_addr']:08x} is not in {region.name}"
        start = flash.address + STARTS.get(name, 0)
        first = next(
            segment for segment in loads if segment["p_paddr"] <= start < segment["p_paddr"] + segment["p_filesz"]
        )
        table = first.data()[start - first["p_paddr"] :]
        entry = elf.header["e_entry"]
    if board.arch == "cortex_m":
        stack, *handlers = (int.from_bytes(table[at : at + 4], "little") for at in range(0, 64, 4))
        assert ram.address < stack <= ram.address + ram.size and stack % 8 == 0
        assert handlers[0] == entry and all(
            address & 1 and flash.address < address < flash.address + flash.size for address in handlers if address
        )
    else:
        assert entry == start, "a chip without a vector table starts at the first instruction"


@pytest.mark.parametrize("name", REAL)
def test_what_was_not_verified_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No board file of ours claims more than that somebody read it: none was ever on its board, and each says so."""
    from etexport.__main__ import main

    assert main(["boards", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  on the real board: never"
    for key in ("memory.flash.address", "clock.hz", "pins.setup.0", "reset_cause.0.address"):
        assert any(re.match(rf"  {re.escape(key)} .*\[.+\]$", line) for line in lines), key
    assert any(line.endswith("[not verified]") for line in lines)


@pytest.mark.parametrize(
    ("name", "clock_hz", "is_set", "cause"),
    [
        ("st_nucleo_f446re", 16_000_000, False, "unknown"),  # QEMU's clock control reads 0: the first wait is in vain
        ("bbc_microbit", 16_000_000, True, "pin"),  # and here every register of POWER reads 1
        ("hifive1_revb", 16_000_000, True, "power_on"),
    ],
)
def test_hello_says_which_clock_runs_and_why_it_started(
    firmware: Firmware, name: str, clock_hz: int, is_set: bool, cause: str
) -> None:
    board, elf = firmware(name)
    hello = run(elf, board, [sample(0)]).hello
    assert hello.clock_hz == clock_hz and ("reset_clock" not in hello.features) is is_set and hello.reset_cause == cause
