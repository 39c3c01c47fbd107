"""What a prepared network gives in float and in int8, without converting it: each observer rounds as its quantise
would."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torchao.quantization.pt2e import ObserverBase

from etexport.frontend.quantize.blocks import with_bodies
from etexport.frontend.quantize.declared import int8_of
from etexport.frontend.quantize.observe import kept_states

Sample = Sequence[Tensor]


class Network(Interpreter):
    """Runs the graph in float, or as int8 with the ranges that its observers have seen. Observes nothing."""

    def __init__(self, prepared: GraphModule, *, in_int8: bool) -> None:
        super().__init__(prepared)
        self.in_int8 = in_int8
        self.observers = {
            name: one for name, one in prepared.named_modules(remove_duplicate=False) if isinstance(one, ObserverBase)
        }
        self.scales: dict[int, tuple[Tensor, Tensor]] = {}
        self.rounded: dict[Node, Tensor] = {}
        self.judged: dict[Node, Any] = {}
        self.inner: dict[int, Network] = {}

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(target, with_bodies(target, args, self.within), kwargs)

    def within(self, body: GraphModule) -> Callable[..., Any]:
        """What runs a branch or a round as this network is run."""
        if id(body) not in self.inner:
            self.inner[id(body)] = Network(body, in_int8=self.in_int8)
        return self.inner[id(body)].run

    def run_node(self, n: Node) -> Any:
        result = self.result(n)
        if n in self.judged:
            self.judged[n] = result.detach().clone() if isinstance(result, Tensor) else None
        return result

    def result(self, n: Node) -> Any:
        observer = self.observers.get(str(n.target)) if n.op == "call_module" else None
        if observer is None:
            return super().run_node(n)
        (x,), _ = self.fetch_args_kwargs_from_env(n)
        return self.through(n, observer, x)

    def through(self, node: Node, observer: Any, x: Tensor) -> Tensor:
        """What the observed tensor is in this network; of parameters once."""
        if not self.in_int8 or not x.is_floating_point():
            return x
        if node not in self.rounded:
            if id(observer) not in self.scales:
                self.scales[id(observer)] = observer.calculate_qparams()
            x = _rounded(x, observer, *self.scales[id(observer)])
            (source, *_) = node.all_input_nodes
            if source.op != "get_attr" or source.target in dict(self.module.named_buffers()):
                return x
            self.rounded[node] = x
        return self.rounded[node]


def _rounded(x: Tensor, observer: Any, scale: Tensor, zero_point: Tensor) -> Tensor:
    low, high = observer.quant_min, observer.quant_max
    if scale.numel() > 1:
        shape = [-1 if dim == observer.ch_axis else 1 for dim in range(x.dim())]
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    else:  # of a tensor without dimensions, the result has none either
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    if high > 2**24:  # a bias: its whole numbers need float64
        wide = x.double() / scale.double()
        return (wide.round().clamp(low, high) * scale.double()).float()
    return ((x / scale).round() + zero_point).clamp(low, high).sub(zero_point) * scale


def judged(prepared: GraphModule) -> list[Node]:
    """The results by which networks are compared. Of a softmax or sigmoid at the end it is what that reads: where it is
    all but certain of most samples, the few doubtful ones are all of its noise."""
    found = []
    for node in next(iter(reversed(prepared.graph.nodes))).all_input_nodes:
        end = node
        while end.op == "call_module":
            end = end.all_input_nodes[0]
        found.append(end.all_input_nodes[0] if int8_of(end).squashes else node)
    return found


def outputs(prepared: GraphModule, samples: Sequence[Sample], *, in_int8: bool) -> list[list[Tensor]]:
    """The float results of each sample (`judged`), the samples as the sequence that they are; states are as before
    afterwards."""
    made = results(prepared, samples, judged(prepared), in_int8=in_int8)
    return [[one for one in row.values() if isinstance(one, Tensor) and one.is_floating_point()] for row in made]


def results(
    prepared: GraphModule, samples: Sequence[Sample], nodes: Sequence[Node], *, in_int8: bool
) -> list[dict[Node, Any]]:
    """What the nodes give for each sample, the samples as the sequence that they are; states are as before
    afterwards."""
    network = Network(prepared, in_int8=in_int8)
    found = []
    with torch.no_grad(), kept_states(prepared):
        for sample in samples:
            network.judged = dict.fromkeys(nodes)
            network.run(*sample)
            found.append(network.judged)
    return found


def snr_db(reals: Sequence[Sequence[Tensor]], got: Sequence[Sequence[Tensor]]) -> float:
    """10 log10 of signal to noise, the mean of the outputs' noise shares; NaN where there is nothing to compare."""
    shares = []
    for real, found in zip(zip(*reals, strict=True), zip(*got, strict=True), strict=True):
        signal = noise = 0.0
        for one, other in zip(real, found, strict=True):
            counts = torch.isfinite(one) & torch.isfinite(other)  # masks fill with infinities
            signal += float((one[counts].double() ** 2).sum())
            noise += float(((one[counts].double() - other[counts].double()) ** 2).sum())
        if math.isfinite(signal) and signal:
            shares.append(noise / signal)
    mean = sum(shares) / len(shares) if shares else math.nan
    return -10 * math.log10(mean) if mean > 0 else (math.nan if math.isnan(mean) else math.inf)
