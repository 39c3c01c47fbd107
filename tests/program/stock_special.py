"""Programs that ExecuTorch writes when it is asked for more than the default: `stock_special.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import ExecutorchBackendConfig, to_edge, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass
from torch import Tensor, nn
from torch.export import Dim, export


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.fc(x))


class Running(nn.Module):
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total * 1


class AddNumber(nn.Module):
    def forward(self, x: Tensor, number: int) -> Tensor:
        return x + number


class WithNone(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x + 1, None


class ChangesInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        return x * 2


def exported(model: nn.Module, *inputs: Any, **more: Any) -> torch.export.ExportedProgram:
    return export(model.eval(), inputs, **more)


ROW = torch.ones(1, 4)
UNPLANNED = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
INITIAL = ExecutorchBackendConfig(passes=[InitializedMutableBufferPass(["total"])])
CONSTANT = {"version": 3, "name": "hello", "rate": 0.5, "flag": True, "table": torch.ones(2), "several": (1, "a")}

PROGRAMS = {
    "delegate": to_edge_transform_and_lower(exported(Dense(), ROW), partitioner=[XnnpackPartitioner()]).to_executorch(),
    "external": to_edge(exported(Dense(), ROW)).to_executorch(ExecutorchBackendConfig(external_constants=True)),
    "half": to_edge(exported(nn.ReLU(), ROW.half())).to_executorch(),
    "dynamic": to_edge(
        exported(Dense(), torch.ones(2, 4), dynamic_shapes=({0: Dim("rows", min=1, max=8)},))
    ).to_executorch(),
    "number": to_edge(exported(AddNumber(), ROW, 3)).to_executorch(),
    "none": to_edge(exported(WithNone(), ROW)).to_executorch(),
    "changed input": to_edge(exported(ChangesInput(), ROW)).to_executorch(),
    "initial state": to_edge(exported(Running(), torch.ones(3))).to_executorch(INITIAL),
    "traced": to_edge(exported(Dense(), ROW)).to_executorch(
        ExecutorchBackendConfig(memory_planning_pass=UNPLANNED, emit_stacktrace=True)
    ),
    "constant methods": to_edge(exported(Dense(), ROW), constant_methods=CONSTANT).to_executorch(),
}

for name, program in PROGRAMS.items():
    (Path(sys.argv[1]) / f"{name}.pte").write_bytes(program.buffer)
