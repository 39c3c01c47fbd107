"""What a kernel says about memory: its output may lie over its input as far as it declares, and no further.

Every case is a step of one program; the test places each input where its kernel allows, there and further away, then 16 bytes (the
arena's alignment) too low.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from etexport.op import Library, Target
from etexport.plan.problem import Solution
from etexport.program.model import Program, Role
from etexport.target.memory import ALIGN, problem
from etexport.target.model import Specialised
from etexport.target.pipeline import specialise

from .batch import batch
from .boards import Bench
from .cases import documented
from .oracle import expected

TIGHT = (
    ("cortex_m::quantized_conv2d.out", "16 channels"),
    ("cortex_m::quantized_conv2d.out", "a batch, stride 2"),
    ("cortex_m::quantized_conv2d.out", "pointwise, an odd number of positions"),
    ("cortex_m::quantized_conv2d.out", "two groups of 12"),
    ("cortex_m::quantized_depthwise_conv2d.out", "3x3, an even number of rows"),
    ("cortex_m::quantized_depthwise_conv2d.out", "3x3, an odd number of rows"),
    ("cortex_m::quantized_depthwise_conv2d.out", "3x3, sixteen channels"),
    ("cortex_m::quantized_depthwise_conv2d.out", "stride 2"),
    ("cortex_m::quantized_depthwise_conv2d.out", "padded below and right, an odd number of rows"),
    ("cortex_m::quantized_depthwise_conv2d.out", "a batch"),
    ("cortex_m::quantized_depthwise_conv2d.out", "5x3, five channels"),
    ("cortex_m::quantized_conv2d.out", "an odd number of positions a row, ten channels"),
    ("cortex_m::quantized_conv2d.out", "dilated rows of an odd number of positions"),
    ("cortex_m::quantized_depthwise_conv2d.out", "5x5, stride 2"),
    ("cortex_m::quantized_depthwise_conv2d.out", "six channels: a block and a half"),
    ("cortex_m::quantized_depthwise_conv2d.out", "seven channels, two results each"),
    ("cortex_m::quantized_linear.out", "more than two dimensions"),
)


def in_kernel_order(program: Program) -> Program:
    """Inputs and outputs as the kernels take them, so that no conversion comes between."""
    method = program.method("forward")
    values = dict(method.values)
    for id, value in method.values.items():
        if value.role is not Role.CONSTANT and len(value.spec.shape) == 4:
            values[id] = replace(value, spec=replace(value.spec, dim_order=(0, 2, 3, 1)))
    return Program((replace(method, values=values),))


def placed(specialised: Specialised, lower_by: int) -> Solution:
    """Case after case: the output, and its input at the least distance above it, less `lower_by`; scratch behind them."""
    method = specialised.method
    the_problem = problem(specialised)
    sizes = {buffer.name: buffer.size for buffer in the_problem.buffers}
    offsets: dict[str, int] = {}
    end = 0
    for step in specialised.steps:
        operand, out = (method.values[id] for id in (step.instruction.reads[0], step.instruction.outs[0]))
        distance = -(-step.call.overlaps[operand.id] // ALIGN) * ALIGN - lower_by
        start = end + max(0, -distance) // ALIGN * ALIGN + ALIGN
        offsets[out.name], offsets[operand.name] = start, start + distance
        end = max(start + sizes[out.name], start + distance + sizes[operand.name])
        scratch = f"{step.instruction.name}.scratch"
        end = -(-end // ALIGN) * ALIGN
        if scratch in sizes:
            offsets[scratch] = end
            end += sizes[scratch]
    assert offsets.keys() == sizes.keys(), f"{sizes.keys() - offsets.keys()}"
    return Solution(offsets, {"ram": end}, {"ram": 0})


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386"])
def test_as_far_as_declared(board: str, library: Library, bench_of: Callable[[str, str], Bench]) -> None:
    samples = [one for name, note in TIGHT for one in documented(library.ops[name]) if one.note == note]
    assert len(samples) == len(TIGHT)
    bench = bench_of(board, "speed")
    whole = batch(samples)
    specialised = specialise(in_kernel_order(whole.program), Target(bench.board.features, "speed"), library)
    assert [step.instruction.op for step in specialised.steps] == [name for name, _ in TIGHT]
    wanted = [expected(sample)[0] for sample in samples]

    def same(lower_by: int) -> list[bool]:
        got = bench.run(specialised, whole.inputs, library, placed(specialised, lower_by))
        return [bool(np.array_equal(got[positions[0]], one)) for positions, one in zip(whole.results, wanted, strict=True)]

    for higher_by in (0, ALIGN, 5 * ALIGN):  # a distance is the least one: all greater ones are allowed too
        assert all(same(-higher_by)), f"an output lies over its input as the kernel allows ({higher_by} bytes more), and is wrong"
    late = same(ALIGN)
    for (name, note), right, step in zip(TIGHT, late, specialised.steps, strict=True):
        operand = specialised.method.values[step.instruction.reads[0]]
        nothing_left = step.call.overlaps[operand.id] <= -operand.spec.nbytes
        assert nothing_left or not right, f"{name}, {note}: the output could lie further over its input than the kernel says"
