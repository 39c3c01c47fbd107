"""What a board file says of a chip and of how it is attached: registers to write, clocks, causes of a reset, tools that
flash it.

Data only, and what can be wrong with it. The firmware replays the registers (firmware/runtime/setup.cpp); no board has
code of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etexport.errors import BoardError

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "write": ("address", "value"),
    "set": ("address", "bits"),
    "clear": ("address", "bits"),
    "field": ("address", "mask", "value"),
    "wait": ("address", "mask", "value"),
}
"""What can be done to a register of 32 bits, with the numbers it takes: write it, set or clear bits, replace the bits
of a mask, or wait until the bits of a mask have a value."""

CAUSES: Mapping[str, int] = {
    "unknown": 0, "power_on": 1, "pin": 2, "software": 3, "watchdog": 4, "brown_out": 5, "lockup": 6, "low_power": 7,
    "debugger": 8, "other": 9,
}  # fmt: skip
"""Why a board was reset, with the code of schema/link.md."""

LINES = ("on", "off", "keep")
DRIVE_FORMATS = ("bin", "hex", "uf2")
RESETS = ("", "dtr", "rts", "break")

_ALL = 0xFFFF_FFFF
_MOST_BAUD_ERROR = 0.015
"""Of one side. Both sides together should stay within 2 %, and the adapter at the other end has an error of its own."""
_USB = re.compile(r"[0-9a-f]{4}:([0-9a-f]{4}|\*)")


@dataclass(frozen=True)
class Operation:
    """One line of a set-up, in TOML a list: `["field", 0x4002_0000, 0xF0, 0xA0]`."""

    name: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Clock:
    """Clocks in Hz: of the core and of the UART, as they are after `setup` and as they are after reset.

    `setup` stops at the first wait that fails, after a bounded time: then the chip runs on what it has after reset, the
    UART divides `uart_reset_hz`, and HELLO says so. So the same image runs on the chip and in a simulator that has no
    PLL.
    """

    hz: int
    uart_hz: int
    reset_hz: int = 0
    """0: as `hz`."""
    uart_reset_hz: int = 0
    """0: as `uart_hz`."""
    setup: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class Pins:
    """What connects the UART to its pins; always run, after the clock's set-up."""

    setup: tuple[Operation, ...]


@dataclass(frozen=True)
class ResetCause:
    """A register that tells why the chip was reset. Asked in order, first `bits` (number of a bit) and then `values`
    (of `mask`); the first that is true is the cause. `otherwise` is the cause where none is true, `clear` what makes
    the next reset's cause readable."""

    address: int
    bits: Mapping[str, int] | None = None
    mask: int = 0
    values: Mapping[str, int] | None = None
    otherwise: str = ""
    clear: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class Attach:
    """How a real board is attached: what it is called on USB, what writes its flash, how its serial port behaves."""

    usb: tuple[str, ...] = ()
    """"vendor:product" in hexadecimal of what gives the serial port; "1366:*" is any product of that vendor."""
    usb_port: int = 0
    """Which of the adapter's serial ports, from 0, where it has several."""
    flash: tuple[str, ...] = ()
    """Names of tools, the preferred one first."""
    openocd: tuple[str, ...] = ()
    """Arguments that choose probe and chip: `["-f", "board/st_nucleo_f4.cfg"]`."""
    pyocd: str = ""
    """Its name of the target."""
    probe_rs: str = ""
    """Its name of the chip."""
    drive: str = ""
    """Label of the drive on which a file is copied; `*` stands for any characters."""
    drive_format: str = ""
    """What is copied there: "bin", "hex" or "uf2"."""
    uf2_family: int = 0
    platformio: str = ""
    dtr: str = "keep"
    """What the line is when the port is opened: "on", "off", or as the system leaves it."""
    rts: str = "keep"
    reset: str = ""
    """How the host resets the board through its serial port: a pulse on "dtr" or "rts", a "break", or not at all
    ("")."""
    notes: tuple[str, ...] = ()
    """What people must know before they plug it in."""


# ---- for the firmware ------------------------------------------------------------------------------------------------


def words(operations: Sequence[Operation]) -> tuple[int, ...]:
    """Three words an operation, as firmware/runtime/setup.cpp replays them: address, mask, value. Bit 0 of the address
    says wait; of the other operations each replaces the bits of the mask by the value, and reads nothing where the mask
    is all of them."""
    rows: list[int] = []
    for operation in operations:
        address, *rest = operation.numbers
        if operation.name == "write":
            rows += [address, _ALL, rest[0]]
        elif operation.name in ("set", "clear"):
            rows += [address, rest[0], rest[0] if operation.name == "set" else 0]
        else:
            rows += [address | (operation.name == "wait"), *rest]
    return tuple(rows)


def cause_words(causes: Sequence[ResetCause]) -> tuple[int, ...]:
    """Four words a question, in the order they are asked: address, mask, value, code of the cause. A mask of 0 is
    always true."""
    rows: list[int] = []
    for cause in causes:
        for name, bit in (cause.bits or {}).items():
            rows += [cause.address, 1 << bit, 1 << bit, CAUSES[name]]
        for name, value in (cause.values or {}).items():
            rows += [cause.address, cause.mask, value, CAUSES[name]]
    rows += [number for cause in causes if cause.otherwise for number in (cause.address, 0, 0, CAUSES[cause.otherwise])]
    return tuple(rows)


# ---- what is well-formed and still cannot be -------------------------------------------------------------------------


def impossible_operation(operation: Operation, key: str, where: str) -> Iterator[BoardError]:
    wanted = OPERATIONS[operation.name]
    shown = f"{key!r} has [{', '.join([operation.name, *(f'0x{number:08x}' for number in operation.numbers)])}]"
    if len(operation.numbers) != len(wanted):
        yield BoardError(
            f"{shown}, {len(operation.numbers)} numbers",
            where=where,
            hint=f"{operation.name} takes {', '.join(wanted)}",
        )
        return
    if any(number > _ALL for number in operation.numbers):
        yield BoardError(f"{shown}: more than 32 bits", where=where)
    if operation.numbers[0] % 4:
        yield BoardError(
            f"{shown}: the address is no multiple of 4", where=where, hint="registers are read and written as 32 bits"
        )
    if len(wanted) == 3:
        mask, value = operation.numbers[1:]
        if value & ~mask:
            yield BoardError(f"{shown}: the value has bits that the mask lacks: 0x{value & ~mask:08x}", where=where)
    if operation.name != "write" and operation.numbers[1] == 0:
        yield BoardError(f"{shown}: nothing is changed or awaited", where=where)


def impossible_clock(clock: Clock, bauds: Sequence[int], where: str) -> Iterator[BoardError]:
    for key, value in (("hz", clock.hz), ("uart_hz", clock.uart_hz)):
        if value == 0:
            yield BoardError(f"'clock.{key}' is 0", where=where, hint="Hz")
    for baud in bauds if clock.uart_hz else ():
        if (off := baud_error(clock.uart_hz, baud)) > _MOST_BAUD_ERROR:
            what = (
                f"{baud:,} bits a second cannot be made of {clock.uart_hz:,} Hz: the nearest is {100 * off:.1f} % off"
            )
            yield BoardError(
                what,
                where=where,
                hint=f"at most {100 * _MOST_BAUD_ERROR} %; another of 'bauds', or another 'clock.uart_hz'",
            )


def baud_error(clock_hz: int, baud: int) -> float:
    """How far the nearest rate is off that a whole number of clocks a bit gives; UARTs that divide finer are nearer."""
    return abs(clock_hz / max(1, (2 * clock_hz + baud) // (2 * baud)) / baud - 1)


def impossible_cause(cause: ResetCause, where: str) -> Iterator[BoardError]:
    if cause.address % 4:
        yield BoardError(f"'reset_cause.address' is 0x{cause.address:08x}, no multiple of 4", where=where)
    for name in (*(cause.bits or {}), *(cause.values or {}), *([cause.otherwise] if cause.otherwise else [])):
        if name not in CAUSES:
            yield BoardError(
                f"'reset_cause' has {name!r}, which does not exist", where=where, hint=f"known: {', '.join(CAUSES)}"
            )
    for name, bit in (cause.bits or {}).items():
        if bit > 31:
            yield BoardError(f"'reset_cause.bits.{name}' is {bit}", where=where, hint="a bit's number, 0 to 31")
    for name, value in (cause.values or {}).items():
        if value & ~cause.mask:
            yield BoardError(
                f"'reset_cause.values.{name}' is 0x{value:08x}, outside the mask 0x{cause.mask:08x}", where=where
            )


def impossible_attach(attach: Attach, where: str) -> Iterator[BoardError]:
    for name in attach.usb:
        if not _USB.fullmatch(name):
            yield BoardError(
                f"'attach.usb' has {name!r}",
                where=where,
                hint='four small hexadecimal digits each: "0483:374b", or "1366:*"',
            )
    for key, value, known in (
        ("dtr", attach.dtr, LINES),
        ("rts", attach.rts, LINES),
        ("reset", attach.reset, RESETS),
        ("drive_format", attach.drive_format, ("", *DRIVE_FORMATS)),
    ):
        if value not in known:
            yield BoardError(
                f"'attach.{key}' is {value!r}", where=where, hint=f"known: {', '.join(filter(None, known))}"
            )
    if bool(attach.drive) != bool(attach.drive_format):
        yield BoardError(
            "of 'attach.drive' and 'attach.drive_format' only one is there", where=where, hint="both, or none"
        )
