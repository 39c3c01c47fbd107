"""How a network is quantised, as far as there is a choice."""

from __future__ import annotations

from dataclasses import dataclass

RANGES = ("histogram", "minmax", "percentile")
"""`histogram`: the range with the least squared error. `minmax`: all that was seen. `percentile`: all but one value in 100,000."""


@dataclass(frozen=True)
class Settings:
    """None: what samples that were held out say."""

    equalize: bool | None = None
    ranges: str | None = None
    correct_bias: bool | None = None
    keep_float: tuple[str, ...] = ()
    """What stays in float: module paths, lines of the script (`model.py:31`), names of operators."""
