"""What a board file `boards/<name>.toml` says, and how it is found.

One file is one board: host, QEMU machine, Renode platform or hardware. Data only; an unknown key is an error that lists the known ones.
Installed packages add boards through the entry point group `etexport.boards` (a module or package whose folder holds `.toml` files).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Toolchain:
    """`prefix` goes before gcc, g++, objcopy, ... ("" for the host's own); `flags` name the core, for compiler and linker alike."""

    prefix: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...] = ()
    package: str = ""
    """Debian packages that bring it, separated by spaces."""


@dataclass(frozen=True)
class Memory:
    """A memory region of the linker script; `kind` is "flash" or "ram"."""

    name: str
    kind: str
    address: int
    size: int


@dataclass(frozen=True)
class Counter:
    """What counts work on this board: `driver` is a header of `firmware/arch/<arch>/`; count = ticks * `numerator` / `denominator`."""

    driver: str
    unit: str
    numerator: int = 1
    denominator: int = 1
    address: int = 0


@dataclass(frozen=True)
class Simulator:
    """How the board is started: `kind` "host" or "qemu" (or "renode"), the program and its arguments (`{elf}` and `{port}` are filled in)."""

    kind: str
    program: str
    arguments: tuple[str, ...]
    package: str = ""


@dataclass(frozen=True)
class Board:
    name: str
    description: str
    core: str
    """For people and reports: "Cortex-M4F"."""
    features: frozenset[str]
    """What kernels ask about: "arm", "riscv", "thumb2", "dsp", "fpu", "host"."""
    arch: str
    """Folder of `firmware/arch/`: startup, fault handlers, counters, exit."""
    uart: str
    """File of `firmware/uart/` without `.cpp`."""
    defines: Mapping[str, int]
    """Macros for arch and uart drivers: `ET_UART_ADDRESS`, clocks."""
    toolchain: Toolchain
    memory: tuple[Memory, ...]
    counter: Counter
    stack: int
    """Bytes that the linker script reserves at least; the build fails if the computed bound is larger."""
    simulator: Simulator | None = None
    url: str = ""
    """Serial port of real hardware, as pyserial's `serial_for_url` takes it."""
