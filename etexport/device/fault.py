"""A FAULT frame in words: what the core says, the C++ line, the instruction of the program, the line of the model
script."""

from __future__ import annotations

import bisect
import re
import signal
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etexport.artifacts.memory import Step, read_memory
from etexport.board import Board
from etexport.device.elf import Place, Symbols, loaded, places, symbols
from etexport.device.messages import Message, layout
from etexport.errors import DeviceFaultError

_NOTHING = 0xFFFFFFFF
PROGRAM = "program.cpp"
_STEP = re.compile(r" +// (\d+)  \S")
"""What every step of run() in program.cpp begins with."""
_RUN = re.compile(r"(?:void|bool) (?:\w+::)*(?:run|walk)\(.*\) \{")
_CALLS = re.compile(r" kCalls\[\d*\] = \{([\d, ]+)\};")
"""Where the steps are a table: which case each is."""
_CASE = re.compile(r" +(?:case (\d+):|default:  // (\d+))")
_SHOWN_CALLERS = 6

_CFSR = {
    0: "instruction fetch from memory that holds no code", 1: "access to forbidden memory",
    3: "broken stack on return from an exception", 4: "stack overflow: no memory for an exception's registers",
    5: "stack overflow: no memory for floating point registers",
    8: "instruction fetch from an address where nothing is", 9: "access to an address where nothing is",
    10: "write to an address where nothing is, a few instructions earlier",
    11: "broken stack on return from an exception", 12: "stack overflow: no memory for an exception's registers",
    13: "stack overflow: no memory for floating point registers", 16: "undefined instruction",
    17: "jump to an address without the Thumb bit", 18: "broken return from an exception",
    19: "floating point instruction, but the unit is off or absent", 24: "unaligned access", 25: "division by zero",
}  # fmt: skip
"""Bits of the Configurable Fault Status Register (ARMv7-M reference manual, section B3.2.15)."""
_BFAR_VALID, _MMFAR_VALID = 1 << 15, 1 << 7

_MCAUSE = {
    0: "jump to an unaligned address", 1: "instruction fetch from an address where nothing is",
    2: "illegal instruction", 3: "breakpoint", 4: "unaligned load", 5: "load from an address where nothing is",
    6: "unaligned store", 7: "store to an address where nothing is", 8: "environment call", 11: "environment call",
}  # fmt: skip
"""Exception codes (RISC-V privileged specification, section 3.1.15)."""


@dataclass(frozen=True)
class Fault:
    core: str
    cause: str
    registers: Mapping[str, int]
    run: int | None
    """None if the program was not running."""
    place: tuple[Place, ...]
    """Where the core stopped, innermost inlined function first."""
    callers: tuple[tuple[Place, ...], ...]
    """What looks like the way there, innermost first: return addresses found in the stack, old ones may be among
    them."""
    step: Step | None
    """The step of the program; None if that is not known."""


def decode(message: Message, elf: Path, board: Board) -> Fault:
    """Name what a FAULT message tells. `program.cpp` and `memory.json` are looked for beside the ELF."""
    core, names = layout().registers.get(message["core"], (f"core {message['core']}", ()))
    registers = dict(zip(names, message["registers"], strict=False))
    table = symbols(elf)
    addresses = list(_code_addresses(core, registers, message["stack"], table))
    found = places(elf, board, addresses)
    own = bool(addresses) and addresses[0] == _address(core, registers.get("pc", 0))
    callers = tuple(chain for chain in (found[1:] if own else found) if chain)
    called = step_of([place for chain in found for place in chain], step_marks(elf.parent / PROGRAM))
    at = message["step"]
    if at == _NOTHING:
        at = called[1][0] if called is not None and len(called[1]) == 1 else None
    return Fault(
        core=core,
        cause=_cause(core, registers, table, elf),
        registers=registers,
        run=None if message["run"] == _NOTHING else message["run"],
        place=found[0] if own else (),
        callers=callers,
        step=_step(at, elf.parent),
    )


def error(fault: Fault) -> DeviceFaultError:
    """What a person is told: cause, instruction and line first, then the C++ way there and the registers."""
    step = fault.step
    what = f"{fault.cause}, " + ("outside a run" if fault.run is None else f"in run {fault.run}")
    if step is not None:
        what += f", in step {step.step} {step.name} ({step.op})"
    chain = [*fault.place, *(place for caller in fault.callers[:_SHOWN_CALLERS] for place in caller)]
    for index, place in enumerate(chain):
        what += f"\n    {'in' if index == 0 else 'from'} {place}"
    what += "".join(
        "\n    " + "  ".join(f"{name} {value:08x}" for name, value in group)
        for group in _in_groups(list(fault.registers.items()), 8)
    )
    return DeviceFaultError(what, where="" if step is None else step.source, hint=_hint(fault))


def _hint(fault: Fault) -> str:
    if "stack" in fault.cause:
        return "give the board file a larger `stack`, and look at the stack bound of the build"
    return (
        "" if fault.place or fault.callers else "no debug information: was the ELF stripped, or is addr2line missing?"
    )


def _address(core: str, word: int) -> int:
    return word & ~1 if core == "cortex_m" else word


def _code_addresses(core: str, registers: Mapping[str, int], stack: bytes, table: Symbols) -> Iterator[int]:
    """The program counter, then return addresses from the link register and the stack, moved back into the call."""
    pc = _address(core, registers.get("pc", 0))
    if table.is_code(pc):
        yield pc
    words = [
        registers.get("lr", 0),
        registers.get("ra", 0),
        *(word for (word,) in struct.iter_unpack("<I", stack[: len(stack) & ~3])),
    ]
    seen = {pc}
    for word in words:
        if core == "cortex_m" and not word & 1:
            continue  # a return address has the Thumb bit
        back = _address(core, word) - (1 if core == "host" else 2)
        if table.is_code(back) and back not in seen:
            seen.add(back)
            yield back


Marks = Sequence[tuple[int, tuple[int, ...]]]
"""(line, steps) in program.cpp: from there on the code is that of these steps, of none where they end."""


def step_marks(program: Path) -> Marks:
    """Where each step begins: in run(), or as a case of the loop over a table, which several steps may share; () where
    there is no such file."""
    marks: list[tuple[int, tuple[int, ...]]] = []
    cases: list[int] = []
    inside = False
    lines = program.read_text(encoding="utf-8").splitlines() if program.is_file() else []
    for number, line in enumerate(lines, 1):
        if match := _CALLS.search(line):
            cases = [int(case) for case in match[1].split(",")]
        elif _RUN.fullmatch(line):
            inside = True
        elif inside and line == "}":
            marks.append((number, ()))
            inside = False
        elif inside and (match := _STEP.match(line)):
            marks.append((number, (int(match[1]),)))
        elif inside and (match := _CASE.match(line)):
            marks.append((number, tuple(at for at, case in enumerate(cases) if case == int(match[1] or match[2]))))
    return marks


def step_of(frames: Sequence[Place], marks: Marks) -> tuple[int, tuple[int, ...]] | None:
    """The frame (innermost first) that a step's statement called the next inner one from, and that step, or those that
    share the statement; None outside the steps."""
    for at, place in enumerate(frames):
        if place.file == PROGRAM:
            before = bisect.bisect_right(marks, place.line, key=lambda mark: mark[0])
            if before and marks[before - 1][1]:
                return at, marks[before - 1][1]
    return None


def _step(at: int | None, folder: Path) -> Step | None:
    if at is None or not (folder / "memory.json").is_file():
        return None
    steps = read_memory(folder).steps
    return steps[at] if at < len(steps) else None


def _cause(core: str, registers: Mapping[str, int], table: Symbols, elf: Path) -> str:
    bottom = table.addresses.get("__stack_bottom")
    if bottom is not None and registers.get("sp", 0) <= bottom:
        return "stack overflow"
    wanted = next((names for name, names in layout().registers.values() if name == core), ())
    if missing := [name for name in wanted if name not in registers]:
        return f"fault, told without {', '.join(missing)}"
    if core == "cortex_m":
        if registers["cfsr"] == 0 and registers["hfsr"] == 0:  # Armv6-M has neither register
            return cause_by_instruction(registers, loaded(elf, registers["pc"], 2))
        return _cortex_m_cause(registers)
    if core == "riscv":
        cause = registers["mcause"]
        return f"{_MCAUSE.get(cause, f'exception {cause}')} (0x{registers['mtval']:08x})"
    if core == "host":
        number = registers["signal"]
        name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
        return f"{name} (0x{registers['address_high'] << 32 | registers['address_low']:x})"
    return "fault"


def _cortex_m_cause(registers: Mapping[str, int]) -> str:
    cfsr = registers["cfsr"]
    causes = [text for bit, text in _CFSR.items() if cfsr >> bit & 1]
    cause = " and ".join(dict.fromkeys(causes)) or "exception without a cause"
    if cfsr & _BFAR_VALID:
        return f"{cause} (0x{registers['bfar']:08x})"
    if cfsr & _MMFAR_VALID:
        return f"{cause} (0x{registers['mmfar']:08x})"
    return cause


def cause_by_instruction(registers: Mapping[str, int], code: bytes | None) -> str:
    """Why a core that only knows the hard fault may have stopped at this instruction of 16 bits."""
    if code is None:
        return f"instruction fetch from memory that holds no code (0x{registers['pc']:08x})"
    word = int.from_bytes(code, "little")
    if word >> 8 == 0xDE:
        return "undefined instruction"
    if word >> 8 == 0xBE:
        return "breakpoint"
    access = _access(word, registers)
    if access is None:
        return "hard fault"
    address, size = access
    if address is None:
        return "access to an address where nothing is" + (", or unaligned access" if size > 1 else "")
    return f"{'unaligned access' if address % size else 'access to an address where nothing is'} (0x{address:08x})"


def _access(word: int, registers: Mapping[str, int]) -> tuple[int | None, int] | None:
    """Address and bytes of a load or store (Armv6-M reference manual, sections A5.2.4 and A6.7), else None. The address
    is None where it is in a register that a fault does not save: only r0 to r3 are."""

    def register(at: int) -> int | None:
        return registers.get(f"r{at & 7}") if at & 7 < 4 else None

    base, kind = register(word >> 3), word >> 12
    if kind == 5:
        index = register(word >> 6)
        size = (4, 2, 1, 1, 4, 2, 1, 2)[word >> 9 & 7]
        return (None if base is None or index is None else (base + index) & 0xFFFFFFFF), size
    if kind in (6, 7, 8):
        size = {6: 4, 7: 1, 8: 2}[kind]
        return (None if base is None else (base + size * (word >> 6 & 31)) & 0xFFFFFFFF), size
    if kind == 12:  # several registers
        return register(word >> 8), 4
    return None


def _in_groups(items: Sequence[tuple[str, int]], size: int) -> Iterator[Sequence[tuple[str, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
