"""What integers hold: the arithmetic of layers asks a type for its ends, and writes none of them down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etexport.program.model import Array


@dataclass(frozen=True)
class StoredType:
    """Whole numbers of `bits` bits from `low` to `high`."""

    bits: int
    low: int
    high: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.high - self.low + 1

    @property
    def span(self) -> int:
        """The largest difference of two of them: what (x - zero point) reaches."""
        return self.high - self.low

    @property
    def magnitude(self) -> int:
        return max(-self.low, self.high)

    @property
    def numbers(self) -> Array:
        """All of them, ascending."""
        return np.arange(self.low, self.high + 1)


INT8 = StoredType(8, -128, 127)
