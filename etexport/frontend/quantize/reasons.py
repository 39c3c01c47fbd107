"""Why the quantizer leaves an operator in float: noted at the node, from where the program's instructions get it."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

aten = torch.ops.aten

_CUSTOM, _KEY = "custom", "left_in_float"
"""What stands there in a node's meta stays with all that becomes of the node: conversion, export, decomposition."""

NO_SCALE = "there is no scale for its weights or biases: infinities, NaN, numbers beyond 1e18, or none but below 1e-16"
COMPUTED = "its weight or its bias is computed from the inputs or from states: only constants have a scale for each channel"
MASK = "it masks with what stands for minus infinity: a scale with room for that has none for anything else"
ACCUMULATES = "adds up what is less than a step of int8"
SMALL_FILTER = "it is a filter by itself, and int8 would take more memory for its kernels than it saves"
BETWEEN_FLOATS = "it moves what stays in float before and behind it"
BEHIND_MASK = "it reads what a mask fills with minus infinity, which has no place in int8"

_WORDS = {
    "rms_norm": "RMS norm: the mean of squares that it divides by has no integer form",
    "log_softmax": "log_softmax: logarithms of small probabilities have no lower end, and no integer form",
    "upsample_bilinear2d": "bilinear resizing: fractions of neighbours have no integer form",
    "upsample_bicubic2d": "bicubic resizing: fractions of neighbours have no integer form",
    "scaled_dot_product_attention": "attention with dropout",
    "div": "a quotient of two tensors has no bound, and no integer form",
    "conv_transpose1d": "a transposed convolution with groups has no integer form",
    "conv_transpose2d": "a transposed convolution with groups has no integer form",
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), "the spread of activations has no integer form"),
    **dict.fromkeys(("linalg_vector_norm", "norm", "frobenius_norm"), "the length of a vector of activations has no integer form"),
}
"""By the name of the operator."""


def no_integer_form(node: Node) -> str:
    name = str(getattr(node.target, "overloadpacket", node.target)).rpartition(".")[2].strip("_")
    return _WORDS.get(name, f"{name} has no integer form")


def other_unit(large: float, rest: float) -> str:
    return f"it computes with {large:g} beside numbers of at most {rest:g}: one scale has no room for both"


def note(node: Node, reason: str) -> None:
    node.meta[_CUSTOM] = {**(node.meta.get(_CUSTOM) or {}), _KEY: reason}


def noted(exported: ExportedProgram) -> dict[str, str]:
    """The reasons by node, of whatever the nodes became that they were noted at."""
    graph: Graph = exported.graph
    found: dict[str, Any] = {node.name: (node.meta.get(_CUSTOM) or {}).get(_KEY) for node in graph.nodes}
    return {name: str(reason) for name, reason in found.items() if reason}
