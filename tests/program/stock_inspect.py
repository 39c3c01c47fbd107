"""What ExecuTorch's Inspector makes of an ETDump: `stock_inspect.py FILE.etdp=FILE.bin=OUT.npz`.

A row an event, in order: `names`, `runs`, `instructions`, `counts`, and what it gave as `value_<row>`.
"""

from __future__ import annotations

import sys

import numpy as np
from executorch.devtools import Inspector
from executorch.devtools.inspector import TimeScale

dump, values, out = sys.argv[1].split("=")
unit = {"source_time_scale": TimeScale.CYCLES, "target_time_scale": TimeScale.CYCLES}
inspector = Inspector(dump, debug_buffer_path=values, **unit)
assert len(inspector.to_dataframe()) == sum(len(block.events) for block in inspector.event_blocks)
rows = [(block.bundled_input_index, event) for block in inspector.event_blocks for event in block.events]
np.savez(
    out,
    names=np.array([event.name for _, event in rows]),
    runs=np.array([run for run, _ in rows]),
    instructions=np.array([event._instruction_id for _, event in rows]),
    counts=np.array([event.perf_data.raw[0] for _, event in rows]),
    **{f"value_{at}": event.debug_data[0].numpy() for at, (_, event) in enumerate(rows) if len(event.debug_data)},
)
