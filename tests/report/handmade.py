"""A report made by hand, in the form of the files that build and run leave, for tests of what shows reports."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from etexport.artifacts.memory import (
    Arena,
    Constants,
    InFloat,
    LiveBuffer,
    MemoryMap,
    MethodUse,
    PlacedTensor,
    Step,
    TensorType,
)
from etexport.artifacts.sizes import Parts, SizeRecord
from etexport.judge.compare import Comparison, Reference, compare
from etexport.judge.replay import Replayed, summed_up
from etexport.judge.steps import Steps
from etexport.report.code import Code
from etexport.report.profile import profile
from etexport.report.quality import ActivationQuality
from etexport.report.report import Plan, Report, compared, layers, ram_figures

LAYERS = (
    ("features_0", "aten::convolution.out", "convolution<et::M4f>", 9 * 8 * 64, 12_310, 352),
    ("features_3", "aten::max_pool2d_with_indices.out", "max_pool", 0, 2_610, 0),
    ("depthwise", "aten::convolution.out", "depthwise_3x3<et::M4f>", 9 * 8 * 16, 3_211, 320),
    ("features_4", "aten::convolution.out", "pointwise<et::M4f>", 8 * 16 * 16, 29_210, 4_672),
    ("classify", "aten::addmm.out", "pointwise<et::M4f>", 640, 1_022, 2_600),
    ("softmax", "aten::_softmax.out", "softmax", 0, 911, 0),
)


def memory() -> MemoryMap:
    steps = []
    for step, (name, op, kernel, macs, _, constants) in enumerate(LAYERS):
        steps.append(
            Step(
                step=step,
                handle=3 * step + 1,
                name=name,
                op=op,
                kind="call",
                family={"aten::convolution.out": "convolution", "aten::addmm.out": "linear"}.get(op, kernel),
                kernel=kernel,
                variant="m4f" if macs else "portable",
                source=f"model.py:{40 + step}",
                code=f"x = self.{name}(x)",
                macs=macs,
                results=(TensorType(name, "float32", (1, max(macs // 100, 1)), (0, 1)),),
                bytes_constants=constants,
                bytes_live=2_304 - 300 * step,
                live=(LiveBuffer(name, "ram", 0, 2_048, "written here"),),
            )
        )
    return MemoryMap(
        model="digits",
        board="qemu_mps2_an386",
        program_hash="00c0ffee00c0ffee",
        quantization="float32",
        optimize="speed",
        rounding="nearest",
        arena=Arena(size=2_304, bound=2_304, gap=0, optimal=True, proof="live sets", io=296, state=0, scratch=0),
        regions=(),
        methods=(MethodUse("forward", 0, len(steps), 1, 1, wires(len(steps))),),
        inputs=(PlacedTensor("image", "float32", (1, 64), (0, 1), 256, "ram", 0),),
        outputs=(PlacedTensor("softmax", "float32", (1, 10), (0, 1), 40, "ram", 0),),
        buffers=(),
        steps=tuple(steps),
        in_float=(),
        constants=Constants(7_944, ()),
    )


def wires(steps: int) -> tuple[tuple[int | str, int | str], ...]:
    """One step behind the other, with a way round the third of each five."""
    around = [(at + 1, at + 3) for at in range(0, steps - 3, 5)]
    return (("image", 0), *around, *((at, at + 1) for at in range(steps - 1)), (steps - 1, "softmax"))


def deep(layers: int) -> MemoryMap:
    """So many layers with long names."""
    made = memory()
    steps = tuple(
        replace(made.steps[at % 6], step=at, handle=at, name=f"blocks_{at}_depthwise_convolution_of_all_channels")
        for at in range(layers)
    )
    return replace(made, steps=steps, methods=(MethodUse("forward", 0, layers, 1, 1, wires(layers)),))


def sizes() -> SizeRecord:
    return SizeRecord(
        flash=Parts(runtime=6_120, kernels=4_096, constants=7_944, libc=2_250, total=20_410),
        static=Parts(runtime=1_210, kernels=0, constants=0, libc=310, total=1_520),
        arena=2_304,
        stack=1_024,
        stack_bound=612,
        stack_chain=(),
    )


def comparison(*, wrong: bool = False) -> Comparison:
    random = np.random.default_rng(7)
    raw = random.normal(size=(360, 1, 10)) * 4
    expected = (np.exp(raw) / np.exp(raw).sum(axis=-1, keepdims=True)).astype(np.float32)
    got = expected + random.normal(size=expected.shape).astype(np.float32) * np.float32(4e-8)
    labels = expected[:, 0].argmax(axis=1)
    labels[::60] = (labels[::60] + 1) % 10
    if wrong:
        got[17, 0, 3] += np.float32(0.25)
    return compare([got], Reference((np.zeros((360, 1, 1, 8, 8), np.float32),), (expected,), labels), 2.6e-5)


def report(*, wrong: bool = False, core: str = "Cortex-M4F", model: str = "digits") -> Report:
    ops = profile(memory().steps, [layer[4] for layer in LAYERS], core, "float32")
    macs = sum(op.macs for op in ops)
    return Report(
        model=model,
        board="qemu_mps2_an386",
        core=core,
        program_hash="00c0ffee00c0ffee",
        quantization="float32",
        optimize="speed",
        macs=macs,
        counter="instructions (qemu icount)",
        count=49_260,
        count_per_mac=49_260 / macs,
        init_count=31_402,
        flash=sizes().flash,
        ram=ram_figures(memory(), sizes()),
        plan=Plan(2_304, 2_304, 0, True),
        compare=compared(comparison(wrong=wrong)),
        ops=ops,
        code=(
            Code("convolution", "convolution_row", 3_000, (0, 2)),
            Code("softmax", "digits::run", 376, (5,)),
            Code("pooling", "pool_row", 560, (1,)),
            Code("generated", "digits::run", 160, ()),
        ),
    )


def integer_comparison() -> Comparison:
    """360 samples of which 100 were calibrated with; some off by a step, one of another class than the float
    network's."""
    step = np.float32(1 / 16)
    expected = np.random.default_rng(8).integers(-128, 128, size=(360, 1, 10)).astype(np.float32) * step
    got = expected.copy()
    got[::9, 0, 0] += step
    labels = got[:, 0].argmax(axis=1)
    eager = np.eye(10, dtype=np.float32)[labels][:, None]
    eager[200] = np.roll(eager[200], 1)
    reference = Reference(
        inputs=(np.zeros((360, 1, 1, 8, 8), np.float32),),
        outputs=(expected,),
        labels=labels,
        by="PyTorch in int8",
        float_outputs=(eager,),
        calibrated=np.arange(360) < 100,
    )
    return compare([got], reference, 0.0, Steps(4, (float(step),)))


def integer_report() -> Report:
    kept = InFloat(
        4, "features_3", "aten::max_pool2d_with_indices.out", "model.py:41", "no integer kernel for this mode"
    )
    made = report(model="kws")
    measured = (
        ActivationQuality("features_0", 1, 0.05, -128, 31.5, 0.0, 14.2, 0.0021),
        ActivationQuality("reshape", 2, 0.05, -128, 31.5, 0.0, 14.2, 0.0021),
        ActivationQuality("depthwise", 7, 0.1, 3, 24.25, -11.0, 9.0, 0.0),
        ActivationQuality("softmax", 16, 1 / 256, -128, math.inf, 0.0, 0.5, 0.0),
    )
    quality = layers(memory(), measured)
    right = [Replayed(at, f"step_{at}", None, 100, 0, 0.45 + at / 100, True) for at in range(5)]
    compare, exact = compared(integer_comparison()), summed_up(right, range(6))
    return replace(made, quantization="int8", compare=compare, in_float=(kept,), quality=quality, exact=exact)


def replace_error(made: Report, error: float) -> Report:
    """The report with another largest error."""
    assert made.compare is not None
    return replace(made, compare=replace(made.compare, max_abs_error=error))
