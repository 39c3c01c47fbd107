"""Which line of the user's code a node of the graph comes from."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import Any

from torch import fx

from etexport.frontend.mistakes import is_foreign, module_relative
from etexport.program.model import Source

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in .*)?$')


def source_of(meta: dict[str, Any], folder: Path, fallback: Source | None) -> Source | None:
    """The innermost frame of the node's stack trace that is neither torch's nor Python's.

    Layers that torch's own containers call (a model that is an nn.Sequential) have none: then `fallback`.
    """
    found = fallback
    lines = (meta.get("stack_trace") or "").splitlines()
    for at, line in enumerate(lines):
        match = _FRAME.match(line)
        if match is None or is_foreign(match["file"]):
            continue
        code = lines[at + 1].strip() if at + 1 < len(lines) and not _FRAME.match(lines[at + 1]) else ""
        found = Source(shown(match["file"], folder), int(match["line"]), code)
    return found


def source_within(node: fx.Node, folder: Path, fallback: Source | None) -> Source | None:
    """Of control flow: the node's, if torch knows it, else that of the first node in its branches or rounds of which it
    does."""
    names = [str(one.target) for one in node.all_input_nodes if one.op == "get_attr"]
    graphs = [
        part.graph for name in names if isinstance(part := getattr(node.graph.owning_module, name), fx.GraphModule)
    ]
    found = (source_of(one.meta, folder, None) for one in (node, *(inner for graph in graphs for inner in graph.nodes)))
    return next(filter(None, found), fallback)


def lines_of(meta: dict[str, Any]) -> list[tuple[str, int]]:
    """(file, line) of each frame of the node's stack trace that is neither torch's nor Python's, outermost first."""
    frames = filter(None, map(_FRAME.match, (meta.get("stack_trace") or "").splitlines()))
    return [(frame["file"], int(frame["line"])) for frame in frames if not is_foreign(frame["file"])]


def shown(file: str, folder: Path) -> str:
    """The file relative to the script's folder; one from elsewhere by its place in its package. Never an absolute
    path."""
    path = Path(file).resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else module_relative(path)


def line(path: Path, number: int) -> Source | None:
    """A line of the script itself."""
    return Source(path.name, number, linecache.getline(str(path.resolve()), number).strip()) if number else None
