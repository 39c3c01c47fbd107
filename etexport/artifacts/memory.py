"""`memory.json`: what a build folder holds and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def quantization_of(memory: Mapping[str, Any]) -> str:
    """ "int8" where a step computes in integers or between them and float, else "float32"."""
    return "int8" if any(step["op"].startswith(("cortex_m::", "etexport::quantized_")) for step in memory["steps"]) else "float32"
