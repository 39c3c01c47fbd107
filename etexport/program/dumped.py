"""ETDump (`.etdp`, identifier ED00): what ExecuTorch's Inspector reads of runs on a board, counts and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etexport.program import wire
from etexport.program.model import Array, DType

VERSION = 0
TENSOR = 5
"""The kind of a value that is a tensor."""
ALIGNMENT = 16

WHOLE = "Method::execute"
"""The Inspector's name of a whole run."""


@dataclass(frozen=True, eq=False)
class Event:
    """An instruction of the program: its number there, how it is called, its count, and what it gave (None: not
    known)."""

    instruction: int
    name: str
    count: int
    value: Array | None


@dataclass(frozen=True, eq=False)
class Execution:
    """One run, of the sample of this number; `count` is that of the whole of it."""

    sample: int
    count: int
    events: tuple[Event, ...]


def write(method: str, runs: Sequence[Execution]) -> tuple[bytes, bytes]:
    """The file, and the file of values beside it that the Inspector takes as `debug_buffer_path`."""
    values = bytearray(ALIGNMENT)  # an offset of 0 would be none
    # without the number the Inspector takes runs for repetitions of one, whose values must be the same
    data = tuple({"name": method, "bundled_input_index": one.sample, "events": _events(one, values)} for one in runs)
    return wire.write_dump({"version": VERSION, "run_data": data}), bytes(values)


def _events(run: Execution, values: bytearray) -> tuple[wire.Table, ...]:
    found = [{"profile_event": {"name": WHOLE, "start_time": 0, "end_time": run.count}}]
    start = 0
    for one in run.events:
        said = {"name": one.name, "instruction_id": one.instruction}
        found.append({"profile_event": {**said, "start_time": start, "end_time": start + one.count}})
        start += one.count
        if one.value is not None:
            found.append(
                {"debug_event": {**said, "debug_entry": {"val": TENSOR, "tensor": _tensor(one.value, values)}}}
            )
    return tuple(found)


def _tensor(array: Array, values: bytearray) -> wire.Table:
    content = np.ascontiguousarray(array)
    offset = len(values)
    values += content.tobytes()
    values += bytes(-len(values) % ALIGNMENT)
    return {
        "scalar_type": DType.of_numpy(array.dtype).code,
        "sizes": array.shape,
        "strides": tuple(stride // content.itemsize for stride in content.strides),
        "offset": offset,
    }
