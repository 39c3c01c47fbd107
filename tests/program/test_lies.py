"""Programs whose parts do not fit together end with an error in words or are built, and what is built runs cleanly."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from etexport.errors import EtError, InternalError, doing
from etexport.kernel.library import load_ops
from etexport.program import pte
from etexport.program.model import Instruction, Method, Program, Ref, Role
from etexport.program.operators import DEQUANTIZE_CHANNELS
from etexport.specialise.pipeline import Target, specialise
from etexport.stages.generate import generate
from tests.operators.batch import infer
from tests.operators.cases import documented
from tests.program.lies import executed, outcome
from tests.program.programs import holding, random, value

LIES = int(os.environ.get("ETEXPORT_LIES", "2000"))
RUN = 20
"""How many of those that are built run on the host."""


def test_lying_programs(tmp_path: Path) -> None:
    found = [outcome(number) for number in range(LIES)]
    faults = [f"{number}: {said}" for number, (_, said) in enumerate(found) if said]
    assert not faults, "\n".join(faults[:20])
    built = [data for data, _ in found if data is not None]
    assert 0.1 < len(built) / LIES < 0.6, "lies that are never or always found test nothing"
    executed(built[:: max(len(built) // RUN, 1)], tmp_path)


def channels(scales: int, zeros: int) -> Program:
    """A weight of 4 channels, so many scales and zero points, a float layer."""
    values = [value(0, "x", Role.INPUT, 1, 3), holding(1, "weight", (random(1, 4, 3) * 50).astype("int8")),
              holding(2, "scales", abs(random(2, scales)) + 0.01),
              holding(3, "zeros", random(3, zeros).astype("int64")), value(4, "real", Role.ACTIVATION, 4, 3),
              value(5, "y", Role.OUTPUT, 1, 4)]  # fmt: skip
    calls = (
        Instruction(DEQUANTIZE_CHANNELS, (Ref(1), Ref(2), Ref(3), 0, -127, 127, 1, None), (4,), 0, "weights"),
        Instruction("aten::linear.out", (Ref(0), Ref(4), None), (5,), 1, "layer"),
    )
    return Program((Method("forward", {one.id: one for one in values}, calls, (0,), (5,)),))


def test_what_the_integer_rules_count_on_is_checked_first(tmp_path: Path) -> None:
    specialise(channels(4, 4), Target(), load_ops())
    for wrong, said in (((3, 3), r"\[3\] scales for 4 channels"), ((4, 3), r"\[3\] zero points for \[4\] scales")):
        (tmp_path / "x.pte").write_bytes(pte.write(channels(*wrong)))
        with pytest.raises(EtError, match=said) as error:
            generate(tmp_path / "x.pte", "host", tmp_path / "out", optimize="speed", name="x")
        assert error.value.where.startswith("weights (quantized_decomposed::dequantize_per_channel.out)")


@pytest.mark.parametrize("bounds", [(-129, 127), (-128, 128), (5, 4), (-128, -(2**63)), (2**63 - 1, 127)])
def test_results_are_clamped_within_int8(bounds: tuple[int, int]) -> None:
    """By each operator that clamps."""
    known = load_ops()
    clamping = [op for op in known.ops.values() if "activation_max" in [one.name for one in op.signature.parameters]]
    assert len(clamping) >= 9
    for op in clamping:
        names = [one.name for one in op.signature.parameters]
        case = documented(op)[0]
        args = list(case.args)
        args[names.index("activation_min")], args[names.index("activation_max")] = bounds
        with pytest.raises(EtError, match=f"{bounds[0]} (to|..) {bounds[1]}"):
            infer(replace(case, args=tuple(args)))


def test_the_net_beneath() -> None:
    """What no check foresaw is an error of one line too, with its place; what is an error already, or the system's,
    stays what it is."""
    words = r"^conv1: ZeroDivisionError: .* by zero \(test_lies.py:\d+\)\n  hint: .*report it"
    with pytest.raises(InternalError, match=words) as error, doing("conv1"):
        print(1 // 0)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    for other in (EtError("known"), OSError("disk full")):
        with pytest.raises(type(other)) as same, doing("conv1"):
            raise other
        assert same.value is other
