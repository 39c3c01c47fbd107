"""The driver of the newer STM32 USART, which no simulator here has: compiled for this machine, on memory at its
registers' address."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etexport.board import board_names, firmware_defines, load_board
from etexport.resources import root

BOARDS = [name for name in board_names() if load_board(name).uart == "stm32_v2"]
DIVIDERS = {"st_nucleo_h743zi2": (556, 556), "st_nucleo_u575zi_q": (139, 35)}
"""64 MHz, or 16 and 4 MHz, by 115,200: with the clock set, and with that of reset."""


def test_a_board_has_it() -> None:
    assert set(BOARDS) == set(DIVIDERS)


@pytest.mark.parametrize("name", BOARDS)
def test_it_sets_reads_and_writes_its_registers(name: str, tmp_path: Path) -> None:
    defines = firmware_defines(load_board(name))
    macros = [
        f"-D{key}={defines[key]}"
        for key in ("ET_UART_ADDRESS", "ET_UART_FIFO", "ET_BAUD", "ET_UART_HZ", "ET_UART_RESET_HZ")
    ]
    wanted = [f"-D{key}={value}u" for key, value in zip(("WANTED", "WANTED_RESET"), DIVIDERS[name], strict=True)]
    sources = [Path(__file__).with_name("stm32_v2.cpp"), root() / "firmware" / "uart" / "stm32_v2.cpp"]
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-int-to-pointer-cast", f"-I{root() / 'firmware'}"]
    program = tmp_path / "driver"
    subprocess.run(["g++", *flags, *macros, *wanted, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=10)
    if done.returncode == 77:
        pytest.skip("this machine has something at the USART's address")
    assert done.returncode == 0, done.stdout
