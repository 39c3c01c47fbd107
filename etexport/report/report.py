"""`report.json`: what the build, the run and the comparison say, joined under one set of keys.

A `Report` has the keys of the file, so that reading the dataclass is reading the format. Bytes, instructions or cycles
(see `counter`). Nothing that a clock measured: the same build and run give the same bytes. None stands for what was not
measured, and is never a guess.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etexport.artifacts.memory import InFloat, MemoryMap
from etexport.artifacts.sizes import Parts, SizeRecord
from etexport.judge.against_float import AgainstFloat
from etexport.judge.compare import Comparison, Difference
from etexport.judge.replay import Exact
from etexport.report.code import Code
from etexport.report.profile import OpFigures, unit_of
from etexport.report.quality import ActivationQuality
from etexport.report.ways import Way


@dataclass(frozen=True)
class Ram:
    """Bytes of RAM that the ELF reserves: arena + static + stack = total. io, state and scratch are parts of the arena,
    and may overlap."""

    arena: int
    io: int
    state: int
    scratch: int
    static: int
    """.data and .bss outside the arena."""
    stack: int
    total: int
    total_without_link: int
    """What the program needs under a main of one's own: arena, static memory without the bundled runtime's (serial
    link, main loop), and the proven bound of the stack in place of the board's reserve."""


@dataclass(frozen=True)
class Plan:
    """The arena against its proven lower bound."""

    arena: int
    bound: int
    gap: int
    optimal: bool


@dataclass(frozen=True)
class Compared:
    """The comparison's figures. `tolerance` is relative to the largest result, `tolerance_lsb` counts steps of a
    quantised output; it is None where the other one holds. `mismatched` and `same_class` count samples, the latter and
    the accuracies among the `judged` ones."""

    against: str
    """"PyTorch"; "PyTorch in int8", "PyTorch in int4-weights" for what was quantised here; "the host board" for a
    program that came without eager outputs."""
    samples: int
    judged: int
    """Samples that were not calibrated with; all of a float program."""
    max_abs_error: float
    max_lsb_error: int | None
    tolerance: float
    tolerance_lsb: int | None
    mismatched: int
    rounded: int
    """Samples that are further off than is allowed and no mismatches, for every operator is right (`verdict.py`)."""
    first_difference: Difference | None
    accuracy: float | None
    accuracy_eager: float | None
    same_class: int | None
    snr_db: float | None
    """10 log10 of signal to noise power, of all outputs, against the float network on the judged samples; None where
    `snr_missing` says why it is not known."""
    snr_missing: str
    against_float: AgainstFloat | None
    """The same for each output, with its worst element."""
    confusion: tuple[tuple[int, ...], ...]
    """How many judged samples of each label (rows) got each class on the board; empty without labels."""
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """What int8 made of one step's result, against the float network on up to 16 samples. Noise of the steps before is
    in it.

    `low` .. `high` is the range in the float network, `least` .. `most` what int8 can say at this scale; `saturated` is
    the share of values beyond.
    """

    handle: int
    name: str
    source: str
    snr_db: float
    low: float
    high: float
    least: float
    most: float
    saturated: float


@dataclass(frozen=True)
class MethodFigures:
    """One method among several: how often it was called, the median and the largest count of a call, and how many of
    the calls differ from what is expected (None where nothing was compared)."""

    name: str
    calls: int
    count: int | None
    largest: int | None
    mismatched: int | None


@dataclass(frozen=True)
class Report:
    model: str
    board: str
    core: str
    program_hash: str
    quantization: str
    optimize: str
    macs: int
    counter: str
    """What `count` counts, and who counted: "instructions (qemu icount)", "cycles (dwt)", "nanoseconds (host
    clock)"."""
    count: int | None
    """From the call of `run()` to its return, without probes; of several methods, of one call of each. None for times
    of a clock, which are not the same twice: `timing.json`."""
    count_per_mac: float | None
    init_count: int | None
    """From the reset vector until HELLO could be answered."""
    flash: Parts
    ram: Ram
    plan: Plan
    compare: Compared | None
    ops: tuple[OpFigures, ...]
    methods: tuple[MethodFigures, ...] = ()
    """Of a program of several, which are called in turn; empty for one that is given samples."""
    ways: tuple[Way, ...] = ()
    """Which samples took which way; empty where nothing is decided on the board, and without a run with probes."""
    in_float: tuple[InFloat, ...] = ()
    """What of a quantised program is not computed in integers; empty for a float program."""
    quality: tuple[Layer, ...] = ()
    """Where accuracy goes, in order of execution; empty for a float program, and for one that was quantised
    elsewhere."""
    exact: Exact | None = None
    """Are the steps right one by one? None for a float program whose outputs agree, and where `missing` says why it is
    not known."""
    missing: str = ""
    warnings: tuple[str, ...] = ()
    """What a person should do something about: an output that int8 lost, odd calibration data."""
    clock_hz: int | None = None
    """What the user says that the core runs at."""
    code: tuple[Code, ...] = ()
    """What `flash.kernels` consists of; empty where the toolchain is not there to tell."""


def lost_bits(report: Report) -> bool:
    """Whether it is a program of few bits, of which the float network is another one."""
    ours = report.compare is not None and report.compare.against.startswith("PyTorch in ")
    return report.quantization == "int8" or ours


def estimate(report: Report) -> str:
    """How long an inference takes at the clock that the user names; "" where none is named, or what is counted are no
    steps of it."""
    unit = unit_of(report.counter)
    if report.clock_hz is None or report.count is None or unit not in ("instructions", "cycles"):
        return ""
    how = "an estimate: one instruction a cycle" if unit == "instructions" else "an estimate from cycles"
    return f"{1000 * report.count / report.clock_hz:,.2f} ms at {report.clock_hz / 1e6:g} MHz ({how})"


def compared(comparison: Comparison) -> Compared:
    names = [field.name for field in dataclasses.fields(Compared)]
    return Compared(**{name: getattr(comparison, name) for name in names})


def judge(compare: Compared) -> str:
    """Whose classes and accuracy those of the board are held against: the float network's, where it is known."""
    return "float PyTorch" if compare.against.startswith("PyTorch in ") else compare.against


def allowance(compare: Compared) -> str:
    """The tolerance in words."""
    if compare.tolerance_lsb is not None:
        return f"allowed {compare.tolerance_lsb} steps"
    return f"allowed {compare.tolerance:.2g} of the largest result" if compare.tolerance else "nothing is allowed"


def in_float(memory: MemoryMap, reasons: Mapping[int, str]) -> tuple[InFloat, ...]:
    """`reasons` by handle are those for which the quantizer left an instruction in float; what the target side says
    else is in `memory`."""
    return tuple(dataclasses.replace(one, reason=reasons.get(one.handle, one.reason)) for one in memory.in_float)


def layers(memory: MemoryMap, measured: Sequence[ActivationQuality]) -> tuple[Layer, ...]:
    """What export measured, for the results that steps make; values that only move are those of the step before."""
    steps = {step.handle: step for step in memory.steps}
    return tuple(
        Layer(
            handle=one.handle,
            name=steps[one.handle].name,
            source=steps[one.handle].source,
            snr_db=one.snr_db,
            low=one.low,
            high=one.high,
            least=(-128 - one.zero_point) * one.scale,
            most=(127 - one.zero_point) * one.scale,
            saturated=one.saturated,
        )
        for one in measured
        if one.handle in steps
    )


SATURATES_ABOVE = 0.01
"""A share of values beyond what int8 can say that is told of. One step beyond does not count: a sigmoid's 1 is
255/256."""


def saturation(quality: Sequence[Layer], listed: int = 4) -> str:
    """One line about the activations that saturate, the largest share first; empty where none does."""
    beyond = [one for one in quality if one.saturated > SATURATES_ABOVE and _steps_beyond(one) > 1 + 1e-6]
    if not beyond:
        return ""
    beyond.sort(key=lambda one: -one.saturated)
    named = [
        f"{one.saturated:.1%} of {one.name}{f' ({one.source})' if one.source else ''}, which reaches {one.low:.4g} to "
        f"{one.high:.4g}"
        f" and is stored from {one.least:.4g} to {one.most:.4g}"
        for one in beyond[:listed]
    ]
    more = f"; and of {len(beyond) - listed} more" if len(beyond) > listed else ""
    return f"int8 saturates: {'; '.join(named)}{more}; calibration() should reach as far"


def _steps_beyond(one: Layer) -> float:
    """How far the float network's values go beyond the stored range, in steps."""
    return 255 * max(one.least - one.low, one.high - one.most) / (one.most - one.least)


def plan_figures(memory: MemoryMap) -> Plan:
    return Plan(memory.arena.size, memory.arena.bound, memory.arena.gap, memory.arena.optimal)


def ram_figures(memory: MemoryMap, sizes: SizeRecord) -> Ram:
    """What the ELF reserves (`sizes.json`), with the parts of the arena from the plan (`memory.json`). Without the
    link, the stack is what was proven to be enough: how much to reserve is for whoever writes the main."""
    arena, static, stack = memory.arena, sizes.static, sizes.stack
    total = sizes.arena + static.total + stack
    alone = sizes.arena + static.total - static.runtime + (stack if sizes.stack_bound is None else sizes.stack_bound)
    return Ram(sizes.arena, arena.io, arena.state, arena.scratch, static.total, stack, total, alone)


def to_json(report: Report) -> str:
    """The text of `report.json`: keys in the order of the dataclass, one report to a file."""
    return json_text(report)


def json_text(value: Any) -> str:
    return json.dumps(plain(value), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries; infinities and NaN, which JSON lacks, as the words "inf", "-inf", "nan"; sources as
    `file:line`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value).__name__ == "Source":
            return str(value)
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise AssertionError(f"{type(value)} in a report")
