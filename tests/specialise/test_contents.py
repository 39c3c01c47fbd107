"""The check of addressing catches what it is for: a value that nobody writes, one that is overwritten too early, one in
the wrong place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etexport.errors import ProgramError
from etexport.kernel.call import Const, Target, Write
from etexport.kernel.library import load_ops
from etexport.program.model import DType, Instruction, Method, Program, Ref, Role, Storage, TensorSpec, Value
from etexport.specialise.address import address
from etexport.specialise.contents import check_contents
from etexport.specialise.layout import lay_out
from etexport.specialise.pipeline import choose_kernels, specialise, tidy
from etexport.specialise.schedule import CallStep, Schedule

LIBRARY = load_ops()
PLACES = DType.INT64


def joined_places() -> Method:
    """The places of a maximum and those of a minimum, joined; the sum of both extremes is a second output."""
    specs = [("x", Role.INPUT, DType.FLOAT32, 5), ("best", Role.ACTIVATION, DType.FLOAT32, 1),
        ("best_at", Role.ACTIVATION, PLACES, 1),
             ("least", Role.ACTIVATION, DType.FLOAT32, 1), ("least_at", Role.ACTIVATION, PLACES, 1),
             ("both", Role.OUTPUT, PLACES, 2), ("total", Role.OUTPUT, DType.FLOAT32, 1)]  # fmt: skip
    values = {
        at: Value(at, name, TensorSpec(dtype, (2, size)), role) for at, (name, role, dtype, size) in enumerate(specs)
    }
    calls = (
        Instruction("aten::max.dim_max", (Ref(0), 1, True), (1, 2), 0, "max"),
        Instruction("aten::min.dim_min", (Ref(0), 1, True), (3, 4), 1, "min"),
        Instruction("aten::cat.out", ((Ref(2), Ref(4)), 0), (5,), 2, "join"),
        Instruction("aten::add.out", (Ref(1), Ref(3), 1), (6,), 3, "add"),
    )
    values[5] = replace(values[5], spec=TensorSpec(PLACES, (4, 1)))
    return Method("forward", values, calls, (0,), (5, 6))


def steps_of(laid_out: Method) -> tuple[Method, Schedule]:
    method = tidy(address(laid_out, LIBRARY))
    return method, choose_kernels(method, Target(), LIBRARY)


def test_parts_of_a_concatenation_are_written() -> None:
    done = specialise(Program((joined_places(),)), Target(), LIBRARY)
    assert [step.instruction.name for step in done.calls.values()] == ["max", "min", "add"]
    written = {
        operand.value for step in done.calls.values() for operand in step.call.operands if isinstance(operand, Write)
    }
    assert {2, 4} <= written


def test_what_nobody_writes_is_caught() -> None:
    laid_out = lay_out(joined_places(), LIBRARY)
    method, schedule = steps_of(laid_out)
    first, *others = schedule.steps
    assert isinstance(first, CallStep)
    operands = tuple(Const("places", None) if operand == Write(2) else operand for operand in first.call.operands)
    with pytest.raises(
        ProgramError, match=r"output 0: both, int64 \[4, 1\], is read there and no kernel has written all of it"
    ):
        check_contents(
            laid_out, method, Schedule((replace(first, call=replace(first.call, operands=operands)), *others))
        )


def test_what_is_overwritten_is_caught() -> None:
    laid_out = lay_out(joined_places(), LIBRARY)
    method, steps = steps_of(laid_out)
    wrong = method.with_values(replace(method.values[3], storage=Storage(1)))
    with pytest.raises(
        ProgramError, match=r"add .*: best, float32 \[2, 1\], is read there from memory that least has overwritten"
    ):
        check_contents(laid_out, wrong, steps)


def test_parts_in_the_wrong_place_are_caught() -> None:
    laid_out = lay_out(joined_places(), LIBRARY)
    method, steps = steps_of(laid_out)
    wrong = method.with_values(replace(method.values[4], storage=Storage(5, 8)))
    with pytest.raises(ProgramError, match="output 0"):
        check_contents(laid_out, wrong, steps)
