"""torch.export and decomposition to core ATen."""

from __future__ import annotations

import contextlib

import torch
from torch.export import ExportedProgram
from torch.fx.experimental import _config as symbolic

from etexport.errors import ModelError
from etexport.frontend.decompositions import decompositions
from etexport.frontend.mistakes import explain
from etexport.frontend.quantize.rows import round_rows
from etexport.frontend.quantize.torchao_weights import dequantised
from etexport.frontend.recurrent import captured_whole
from etexport.frontend.script import Script, silent

aten = torch.ops.aten


def capture(script: Script, *, stock: bool = False) -> ExportedProgram:
    """The script's network as a functional graph of core ATen operators, and where it need not be for `stock`
    ExecuTorch of our own.

    ModelError at the user's line for whatever the network does that no graph can say. The network runs once first,
    because plain PyTorch explains a wrong shape better than its tracer.
    """
    program = script.program
    with torch.no_grad():
        if program is None:
            dry_run(script)
        try:
            with silent():
                if program is None:
                    whole = script.dynamic_shapes is not None and not stock
                    with captured_whole() if whole else contextlib.nullcontext():
                        program = _exported(script)
                round_rows(program, stock=stock)
                decomposed: ExportedProgram = program.run_decompositions(decompositions(stock=stock))
            _fill_empty(decomposed.graph)
            return decomposed
        except BaseException as error:
            raise explain(error, script.path, "the model cannot be captured") from None


def _exported(script: Script) -> ExportedProgram:
    """Torch's non-strict tracer refuses a convolution in a branch of torch.cond, for how its result lies in memory; the
    strict one does not. It also asks whether a size is 1 where that matters to it alone (the rows of `x[1:]`, a pooled
    image), and wants the range without it; asked to take sizes for any, it does not."""
    try:
        return _traced(script, strict=False)
    except Exception as error:
        if _STRIDES in str(error):
            return _traced(script, strict=True)
        if script.dynamic_shapes is None:
            raise
        with symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            try:
                return _traced(script, strict=False)
            except Exception:
                raise error from None  # what is wrong is told as it is otherwise


def _traced(script: Script, *, strict: bool) -> ExportedProgram:
    assert isinstance(script.model, torch.nn.Module)
    model = dequantised(script.model)
    return torch.export.export(model, script.inputs, dynamic_shapes=script.dynamic_shapes, strict=strict)


def control_of(program: ExportedProgram) -> torch.fx.Node | None:
    """Its first branch or loop."""
    control = torch.ops.higher_order
    kinds = (control.cond, control.while_loop, control.scan, control.map_impl)
    return next((node for node in program.graph.nodes if node.target in kinds), None)


_STRIDES = "output stride is not a simple accumulative multiplication"


def _fill_empty(graph: torch.fx.Graph) -> None:
    """Memory that the model writes before it reads it (circular padding) holds zeros at first, so that every run gives
    the same."""
    for node in graph.nodes:
        if node.target in _EMPTY:
            kept = {name: node.kwargs[name] for name in ("dtype", "device") if name in node.kwargs}
            val = node.meta["val"]
            node.target, node.args, node.kwargs = aten.zeros.default, (list(val.shape),), {"dtype": val.dtype, **kept}


_EMPTY = (aten.empty.memory_format, aten.empty_permuted.default, aten.empty_strided.default, aten.empty_like.default,
          aten.new_empty.default, aten.new_empty_strided.default)  # fmt: skip


def dry_run(script: Script) -> None:
    """Run the network on the example inputs and put its buffers back as they were; ModelError where it fails.

    What a module makes of its parameters when it is called (weights under weight_norm) has no gradient behind it then,
    and can be copied.
    """
    model = script.model
    assert isinstance(model, torch.nn.Module)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        model(*script.inputs)
    except BaseException as error:
        raise explain(error, script.path, f"model() fails on {script.inputs_from}") from None
    finally:
        for name, buffer in model.named_buffers():
            if name in before and buffer.shape == before[name].shape:
                buffer.copy_(before[name])
    for name, parameter in model.named_parameters():
        if parameter.device.type != "cpu":
            raise ModelError(
                f"{name} is on {parameter.device}", where=str(script.path), hint="leave the model on the CPU"
            )
