"""What RV32 and RV64 instructions do to the stack pointer and to the flow, as objdump prints them (with its usual
aliases).

Source: the RISC-V unprivileged specification; the calling convention (t0 is the link register of the millicode
`__riscv_save_*`).
"""

from __future__ import annotations

import re

from etexport.toolchain.stack_walk import Code, Effect, Flow, Instruction, Known, Registers, What

_BRANCHES = frozenset(
    {
        "beq",
        "bne",
        "blt",
        "bge",
        "bltu",
        "bgeu",
        "beqz",
        "bnez",
        "blez",
        "bgez",
        "bltz",
        "bgtz",
        "bgt",
        "ble",
        "bgtu",
        "bleu",
    }
)
_STORES = frozenset({"sb", "sh", "sw", "sd", "fsw", "fsd", "fsh"})
_SCRATCH = ("ra", *(f"t{n}" for n in range(7)), *(f"a{n}" for n in range(8)))

ENTRY_REGISTERS = {"ra": Known(What.RETURN)}

# Called by `jal t0`, they move the stack pointer for their caller; `__riscv_restore_*` is jumped to and returns for it.
# They are followed as a part of the function that uses them.
MILLICODE = ("__riscv_save_", "__riscv_restore_")


def step(instruction: Instruction, depth: int, registers: Registers, code: Code) -> Effect:
    name, operands = instruction.mnemonic.removeprefix("c."), instruction.operands
    # `la sp, top` is two instructions; only the one directly behind the first belongs to it.
    rest_of_la = registers.pop("sp", None) is not None
    if name in _BRANCHES:
        return Effect(Flow.BRANCH, depth, registers, _address(operands[-1]))
    if name in ("j", "jal", "call", "tail", "jr", "jalr", "ret", "mret", "sret", "uret"):
        return _jump(name, instruction, depth, registers, code)
    if name in ("unimp",):
        return Effect(Flow.STOP, depth, registers)
    if name.startswith("cm."):
        return Effect(Flow.NEXT, depth, registers, lost=f"{name} is not understood")  # Zcmp pushes and pops
    if name in _STORES:
        _stored(name, operands, depth, registers)
        return Effect(Flow.NEXT, depth, registers)
    if not operands:
        return Effect(Flow.NEXT, depth, registers)

    if name in ("and", "andi") and operands[:2] == ("sp", "sp"):
        # Aligned downwards: the stack pointer is a multiple of 4 in any case.
        return Effect(Flow.NEXT, depth + max(0, -int(operands[2], 0) - 4), registers)
    value = _value(name, instruction, depth, registers)
    if operands[0] != "sp":
        registers.pop(operands[0], None)
        if value is not None:
            registers[operands[0]] = value
        return Effect(Flow.NEXT, depth, registers)
    if name in ("lui", "auipc"):
        registers["sp"] = Known(What.CONST)
        return Effect(Flow.NEXT, depth, registers, sets_stack=True)
    if (
        rest_of_la
        or name in ("lw", "ld", "csrr", "csrrw", "csrw", "li", "la")
        or (value is not None and value.what is What.CONST)
    ):
        return Effect(Flow.NEXT, depth, registers, sets_stack=True)
    if value is not None and value.what is What.STACK:
        return Effect(Flow.NEXT, value.number, registers)
    return Effect(
        Flow.NEXT, depth, registers, lost="the stack pointer moves by a number that only the running program knows"
    )


def _stored(name: str, operands: tuple[str, ...], depth: int, registers: Registers) -> None:
    """A compiler short of registers keeps the place of a switch's table in its frame: a constant that is stored there
    is known again when it is loaded."""
    offset, base = _memory(operands[-1])
    if base != "sp":
        return
    value = registers.get(operands[0]) if name == "sw" else None
    registers.pop(_slot(offset, depth), None)
    if value is not None and value.what is What.CONST:
        registers[_slot(offset, depth)] = value


def _slot(offset: int, depth: int) -> str:
    """A word of the frame, by its distance from where the stack pointer was when the function was called."""
    return f"word {(offset - depth) // 4}"


def _jump(name: str, instruction: Instruction, depth: int, registers: Registers, code: Code) -> Effect:
    operands = instruction.operands
    if name in ("ret", "mret", "sret", "uret"):
        return Effect(Flow.RETURN, depth, registers)
    if name in ("j", "tail"):
        return Effect(Flow.JUMP, depth, registers, _address(operands[0]))
    if name in ("jal", "call"):
        link = operands[0] if len(operands) == 2 else "ra"
        return _linked(link, _address(operands[-1]), instruction, depth, registers)

    link = "zero" if name == "jr" else operands[0] if len(operands) == 2 else "ra"
    offset, register = _memory(operands[-1])
    known = registers.get(register)
    if known is not None and known.what is What.CONST:
        target = (known.number + offset) & 0xFFFFFFFE
        if link == "zero":
            return Effect(Flow.JUMP, depth, registers, target)
        return _linked(link, target, instruction, depth, registers)
    if link != "zero":
        return _called(Effect(Flow.UNKNOWN_CALL, depth, registers))
    if known is not None and known.what is What.RETURN:
        return Effect(Flow.RETURN, depth, registers)
    if known is not None and known.what is What.TABLE:
        # A switch goes to places near the jump; a table of functions does not hold them.
        word = code.word(known.number)
        word = None if word is None else (word + known.bias) & 0xFFFFFFFF
        start = max((at for at in code.names if at <= instruction.address), default=0)
        if word is not None and start <= word < code.ends.get(start, 0):
            return Effect(Flow.SWITCH, depth, registers)
    return Effect(Flow.UNKNOWN_JUMP, depth, registers)


def _linked(link: str, target: int, instruction: Instruction, depth: int, registers: Registers) -> Effect:
    if link == "zero":
        return Effect(Flow.JUMP, depth, registers, target)
    if link == "t0":
        registers["t0"] = Known(What.CONST, instruction.next)
        return Effect(Flow.JUMP, depth, registers, target)
    return _called(Effect(Flow.CALL, depth, registers, target))


def _called(effect: Effect) -> Effect:
    for register in _SCRATCH:
        effect.registers.pop(register, None)
    return effect


def _value(name: str, instruction: Instruction, depth: int, registers: Registers) -> Known | None:
    """What the first operand holds afterwards, where that can be told."""
    operands = instruction.operands

    def known(operand: str) -> Known | None:
        if operand == "sp":
            return Known(What.STACK, depth)
        if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", operand):
            return Known(What.CONST, int(operand, 0))
        return Known(What.CONST, 0) if operand == "zero" else registers.get(operand)

    if name == "li":
        return known(operands[1])
    if name == "lui":
        return Known(What.CONST, int(operands[1], 0) << 12)
    if name == "auipc":
        return Known(What.CONST, (instruction.address + (int(operands[1], 0) << 12)) & 0xFFFFFFFF)
    if name == "mv":
        return known(operands[1])
    if name in ("add", "addi", "addi16sp", "addi4spn", "sub"):
        first, second = known(operands[-2] if len(operands) == 3 else operands[0]), known(operands[-1])
        return _sum(first, second, -1 if name == "sub" else 1)
    if name == "lw":
        offset, register = _memory(operands[1])
        base = registers.get(register)
        if operands[0] == "ra" and register == "sp":
            return Known(What.RETURN)
        if register == "sp":
            return registers.get(_slot(offset, depth))
        if base is not None and base.what is What.INDEX:
            return Known(What.TABLE, base.number + offset)
    return None


def _sum(first: Known | None, second: Known | None, sign: int) -> Known | None:
    if second is None or second.what is not What.CONST:
        if sign < 0:
            return None
        first, second = second, first
    if second is None or second.what is not What.CONST:
        return None
    signed = second.number - (1 << 32) if second.number >= 1 << 31 else second.number
    if first is None:
        return Known(What.INDEX, second.number & 0xFFFFFFFF)
    if first.what is What.CONST:
        return Known(What.CONST, (first.number + sign * signed) & 0xFFFFFFFF)
    if first.what is What.STACK:
        return Known(What.STACK, first.number - sign * signed)
    if first.what is What.TABLE:
        return Known(What.TABLE, first.number, first.bias + sign * signed)
    if first.what is What.INDEX:
        return Known(What.INDEX, first.number + sign * signed)
    return None


def _memory(operand: str) -> tuple[int, str]:
    """ "12(a0)" or "a0"."""
    found = re.fullmatch(r"(-?\d+)?\((\w+)\)", operand)
    if found is None:
        return 0, operand
    return int(found[1] or 0), found[2]


def _address(operand: str) -> int:
    return int(operand.split()[0], 16)
