"""What ExecuTorch's Python definitions of its Cortex-M operators give: `cortex_m_define.py FOLDER` reads calls.json, a
list of [operator, arguments], and arguments.npz there, and writes results.npz and refused.json (why a definition takes
none of its arguments). Averages are those of `cortex_m_average.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.program import cortex_m_average  # noqa: F401  registers the operators, averages as on boards

folder = Path(sys.argv[1])
results: dict[str, Any] = {}
refused: dict[str, str] = {}
with np.load(folder / "arguments.npz") as arrays:

    def argument(given: Any, kind: str) -> Any:
        if isinstance(given, dict):
            tensor = torch.tensor(arrays[given["array"]])
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
        # scratch, unused here
        return torch.empty(0, dtype=torch.uint8) if given is None and kind == "Tensor" else given

    for number, (name, given) in enumerate(json.loads((folder / "calls.json").read_text())):
        op = getattr(torch.ops.cortex_m, name.partition("::")[2].removesuffix(".out")).default
        kinds = [str(parameter.type) for parameter in op._schema.arguments]
        try:
            results[str(number)] = (
                op(*(argument(arg, kind) for arg, kind in zip(given, kinds, strict=True))).contiguous().numpy()
            )
        except Exception as error:
            refused[str(number)] = f"{type(error).__name__}: {error}"[:300]
np.savez(folder / "results.npz", **results)
(folder / "refused.json").write_text(json.dumps(refused))
