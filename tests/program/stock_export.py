"""Export model scripts by ExecuTorch's own default pipeline: `stock_export.py SCRIPT=OUT.pte ...`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from executorch.exir import to_edge

from etexport.frontend.script import opened

for pair in sys.argv[1:]:
    script, out = (Path(part) for part in pair.split("="))
    with opened(script) as model_script, torch.no_grad():
        # a buffer that the graph changes may not ask for a gradient
        model = model_script.model
        assert isinstance(model, torch.nn.Module)
        model.requires_grad_(False)
        exported = torch.export.export(model, model_script.inputs)
        out.write_bytes(to_edge(exported).to_executorch().buffer)
