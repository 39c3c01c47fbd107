"""What the kernel folders say of the operator of a node (`etexport.kernel.int8`): the quantiser knows operators by this
alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch.fx import Node

from etexport.frontend.operators import out_name
from etexport.kernel.int8 import NOTHING_SAID, Int8, Weights
from etexport.kernel.library import Library, load_ops

_LIBRARY: ContextVar[Library] = ContextVar("what an export knows")


@contextlib.contextmanager
def known(library: Library) -> Iterator[None]:
    """The operators that are known while the block lasts: a graph's nodes are asked about all over this room."""
    token = _LIBRARY.set(library)
    try:
        yield
    finally:
        _LIBRARY.reset(token)


def library() -> Library:
    """Outside of a `known` block ours, and those of installed packages."""
    return _LIBRARY.get(None) or load_ops()


def int8_of(node: Node) -> Int8:
    """What is said of it; of what is no operator, or of one that no folder knows, nothing."""
    return (
        library().int8.get(name_of(node.target), NOTHING_SAID)
        if isinstance(node.target, torch._ops.OpOverload)
        else NOTHING_SAID
    )


def is_elementwise(node: Node) -> bool:
    """Whether one element of the result depends on the same element of each operand, by PyTorch's word or a kernel
    folder's."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and (
        torch.Tag.pointwise in target.tags or _is_elementwise(library(), target)
    )


def operand(node: Node, name: str) -> Any:
    """What the graph gives for a parameter of the operator: by position, by name, or its default; None where there is
    no such one."""
    assert isinstance(node.target, torch._ops.OpOverload), node
    for at, parameter in enumerate(node.target._schema.arguments):
        if parameter.name == name:
            return node.args[at] if at < len(node.args) else node.kwargs.get(name, parameter.default_value)
    return None


def weights_of(layer: Node) -> Weights:
    """Of a layer."""
    weights = int8_of(layer).weights
    assert weights is not None, f"{layer.target} is no layer"
    return weights


def is_layer(node: Node) -> bool:
    """Whether it has weights that are quantised by channel."""
    return int8_of(node).weights is not None


def groups_of(layer: Node) -> int:
    """In how many groups a layer's inputs and outputs are."""
    return int(operand(layer, "groups") or 1)


@functools.cache
def name_of(overload: torch._ops.OpOverload) -> str:
    """`aten::max.dim`, and `aten::relu` where the overload is the default one: as its schema is printed."""
    schema = overload._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


@functools.cache
def _is_elementwise(library: Library, overload: torch._ops.OpOverload) -> bool:
    op = library.find(out_name(overload))
    return op is not None and op.elementwise
