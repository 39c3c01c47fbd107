"""What runs leave: `outputs.npz`, and of images with traces `trace.npz`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from etexport.artifacts.files import Array, Json, npz, numbered, opened, read_json, write_whole


def read_outputs(path: Path) -> tuple[Array, ...]:
    """Read `outputs.npz`: arrays `output_<i>`, samples first."""
    with opened(path) as arrays:
        return numbered(arrays, "output")


Traces = tuple[Sequence[Mapping[tuple[int, int], bytes]], Sequence[int]]
"""What each step of each run gave, by step and number of the result, and of which samples the first runs were."""


def write_run(folder: Path, content: Json, outputs: Sequence[Sequence[Array]], count: int, traces: Traces | None = None) -> None:
    """Write `outputs.npz` (arrays `output_<i>` of the `count` outputs, samples first), `trace.npz` (arrays `step_<n>_<result>_of_<sample>`
    of bytes; none of a firmware without traces), and last `run.json`: where it is, the others are of the same run."""
    (folder / "run.json").unlink(missing_ok=True)
    write_whole(folder / "outputs.npz", npz({f"output_{at}": np.stack([sample[at] for sample in outputs]) for at in range(count)}))
    if traces is not None:
        by_sample = {sample: results for results, sample in zip(*traces, strict=False)}
        named = {f"step_{step}_{at}_of_{sample}": data for sample, one in by_sample.items() for (step, at), data in one.items()}
        write_whole(folder / "trace.npz", npz({name: np.frombuffer(data, np.uint8) for name, data in named.items()}))
    write_whole(folder / "run.json", (json.dumps(content, indent=1) + "\n").encode())


def of_samples(samples: Sequence[int], beside: Path | None) -> dict[str, object]:
    """What `run.json` says of a run with traces: of which samples, and beside which image's outputs (those in a folder)."""
    found: dict[str, object] = {"traced": list(samples)}
    if beside is not None and (beside / "run.json").is_file():
        found["beside"] = read_json(beside / "run.json", "`etexport run` writes it").get("image_crc")
    return found
