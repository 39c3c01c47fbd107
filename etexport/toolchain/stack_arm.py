"""What Thumb instructions (Armv6-M to Armv8.1-M, with the FPU) do to the stack pointer and to the flow, as objdump
prints them.

Source: Armv7-M and Armv8-M architecture reference manuals, chapters on instruction details and on the exception model.
"""

from __future__ import annotations

import re

from etexport.toolchain.stack_walk import Code, Effect, Flow, Instruction, Known, Registers, What

_CONDITIONS = ("eq", "ne", "cs", "cc", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
_BRANCHES = frozenset("b" + condition for condition in _CONDITIONS) | {"cbz", "cbnz"}
# Mnemonics that are looked at; others only write a register. Those of an IT block carry a condition at their end.
_PUSH = frozenset({"push", "stmdb", "stmfd", "vpush", "vstmdb", "fstmdbx"})
_POP = frozenset({"pop", "ldmia", "ldmfd", "ldm", "vpop", "vldmia", "fldmiax"})
_ADD = frozenset({"add", "adds", "addw"})
_SUB = frozenset({"sub", "subs", "subw"})
_MOVE = frozenset({"mov", "movs", "movw", "cpy"})
_LOAD = frozenset({"ldr", "ldrd", "ldrb", "ldrh", "ldrsb", "ldrsh", "vldr"})
_STORE = frozenset({"str", "strd", "strb", "strh", "vstr"})
_CALLS = frozenset({"bl", "blx"})
_WITH_CONDITION = _PUSH | _POP | _ADD | _SUB | _MOVE | _LOAD | _STORE | _CALLS | {"bx", "bxns", "movt"}
# Neither these nor stores write their first operand.
_READERS = frozenset(
    {"cmp", "cmn", "tst", "teq", "vcmp", "vcmpe", "it", "nop", "bkpt", "svc", "udf", "dmb", "dsb", "isb"}
)
_TWO_RESULTS = frozenset({"umull", "smull", "umlal", "smlal", "umaal", "ldrd", "vmov", "smlald", "smlaldx", "smlsld"})
_SCRATCH = ("r0", "r1", "r2", "r3", "ip", "r12", "lr")

ENTRY_REGISTERS = {"lr": Known(What.RETURN)}


def step(instruction: Instruction, depth: int, registers: Registers, code: Code) -> Effect:
    """The instruction's effect. A push or pop under a condition counts as done or as not done, whichever leaves more on
    the stack."""
    name, conditional = _mnemonic(instruction.mnemonic)
    operands = instruction.operands
    if name in _BRANCHES:
        return Effect(Flow.BRANCH, depth, registers, _address(operands[-1]))
    if name == "b":
        return Effect(Flow.JUMP, depth, registers, _address(operands[0]))
    if name in ("tbb", "tbh"):
        return Effect(Flow.SWITCH, depth, registers)
    if name == "udf":
        return Effect(Flow.STOP, depth, registers)
    if name in _CALLS:
        effect = _call(operands[0], depth, registers)
        if effect.flow is Flow.CALL and _is_inside(instruction, effect.target, code):
            # Where a branch reaches 2 KB, on Armv6-M, compilers go further inside a function by `bl`, and save lr for
            # that.
            return Effect(Flow.BRANCH, depth, registers, effect.target)
        return effect
    if name in ("bx", "bxns"):
        return _go(operands[0], depth, registers, conditional=conditional)
    if name in _PUSH | _POP and operands and (name in ("push", "pop", "vpush", "vpop") or operands[0] == "sp!"):
        return _push_or_pop(name, operands, depth, registers, conditional=conditional)
    if name in _LOAD | _STORE:
        return _load_or_store(name, instruction, depth, registers, code, conditional=conditional)
    if name in _MOVE and operands[0] == "pc":
        known = registers.get(operands[1])
        if known is not None and known.what is What.TABLE and _leads_inside(instruction, known, code):
            # Compilers go to a place of a switch by `mov pc`, and to a function of a table by `bx`.
            return Effect(Flow.SWITCH, depth, registers)
        return _go(operands[1], depth, registers, conditional=conditional)
    if name in _ADD and operands[0] == "pc":
        return Effect(Flow.SWITCH, depth, registers)
    if name == "msr" and operands[0].upper() in ("MSP", "PSP", "MSP_NS", "PSP_NS"):
        return Effect(Flow.NEXT, depth, registers, sets_stack=True)
    if name in _MOVE | _ADD | _SUB | {"movt"}:
        return _arithmetic(name, operands, depth, registers, conditional=conditional)
    if not name.startswith("cps") and name not in _READERS and operands:
        if operands[0] == "sp":
            return Effect(Flow.NEXT, depth, registers, lost=f"{instruction.mnemonic} sp")
        _forget(name, operands, registers)
    return Effect(Flow.NEXT, depth, registers)


def _mnemonic(text: str) -> tuple[str, bool]:
    """Without width and data type, and whether it runs under a condition."""
    name = text.split(".")[0]
    if name in _WITH_CONDITION or name in _BRANCHES or name in ("b", "teq", "vcmp"):
        return name, False
    if name[-2:] in _CONDITIONS and name[:-2] in _WITH_CONDITION:
        return name[:-2], True
    return name, False


def _call(operand: str, depth: int, registers: Registers) -> Effect:
    known = registers.get(operand)
    for register in _SCRATCH:
        registers.pop(register, None)
    if re.fullmatch(r"r\d+|ip|lr|sb|sl|fp", operand):
        if known is not None and known.what is What.CONST:
            return Effect(Flow.CALL, depth, registers, known.number & ~1)
        return Effect(Flow.UNKNOWN_CALL, depth, registers)
    return Effect(Flow.CALL, depth, registers, _address(operand))


def _go(register: str, depth: int, registers: Registers, *, conditional: bool) -> Effect:
    """A jump to what a register holds."""
    known = registers.get(register)
    if register == "lr" or (known is not None and known.what is What.RETURN):
        return Effect(Flow.RETURN_OR_NEXT if conditional else Flow.RETURN, depth, registers)
    if known is not None and known.what is What.CONST:
        return Effect(Flow.BRANCH if conditional else Flow.JUMP, depth, registers, known.number & ~1)
    return Effect(Flow.UNKNOWN_JUMP, depth, registers)


def _leads_inside(instruction: Instruction, known: Known, code: Code) -> bool:
    """Whether the table, where its address is known, begins with a place of this function: a table of functions does
    not."""
    word = code.word(known.number) if known.number else None
    return word is None or _start(instruction, code) <= word & ~1 < code.ends.get(_start(instruction, code), 0)


def _is_inside(instruction: Instruction, target: int, code: Code) -> bool:
    """Whether a call leads into the function that makes it, not to its beginning."""
    start = _start(instruction, code)
    return start < target < code.ends.get(start, 0)


def _start(instruction: Instruction, code: Code) -> int:
    """Of the function that the instruction belongs to."""
    return max((at for at in code.names if at <= instruction.address), default=0)


def _push_or_pop(
    name: str, operands: tuple[str, ...], depth: int, registers: Registers, *, conditional: bool
) -> Effect:
    names = _register_list(operands[-1])
    size = sum(_width(register) for register in names)
    if name in _PUSH:
        return Effect(Flow.NEXT, depth + size, registers)
    if name == "fldmiax":
        size += 4
    if "pc" in names:
        # Under a condition the other path has popped nothing.
        return Effect(
            Flow.RETURN_OR_NEXT if conditional else Flow.RETURN, depth if conditional else depth - size, registers
        )
    for register in names:
        # Armv6-M cannot pop lr: it pops the return address into a low register and jumps to that.
        if register in ("lr", "r0", "r1", "r2", "r3"):
            registers[register] = Known(What.RETURN)
        else:
            registers.pop(register, None)
    return Effect(Flow.NEXT, depth if conditional else depth - size, registers)


def _load_or_store(
    name: str, instruction: Instruction, depth: int, registers: Registers, code: Code, *, conditional: bool
) -> Effect:
    operands = instruction.operands
    memory = next((operand for operand in operands if operand.startswith("[")), "")
    base = re.match(r"\[(\w+)", memory)
    moved = _writeback(operands, memory)
    after = depth
    if base is not None and moved is not None:
        if base[1] == "sp":
            grows = -moved
            after = depth if conditional and grows < 0 else depth + grows
        else:
            registers.pop(base[1], None)
    if name in _STORE:
        return Effect(Flow.NEXT, after, registers)

    literal = (
        re.search(r"\(?(?:0x)?([0-9a-f]+) <", instruction.comment) if base is not None and base[1] == "pc" else None
    )
    value: Known | None = None
    if name == "ldr" and literal is not None:
        word = code.word(int(literal[1], 16))
        value = Known(What.CONST, word) if word is not None else None
    elif name == "ldr" and base is not None and re.search(r",\s*(?:r\d+|ip|lr|sb|sl|fp)", memory):
        value = Known(What.TABLE)
    elif name == "ldr" and base is not None and (index := registers.get(base[1])) and index.what is What.INDEX:
        value = Known(What.TABLE, index.number)
    elif operands[0] in ("lr", "pc") and base is not None and base[1] == "sp":
        value = Known(What.RETURN)

    if operands[0] == "pc":
        if value is None:
            return Effect(Flow.UNKNOWN_JUMP, after, registers)
        if value.what is What.RETURN:
            return Effect(Flow.RETURN_OR_NEXT if conditional else Flow.RETURN, after, registers)
        if value.what is What.CONST:
            return Effect(Flow.BRANCH if conditional else Flow.JUMP, after, registers, value.number & ~1)
        return Effect(Flow.SWITCH, after, registers)
    if operands[0] == "sp":
        return Effect(Flow.NEXT, after, registers, sets_stack=True)
    _forget(name, operands, registers)
    if value is not None and not conditional:
        registers[operands[0]] = value
    return Effect(Flow.NEXT, after, registers)


def _arithmetic(name: str, operands: tuple[str, ...], depth: int, registers: Registers, *, conditional: bool) -> Effect:
    """mov, movt, add and sub, where they concern the stack pointer or give a register a known value."""
    result = operands[0]

    def known(operand: str) -> Known | None:
        if operand == "sp":
            return Known(What.STACK, depth)
        if operand.startswith("#"):
            return Known(What.CONST, _immediate(operand))
        return registers.get(operand)

    value: Known | None = None
    if name in _MOVE and len(operands) == 2:
        value = known(operands[1])
    elif name == "movt":
        low = registers.get(result)
        if low is not None and low.what is What.CONST:
            value = Known(What.CONST, (low.number & 0xFFFF) | _immediate(operands[1]) << 16)
    elif name in _ADD | _SUB:
        first, second = known(operands[-2]), known(operands[-1])
        if first is not None and second is not None:
            value = _sum(first, second, -1 if name in _SUB else 1)
        elif name in _ADD and not operands[-1].startswith("#"):
            base = first or second
            if base is not None and base.what is What.CONST:
                value = Known(What.INDEX, base.number)

    if result == "sp":
        if value is None:
            return Effect(
                Flow.NEXT,
                depth,
                registers,
                lost="the stack pointer moves by a number that only the running program knows",
            )
        if value.what is What.STACK:
            return Effect(Flow.NEXT, max(depth, value.number) if conditional else value.number, registers)
        return Effect(Flow.NEXT, depth, registers, sets_stack=True)
    if value is None or conditional:
        registers.pop(result, None)
    else:
        registers[result] = value
    return Effect(Flow.NEXT, depth, registers)


def _sum(first: Known, second: Known, sign: int) -> Known | None:
    if second.what is not What.CONST:
        first, second = (second, first) if sign > 0 else (first, second)
    if second.what is not What.CONST:
        return None
    signed = second.number - (1 << 32) if second.number >= 1 << 31 else second.number
    if first.what is What.CONST:
        return Known(What.CONST, (first.number + sign * second.number) & 0xFFFFFFFF)
    if first.what is What.STACK:
        return Known(What.STACK, first.number - sign * signed)
    return None


def _forget(name: str, operands: tuple[str, ...], registers: Registers) -> None:
    for operand in operands[: 2 if name in _TWO_RESULTS else 1]:
        registers.pop(operand.rstrip("!"), None)
    if name.startswith(("ldm", "vldm")):
        for register in _register_list(operands[-1]):
            registers.pop(register, None)


def _register_list(text: str) -> list[str]:
    names: list[str] = []
    for part in text.strip("{}").replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if last:
            names += [f"{first[0]}{number}" for number in range(int(first[1:]), int(last[1:]) + 1)]
        else:
            names.append(first)
    return names


def _width(register: str) -> int:
    return {"d": 8, "q": 16}.get(register[0], 4) if register[1:].isdigit() else 4


def _writeback(operands: tuple[str, ...], memory: str) -> int | None:
    """By how much the base register moves."""
    if memory.endswith("!"):
        number = re.search(r"#(-?\d+)", memory)
        return int(number[1]) if number else 0
    if operands and operands[-1].startswith("#") and len(operands) >= 2 and operands[-2] == memory:
        return _immediate(operands[-1])
    return None


def _immediate(operand: str) -> int:
    return int(operand.lstrip("#"), 0)


def _address(operand: str) -> int:
    return int(operand.split()[0], 16)
