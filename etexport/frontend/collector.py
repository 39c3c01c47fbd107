"""Python's collector of cycles, which walks the million objects of torch again and again while they are made: of the
processor time of a small export a quarter."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def nothing_collected() -> Iterator[None]:
    """The collector rests while the block lasts, for what makes little that is not kept."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
