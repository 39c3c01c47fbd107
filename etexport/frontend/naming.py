"""What instructions and values are called: after the script's layers, and outputs as the script calls them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from etexport.frontend.lower import Lowered
from etexport.program.model import BEGIN, JUMPS, MOVE, ROW, SET_ROW, Instruction, Method, Program, Ref
from etexport.program.names import Names, base_name
from etexport.program.operators import CLONE, DEQUANTIZE, PERMUTE, QUANTIZE, TRANSPOSE, VIEW, WRITE_BACK

MOVES = (VIEW, PERMUTE, TRANSPOSE, CLONE)
"""What a layer of rows or of channels-last data has beside what it computes."""
BEHIND = (QUANTIZE, DEQUANTIZE, CLONE)
"""What may stand between an output and the operator that made it: how it is stored, and in which order."""


def numbered(program: Program, lowered: Lowered) -> tuple[Program, dict[int, str]]:
    """The program with handles counted from 0, as a `.pte` has them, instructions and their results named after the
    layers of the script, and outputs as the script calls them.

    Returns with it the node of the exported graph for each new handle.
    """
    (method,) = program.methods
    handles = {instruction.handle: at for at, instruction in enumerate(method.instructions)}
    computed = {one.handle: _result(lowered.program.method(), one) for one in lowered.program.method().instructions}
    nodes = {
        handles[one.handle]: lowered.nodes[one.handle]
        for one in method.instructions
        # passes use handles again that are free
        if one.handle in lowered.nodes and _result(method, one) == computed[one.handle]
    }
    names = Names(value.name for value in method.values.values() if not _is_made(method, value.id))
    called = {out: names.new(name) for out, name in _output_names(method, lowered).items()}
    wanted, steps = _layer_names(method, lowered.modules), Names()
    values = dict(method.values)
    named: set[int] = set()  # what branches and rounds write several times has its name from the first
    instructions = []
    for instruction in method.instructions:
        name = steps.new(wanted.get(instruction.name) or instruction.name)
        if instruction.outs and _is_made(method, made := instruction.outs[0]) and made not in named:
            named.add(made)
            values[made] = replace(values[made], name=called.get(made) or names.new(name))
        if instruction.op in JUMPS:
            instruction = instruction.leading_to(handles.get(instruction.destination, -1))
        instructions.append(replace(instruction, handle=handles[instruction.handle], name=name))
    for instruction in instructions:
        for number, out in enumerate(instruction.outs[1:], 1):
            if out in named:
                continue
            values[out] = replace(values[out], name=called.get(out) or names.new(f"{instruction.name}_{number}"))
    method = replace(method, values=values, instructions=tuple(instructions))
    return replace(program, methods=(method,)), nodes


def _result(method: Method, instruction: Instruction) -> tuple[int, str] | None:
    """What an instruction writes first, by number and name; None of a jump."""
    return (instruction.outs[0], method.values[instruction.outs[0]].name) if instruction.outs else None


def _is_made(method: Method, value_id: int) -> bool:
    """Whether the value is the result of an instruction and nothing that lives longer (a state)."""
    value = method.values.get(value_id)
    return value is not None and value.role.value in ("activation", "output", "scratch")


def _layer_names(method: Method, modules: dict[str, str]) -> dict[str, str]:
    """By the instruction's name: the layer's path, and the operator where the layer has several instructions that
    compute, where it only moves, or where it is the model itself."""
    paths = {instruction.name: modules.get(instruction.name, "") for instruction in method.instructions}
    computing = Counter(paths[one.name] for one in method.instructions if one.op not in MOVES)
    every = Counter(paths.values())
    found = {}
    for instruction in method.instructions:
        path = paths[instruction.name]
        alone = every[path] == 1 or (instruction.op not in MOVES and computing[path] == 1)
        if instruction.op not in (WRITE_BACK, BEGIN, MOVE, ROW, SET_ROW, *JUMPS):
            found[instruction.name] = path if path and alone else f"{path}.{_operator(instruction)}".lstrip(".")
    return found


def _output_names(method: Method, lowered: Lowered) -> dict[int, str]:
    """By value: the key of a dict, the attribute of a dataclass or named tuple, else the module that made it, or in the
    model itself the operator. What was done to store it has no say."""
    makers = {out: one for one in method.instructions if one.op != WRITE_BACK for out in one.outs}
    found: dict[int, str] = {}
    for out, asked in zip(method.outputs, lowered.output_names, strict=True):
        if out in found or not _is_made(method, out):
            continue
        source, maker = out, makers.get(out)
        while maker is not None and maker.op in BEHIND and isinstance(operand := maker.args[0], Ref):
            source, maker = operand.id, makers.get(operand.id)
        if asked:
            found[out] = asked
        elif maker is not None and maker.op in (MOVE, SET_ROW):
            found[out] = maker.name
        elif maker is None:
            found[out] = f"{method.values[source].name}_out"
        else:
            number = maker.outs.index(source)
            found[out] = (lowered.modules.get(maker.name) or _operator(maker)) + (f"_{number}" if number else "")
    return found


def _operator(instruction: Instruction) -> str:
    return base_name(instruction.op).removesuffix("_copy").strip("_")
