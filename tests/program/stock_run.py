"""Run programs in ExecuTorch's runtime: `stock_run.py FILE.pte=INPUTS.npz=OUTPUTS.npz ...`.

The runtime does not look at an input's layout, so each is brought into the one that the file states.
"""

from __future__ import annotations

import sys
from pathlib import Path

import executorch.kernels.quantized  # noqa: F401  the operators of int8 programs
import numpy as np
import torch
from executorch.runtime import Runtime, Verification

from etexport.program import pte
from etexport.program.model import Array


def laid_out(array: Array, order: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(array).permute(order).contiguous().permute(np.argsort(order).tolist())


runtime = Runtime.get()
for pair in sys.argv[1:]:
    file, inputs, outputs = pair.split("=")
    program = runtime.load_program(file, verification=Verification.InternalConsistency)
    method = program.load_method("forward")
    stated = pte.read(Path(file).read_bytes()).method()
    orders = [stated.values[id_].spec.dim_order for id_ in stated.inputs]
    found = {}
    with np.load(inputs) as arrays:
        runs = 1 + max((int(name.partition("_")[0]) for name in arrays), default=0)
        for run in range(runs):
            count = sum(name.startswith(f"{run}_") for name in arrays)
            results = method.execute([laid_out(arrays[f"{run}_{number}"], orders[number]) for number in range(count)])
            found.update({f"{run}_{number}": result.clone().numpy() for number, result in enumerate(results)})
    np.savez(outputs, allow_pickle=False, outputs=np.array(len(results)), **found)
