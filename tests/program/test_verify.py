"""Every rule of the legal form, broken one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from etexport.errors import ProgramError
from etexport.program.model import (
    BEGIN,
    JUMP_FALSE,
    MOVE,
    NEXT,
    ROW,
    SET_ROW,
    Array,
    DType,
    Method,
    Program,
    QParams,
    Ref,
    Role,
    Storage,
    TensorSpec,
    Value,
)
from etexport.program.verify import verify
from tests.program.programs import PROGRAMS, call, holding, method, random, shifted, value

Change = Callable[[Method], Method]


@pytest.mark.parametrize("name", PROGRAMS)
def test_good_programs_pass(name: str) -> None:
    verify(PROGRAMS[name])


def val(id_: int, **fields: Any) -> Change:
    """A field of a value, changed behind the back of the checks that a Value makes of itself."""

    def change(one: Method) -> Method:
        new = replace(one.values[id_])
        for name, content in fields.items():
            object.__setattr__(new, name, content)
        return replace(one, values={**one.values, id_: new})

    return change


def ins(at: int, **fields: Any) -> Change:
    return lambda one: replace(
        one, instructions=(*one.instructions[:at], replace(one.instructions[at], **fields), *one.instructions[at + 1 :])
    )


def swapped(first: int, second: int) -> Change:
    def change(one: Method) -> Method:
        order = list(one.instructions)
        order[first], order[second] = order[second], order[first]
        return replace(one, instructions=tuple(order))

    return change


def spec(*shape: int, dtype: DType = DType.FLOAT32, **more: Any) -> TensorSpec:
    return TensorSpec(dtype, shape, **more)


def odd(order: tuple[int, ...]) -> TensorSpec:
    made = TensorSpec(DType.FLOAT32, (1, 4, 8, 8))
    object.__setattr__(made, "dim_order", order)
    return made


def q(scales: tuple[float, ...], zeros: tuple[int, ...], axis: int | None = None) -> TensorSpec:
    return spec(1, 4, 8, 8, qparams=QParams(scales, zeros, -128, 127, axis))


DATA: Array = np.zeros((1, 4, 8, 8), np.float32)

BROKEN: dict[str, tuple[str, Change, str]] = {
    "id": ("convolution", val(3, id=33), "listed under id 3 and has id 33"),
    "no identifier": ("convolution", val(3, name="features.conv"), "no C identifier"),
    "keyword": ("convolution", val(3, name="float"), "no C identifier"),
    "same name": ("convolution", val(3, name="relu"), "two values are called 'relu'"),
    "negative size": ("convolution", val(3, spec=spec(1, -4)), "conv: its shape"),
    "too large": ("convolution", val(3, spec=spec(1 << 20, 1 << 20)), "conv: its shape"),
    "overflow hidden by 0": ("convolution", val(3, spec=spec(0, 1 << 40, 1 << 40)), "conv: its shape"),
    "rank": ("convolution", val(3, spec=spec(*[1] * 17)), "17 dimensions"),
    "dim order": ("convolution", val(3, spec=odd((0, 1, 1, 2))), "no permutation"),
    "constant without data": ("convolution", val(1, data=None), "conv_weight: it is a constant without data"),
    "activation with data": ("convolution", val(3, data=DATA), "has data and the role activation"),
    "data of another shape": ("convolution", val(1, data=DATA), r"conv_weight: its data is float32 \[1, 4, 8, 8\]"),
    "data of another type": ("convolution", val(1, data=np.zeros((4, 1, 3, 3))), "its data is float64"),
    "storage in nothing": ("convolution", val(7, storage=Storage(99)), "lies inside value 99"),
    "storage too far": ("convolution", val(7, storage=Storage(5, 4)), "ends 260 bytes into pool"),
    "negative storage": ("convolution", val(7, storage=Storage(5, -4)), "ends 252 bytes into pool"),
    "scales": ("convolution", val(3, spec=q((1.0, 2.0), (0, 0))), "2 scales"),
    "scales along an axis": ("convolution", val(3, spec=q((1.0,), (0,), 1)), "1 scales"),
    "axis": ("convolution", val(3, spec=q((1.0,), (0,), 7)), "axis 7"),
    "scale 0": ("convolution", val(3, spec=q((0.0,), (0,))), "scale"),
    "zero point": ("convolution", val(3, spec=q((1.0,), (500,))), "zero point"),
    "input that is none": (
        "convolution",
        lambda one: replace(one, inputs=()),
        "image: its role is input, but it is no input",
    ),
    "input of another role": (
        "convolution",
        val(0, role=Role.ACTIVATION),
        "its role is activation, but it is an input",
    ),
    "input twice": ("convolution", lambda one: replace(one, inputs=(0, 0)), "a value is two inputs"),
    "no such input": ("convolution", lambda one: replace(one, inputs=(0, 99)), "input 1 is value 99"),
    "no such output": ("convolution", lambda one: replace(one, outputs=(99,)), "output 0 is value 99"),
    "output that is none": ("convolution", lambda one: replace(one, outputs=()), "probabilities: its role is output"),
    "activation as output": ("convolution", val(11, role=Role.ACTIVATION), "probabilities: its role is activation"),
    "handle twice": ("convolution", ins(1, handle=0), "its handle 0"),
    "negative handle": ("convolution", ins(1, handle=-2), "its handle -2"),
    "operator": ("convolution", ins(1, op="relu"), "'relu' is no operator name"),
    "list of lists": ("convolution", ins(1, args=(Ref(3), ((1, 2),))), "list of lists"),
    "foreign argument": ("convolution", ins(1, args=(Ref(3), DATA)), "ndarray"),
    "numpy number": ("convolution", ins(1, args=(Ref(3), np.int64(3))), "int64"),
    "number too large": ("convolution", ins(1, args=(Ref(3), 1 << 63)), "64 bits"),
    "reads nothing": ("convolution", ins(1, args=(Ref(99),)), r"act.py:3: relu .*reads value 99"),
    "writes nothing": ("convolution", ins(1, outs=()), "relu .*writes nothing"),
    "writes what is not": ("convolution", ins(1, outs=(99,)), "writes value 99"),
    "writes an input": ("convolution", ins(1, outs=(0,)), "it writes image, which is input"),
    "writes a constant": ("convolution", ins(1, outs=(1,)), "it writes conv_weight, which is constant"),
    "writes one twice": ("convolution", ins(2, outs=(5, 5)), "writes the same value twice"),
    "writes what another writes": (
        "convolution",
        ins(1, outs=(3,), args=(Ref(0),)),
        "it writes conv, which model.py:12: features.conv",
    ),
    "writes what it reads": ("convolution", ins(1, outs=(3,)), "it writes onto conv, which it reads"),
    "too early": ("convolution", swapped(0, 1), "relu .* it reads conv, which nothing has written by then"),
    "output unwritten": (
        "convolution",
        lambda one: replace(one, instructions=one.instructions[:-1]),
        "output 0, probabilities",
    ),
    "only in one branch": ("branches", ins(7, op="aten::alias_copy.out", outs=(3,)), "writes twice"),
    "jump to nothing": ("branches", ins(2, args=(Ref(2), 99)), "jumps to 99"),
    "jump on floats": ("branches", ins(2, args=(Ref(1), 16)), "condition head is float32"),
    "jump on True": ("branches", ins(2, args=(True, 16)), "a jump has a condition"),
    "jump that writes": ("branches", ins(2, outs=(3,)), "a jump has a condition"),
    "move of two": ("branches", ins(4, args=(Ref(3), Ref(3))), "a move has one value"),
    "move to another shape": ("branches", ins(4, args=(Ref(1),)), "it moves head"),
    "one branch does not move": (
        "branches",
        lambda one: replace(one, instructions=one.instructions[:7] + one.instructions[8:]),
        "result .* it reads chosen",
    ),
    "no way out": ("loop", ins(6, args=(False, 1)), "end cannot be reached"),
    "read before the loop has run": (
        "loop",
        lambda one: replace(one, instructions=one.instructions[1:]),
        "it reads grown, which nothing has written by then",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    start, change, message = BROKEN[name]
    program = PROGRAMS[start]
    with pytest.raises(ProgramError, match=message) as error:
        verify(replace(program, methods=(change(program.methods[0]),)), "fold_everything")
    assert str(error.value).startswith("after fold_everything: forward")


def test_two_methods_of_one_name() -> None:
    one = PROGRAMS["convolution"]
    for program in (
        Program(one.methods * 2),
        replace(one, metadata={"forward": ""}),
        replace(one, constant_methods={"forward": (1,)}),
    ):
        with pytest.raises(ProgramError, match="two methods are called 'forward'"):
            verify(program)


def test_a_method_has_a_name_that_code_can_have() -> None:
    program = PROGRAMS["convolution"]
    with pytest.raises(ProgramError, match="no identifier"):
        verify(Program((replace(program.method(), name="two words"),)))


def test_an_empty_program() -> None:
    with pytest.raises(ProgramError, match="no method"):
        verify(Program(()))


def test_a_view_without_instruction_lives_when_its_base_does() -> None:
    """What the target side makes of a view: an address. It may be read once its base is written, and not before."""
    values = [
        value(0, "x", Role.INPUT, 4),
        value(1, "base", Role.ACTIVATION, 4),
        Value(2, "view", spec(2), Role.ACTIVATION, storage=Storage(1, 8)),
        value(3, "y", Role.OUTPUT, 2),
    ]
    make, use = call(0, "aten::relu.out", (Ref(0),), 1), call(1, "aten::relu.out", (Ref(2),), 3)
    verify(Program((method(values, [make, use], (0,), (3,), "forward"),)))
    with pytest.raises(ProgramError, match="it reads view, which nothing has written"):
        verify(Program((method(values, [use, make], (0,), (3,), "forward"),)))


def test_a_state_may_be_written_in_place_and_more_than_once() -> None:
    values = [value(0, "x", Role.INPUT, 2), holding(1, "s", random(0, 2), Role.STATE)]
    steps = [call(k, "aten::copy_", (Ref(1), Ref(0), False), 1) for k in range(2)]
    verify(Program((method(values, steps, (0,), (1,), "forward"),)))


def test_very_tangled_jumps_end() -> None:
    """256 loops inside each other: an error or an answer, in time."""
    values = [value(0, "flag", Role.INPUT, dtype=DType.BOOL), value(1, "out", Role.OUTPUT, dtype=DType.BOOL)]
    steps = [call(k, MOVE, (Ref(0),), 1) for k in range(256)]
    steps += [call(256 + k, JUMP_FALSE, (Ref(0), 255 - k)) for k in range(256)]
    verify(Program((method(values, steps, (0,), (1,), "forward"),)))
    steps.append(call(1000, JUMP_FALSE, (Ref(0), 0)))
    with pytest.raises(ProgramError, match="more than 256 jumps"):
        verify(Program((method(values, steps, (0,), (1,), "forward"),)))


def test_what_methods_share_is_one_value() -> None:
    program = PROGRAMS["meter"]
    measure, show, clear = program.methods
    scale, total = show.values[1], show.values[2]
    assert total.data is not None and scale.data is not None
    for changed, message in {
        show.with_values(
            replace(total, data=total.data + 1)
        ): "after a pass: show: total has other contents in another method",
        show.with_values(replace(total, name="sum")): "show: value 2 is sum, and in another method the state total",
        show.with_values(replace(total, data=None)): "value 2 is total, and in another method",
        show.with_values(replace(scale, data=scale.data * 2)): "scale has other contents",
    }.items():
        with pytest.raises(ProgramError, match=message):
            verify(Program((changed, measure, clear)), "a pass")
    one = PROGRAMS["state"].method()
    other = shifted(one, "again")
    same_name = replace(
        other,
        values={id_: replace(value, name=value.name.removesuffix("_again")) for id_, value in other.values.items()},
    )
    with pytest.raises(ProgramError, match="two states are called 'total'"):
        verify(Program((one, same_name)))


def counted() -> Method:
    """Each row of x, doubled: a loop of three rounds behind a jump over it."""
    values = [
        value(0, "x", Role.INPUT, 3, 2),
        value(1, "flag", Role.INPUT, dtype=DType.BOOL),
        value(2, "count", Role.ACTIVATION, dtype=DType.INT32),
        value(3, "y", Role.OUTPUT, 3, 2),
        value(4, "row", Role.ACTIVATION, 2),
        value(5, "twice", Role.ACTIVATION, 2),
    ]
    steps = [
        call(0, JUMP_FALSE, (Ref(1), 1)),
        call(1, BEGIN, (), 2, 3),
        call(2, ROW, (Ref(0), Ref(2)), 4),
        call(3, "aten::add.out", (Ref(4), Ref(4), 1), 5),
        call(4, SET_ROW, (Ref(3), Ref(5), Ref(2)), 3),
        call(5, NEXT, (Ref(2), 3, 2), 2),
    ]
    return method(values, steps, (0, 1), (3,), "forward")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ins(5, args=(Ref(2), 0, 2)), "it makes 0 rounds"),
        (ins(5, args=(Ref(2), 3, 3)), "it leads to no beginning of a loop"),
        (ins(5, args=(Ref(2), 3)), "a number of rounds and a destination"),
        (ins(0, args=(Ref(1), 3)), "a jump leads into its loop"),
        (ins(5, op=JUMP_FALSE, args=(Ref(1), 2), outs=()), "it begins a loop that has no end"),
        (ins(3, outs=(3,)), "which forward|which instruction 1"),
        (val(2, spec=spec(dtype=DType.INT64)), "not one int32"),
    ],
)
def test_a_loop_is_entered_at_its_beginning(change: Change, words: str) -> None:
    verify(Program((counted(),)))
    with pytest.raises(ProgramError, match=words):
        verify(Program((change(counted()),)))
