"""What a script keeps in float: layers by module path, places by line (`model.py:31`), operators by name (`softmax`,
`mul_1`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch.fx import Graph, Node

from etexport.errors import ModelError
from etexport.frontend.sources import lines_of

_CUSTOM, _KEY = "custom", "kept_in_float"
"""What stands there in a node's meta stays with the parts that the node is written out to."""
_LINE = re.compile(r"(?P<file>.+\.py):(?P<line>\d+)")


def mark(graph: Graph, names: Sequence[str], why: str = "the script keeps {} in float") -> None:
    """Note at each operator that a name keeps in float that it does."""
    for node in graph.nodes:
        name = keeper(node, names)
        if name is not None:
            leave(node, why.format(name))


def leave(node: Node, reason: str) -> None:
    node.meta[_CUSTOM] = {**(node.meta.get(_CUSTOM) or {}), _KEY: reason}


def keeper(node: Node, names: Sequence[str]) -> str | None:
    """The first of the names that keeps the operator in float."""
    return next((one for one in names if _holds(one, node)), None) if node.op == "call_function" else None


def marked(node: Node) -> str | None:
    """Why the operator is to stay in float, if it is."""
    reason = (node.meta.get(_CUSTOM) or {}).get(_KEY)
    return None if reason is None else str(reason)


def check(graph: Graph, names: Iterable[str], modules: Iterable[str]) -> None:
    """ModelError for names that nothing in the network has."""
    operators = [node for node in graph.nodes if node.op == "call_function"]
    known = sorted(filter(None, modules))
    unknown = [name for name in names if name not in known and not any(_holds(name, node) for node in operators)]
    if unknown:
        called = sorted({_operator(node) for node in operators})
        hint = f"it has {', '.join(known)}; lines such as model.py:31 and operators ({', '.join(called)}) are names too"
        raise ModelError(f"keep_float names {', '.join(unknown)}, which the model does not have", hint=hint)


def _holds(name: str, node: Node) -> bool:
    line = _LINE.fullmatch(name)
    if line is not None:
        ends = Path(line["file"]).parts
        return any(
            number == int(line["line"]) and Path(file).parts[-len(ends) :] == ends
            for file, number in lines_of(node.meta)
        )
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path).removeprefix("L['self'].") for path, _ in stack.values()]
    if any(path == name or path.startswith(f"{name}.") for path in paths):
        return True
    return name in (node.name, _operator(node), f"aten::{_operator(node)}")


def _operator(node: Node) -> str:
    """`conv2d` of aten.conv2d.default, `relu` of aten.relu_.default."""
    return str(getattr(node.target, "overloadpacket", node.target)).rpartition(".")[2].strip("_")
