"""Where the time goes: the counts of a run with probes, joined with the steps of `memory.json` and with the best that
is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from etexport.artifacts.memory import Step
from etexport.artifacts.runs import RunRecord
from etexport.errors import ModelError, raise_all
from etexport.program.names import INIT
from etexport.report.peers import best_per_mac


@dataclass(frozen=True)
class OpFigures:
    """One instruction of the program on one board.

    `count` comes from a run with probes, one between any two steps, and is that of all `executions` together (0 where
    the way of that run did not lead here); `macs` is their work together too, and `best_known` in the count's unit for
    that work on this core. They are None where they are not known, and `macs` is one execution's without such a run.
    `source` is `file:line` of the model script.
    """

    handle: int
    name: str
    op: str
    kernel: str
    source: str
    macs: int
    count: int | None
    best_known: int | None
    bytes_constants: int
    executions: int | None = None


def profile(
    steps: Sequence[Step], counts: Sequence[int] | None, core: str, quantization: str, counter: str = "instructions",
    executions: Sequence[int] | None = None,
) -> tuple[OpFigures, ...]:  # fmt: skip
    """Of the `steps` those that call a kernel are listed; `counts` and `executions` one a step, or None where no run
    with probes was made. `counter` says what they count: the best known rates are instructions."""
    for known in (counts, executions):
        assert known is None or len(known) == len(steps), f"{len(known or ())} counts for {len(steps)} steps"
    times = [1] * len(steps) if executions is None else executions
    return tuple(
        OpFigures(
            handle=step.handle,
            name=step.name,
            op=step.op,
            kernel=kernel_name(step),
            source=step.source,
            macs=step.macs * times[index],
            count=None if counts is None else counts[index],
            best_known=best_known(step, core, quantization, times[index])
            if unit_of(counter) == "instructions"
            else None,
            bytes_constants=step.bytes_constants,
            executions=None if executions is None else executions[index],
        )
        for index, step in enumerate(steps)
        if step.kind == "call"
    )


def measured(run: RunRecord) -> int | None:
    """The count of one inference from `run.json`: the median over samples, as data may change a few instructions; of
    several methods that of one call of each, together. None without samples."""
    by_method = counts_by_method(run)
    return sum(map(median, by_method.values())) if by_method else None


def counts_by_method(run: RunRecord) -> dict[str, tuple[int, ...]]:
    """The counts of each method's calls; "" for the only one."""
    if not run.calls:
        return {"": run.counters} if run.counters else {}
    found: dict[str, tuple[int, ...]] = {}
    for name, count in zip((one for one in run.calls if one != INIT), run.counters, strict=False):
        found[name] = (*found.get(name, ()), count)
    return found


def median(counts: Sequence[int]) -> int:
    """The lower one of two in the middle."""
    return sorted(counts)[(len(counts) - 1) // 2]


def unit_of(counter: str) -> str:
    """ "instructions" of "instructions (qemu icount)"."""
    return counter.partition(" (")[0]


def same_twice(counter: str) -> bool:
    """Does it count events, and not time? Those of one image and sample are the same twice."""
    return unit_of(counter) not in ("nanoseconds", "microseconds", "seconds")


def check_counts(
    count: int | None,
    steps: Sequence[int] | None,
    init_count: int | None,
    names: Sequence[str],
    counter: str,
    where: str,
) -> None:
    """ModelError for counts that cannot be: none at all, fewer than none, or as many as 32 bits make of fewer than
    none."""
    unit, wrong = unit_of(counter), []
    hint = "the board's counter does not run, was set back, or is not what its file says"
    if count is not None and not 0 < count < _IMPOSSIBLE:
        wrong.append(ModelError(f"an inference of {count:,} {unit} cannot be", where=where, hint=hint))
    if init_count is not None and not 0 < init_count < _IMPOSSIBLE:
        wrong.append(ModelError(f"a start-up of {init_count:,} {unit} cannot be", where=where, hint=hint))
    for name, step in zip(names, steps or (), strict=False):
        if not 0 <= step < _IMPOSSIBLE or (count is not None and step > _LONGER * max(count, 1_000)):
            wrong.append(ModelError(f"{step:,} {unit} for {name} alone cannot be", where=where, hint=hint))
    raise_all(wrong)


_IMPOSSIBLE = 1 << 31
"""Half of what 32 bits count: more is what a small negative difference looks like."""

_LONGER = 10
"""How many times the whole program one step may take in another run, of another sample, with loops that run longer."""

FEW_TERMS = 64
"""Terms a result: convolutions with fewer have a best known rate of their own (`peers.toml`)."""


def kernel_name(step: Step) -> str:
    """`softmax` for the portable kernel, `convolution (m4f)` for a variant, without template arguments."""
    name, variant = step.kernel.partition("<")[0], step.variant
    return name if variant == "portable" else f"{name} ({variant})"


def best_known(step: Step, core: str, quantization: str, times: int = 1) -> int | None:
    """Instructions for the multiply-accumulates of so many executions of this step, at the best rate known for its kind
    of operator; None where nothing is known."""
    kind = kind_of(step)
    per_mac = best_per_mac(core, quantization, kind) if kind and step.macs else None
    if kind == "convolution" and step.macs < FEW_TERMS * math.prod(step.results[0].shape):
        per_mac = best_per_mac(core, quantization, "first") or per_mac
    return None if per_mac is None else round(per_mac * step.macs * times)


def kind_of(step: Step) -> str:
    """ "convolution", "pointwise", "depthwise", "linear", or "" for what has no rate a multiply-accumulate."""
    if "depthwise" in step.kernel:
        return "depthwise"
    if step.family == "convolution" and "pointwise" in step.kernel:
        return "pointwise"
    return step.family if step.family in ("convolution", "linear") else ""


@dataclass(frozen=True)
class Share:
    """An operator's part of one inference: `fraction` of all counts, `per_mac` and `best_per_mac` where there are
    multiply-accumulates."""

    op: OpFigures
    fraction: float
    per_mac: float | None
    best_per_mac: float | None

    @property
    def lost(self) -> int | None:
        """What it takes above the best known (below 0 where it takes less); None where nothing is known."""
        return None if self.op.count is None or self.op.best_known is None else self.op.count - self.op.best_known


def shares(ops: Sequence[OpFigures]) -> tuple[Share, ...]:
    """Every operator with a count, in order of execution. Fractions are of the sum over operators."""
    total = sum(op.count or 0 for op in ops)
    return tuple(
        Share(
            op=op,
            fraction=op.count / total if total else 0.0,
            per_mac=op.count / op.macs if op.macs else None,
            best_per_mac=op.best_known / op.macs if op.macs and op.best_known is not None else None,
        )
        for op in ops
        if op.count is not None
    )


@dataclass(frozen=True)
class Lost:
    """Counts above the best known of all operators that have one, and the operators that lose most, worst first."""

    count: int
    of: int
    most: tuple[Share, ...]

    @property
    def fraction(self) -> float:
        return self.count / self.of


def lost(ops: Sequence[OpFigures], listed: int) -> Lost | None:
    """None where no operator has both a count and a best known one."""
    known = [(share.lost, share) for share in shares(ops) if share.lost is not None and share.op.count]
    if not known:
        return None
    worst = sorted((pair for pair in known if pair[0] > 0), key=lambda pair: -pair[0])
    total = sum(share.op.count or 0 for _, share in known)
    return Lost(sum(max(above, 0) for above, _ in known), total, tuple(share for _, share in worst[:listed]))


def slowest(ops: Sequence[OpFigures], listed: int) -> tuple[Share, ...]:
    return tuple(sorted(shares(ops), key=lambda share: -(share.op.count or 0))[:listed])
