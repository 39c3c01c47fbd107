"""Programs that ExecuTorch writes when it is asked for more than the default, and what its reader sees in files:
`stock_special.py FOLDER [X.pte ...]`."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import ExecutorchBackendConfig, to_edge, to_edge_transform_and_lower
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from executorch.exir.passes import MemoryPlanningPass, _quant_patterns_and_replacements  # noqa: F401  the tables' operators
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


class AcmeDense(BackendDetails):  # type: ignore[misc]
    """ExecuTorch's half of the delegate of docs/delegates.md: the bytes of one dense layer."""

    @staticmethod
    def preprocess(program: Any, specs: Any) -> PreprocessResult:
        named = {name.rpartition(".")[2]: tensor.detach().numpy() for name, tensor in program.state_dict.items()}
        outputs, inputs = named["weight"].shape
        blob = b"ACM1" + struct.pack("<4i", 1, inputs, outputs, 0)
        return PreprocessResult(blob + named["bias"].tobytes() + named["weight"].tobytes())


class DenseLayers(Partitioner):  # type: ignore[misc]
    def ops_to_not_decompose(self, program: Any) -> Any:
        return [torch.ops.aten.linear.default], None

    def partition(self, program: Any) -> PartitionResult:
        spec = DelegationSpec("AcmeDense", [CompileSpec("made by", b"stock")])
        found = [node for node in program.graph.nodes if "linear" in str(node.target)]
        for node in found:
            node.meta["delegation_tag"] = node.name
        tag_constant_data(program)
        return PartitionResult(program, {node.name: spec for node in found})


class SineBetween(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.sin(self.first(x)))


class Tables(nn.Module):
    """Rows of tables in 8, 4 and 2 bits, with zero points and without."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(3)
        for bits in (8, 4, 2):
            low, high, dtype = (-128, 128, torch.int8) if bits == 8 else (0, 256, torch.uint8)
            weight = torch.randint(low, high, (16, 16 * bits // 8), generator=random).to(dtype)
            self.register_buffer(f"weight_{bits}", weight)
        self.register_buffer("scales", torch.rand(16, 2, generator=random))
        self.register_buffer("zeros", torch.randint(-2, 3, (16, 2), generator=random).float())

    def forward(self, at: Tensor) -> tuple[Tensor, ...]:
        of = torch.ops.quantized_decomposed
        found = []
        for bits in (8, 4, 2):
            name = "embedding_byte" if bits == 8 else f"embedding_{bits}bit"
            weight, limit = getattr(self, f"weight_{bits}"), 1 << (bits - 1)
            operator = getattr(of, name)
            found.append(operator.default(weight, self.scales, self.zeros, -limit, limit - 1, at))
            typed = (weight, self.scales[:, 0].clone(), None, -limit, limit - 1, at)
            found.append(operator.dtype(*typed, dtype=torch.float32))
        return tuple(found)


ROW = torch.ones(1, 4)
UNPLANNED = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
INITIAL = ExecutorchBackendConfig(passes=[InitializedMutableBufferPass(["total"])])
CONSTANT = {"version": 3, "name": "hello", "rate": 0.5, "flag": True, "table": torch.ones(2), "several": (1, "a")}

PROGRAMS = {
    "delegate": to_edge_transform_and_lower(exported(Dense(), ROW), partitioner=[XnnpackPartitioner()]).to_executorch(),
    "dense delegates": to_edge_transform_and_lower(
        exported(SineBetween(), torch.ones(1, 6)), partitioner=[DenseLayers()]
    ).to_executorch(),
    "external": to_edge(exported(Dense(), ROW)).to_executorch(ExecutorchBackendConfig(external_constants=True)),
    "tables": to_edge(exported(Tables(), torch.ones(3, dtype=torch.int64))).to_executorch(),
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

seen = {}
for path in map(Path, sys.argv[2:]):
    plan = deserialize_pte_binary(path.read_bytes()).program.execution_plan[0]
    calls = [type(one.instr_args).__name__ for one in plan.chains[0].instructions]
    seen[path.name] = {"delegates": [one.id for one in plan.delegates], "calls": calls}
(Path(sys.argv[1]) / "seen.json").write_text(json.dumps(seen))
