"""The clock's set-up of real boards, replayed on models of the chips' clock control: it gives the frequencies that the
board file says.

A wrong bit (a factor, a bus divider, wait states, an oscillator that is off) is refused, which the last test shows on
purpose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from etexport.board import Board, board_names, load_board
from etexport.hardware import Clock, Operation


class Wrong(Exception):
    """What a chip's manual forbids, or a wait for what never comes."""


@dataclass
class Registers:
    """A chip's registers while they are written. `react(registers, address)` is called after each write, and sets what
    the chip would."""

    react: Callable[[Registers, int], None]
    words: dict[int, int] = field(default_factory=dict)

    def read(self, address: int) -> int:
        return self.words.get(address, 0)

    def run(self, operation: Operation) -> None:
        address, *rest = operation.numbers
        old = self.read(address)
        match operation.name:
            case "write":
                self.write(address, rest[0])
            case "set":
                self.write(address, old | rest[0])
            case "clear":
                self.write(address, old & ~rest[0])
            case "field":
                self.write(address, (old & ~rest[0]) | rest[1])
            case "wait":
                if old & rest[0] != rest[1]:
                    raise Wrong(f"0x{address:08x} & 0x{rest[0]:08x} never becomes 0x{rest[1]:08x}: it is 0x{old:08x}")

    def write(self, address: int, value: int) -> None:
        self.words[address] = value & 0xFFFF_FFFF
        self.react(self, address)


@dataclass(frozen=True)
class Clocks:
    core_hz: int
    uart_hz: int


# ---- the chips -------------------------------------------------------------------------------------------------------

RCC, PWR, FLASH_ACR = 0x4002_3800, 0x4000_7000, 0x4002_3C00
CR, PLLCFGR, CFGR, APB1ENR = RCC, RCC + 4, RCC + 8, RCC + 0x40


def stm32f4(registers: Registers, address: int) -> None:
    """RM0090 and RM0390, sections 6 and 7: ready flags follow their enable bits, SWS follows SW if that clock runs."""
    cr = registers.read(CR)
    ready = (cr & ~(1 << 17 | 1 << 25)) | (1 << 17 if cr >> 16 & 1 else 0) | (1 << 25 if cr >> 24 & 1 else 0)
    registers.words[CR] = ready
    if address == PLLCFGR and cr >> 24 & 1:
        raise Wrong("the PLL is configured while it is on")
    if address == PWR and not registers.read(APB1ENR) >> 28 & 1:
        raise Wrong("PWR is written without its clock")
    if address == CFGR:
        wanted = registers.read(CFGR) & 3
        runs = {0: True, 1: ready >> 17 & 1, 2: ready >> 25 & 1}.get(wanted)
        if not runs:
            raise Wrong(f"the system clock is switched to source {wanted}, which does not run")
        registers.words[CFGR] = (registers.read(CFGR) & ~0xC) | wanted << 2
        if wanted == 2:
            stm32f4_clocks(registers, check_only=True)


def stm32f4_clocks(registers: Registers, *, check_only: bool = False, hse_hz: int = 8_000_000) -> Clocks:
    """What the registers make, within the limits of the data sheets at 3.3 V."""
    pll = registers.read(PLLCFGR)
    m, n, p, q = pll & 63, pll >> 6 & 511, 2 * ((pll >> 16 & 3) + 1), pll >> 24 & 15
    source = hse_hz if pll >> 22 & 1 else 16_000_000
    if pll >> 22 & 1 and not registers.read(CR) >> 17 & 1:
        raise Wrong("the PLL's source does not run")
    if m < 2 or not 1_000_000 <= source / m <= 2_000_000:
        raise Wrong(f"the PLL's input is {source / max(m, 1):,.0f} Hz")
    vco = source // m * n
    if not 100_000_000 <= vco <= 432_000_000 or q < 2 or vco / q > 48_000_000:
        raise Wrong(f"the PLL's oscillator is at {vco:,} Hz, Q is {q}")
    cfgr = registers.read(CFGR)
    core = vco // p if cfgr & 3 == 2 else 16_000_000
    divider = {4: 2, 5: 4, 6: 8, 7: 16}
    apb1, apb2 = core // divider.get(cfgr >> 10 & 7, 1), core // divider.get(cfgr >> 13 & 7, 1)
    if core > 168_000_000 or apb1 > 42_000_000 or apb2 > 84_000_000:
        raise Wrong(f"core {core:,}, APB1 {apb1:,}, APB2 {apb2:,} Hz")
    if registers.read(FLASH_ACR) & 15 < -(-core // 30_000_000) - 1:
        raise Wrong(f"{registers.read(FLASH_ACR) & 15} wait states at {core:,} Hz")
    if core > 144_000_000 and not registers.read(PWR) >> 14 & 1:
        raise Wrong("the core's voltage is too low for this speed")
    return Clocks(core, apb1)


def rp2040(registers: Registers, address: int) -> None:
    """RP2040 datasheet, sections 2.14 to 2.18: writes to +0x2000 set bits, to +0x3000 clear them."""
    alias, base = address & 0x3000, address & ~0x3000
    if alias:
        value = registers.words.pop(address)
        old = registers.read(base)
        registers.words[base] = old | value if alias == 0x2000 else old & ~value
    words = registers.words
    words[0x4002_4004] = 1 << 31 if words.get(0x4002_4000, 0) >> 12 == 0xFAB else 0
    words[0x4000_C008] = ~words.get(0x4000_C000, 0) & 0x01FF_FFFF
    stable, released = bool(words[0x4002_4004]), bool(words[0x4000_C008] & 1 << 12)
    powered = released and not words.get(0x4002_8004, 0x2D) & 0x21
    locked = powered and stable and words.get(0x4002_8008, 0) != 0
    words[0x4002_8000] = (words.get(0x4002_8000, 1) & 0x7FFF_FFFF) | (1 << 31 if locked else 0)
    words[0x4000_8038] = 1 << (words.get(0x4000_8030, 0) & 3)
    words[0x4000_8044] = 1 << (words.get(0x4000_803C, 0) & 1)
    if words[0x4000_8044] == 2 and base == 0x4000_803C and (not locked or words.get(0x4002_8004, 0x2D) & 8):
        raise Wrong("the system clock is switched to a PLL that does not run")
    if base == 0x4002_800C and words[0x4000_8044] == 2:
        raise Wrong("the PLL's dividers change under the system clock")


def rp2040_clocks(registers: Registers, crystal_hz: int = 12_000_000) -> Clocks:
    read = registers.read
    vco = crystal_hz // (read(0x4002_8000) & 63) * read(0x4002_8008)
    if not 750_000_000 <= vco <= 1_600_000_000:
        raise Wrong(f"the PLL's oscillator is at {vco:,} Hz")
    one, two = read(0x4002_800C) >> 16 & 7, read(0x4002_800C) >> 12 & 7
    if not 1 <= two <= one:
        raise Wrong(f"the PLL's dividers are {one} and {two}")
    core = vco // (one * two) if read(0x4000_8044) == 2 else crystal_hz
    if core > 133_000_000:
        raise Wrong(f"the core is at {core:,} Hz")
    return Clocks(core, core if read(0x4000_8048) >> 11 & 1 and not read(0x4000_8048) >> 5 & 7 else 0)


def fe310(registers: Registers, address: int) -> None:
    """FE310-G002 manual, chapter 7."""
    oscillator = registers.read(0x1000_8004)
    registers.words[0x1000_8004] = (oscillator & 0x7FFF_FFFF) | (1 << 31 if oscillator >> 30 & 1 else 0)
    pll = registers.read(0x1000_8008)
    if pll >> 16 & 1 and pll >> 17 & 1 and not registers.words[0x1000_8004] >> 31:
        raise Wrong("the crystal is selected and does not run")


def fe310_clocks(registers: Registers) -> Clocks:
    pll = registers.read(0x1000_8008)
    if not pll >> 16 & 1:
        return Clocks(14_400_000, 14_400_000)
    if not pll >> 18 & 1 or not registers.read(0x1000_800C) >> 8 & 1:
        raise Wrong("only the bypassed PLL, undivided, is modelled")
    clock = 16_000_000 if pll >> 17 & 1 else 14_400_000
    return Clocks(clock, clock)


def nrf5(registers: Registers, address: int) -> None:
    """CLOCK of nRF51 and nRF52: the task starts the crystal, the event says that it runs."""
    if address == 0x4000_0000 and registers.read(address) == 1:
        registers.words[0x4000_0100] = 1


def nrf5_clocks(core_hz: int) -> Callable[[Registers], Clocks]:
    def clocks(registers: Registers) -> Clocks:
        if registers.read(0x4000_0100) != 1:
            raise Wrong("the crystal does not run")
        return Clocks(core_hz, 16_000_000)

    return clocks


H7_CR, H7_CFGR = 0x5802_4400, 0x5802_4410


def stm32h7(registers: Registers, address: int) -> None:
    """RM0433, section 8: the ready flag follows its enable bit, the divider's flag says that it is taken over, SWS
    follows SW."""
    cr = registers.read(H7_CR)
    registers.words[H7_CR] = (cr & ~(1 << 2)) | (1 << 2 if cr & 1 else 0) | 1 << 5
    if address == H7_CFGR:
        wanted = registers.read(H7_CFGR) & 7
        if wanted != 0 or not cr & 1:
            raise Wrong(f"the system clock is switched to source {wanted}, which does not run")
        registers.words[H7_CFGR] = (registers.read(H7_CFGR) & ~0x38) | wanted << 3


def stm32h7_clocks(registers: Registers) -> Clocks:
    """Of the oscillator alone, with the buses' dividers as after reset: 1."""
    hz = 64_000_000 >> (registers.read(H7_CR) >> 3 & 3)
    return Clocks(hz, hz)


U5_CR, U5_CFGR1, U5_ACR = 0x4602_0C00, 0x4602_0C1C, 0x4002_2000


def stm32u5(registers: Registers, address: int) -> None:
    """RM0456, section 11, in voltage range 4, that of reset: one wait state above 8 MHz, two above 16 MHz."""
    cr = registers.read(U5_CR)
    registers.words[U5_CR] = (cr & ~(1 << 10)) | (1 << 10 if cr >> 8 & 1 else 0)
    if address == U5_CFGR1:
        wanted = registers.read(U5_CFGR1) & 3
        if not {0: True, 1: cr >> 8 & 1}.get(wanted):
            raise Wrong(f"the system clock is switched to source {wanted}, which does not run")
        if wanted == 1 and not registers.read(U5_ACR) & 15:
            raise Wrong("the flash has no wait state at 16 MHz")
        registers.words[U5_CFGR1] = (registers.read(U5_CFGR1) & ~0xC) | wanted << 2


def stm32u5_clocks(registers: Registers) -> Clocks:
    hz = 16_000_000 if registers.read(U5_CFGR1) >> 2 & 3 == 1 else 4_000_000
    return Clocks(hz, hz)


@dataclass(frozen=True)
class Model:
    react: Callable[[Registers, int], None]
    clocks: Callable[[Registers], Clocks]
    reset: Mapping[int, int] = field(default_factory=dict)


F4 = Model(stm32f4, stm32f4_clocks, {CR: 0x83, PLLCFGR: 0x2400_3010, PWR: 0})
MODELS = {
    "st_nucleo_f446re": F4,
    "st_stm32f4_discovery": F4,
    "rpi_pico": Model(
        rp2040, rp2040_clocks, {0x4000_C000: 0x01FF_FFFF, 0x4002_8000: 1, 0x4002_8004: 0x2D, 0x4002_800C: 0x77000}
    ),
    "hifive1_revb": Model(fe310, fe310_clocks, {0x1000_8004: 0, 0x1000_8008: 0x0003_0187}),
    "bbc_microbit": Model(nrf5, nrf5_clocks(16_000_000)),
    "nrf52840_dk": Model(nrf5, nrf5_clocks(64_000_000)),
    # A loader has been there: the divider is 4, and the oscillator off.
    "st_nucleo_h743zi2": Model(stm32h7, stm32h7_clocks, {H7_CR: 0x30, H7_CFGR: 0}),
    "st_nucleo_u575zi_q": Model(stm32u5, stm32u5_clocks, {U5_CR: 0x35, U5_CFGR1: 0, U5_ACR: 0}),
}


def replay(clock: Clock, model: Model) -> Clocks:
    registers = Registers(model.react, dict(model.reset))
    for operation in clock.setup:
        registers.run(operation)
    return model.clocks(registers)


def with_clock(name: str) -> tuple[Board, Clock]:
    board = load_board(name)
    assert board.clock is not None
    return board, board.clock


def test_every_set_up_has_a_model() -> None:
    """A new board with clocks of its own comes with a model of them, or its frequencies are only believed."""
    loaded = [load_board(name) for name in board_names()]
    assert {board.name for board in loaded if board.clock is not None and board.clock.setup} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_set_up_gives_the_stated_clocks(name: str) -> None:
    _, clock = with_clock(name)
    assert replay(clock, MODELS[name]) == Clocks(clock.hz, clock.uart_hz)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model is F4])
def test_pins_of_the_uart_get_its_function(name: str) -> None:
    """PA2 and PA3: alternate function 7, mode alternate, clocks of port and USART on."""
    board, _ = with_clock(name)
    assert board.pins is not None
    registers = Registers(lambda *_: None, {0x4002_0000: 0xA800_0000, 0x4002_000C: 0x6400_0000})
    for operation in board.pins.setup:
        registers.run(operation)
    assert registers.read(0x4002_0020) >> 8 & 0xFF == 0x77 and registers.read(0x4002_0000) == 0xA800_00A0
    assert registers.read(0x4002_000C) == 0x6400_0040
    assert registers.read(0x4002_3830) & 1 and registers.read(0x4002_3840) >> 17 & 1


@pytest.mark.parametrize(
    ("name", "port", "pin", "function", "clocks"),
    [
        ("st_nucleo_h743zi2", 0x5802_0C00, 8, 7, ((0x5802_44E0, 3), (0x5802_44E8, 18))),  # GPIOD, USART3
        ("st_nucleo_u575zi_q", 0x4202_0000, 9, 7, ((0x4602_0C8C, 0), (0x4602_0CA4, 14))),  # GPIOA, USART1
    ],
)
def test_two_pins_behind_each_other_get_the_function(
    name: str, port: int, pin: int, function: int, clocks: tuple[tuple[int, int], ...]
) -> None:
    """Two pins from 8 on: transmit, receive with a pull-up. All others stay as they are, set or not."""
    board, _ = with_clock(name)
    assert board.pins is not None
    mode, pull, high = port, port + 0xC, port + 0x24
    for before in (0, 0xFFFF_FFFF):
        registers = Registers(lambda *_: None, {mode: before, pull: before, high: before})
        for operation in board.pins.setup:
            registers.run(operation)
        two, four = 0xF << 2 * pin, 0xFF << 4 * (pin - 8)
        assert registers.read(mode) == (before & ~two) | 0b1010 << 2 * pin
        assert registers.read(pull) == (before & ~(0b11 << 2 * (pin + 1))) | 0b01 << 2 * (pin + 1)
        assert registers.read(high) == (before & ~four) | (function << 4 | function) << 4 * (pin - 8)
        assert all(registers.read(address) >> bit & 1 for address, bit in clocks)


BITS = [
    ("st_nucleo_f446re", PLLCFGR, 1 << 8, "N"),
    ("st_nucleo_f446re", CFGR, 1 << 12, "APB1"),
    ("st_nucleo_f446re", FLASH_ACR, 1 << 0, "wait states"),
    ("st_nucleo_f446re", CR, 1 << 16, "HSEON"),
    ("st_stm32f4_discovery", PWR, 1 << 14, "VOS"),
    ("st_stm32f4_discovery", PLLCFGR, 1 << 22, "source"),
    ("rpi_pico", 0x4002_8008, 1 << 3, "FBDIV"),
    ("rpi_pico", 0x4002_800C, 1 << 12, "POSTDIV2"),
    ("rpi_pico", 0x4002_B004, 1 << 5, "VCOPD"),
    ("rpi_pico", 0x4002_4000, 1 << 12, "XOSC_CTRL"),
    ("rpi_pico", 0x4000_8048, 1 << 11, "CLK_PERI"),
    ("hifive1_revb", 0x1000_8004, 1 << 30, "HFXOSCEN"),
    ("hifive1_revb", 0x1000_8008, 1 << 17, "REFSEL"),
    ("bbc_microbit", 0x4000_0000, 1 << 0, "HFCLKSTART"),
    ("st_nucleo_h743zi2", H7_CR, 1 << 0, "HSION"),
    ("st_nucleo_h743zi2", H7_CFGR, 1 << 0, "SW"),
    ("st_nucleo_u575zi_q", U5_CR, 1 << 8, "HSION"),
    ("st_nucleo_u575zi_q", U5_CFGR1, 1 << 0, "SW"),
    ("st_nucleo_u575zi_q", U5_ACR, 1 << 1, "LATENCY"),
]


@pytest.mark.parametrize(("name", "address", "bit", "what"), BITS, ids=[f"{name}-{what}" for name, _, _, what in BITS])
def test_a_wrong_bit_is_refused(name: str, address: int, bit: int, what: str) -> None:
    """One bit of one write flipped: the clocks are others than the file says, or the chip would not do it."""
    _, clock = with_clock(name)
    at = next(
        i
        for i, one in enumerate(clock.setup)
        if one.numbers[0] == address and (one.name in ("write", "field") or one.numbers[-1] & bit)
    )
    broken = clock.setup[at]
    flipped = dataclasses.replace(broken, numbers=(*broken.numbers[:-1], broken.numbers[-1] ^ bit))
    setup = (*clock.setup[:at], flipped, *clock.setup[at + 1 :])
    try:
        got = replay(dataclasses.replace(clock, setup=setup), MODELS[name])
    except Wrong:
        return
    assert got != Clocks(clock.hz, clock.uart_hz), f"{what}: nobody notices"
