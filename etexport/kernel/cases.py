"""The cases of an operator: what the tests run and the documentation lists. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from etexport.program.model import DType


@dataclass(frozen=True)
class T:
    """A tensor argument of a test case: drawn uniformly from [low, high) by the test, or exactly `values`."""

    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32
    low: float = -2.0
    high: float = 2.0
    values: tuple[float, ...] | None = None
    constant: bool = False
    """The operand is a constant of the program (a weight), not an input."""
    dim_order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Case:
    """Arguments in schema order: `T` for tensors, tuples of `T` for tensor lists, else literals. `note` says what is
    special about it."""

    args: tuple[Any, ...]
    note: str = ""


_Item = TypeVar("_Item")


class Draw(Protocol):
    """Where drawn cases get their choices from (hypothesis in the tests), so that `op.py` files import nothing."""

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""

    def number(self, low: float, high: float) -> float:
        """A finite float32 in [low, high]."""

    def choice(self, options: Sequence[_Item]) -> _Item: ...

    def flag(self) -> bool: ...
