"""Every node of the exported graph on one sample, so that a comparison can name the first layer that differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from etexport.frontend.operators import to_array
from etexport.program.model import Array


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, Array] = {}

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        # what lies otherwise in eager PyTorch than the graph says has no such view
        if target is torch.ops.aten.view.default:
            return args[0].reshape(args[1])
        return super().call_function(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        first = result[0] if isinstance(result, (tuple, list)) and result else result
        if n.op == "call_function" and isinstance(first, Tensor):
            self.seen[n.name] = to_array(first.detach())
            for at, one in enumerate(result[1:] if isinstance(result, (tuple, list)) else (), 1):
                # places of maxima and the like: among equal ones a choice
                if isinstance(one, Tensor) and not one.is_floating_point():
                    self.seen[f"{n.name}_{at}_chosen"] = one.detach().contiguous().numpy().copy()
        return result


def trace(
    exported: ExportedProgram, inputs: Sequence[Tensor], states: Mapping[str, Tensor] | None = None
) -> dict[str, Array]:
    """The first result of every node by its name, for these user inputs and the states' initial content, or the given
    one; further ones that are whole numbers as `<name>_<result>_chosen`."""
    return next(traces(exported, [inputs], states))


def traces(
    exported: ExportedProgram, samples: Iterable[Sequence[Tensor]], states: Mapping[str, Tensor] | None = None
) -> Iterator[dict[str, Array]]:
    """The same for one sample after the other: states live on."""
    signature = exported.graph_signature
    stored = {**exported.constants, **exported.state_dict, **(states or {})}
    for inputs in samples:
        given = iter(inputs)
        arguments = [
            next(given) if spec.kind is InputKind.USER_INPUT else stored[str(spec.target)]
            for spec in signature.input_specs
        ]
        recorder = _Recorder(exported.graph_module)
        with torch.no_grad():
            results = recorder.run(*arguments)
        for spec, result in zip(signature.output_specs, results, strict=True):
            if spec.kind is OutputKind.BUFFER_MUTATION:
                stored[str(spec.target)] = result
        yield recorder.seen
