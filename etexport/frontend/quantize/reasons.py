"""Why the quantizer leaves an operator in float: noted at the node, from where the program's instructions get it."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from etexport.frontend.quantize.declared import library, name_of
from etexport.kernel.library import Library

_CUSTOM, _KEY = "custom", "left_in_float"
"""What stands there in a node's meta stays with all that becomes of the node: conversion, export, decomposition."""

NO_SCALE = "there is no scale for its weights or biases: infinities, NaN, numbers beyond 1e18, or none but below 1e-16"
COMPUTED = (
    "its weight or its bias is computed from the inputs or from states: only constants have a scale for each channel"
)
MASK = "it masks with what stands for minus infinity: a scale with room for that has none for anything else"
ACCUMULATES = "adds up what is less than a step of int8"
SMALL_FILTER = "it is a filter by itself, and int8 would take more memory for its kernels than it saves"
STEPS = "steps of recurrent layers (layers times directions times the sequence's length): in int8 each is written out"
BETWEEN_FLOATS = "it moves what stays in float before and behind it"
NEVER = "calibration() never came to this branch or loop, so that nothing is known of its values"
CARRIED = "what a loop carries from round to round would lose too much in int8"
DECIDES = "it decides which way is taken: rounded to int8, what is near the bound would go the other way"
BEHIND_MASK = "it reads what a mask fills with minus infinity, which has no place in int8"

ALONE = (ACCUMULATES, SMALL_FILTER, STEPS, NEVER, CARRIED, DECIDES)
"""Networks of nothing else are exported in float, with a warning."""


def no_integer_form(node: Node) -> str:
    """What the kernel folders say of the operator, whatever its overload and whether it is done in place."""
    name = _plain(name_of(node.target)) if isinstance(node.target, torch._ops.OpOverload) else str(node.target)
    return _said(library()).get(name, f"{name.rpartition('::')[2]} has no integer form")


@functools.cache
def _said(library: Library) -> dict[str, str]:
    return {_plain(name): one.reason for name, one in library.int8.items() if one.reason}


def _plain(name: str) -> str:
    """`aten::log_softmax` of `aten::_log_softmax`, `aten::div` of `aten::div_.Tensor`."""
    namespace, _, rest = name.partition("::")
    return f"{namespace}::{rest.partition('.')[0].strip('_')}"


def other_unit(large: float, rest: float) -> str:
    return f"it computes with {large:g} beside numbers of at most {rest:g}: one scale has no room for both"


def note(node: Node, reason: str) -> None:
    node.meta[_CUSTOM] = {**(node.meta.get(_CUSTOM) or {}), _KEY: reason}


def forget(node: Node) -> None:
    (node.meta.get(_CUSTOM) or {}).pop(_KEY, None)


def noted(exported: ExportedProgram) -> dict[str, str]:
    """The reasons by node, of whatever the nodes became that they were noted at; in branches and loops `body.name`."""
    found: dict[str, Any] = {}
    for path, module in exported.graph_module.named_modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            found[f"{path}.{node.name}" if path else node.name] = (node.meta.get(_CUSTOM) or {}).get(_KEY)
    return {name: str(reason) for name, reason in found.items() if reason}
