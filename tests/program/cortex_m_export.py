"""Export model scripts as int8 by ExecuTorch's own Cortex-M flow: `cortex_m_export.py SCRIPT=OUT.pte ...`.

Beside each file lies OUT.npz: `input_0`, and `output_0` as the operators' Python definitions give it, but for averages,
which are those of `cortex_m_average.py`; the first axis counts samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config
from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer
from executorch.backends.cortex_m.target_config import CortexM, CortexMTargetConfig
from executorch.exir import to_edge
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from etexport.frontend.script import opened
from tests.program import cortex_m_average  # noqa: F401  averages as on boards

SAMPLES = 10


def last(x: torch.Tensor) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last) if x.dim() == 4 else x


for pair in sys.argv[1:]:
    script, out = (Path(part) for part in pair.split("="))
    with opened(script) as model_script, torch.no_grad():
        model = model_script.model
        assert isinstance(model, torch.nn.Module)
        model = model.to(memory_format=torch.channels_last)
        inputs = tuple(last(x) for x in model_script.inputs)
        samples = model_script.samples[0] if isinstance(model_script.samples, tuple) else model_script.samples
        prepared = prepare_pt2e(torch.export.export(model, inputs).module(check_guards=False), CortexMQuantizer())
        for sample in samples[:100]:
            prepared(last(sample))
        edge = to_edge(
            torch.export.export(convert_pt2e(prepared), inputs), compile_config=cortex_m_edge_compile_config()
        )
        config = CortexMTargetConfig(cpu=CortexM.M4)
        edge._edge_programs["forward"] = CortexMPassManager(edge.exported_program(), target_config=config).transform()
        dialect = edge.exported_program().module()
        outputs = torch.stack([dialect(last(sample)).contiguous() for sample in samples[:SAMPLES]])
        np.savez(out.with_suffix(".npz"), input_0=samples[:SAMPLES].contiguous().numpy(), output_0=outputs.numpy())
        out.write_bytes(edge.to_executorch().buffer)
