"""What a kernel says about memory: its output may lie over its input as far as it declares, and no further.

Every case is a step of one program; the test places each input where its kernel allows, there and further away, then
one place (a multiple of 16 bytes, the arena's alignment, or of what the kernel asks for) too close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import pytest

from etexport.kernel.call import Target
from etexport.kernel.cases import Case, T
from etexport.kernel.library import Library
from etexport.kernel.op import Layout
from etexport.kernel.quantized import multiplier_shift
from etexport.plan import plan
from etexport.plan.problem import Solution
from etexport.program.model import Array, DType, Program, channels_last
from etexport.specialise.memory import ALIGN, directed, problem
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.pipeline import specialise
from tests.plan.oracle import in_ram
from tests.specialise.graph import Graph, evaluate

from .batch import Batch, batch
from .boards import Bench, stacked
from .cases import Sample, documented, random_samples, sample
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
    ("cortex_m::quantized_depthwise_conv2d.out", "5x5, twelve channels, an odd number of rows"),
    ("cortex_m::quantized_depthwise_conv2d.out", "7x3, sixteen channels, stride 1 and 2"),
    ("cortex_m::quantized_depthwise_conv2d.out", "six channels: a block and a half"),
    ("cortex_m::quantized_depthwise_conv2d.out", "seven channels, two results each"),
    ("cortex_m::quantized_linear.out", "more than two dimensions"),
)


def in_kernel_order(program: Program, library: Library) -> Program:
    """Inputs and outputs as the kernels take them, so that no conversion comes between."""
    method = program.method("forward")
    values = dict(method.values)
    for instruction in method.instructions:
        if library.ops[instruction.op].layout is Layout.CHANNELS_LAST:
            for value in (values[id] for id in (instruction.reads[0], *instruction.outs)):
                order = channels_last(len(value.spec.shape))
                values[value.id] = replace(value, spec=replace(value.spec, dim_order=order))
    return Program((replace(method, values=values),))


def placed(specialised: Specialised, closer: int, upward: bool = False) -> Solution:
    """Case after case: the output, and its input at the least distance above it (`upward`: below it, where the kernel
    allows that), `closer` by so many times what their places are multiples of; scratch behind them."""
    method = specialised.method
    the_problem = problem(specialised)
    sizes = {buffer.name: buffer.size for buffer in the_problem.buffers}
    aligns = {buffer.name: buffer.align for buffer in the_problem.buffers}
    offsets: dict[str, int] = {}
    end = 0
    for step in specialised.calls.values():
        operand, out = (method.values[id] for id in (step.instruction.reads[0], step.instruction.outs[0]))
        align = max(aligns[operand.name], aligns[out.name])
        up = upward and operand.id in step.call.overlaps_upward
        least = step.call.overlaps_upward[operand.id] if up else step.call.overlaps[operand.id]
        distance = -(-least // align) * align - closer * align
        low, high = (operand, out) if up else (out, operand)
        offsets[low.name] = _next(end + max(0, -distance), align)
        offsets[high.name] = offsets[low.name] + distance
        end = _next(max(offsets[value.name] + sizes[value.name] for value in (low, high)), ALIGN)
        for other in (
            f"{step.instruction.name}.scratch",
            *(method.values[id].name for id in step.instruction.outs[1:]),
        ):
            if other in sizes:
                offsets[other] = end
                end = _next(end + sizes[other], ALIGN)
    assert offsets.keys() == sizes.keys(), f"{sizes.keys() - offsets.keys()}"
    return Solution(in_ram(offsets), {"ram": end}, {"ram": 0})


def _next(address: int, align: int) -> int:
    return -(-address // align) * align


@dataclass(frozen=True)
class Overlaid:
    """Samples as steps of one program for a board."""

    bench: Bench
    library: Library
    samples: Sequence[Sample]

    @cached_property
    def whole(self) -> Batch:
        return batch(self.samples, stored=self.bench.stored)

    @cached_property
    def specialised(self) -> Specialised:
        return specialise(
            in_kernel_order(self.whole.program, self.library),
            Target(self.bench.board.features, self.bench.optimize),
            self.library,
        )

    @cached_property
    def wanted(self) -> list[Array]:
        """PyTorch's results where they must be equal; else what the board gives where nothing overlaps."""
        if all(sample.op.exact for sample in self.samples):
            return [expected(sample)[0] for sample in self.samples]
        apart = self.results(stacked(problem(self.specialised)))
        return [
            expected(sample)[0] if sample.op.exact else one for sample, one in zip(self.samples, apart, strict=True)
        ]

    def results(self, solution: Solution) -> list[Array]:
        """For each sample its first result, with everything placed so."""
        got = self.bench.run(self.specialised, self.whole.inputs, self.library, solution)
        return [got[positions[0]] for positions in self.whole.results]

    def same(self, solution: Solution) -> list[bool]:
        """For each sample: whether the board gives what it should, with everything placed so."""
        return [
            bool(np.array_equal(got, one, equal_nan=one.dtype.kind == "f"))
            for got, one in zip(self.results(solution), self.wanted, strict=True)
        ]

    def illegal(self, solution: Solution) -> list[bool]:
        """For each sample: whether its output and input share bytes as the kernel allows in no direction of its
        rows."""
        answers = []
        for step in self.specialised.calls.values():
            operand, out = (
                self.specialised.method.values[id] for id in (step.instruction.reads[0], step.instruction.outs[0])
            )
            above = solution.places[operand.name].offset - solution.places[out.name].offset
            apart = above >= out.spec.nbytes or -above >= operand.spec.nbytes
            upward = operand.id in step.call.overlaps_upward and -above >= step.call.overlaps_upward[operand.id]
            answers.append(not apart and not upward and above < step.call.overlaps[operand.id])
        return answers

    def check_allowed(self, closer: int, upward: bool) -> None:
        right = self.same(placed(self.specialised, closer, upward))
        wrong = [str(sample) for sample, one in zip(self.samples, right, strict=True) if not one]
        assert not wrong, (
            f"an output lies over its input as the kernel allows ({-closer} places more), and is wrong: {wrong}"
        )

    def check(self, upward: bool = False) -> None:
        for closer in (0, -1, -5):  # a distance is the least one: all greater ones are allowed too
            self.check_allowed(closer, upward)
        late = placed(self.specialised, 1, upward)
        illegal = self.illegal(late)
        assert sum(illegal) > 0.7 * len(illegal)  # some are one call, which is free to store
        for one, right_still, too_close in zip(self.samples, self.same(late), illegal, strict=True):
            assert not (too_close and right_still), (
                f"{one}: the output could lie further over its input than the kernel says"
            )


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386", "qemu_virt_rv32"])
def test_as_far_as_declared(board: str, library: Library, bench_of: Callable[[str, str], Bench]) -> None:
    samples = [one for name, note in TIGHT for one in documented(library.ops[name]) if one.note == note]
    assert len(samples) == len(TIGHT)
    overlaid = Overlaid(bench_of(board, "speed"), library, samples)
    assert [step.instruction.op for step in overlaid.specialised.calls.values()] == [name for name, _ in TIGHT]
    overlaid.check()


# ---- every kernel that is swept over rows, in both directions --------------------------------------------------------


def windowed(library: Library, target: Target) -> list[Sample]:
    """Documented and drawn cases of operators on images whose kernel for this target is swept over rows."""
    images = [op for op in library.ops.values() if op.layout is Layout.CHANNELS_LAST]
    samples = [one for op in images for one in (*documented(op), *random_samples(op, 6))]
    steps = specialise(in_kernel_order(batch(samples).program, library), target, library).calls.values()
    swept = {step.instruction.name for step in steps if step.call.window is not None and step.call.overlaps_upward}
    return [sample for at, sample in enumerate(samples) if f"case{at}" in swept]


@pytest.mark.parametrize(
    ("board", "optimize"), [("host", "size"), ("qemu_mps2_an386", "speed"), ("qemu_virt_rv32", "size")]
)
def test_windowed_kernels_in_both_directions(
    board: str, optimize: str, library: Library, bench_of: Callable[[str, str], Bench]
) -> None:
    bench = bench_of(board, optimize)
    samples = windowed(library, Target(bench.board.features, optimize))
    assert {sample.op.family for sample in samples} >= {"convolution", "pooling", "upsample"}
    overlaid = Overlaid(bench, library, samples)
    for upward in (False, True):
        overlaid.check_allowed(0, upward)


# ---- 3x3 depthwise layers: rows over their own windows, swept in both directions -------------------------------------


def depthwise_3x3(pads: tuple[int, ...], random: np.random.Generator) -> Case:
    """Channels, sizes, batch and numbers are drawn; `pads` are those above, to the left, below and to the right."""
    batches, channels = int(random.choice((1, 1, 2))), 4 * int(random.integers(1, 11))
    height, width = int(random.integers(3, 9)), int(random.integers(4, 9))
    scales = [multiplier_shift((0.4 + at % 7 / 7) / 180) for at in range(channels)]
    multipliers, shifts = (
        T((channels,), DType.INT32, values=tuple(map(float, part)), constant=True) for part in zip(*scales, strict=True)
    )
    bias = T((channels,), DType.INT32, -2000, 2000, constant=True)
    low, high = (
        (int(random.integers(-128, -40)), int(random.integers(40, 128))) if random.random() < 0.2 else (-128, 127)
    )
    zeros = (int(random.integers(-127, 129)), int(random.integers(-128, 128)))
    x, weights = (
        T((batches, channels, height, width), DType.INT8, -128, 128),
        T((1, 3, 3, channels), DType.INT8, -127, 128, constant=True),
    )
    return Case((x, weights, bias, (1, 1), pads, (1, 1), 1, *zeros, multipliers, shifts, low, high, None))


@pytest.fixture(scope="module")
def drawn_3x3(library: Library) -> list[Sample]:
    """Every combination of edges with and without padding, three times."""
    random = np.random.default_rng(5)
    op = library.ops["cortex_m::quantized_depthwise_conv2d.out"]
    return [
        sample(op, depthwise_3x3(pads, random), seed) for seed, pads in enumerate(3 * tuple(product((0, 1), repeat=4)))
    ]


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize(
    ("board", "optimize", "function"),
    [
        ("qemu_mps2_an386", "speed", "quantized_depthwise_3x3"),
        ("qemu_mps2_an386", "size", "quantized_depthwise_3x3"),
        ("host", "speed", "quantized_depthwise_channels<et::Scale8::kNearest, 1>"),
        ("qemu_virt_rv32", "speed", "quantized_depthwise_channels_rv32<1>"),
    ],
)
def test_depthwise_rows_in_both_directions(
    board: str,
    optimize: str,
    function: str,
    upward: bool,
    drawn_3x3: list[Sample],
    library: Library,
    bench_of: Callable[[str, str], Bench],
) -> None:
    overlaid = Overlaid(bench_of(board, optimize), library, drawn_3x3)
    assert {step.call.function for step in overlaid.specialised.calls.values()} == {function}
    overlaid.check(upward)


def test_depthwise_rows_meet_only_their_own_channels(
    drawn_3x3: list[Sample], library: Library, bench_of: Callable[[str, str], Bench]
) -> None:
    """Between the multiples that the kernel asks for four channels of a row are stored over others that are still to be
    read."""
    overlaid = Overlaid(
        bench_of("qemu_mps2_an386", "speed"), library, [one for one in drawn_3x3 if one.args[0].of.shape[1] % ALIGN]
    )
    solution = placed(overlaid.specialised, 0)
    inputs = [
        overlaid.specialised.method.values[step.instruction.reads[0]] for step in overlaid.specialised.calls.values()
    ]
    moved = replace(
        solution, places={**solution.places, **{one.name: solution.places[one.name] + ALIGN for one in inputs}}
    )
    meet = [
        0 < step.call.overlaps[one.id] < one.spec.nbytes // 2
        for step, one in zip(overlaid.specialised.calls.values(), inputs, strict=True)
    ]
    assert sum(meet) >= 10
    assert not any(right and meeting for right, meeting in zip(overlaid.same(moved), meet, strict=True))


def test_a_chain_of_layers_goes_down_and_up(library: Library, bench_of: Callable[[str, str], Bench]) -> None:
    """In one image and a row: what one layer lies higher than its input, the next lies lower again."""
    channels, height, width = 24, 9, 5
    graph, random = Graph(library), np.random.default_rng(3)
    x = first = graph.input(1, channels, height, width, dtype=DType.INT8)
    for _ in range(4):
        weights, bias = (
            random.integers(-127, 128, (1, 3, 3, channels), np.int8),
            random.integers(-2000, 2000, channels, np.int32),
        )
        scales = (np.full(channels, part, np.int32) for part in multiplier_shift(1 / 180))
        fixed = (
            graph.constant(weights),
            graph.constant(bias),
            (1, 1),
            (1, 1),
            (1, 1),
            1,
            5,
            -5,
            *map(graph.constant, scales),
        )
        x = graph.call("cortex_m::quantized_depthwise_conv2d.out", x, *fixed, -128, 127, None)
    program = in_kernel_order(graph.program(x), library)
    bench = bench_of("qemu_mps2_an386", "speed")
    specialised = specialise(program, Target(bench.board.features, "speed"), library)
    the_problem = problem(specialised)
    solution = plan(the_problem)
    row, image, scratch = channels * width, channels * width * height, 4 * 8 * (width + 2)
    assert solution.size["ram"] <= image + row + scratch + 48  # both are at multiples of 16 and of 24
    swept = [
        step.call.window for step in directed(Placed(specialised, the_problem, solution)).specialised.calls.values()
    ]
    assert {window.upward for window in swept if window is not None} == {False, True}
    data = random.integers(-128, 128, graph.values[first.id].spec.shape, np.int8)
    np.testing.assert_array_equal(
        bench.run(specialised, [data], library, solution)[0], evaluate(program, library, [data])[0]
    )
