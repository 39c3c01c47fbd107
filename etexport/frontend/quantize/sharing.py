"""Which tensors have one scale. torchao's own search goes round for ever where what is shared comes back to where it
began: one layer that is used three times, concatenations of concatenations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.fx import Node
from torchao.quantization.pt2e import prepare
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

_ALIKE = ("dtype", "is_dynamic", "quant_min", "quant_max", "qscheme", "ch_axis", "scale", "zero_point")


@contextlib.contextmanager
def groups_that_end() -> Iterator[None]:
    """torchao prepares a network with the groups that are found here."""
    theirs = prepare._get_edge_or_node_to_group_id
    prepare._get_edge_or_node_to_group_id = groups
    try:
        yield
    finally:
        prepare._get_edge_or_node_to_group_id = theirs


def groups(specs: dict[Any, Any]) -> dict[Any, int]:
    """A number for each result (a node) and each operand (a node and its reader): those of one number have one
    observer.

    An operand is in the group of the result that it is, and of its other readers, where they ask for the same kind of
    scale. The first of each group gets the group's spec in `specs`, for torchao makes the observer of that one.
    """
    parents, order = {key: key for key in specs}, {key: at for at, key in enumerate(specs)}
    asked = {key: None if isinstance(spec, SharedQuantizationSpec) else spec for key, spec in specs.items()}

    def root(key: Any) -> Any:
        while parents[key] != key:
            parents[key] = key = parents[parents[key]]
        return key

    def join(one: Any, other: Any) -> None:
        # what a bias derives from is there before it
        first, second = sorted((root(one), root(other)), key=order.__getitem__)
        if first != second:
            parents[second] = first
            asked[first] = asked[first] if asked[first] is not None else asked[second]

    for key, spec in specs.items():
        if isinstance(spec, SharedQuantizationSpec):
            join(spec.edge_or_node, key)
    for key in specs:
        if isinstance(key, Node) or not key[1].meta[prepare.Q_ANNOTATION_KEY].allow_implicit_sharing:
            continue
        source, reader = key
        for same in (source, *((source, user) for user in source.users if user is not reader)):
            if same in parents and _alike(asked[root(same)], asked[root(key)]):
                join(same, key)
    numbers: dict[Any, int] = {}
    found: dict[Any, int] = {}
    for key in list(specs):
        top = root(key)
        if top not in numbers:
            numbers[top] = len(numbers)
            specs[key] = asked[top]
        found[key] = numbers[top]
    return found


def _alike(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return False
    return all(
        hasattr(one, name) == hasattr(other, name) and getattr(one, name, None) == getattr(other, name, None)
        for name in _ALIKE
    )
