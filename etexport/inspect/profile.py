"""Where the time goes: the counts of a run with probes, joined with the steps of `memory.json` and with the best that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etexport.inspect.peers import best_per_mac


@dataclass(frozen=True)
class OpFigures:
    """One instruction of the program on one board.

    `count` comes from a run with probes, one between any two steps; `best_known` is in the same unit, for the same work on this core.
    Both are None where they are not known. `source` is `file:line` of the model script.
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


def profile(steps: Sequence[Mapping[str, Any]], counts: Sequence[int] | None, core: str, quantization: str) -> tuple[OpFigures, ...]:
    """`steps` as in `memory.json`, in order of execution; `counts` one a step, or None where no run with probes was made."""
    assert counts is None or len(counts) == len(steps), f"{len(counts or ())} counts for {len(steps)} steps"
    return tuple(
        OpFigures(
            handle=step["handle"],
            name=step["name"],
            op=step["op"],
            kernel=kernel_name(step),
            source=step["source"],
            macs=step["macs"],
            count=None if counts is None else counts[index],
            best_known=best_known(step, core, quantization),
            bytes_constants=step["bytes_constants"],
        )
        for index, step in enumerate(steps)
    )


def measured(run: Mapping[str, Any]) -> int | None:
    """The count of one inference from `run.json`: the median over samples, as data may change a few instructions. None without samples."""
    counters = sorted(run["counters"])
    return counters[(len(counters) - 1) // 2] if counters else None


def kernel_name(step: Mapping[str, Any]) -> str:
    """`softmax` for the portable kernel, `convolution (m4f)` for a variant, without template arguments."""
    name, variant = str(step["kernel"]).partition("<")[0], step["variant"]
    return name if variant == "portable" else f"{name} ({variant})"


def best_known(step: Mapping[str, Any], core: str, quantization: str) -> int | None:
    """Instructions for this step's multiply-accumulates at the best rate known for its kind of operator; None where nothing is known."""
    kind = kind_of(step)
    per_mac = best_per_mac(core, quantization, kind) if kind and step["macs"] else None
    return None if per_mac is None else round(per_mac * step["macs"])


def kind_of(step: Mapping[str, Any]) -> str:
    """ "convolution", "pointwise", "depthwise", "linear", or "" for what has no rate a multiply-accumulate."""
    if "depthwise" in step["kernel"]:
        return "depthwise"
    family = str(step["family"]).removeprefix("quantized_")
    if family == "convolution" and "pointwise" in step["kernel"]:
        return "pointwise"
    return family if family in ("convolution", "linear") else ""


@dataclass(frozen=True)
class Share:
    """An operator's part of one inference: `fraction` of all counts, `per_mac` and `best_per_mac` where there are multiply-accumulates."""

    op: OpFigures
    fraction: float
    per_mac: float | None
    best_per_mac: float | None


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


def slowest(ops: Sequence[OpFigures], listed: int) -> tuple[Share, ...]:
    return tuple(sorted(shares(ops), key=lambda share: -(share.op.count or 0))[:listed])
