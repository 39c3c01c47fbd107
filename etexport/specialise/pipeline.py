"""The target side: a board-neutral program becomes calls of kernels with everything but addresses decided."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from etexport.errors import EtError, ModelError, doing, raise_all
from etexport.kernel import supported
from etexport.kernel.call import Call, Target
from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.kernel.op import Layout
from etexport.program.flow import jump_targets
from etexport.program.model import BEGIN, MOVE, NEXT, Instruction, Method, Program, Role, Value
from etexport.specialise.address import address
from etexport.specialise.branches import with_labels, without_labels
from etexport.specialise.contents import check_contents
from etexport.specialise.fuse import fuse
from etexport.specialise.integer import fuse_integers
from etexport.specialise.layout import lay_out
from etexport.specialise.model import Specialised
from etexport.specialise.schedule import BeginStep, CallStep, JumpStep, MoveStep, NextStep, Schedule, Step
from etexport.specialise.weights import keep_weights


def specialise_all(
    program: Program, target: Target, library: Library, done: Mapping[str, Specialised] = MappingProxyType({})
) -> tuple[Specialised, ...]:
    """Every method of the program, in order, but for those that are `done`. Each has all states of the program, for
    none may lie over another method's."""
    found = tuple(
        done.get(method.name) or specialise(program, target, library, method=method.name) for method in program.methods
    )
    states = {value.name: value for one in found for value in one.method.values.values() if value.role is Role.STATE}
    return tuple(_with_states(one, states) for one in found)


def _with_states(specialised: Specialised, states: Mapping[str, Value]) -> Specialised:
    method = specialised.method
    taken = {value.name for value in method.values.values()} | states.keys()
    values = dict(method.values)
    for value in method.values.values():
        if value.name in states and value.role is not Role.STATE:
            values[value.id] = replace(value, name=_unique(value.name, value.name, taken))
    own = {value.name for value in values.values()}
    new = (state for name, state in states.items() if name not in own)
    values |= {id: replace(state, id=id) for id, state in enumerate(new, method.next_id())}
    return specialised if values == method.values else replace(specialised, method=replace(method, values=values))


def specialise(
    program: Program, target: Target, library: Library, *, method: str = "forward", moved: frozenset[int] = frozenset()
) -> Specialised:
    """The stages in order, for one method. Instructions whose handles are in `moved` run as code even where an address
    would do. ModelError, all of a kind together: control flow, operators, types and attributes without a kernel."""
    with np.errstate(all="ignore"):  # infinities and NaN in constants are the model's
        return _specialised(program.method(method), target, library, moved)


def _specialised(graph: Method, target: Target, library: Library, moved: frozenset[int]) -> Specialised:
    supported.check_declared(graph, library)  # what all that follows counts on
    graph, in_float, weights = keep_weights(
        graph, library
    )  # where nothing but weights is quantised, they stay as they are
    # dequantise -> operators -> quantise becomes one integer instruction
    graph, more_in_float = fuse_integers(graph, library)
    check_supported(graph, library)
    graph = with_labels(graph)  # where jumps lead to, until the last instruction stands
    graph = fuse(graph, library)  # activations and residuals into the kernels that make their operands
    laid_out = lay_out(graph, library)  # a dim order for each value, conversions where kernels want another
    graph = address(
        laid_out, library, moved
    )  # views, permutes, slices, concatenations and in-place results become addresses
    graph = without_labels(tidy(graph))  # unique names, no value that nobody uses
    schedule = choose_kernels(graph, target, library)
    check_contents(laid_out, graph, schedule)
    return Specialised(graph, schedule, target, in_float + more_in_float, weights)


def rounding_of(program: Program) -> str:
    """How the program wants integer results rounded: those that come with `cortex_m::` operators mean TFLite's double
    rounding, by which these are defined."""
    named = any(
        instruction.op.startswith("cortex_m::") for method in program.methods for instruction in method.instructions
    )
    return "tflm" if named else "nearest"


def check_supported(method: Method, library: Library) -> None:
    """Every operator has a kernel for its element type, and its operands are legal; all that do not are reported
    together."""
    errors = supported.errors_of(method, library)
    for instruction in method.instructions:
        op = library.find(instruction.op)
        if op is not None and op.lower is None and op.layout not in (Layout.VIEW, Layout.PERMUTE):
            what = f"{instruction.op} computes nothing that a kernel could run"
            errors.append(ModelError(what, where=instruction.where, hint="quantise the layers round it too"))
    raise_all(errors)


def tidy(method: Method) -> Method:
    """Only values that are used; names of values and instructions are unique C identifiers."""
    used = {*method.inputs, *method.outputs}
    for instruction in method.instructions:
        used.update((*instruction.reads, *instruction.outs))
    for value_id in tuple(used):
        storage = method.values[value_id].storage
        if storage is not None:
            used.add(storage.base)
    taken: set[str] = set()
    values: dict[int, Value] = {}
    for value_id, value in sorted(method.values.items()):
        if value_id in used:
            values[value_id] = replace(value, name=_unique(value.name, f"value_{value_id}", taken))
    taken = set()
    instructions: list[Instruction] = []
    for instruction in method.instructions:
        fallback = re.sub(r".*::|\..*", "", instruction.op)
        instructions.append(replace(instruction, name=_unique(instruction.name, fallback, taken)))
    outputs = set(method.outputs)
    for value_id, value in values.items():
        if value_id in outputs and value.role is Role.ACTIVATION:
            values[value_id] = replace(value, role=Role.OUTPUT)
    return replace(method, values=values, instructions=tuple(instructions))


def _unique(name: str, fallback: str, taken: set[str]) -> str:
    stem = re.sub(r"\W", "_", name or fallback)
    stem = f"_{stem}" if stem[0].isdigit() else stem
    unique, count = stem, 1
    while unique in taken:
        count += 1
        unique = f"{stem}_{count}"
    taken.add(unique)
    return unique


def _in_32_bits(call: Call, instruction: Instruction) -> Call:
    """ModelError for a number that no kernel's geometry holds: a file may state any of 64 bits."""
    for name, value in call.geometry.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, np.integer)) and not -(2**31) <= number < 2**31:
                raise ModelError(f"{name} is {number}, and kernels count in 32 bits", where=instruction.where)
    return call


def choose_kernels(method: Method, target: Target, library: Library) -> Schedule:
    """The call for each instruction on this core; jumps and moves as they are."""
    steps: list[Step] = []
    errors: list[EtError] = []
    rounds = {one.outs[0]: int(str(one.args[1])) for one in method.instructions if one.op == NEXT}
    for instruction, to in zip(method.instructions, jump_targets(method.instructions), strict=True):
        if instruction.op == BEGIN:
            steps.append(BeginStep(instruction, instruction.outs[0], rounds[instruction.outs[0]]))
            continue
        if instruction.op == NEXT:
            assert to is not None
            (count,) = instruction.outs
            steps.append(NextStep(instruction, to, None, count, rounds[count]))
            continue
        if to is not None:
            steps.append(JumpStep(instruction, to, next(iter(instruction.reads), None)))
            continue
        if instruction.op == MOVE:
            steps.append(MoveStep(instruction, *instruction.reads, *instruction.outs))
            continue
        op = library.find(instruction.op)
        assert op is not None and op.lower is not None, instruction.where
        try:
            with doing(instruction.where):
                steps.append(
                    CallStep(instruction, _in_32_bits(op.lower(node_of(method, instruction, op), target), instruction))
                )
        except EtError as error:
            errors.append(error)
    raise_all(errors)
    return Schedule(tuple(steps))
