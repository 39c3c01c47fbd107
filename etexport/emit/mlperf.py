"""`mlperf.cpp`: how MLPerf Tiny's bytes become a program's input, and its output the numbers that the benchmark
reads."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from etexport.artifacts.memory import TensorType
from etexport.emit import render
from etexport.errors import ModelError
from etexport.program.model import Array

SCORES = {"kws": "kws01", "ic": "ic01", "vww": "vww01", "ad": "ad01"}
"""What the benchmark calls its networks, by the names in benchmarks/peers.toml, which knows them by their layers."""

ERROR = "ad01"
"""The network whose one result is the mean squared error of what it restores."""


@dataclass(frozen=True)
class Encoding:
    """What the benchmark's bytes mean: of "u8" and "i8" (byte - zero_point) * scale, of "f32" four bytes the number
    itself; "raw" is the input as the program stores it."""

    kind: str
    scale: float = 1.0
    zero_point: int = 0

    def codes(self, reals: Array) -> bytes:
        """The bytes that come nearest to these numbers."""
        if self.kind == "f32":
            return reals.astype("<f4").tobytes()
        low, high = (0, 255) if self.kind == "u8" else (-128, 127)
        codes: Array = np.clip(np.rint(reals / self.scale) + self.zero_point, low, high)
        return bytes(codes.astype(np.int16).astype(np.uint8))

    def reals(self, content: bytes) -> Array:
        """What these bytes stand for."""
        if self.kind == "f32":
            return np.frombuffer(content, "<f4")
        stored = np.frombuffer(content, np.uint8 if self.kind == "u8" else np.int8)
        return ((stored.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


RAW = Encoding("raw")

ENCODINGS = {
    "kws01": Encoding("i8", 0.5847029089927673, 83),
    "ic01": Encoding("u8"),
    "vww01": Encoding("u8", 1 / 255),
    "ad01": Encoding("f32"),
}
"""What the benchmark's own data means. Source: the reference submissions and training scripts of mlcommons/tiny
(1afd2c9)."""


def encoding(text: str) -> Encoding:
    """`u8:SCALE:ZERO_POINT`, `i8:SCALE:ZERO_POINT`, `f32` or `raw`; ModelError for anything else."""
    found = re.fullmatch(r"(u8|i8)(?::([^:]+))?(?::(-?\d+))?|f32|raw", text)
    if found is not None:
        with contextlib.suppress(ValueError):
            made = Encoding(found[1] or text, float(found[2] or 1), int(found[3] or 0))
            if made.scale > 0 and math.isfinite(made.scale):
                return made
    raise ModelError(
        f"{text} is no encoding", where="--input", hint="u8:SCALE:ZERO_POINT, i8:SCALE:ZERO_POINT, f32, or raw"
    )


@dataclass(frozen=True)
class Stored:
    """An input or output as the program has it: real = (stored - zero_point) * scale; of floats scale is 1."""

    dtype: str
    elements: int
    scale: float = 1.0
    zero_point: int = 0

    @property
    def cpp(self) -> str:
        return {"float32": "float"}.get(self.dtype, f"{self.dtype}_t")

    @property
    def is_float(self) -> bool:
        return self.dtype == "float32"

    @property
    def least(self) -> int:
        return int(np.iinfo(self.dtype).min)

    @property
    def most(self) -> int:
        return int(np.iinfo(self.dtype).max)

    def of(self, reals: Array) -> Array:
        """Numbers as they are stored."""
        if self.is_float:
            return reals.astype(np.float32)
        steps: Array = np.clip(np.rint(reals / self.scale) + self.zero_point, self.least, self.most)
        return steps.astype(self.dtype)

    @property
    def bytes(self) -> int:
        return self.elements * np.dtype(self.dtype).itemsize


def stored(tensors: Sequence[TensorType], scales: Sequence[tuple[float, int]], what: str) -> Stored:
    """The one input or output of a program, of `memory.json`; ModelError where there are several, or of a type that has
    no real values."""
    if len(tensors) != 1 or tensors[0].dtype not in ("float32", "int8", "uint8"):
        kinds = ", ".join(tensor.dtype for tensor in tensors) or "none"
        raise ModelError(
            f"the benchmark knows one {what}, float32 or int8, and this program has {kinds}", where="mlperf"
        )
    scale, zero_point = scales[0] if scales and scales[0][0] else (1.0, 0)
    return Stored(tensors[0].dtype, math.prod(tensors[0].shape), scale, zero_point)


def mlperf_source(name: str, id: str, given: Encoding, into: Stored, out: Stored, tick: Fraction, clock: str) -> str:
    """The text of `mlperf.cpp`. `tick` is microseconds a tick of the board's counter, and `clock` says where that comes
    from."""
    is_error = id == ERROR
    if is_error and (given.kind != "f32" or into.elements != out.elements):
        raise ModelError("its result is an error between input and output, which must be floats and as many", where=id)
    raw = given == RAW or (given.kind == "f32" and into.is_float)
    table = None
    if given.kind in ("u8", "i8"):
        values = into.of(given.reals(bytes(range(256))))
        table = [f"{float(value)!r}f" if into.is_float else str(value) for value in values.tolist()]
    value = f"static_cast<const {out.cpp}*>(program::methods[0].outputs[0].data)[i]"
    if not out.is_float:
        value = f"{float(np.float32(out.scale))!r}f * static_cast<float>({value} - {out.zero_point})"
    return render(
        "mlperf.cpp.j2", name=name, id=id, input=into, output=out, table=table, is_rounded=not raw and table is None,
        input_bytes=into.bytes if raw else into.elements * (4 if given.kind == "f32" else 1), is_error=is_error,
        output_value=value, inverse=repr(float(np.float32(1 / into.scale))),
        ticks_each=(tick.numerator, tick.denominator), clock=clock,
    )  # fmt: skip
