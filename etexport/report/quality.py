"""Where the accuracy of an int8 network goes, layer by layer, and what it has in float, from what export measured and
decided (`quality_*` and `float_*` in `model.npz`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from etexport.program.model import Method


@dataclass(frozen=True)
class ActivationQuality:
    """One quantised activation against the same one of the float network, on up to 16 samples.

    `name` is the layer that makes it (or the input), `source` its `file:line` where that is known (`with_sources`),
    `handle` the quantise instruction in the `.pte`. `low` and `high` are the range that the float network uses,
    `saturated` the share of its values beyond what int8 can say at this scale. `snr_db` is 10 log10 of signal to noise
    power; noise of the layers before is in it. Infinite means the same values.
    """

    name: str
    handle: int
    scale: float
    zero_point: int
    snr_db: float
    low: float
    high: float
    saturated: float
    source: str = ""

    @property
    def used(self) -> float:
        """How much of the 256 steps the range takes up; more than 1 where it saturates."""
        return (self.high - self.low) / (255 * self.scale)


def quality(arrays: Path | Mapping[str, Any]) -> list[ActivationQuality]:
    """The activations in order of execution; [] for a program that export did not quantise itself. Takes `model.npz` or
    its arrays."""
    if isinstance(arrays, Path):
        with np.load(arrays) as loaded:
            return quality({name: loaded[name] for name in loaded.files if name.startswith("quality_")})
    if "quality_names" not in arrays:
        return []
    columns = [
        arrays[f"quality_{name}"]
        for name in ("names", "handles", "scales", "zero_points", "snr_db", "low", "high", "saturated")
    ]
    return [
        ActivationQuality(
            str(name), int(handle), float(scale), int(zero), float(snr), float(low), float(high), float(saturated)
        )
        for name, handle, scale, zero, snr, low, high, saturated in zip(*columns, strict=True)
    ]


def with_sources(measured: Sequence[ActivationQuality], method: Method) -> list[ActivationQuality]:
    """The same with the lines of the layers that make them; of an input there is none."""
    makers = {out: one for one in method.instructions for out in one.outs}
    by_handle = {one.handle: one for one in method.instructions}
    found = []
    for one in measured:
        maker = by_handle.get(one.handle)
        # the layer is before what converts between scales
        while maker is not None and maker.op.startswith("quantized_decomposed::"):
            maker = makers.get(maker.reads[0])
        found.append(replace(one, source=str(maker.source) if maker is not None and maker.source else ""))
    return found


def reasons(path: Path) -> dict[int, str]:
    """Why the quantizer left instructions of the `.pte` in float, by handle, as `model.npz` has it."""
    with np.load(path) as arrays:
        if "float_handles" not in arrays:
            return {}
        return {
            int(handle): str(reason)
            for handle, reason in zip(arrays["float_handles"], arrays["float_reasons"], strict=True)
        }


def warned(path: Path) -> tuple[str, ...]:
    """What export warned of when it quantised the network."""
    with np.load(path) as arrays:
        return (
            tuple(str(one) for one in np.atleast_1d(arrays["quantize_warnings"]))
            if "quantize_warnings" in arrays
            else ()
        )
