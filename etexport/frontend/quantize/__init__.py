"""int8 by torchao's PT2E flow: annotate, observe the script's calibration data, convert."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from etexport.frontend.quantize.observe import kept_states
from etexport.frontend.quantize.settings import Settings

if TYPE_CHECKING:
    from etexport.frontend.quantize.variants import Subject

Prepare = Callable[..., GraphModule]
"""Puts the observers into a copy of a network, of which what is named stays in float."""

_OBSERVERS = ("torchao.quantization.pt2e.", "torch.ao.quantization.", "etexport.frontend.quantize.ranges")


@dataclass(frozen=True, eq=False)
class Converted:
    """`model` has quantise and dequantise round what can compute in int8, a graph to export again. `observed` is the
    same graph before: it computes in float, with an observer at each place where `model` quantises; None where only
    weights are quantised."""

    model: nn.Module
    observed: GraphModule | None


def quantized(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    calibration: Sequence[tuple[Tensor, ...]],
    settings: Settings = Settings(),  # noqa: B008
    *,
    small: bool = True,
    dynamic_shapes: Any = None,
) -> Converted:
    """Post-training quantisation. Batch normalisation is folded into the layers before it; how it is done is decided by
    `tune.tuned`.

    `calibration` holds inputs as `inputs` are shaped. The network's states are as before it. ModelError for names in
    `settings.keep_float` that it does not have. `small`: filters too for which it does not pay. `dynamic_shapes` as
    torch.export takes them: then each input of `calibration` has sizes of its own.
    """
    with quiet():
        from etexport.frontend.quantize.tune import tuned

        captured, prepare = preparation(
            model, inputs, calibration, settings.keep_float, small=small, dynamic_shapes=dynamic_shapes
        )
        found = tuned(captured, prepare, calibration, settings)
    return converted(found.prepared)


def subject_of(
    model: nn.Module, inputs: tuple[Tensor, ...], calibration: Sequence[Sequence[Tensor]], settings: Settings
) -> Subject:
    """The network with all settings decided, of which variants can be made that keep more in float."""
    from etexport.frontend.quantize.tune import tuned
    from etexport.frontend.quantize.variants import Subject

    captured, prepare = preparation(model, inputs, calibration, settings.keep_float)
    return Subject(captured, prepare, calibration, tuned(captured, prepare, calibration, settings).settings)


def preparation(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    calibration: Sequence[Sequence[Tensor]],
    keep_float: Sequence[str],
    *,
    small: bool = True,
    dynamic_shapes: Any = None,
) -> tuple[GraphModule, Prepare]:
    """The network as a float graph with batch normalisation folded, and what puts observers into a copy of such a
    graph, of which more may be kept in float."""
    from etexport.frontend.quantize import kept, reasons
    from etexport.frontend.quantize.blocks import blocks, bodies, given, take_in
    from etexport.frontend.quantize.folding import folded
    from etexport.frontend.quantize.functional import functional
    from etexport.frontend.quantize.meeting import losses_of, prepared
    from etexport.frontend.quantize.parts import leave_long
    from etexport.frontend.quantize.quantizer import Inside, MicrocontrollerQuantizer
    from etexport.frontend.quantize.sharing import groups_that_end
    from etexport.frontend.quantize.states import accumulators, is_small_filter

    with torch.no_grad():  # with gradients PyTorch refuses to write into one of several pieces
        captured = folded(functional(torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes, strict=False)))
        take_in(captured)
        for owner, name, body in bodies(captured):
            setattr(owner, name, folded(body))
    kept.check(captured.graph, keep_float, (name for name, _ in model.named_modules()))
    leave_long(captured.graph, keep_float)
    wide = accumulators(captured, calibration)
    leave = "" if small or not is_small_filter(captured.graph) else reasons.SMALL_FILTER
    has_blocks = bool(blocks(captured.graph))
    calls = given(captured, calibration) if has_blocks else {}
    losses = losses_of(captured, calibration) if has_blocks else {}

    def prepare(network: GraphModule, more: Sequence[str] = ()) -> GraphModule:
        network = copy.deepcopy(network)
        kept.mark(network.graph, more, "{} stays in float for what the script accepts")
        for _, _, body in bodies(network):
            kept.mark(body.graph, more, "{} stays in float for what the script accepts")

        def quantizer(samples: Sequence[Sequence[Tensor]], inside: Inside) -> MicrocontrollerQuantizer:
            return MicrocontrollerQuantizer(keep_float, samples, accumulators=wide, leave=leave, inside=inside)

        with groups_that_end():
            return prepared(network, quantizer, calibration, calls, losses)

    return captured, prepare


def converted(prepared: GraphModule) -> Converted:
    """What torchao makes of a network that it has prepared (also for training) and that has seen its data."""
    with quiet():
        from etexport.frontend.quantize.blocks import bodies, convert_alone, give_back
        from etexport.frontend.quantize.folding import patterns_that_occur

        observed = copy.deepcopy(prepared)
        # torchao folds constants by running what no input reaches: it would count a counter on
        with patterns_that_occur(), kept_states(prepared):
            for owner, name, body in bodies(prepared):
                setattr(owner, name, convert_alone(body))
            model = convert_alone(prepared)
        give_back(model)
        return Converted(model, observed)


def is_quantized(graph: torch.fx.Graph) -> bool:
    """Does the graph hold quantise or dequantise operators?"""
    return any("quantized_decomposed" in str(node.target) for node in graph.nodes if node.op == "call_function")


def is_prepared(model: object) -> TypeGuard[GraphModule]:
    """Is it a graph with torchao's observers in it? Asked without importing torchao, which takes a second."""
    return isinstance(model, GraphModule) and any(
        type(one).__module__.startswith(_OBSERVERS) for one in model.modules()
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torchao warns at import about extensions that a CPU does not need."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
