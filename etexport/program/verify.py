"""The legal form of a Program, checked as data: before and after every pipeline, and on everything that is read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from etexport.errors import ProgramError
from etexport.program.flow import forward, jump_targets
from etexport.program.model import (
    BEGIN,
    JUMP_FALSE,
    MOVE,
    NEXT,
    SET_ROW,
    Arg,
    DType,
    Instruction,
    Method,
    Program,
    Ref,
    Role,
    TensorSpec,
    Value,
)
from etexport.program.names import is_identifier
from etexport.program.operators import is_number

MAX_RANK = 16
MAX_TENSOR_BYTES = 2**31 - 1

_OPERATOR = re.compile(r"[A-Za-z_]\w*::\w+(\.\w+)?", re.ASCII)


def verify(program: Program, stage: str = "") -> None:
    """ProgramError names `stage` (the pass that made the program), the method, and the value or instruction that is
    wrong."""
    names = [method.name for method in program.methods] + [*program.metadata, *program.constant_methods]
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise _error(stage, "", f"two methods are called {doubled[0]!r}")
    if not names:
        raise _error(stage, "", "the program has no method")
    for method in program.methods:
        if not is_identifier(method.name):
            raise _error(stage, "", f"the method name {method.name!r} is no identifier")
        try:
            verify_method(method)
        except ProgramError as error:
            where = f"{method.name}: {error.where}" if error.where else method.name
            raise _error(stage, where, error.what) from None
    _check_shared(program, stage)


def _check_shared(program: Program, stage: str) -> None:
    """A state or constant is one value in all methods, and a state's name is its own."""
    known = {**program.constants, **program.states}
    for method in program.methods:
        for id_, one in method.values.items():
            if one.role not in (Role.STATE, Role.CONSTANT):
                continue
            other = known[id_]
            if (one.name, one.role, one.spec, one.data is None) != (
                other.name,
                other.role,
                other.spec,
                other.data is None,
            ):
                raise _error(
                    stage,
                    method.name,
                    f"value {id_} is {one.name}, and in another method the {other.role.value} {other.name}",
                )
            if one.data is not other.data and one.physical_bytes != other.physical_bytes:
                raise _error(stage, method.name, f"{one.name} has other contents in another method")
    doubled = [name for name, count in Counter(state.name for state in program.states.values()).items() if count > 1]
    if doubled:
        raise _error(stage, "", f"two states are called {doubled[0]!r}")


def _error(stage: str, where: str, what: str) -> ProgramError:
    return ProgramError(what, where=": ".join(part for part in (f"after {stage}" if stage else "", where) if part))


def verify_method(method: Method) -> None:
    """ProgramError names the value or instruction that is wrong."""
    for key, value in method.values.items():
        if key != value.id:
            raise ProgramError(f"the value is listed under id {key} and has id {value.id}", where=value.name)
        _check_value(method, value)
    doubled = [name for name, count in Counter(value.name for value in method.values.values()).items() if count > 1]
    if doubled:
        raise ProgramError(f"two values are called {doubled[0]!r}")
    _check_ends(method)
    handles = Counter(instruction.handle for instruction in method.instructions)
    for instruction in method.instructions:
        if instruction.handle < 0 or handles[instruction.handle] > 1:
            raise ProgramError(f"its handle {instruction.handle} is negative or not its own", where=instruction.where)
        _check_instruction(method.values, instruction)
    _check_writes(method)
    _check_counts(method)
    _check_defined(method)


def extent_bytes(spec: TensorSpec) -> int:
    """The tensor's bytes, sizes of 0 counted as 1: numpy cannot hold a shape whose other sizes overflow either."""
    return math.prod(max(size, 1) for size in spec.shape) * spec.dtype.itemsize


def _check_value(method: Method, value: Value) -> None:
    spec = value.spec

    def fail(what: str) -> ProgramError:
        return ProgramError(what, where=value.name)

    if not is_identifier(value.name):
        raise ProgramError(f"value {value.id} is called {value.name!r}, which is no C identifier")
    if value.id < 0:
        raise fail(f"its id {value.id} is negative")
    if len(spec.shape) > MAX_RANK:
        raise fail(f"it has {len(spec.shape)} dimensions, more than {MAX_RANK}")
    if any(size < 0 for size in spec.shape) or extent_bytes(spec) > MAX_TENSOR_BYTES:
        raise fail(f"its shape {list(spec.shape)} is negative or more than {MAX_TENSOR_BYTES:,} bytes")
    if sorted(spec.dim_order) != list(range(len(spec.shape))):
        raise fail(f"its dim order {list(spec.dim_order)} is no permutation of {len(spec.shape)} dimensions")
    if value.role is Role.CONSTANT and value.data is None:
        raise fail("it is a constant without data")
    if value.data is not None:
        if value.role not in (Role.CONSTANT, Role.STATE):
            raise fail(f"it has data and the role {value.role.value}")
        if value.data.shape != spec.shape or value.data.dtype != spec.dtype.numpy:
            raise fail(f"its data is {value.data.dtype} {list(value.data.shape)} where {spec} belongs")
    if value.storage is not None:
        base = method.values.get(value.storage.base)
        if base is None or base.storage is not None:
            raise fail(f"it lies inside value {value.storage.base}, which does not exist or lies inside another one")
        if value.storage.offset < 0 or value.storage.offset + spec.nbytes > base.spec.nbytes:
            raise fail(
                f"it ends {value.storage.offset + spec.nbytes} bytes into {base.name}, which has {base.spec.nbytes}"
            )
    quantised = spec.qparams
    if quantised is not None:
        channels = (
            1 if quantised.axis is None else spec.shape[quantised.axis] if 0 <= quantised.axis < len(spec.shape) else -1
        )
        if not len(quantised.scales) == len(quantised.zero_points) == channels:
            raise fail(
                f"it has {len(quantised.scales)} scales and {len(quantised.zero_points)} zero points along axis "
                f"{quantised.axis}"
            )
        if not all(math.isfinite(scale) and scale > 0 for scale in quantised.scales):
            raise fail("a scale is not a positive number")
        if not all(quantised.qmin <= zero <= quantised.qmax for zero in quantised.zero_points):
            raise fail(f"a zero point lies outside [{quantised.qmin}, {quantised.qmax}]")


def _check_ends(method: Method) -> None:
    values = method.values
    for kind, ids in (("input", method.inputs), ("output", method.outputs)):
        for position, id_ in enumerate(ids):
            if id_ not in values:
                raise ProgramError(f"{kind} {position} is value {id_}, which does not exist")
    if len(set(method.inputs)) != len(method.inputs):
        raise ProgramError("a value is two inputs")
    inputs, outputs = set(method.inputs), set(method.outputs)
    for value in values.values():
        if (value.role is Role.INPUT) != (value.id in inputs):
            raise ProgramError(
                f"its role is {value.role.value}, but it is {'an' if value.id in inputs else 'no'} input",
                where=value.name,
            )
        if value.role is Role.OUTPUT and value.id not in outputs:
            raise ProgramError("its role is output, but it is no output", where=value.name)
        if value.role in (Role.ACTIVATION, Role.SCRATCH) and value.id in outputs:
            raise ProgramError(f"its role is {value.role.value}, but it is an output", where=value.name)


def _check_instruction(values: Mapping[int, Value], instruction: Instruction) -> None:
    def fail(what: str) -> ProgramError:
        return ProgramError(what, where=instruction.where)

    if not _OPERATOR.fullmatch(instruction.op):
        raise fail(f"{instruction.op!r} is no operator name")
    for problem in _argument_problems(instruction.args, 0):
        raise fail(problem)
    for id_ in instruction.reads:
        if id_ not in values:
            raise fail(f"it reads value {id_}, which does not exist")
    for id_ in instruction.outs:
        if id_ not in values:
            raise fail(f"it writes value {id_}, which does not exist")
        if values[id_].role in (Role.INPUT, Role.CONSTANT):
            raise fail(f"it writes {values[id_].name}, which is {values[id_].role.value}")
    if len(set(instruction.outs)) != len(instruction.outs):
        raise fail("it writes the same value twice")
    if instruction.op == MOVE:
        source = instruction.args[0] if len(instruction.args) == 1 else None
        if not isinstance(source, Ref) or len(instruction.outs) != 1:
            raise fail("a move has one value that it reads and one that it writes")
        old, new = values[source.id], values[instruction.outs[0]]
        if (old.spec.dtype, old.spec.shape) != (new.spec.dtype, new.spec.shape):
            raise fail(f"it moves {old.name}, {old.spec}, to {new.name}, {new.spec}")
        if old.role is Role.STATE or new.role is Role.STATE:
            raise fail("it moves a state")
    elif instruction.op == JUMP_FALSE:
        condition = instruction.args[0] if len(instruction.args) == 2 else None
        if instruction.outs or not (condition is False or isinstance(condition, Ref)):
            raise fail("a jump has a condition (a value, or False) and a destination")
        if isinstance(condition, Ref) and values[condition.id].spec.dtype is not DType.BOOL:
            raise fail(f"its condition {values[condition.id].name} is {values[condition.id].spec} and not bool")
    elif not instruction.outs:
        raise fail("it writes nothing")
    elif instruction.op in (BEGIN, NEXT):
        count = values[instruction.outs[0]]
        if (count.spec.dtype, count.spec.shape) != (DType.INT32, ()):
            raise fail(f"its count {count.name} is {count.spec} and not one int32")
        if instruction.op == NEXT and (
            len(instruction.args) != 3 or instruction.args[0] != Ref(count.id) or len(instruction.outs) > 1
        ):
            raise fail("the end of a loop has its count, a number of rounds and a destination")


def _argument_problems(args: tuple[Arg, ...], depth: int) -> Iterator[str]:
    for arg in args:
        if isinstance(arg, tuple):
            if depth:
                yield "an argument is a list of lists"
            else:
                yield from _argument_problems(arg, depth + 1)
        elif isinstance(arg, int) and not -(2**63) <= arg < 2**63:
            yield f"the argument {arg} does not fit 64 bits"
        elif arg is not None and not isinstance(arg, (Ref, bool, int, float, str)):
            yield f"the argument {arg!r} is {type(arg).__name__}"


def _check_writes(method: Method) -> None:
    """A value is written by one instruction. A state may be written in place, several moves may lead to one value, and
    the rounds of a loop write what stands at its beginning."""
    begun = {out for instruction in method.instructions if instruction.op == BEGIN for out in instruction.outs}
    writer: dict[int, Instruction] = {}
    for instruction in method.instructions:
        for id_ in instruction.outs:
            value = method.values[id_]
            if value.role is Role.STATE or (instruction.op in (NEXT, SET_ROW) and id_ in begun):
                continue
            if id_ in instruction.reads:
                raise ProgramError(
                    f"it writes onto {value.name}, which it reads, and that is no state", where=instruction.where
                )
            if id_ in writer and not instruction.op == writer[id_].op == MOVE:
                raise ProgramError(
                    f"it writes {value.name}, which {writer[id_].where} has written", where=instruction.where
                )
            writer[id_] = instruction


def _check_counts(method: Method) -> None:
    """A loop of a known number of rounds is entered at its beginning, and at most once at a time, so that its count
    stays below that."""
    instructions, targets = method.instructions, jump_targets(method.instructions)
    numbers = {Ref(out) for instruction in instructions if is_number(instruction.op) for out in instruction.outs}
    ends: dict[int, int] = {}
    for at, instruction in enumerate(instructions):
        if instruction.op != NEXT:
            continue

        def fail(what: str, where: str = instruction.where) -> ProgramError:
            return ProgramError(what, where=where)

        head, (_, rounds, _) = targets[at], instruction.args
        assert head is not None
        if rounds not in numbers and (not isinstance(rounds, int) or not 0 < rounds < 2**31):
            raise fail(f"it makes {rounds!r} rounds")
        begin = instructions[head - 1] if 0 < head <= at else None
        if begin is None or begin.op != BEGIN or begin.outs[0] != instruction.outs[0] or begin.outs[0] in ends:
            raise fail("it leads to no beginning of a loop with its count")
        ends[begin.outs[0]] = at
        if any(to is not None and head <= to <= at and not head <= start <= at for start, to in enumerate(targets)):
            raise fail("a jump leads into its loop")
    begun = [instruction for instruction in instructions if instruction.op == BEGIN]
    if len(begun) != len(ends):
        lost = next((one for one in begun if one.outs[0] not in ends), begun[-1])
        raise ProgramError("it begins a loop that has no end of its own", where=lost.where)


def _check_defined(method: Method) -> None:
    """Whichever way leads to an instruction, what it reads has been written."""
    values = method.values
    written_by_any = {id_ for instruction in method.instructions for id_ in instruction.outs}

    def needed(id_: int) -> int:
        # what lies inside another value and is written by nobody is there when the other one is
        storage = values[id_].storage
        return storage.base if storage is not None and id_ not in written_by_any else id_

    def step(position: int, written: set[int]) -> None:
        instruction = method.instructions[position]
        for id_ in instruction.reads:
            if needed(id_) not in written:
                raise ProgramError(
                    f"it reads {values[id_].name}, which nothing has written by then", where=instruction.where
                )
        written.update(instruction.outs)

    start = {value.id for value in values.values() if value.role in (Role.INPUT, Role.CONSTANT, Role.STATE)}
    end = forward(method.instructions, start, step, set.copy, set.__and__)
    if end is None:
        raise ProgramError("its end cannot be reached")
    for position, id_ in enumerate(method.outputs):
        if needed(id_) not in end:
            raise ProgramError(f"output {position}, {values[id_].name}, is not written on every way to the end")
