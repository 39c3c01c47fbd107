"""Which files a model script is made of, read from it and not run: one answer for SCons, Make, Ninja, CMake and
PlatformIO.

Loaded by the SCons tool as a file, without the package: only Python's own modules are imported here."""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path


def local_files(script: Path, start: Path) -> list[Path]:
    """The files beside a script that it imports, and what those import: the script's folder comes first on its path.
    Files that any of them names in a string too, such as weights, beside the script or in `start`, where export is
    started. The settings that `etexport quantize` left. Without the script itself."""
    folder, todo = script.parent, [script]
    seen = {settings for settings in (script.with_suffix(".quantize.toml"),) if settings.is_file()}
    while todo:
        path = todo.pop()
        seen.update(file for name in _texts(path) for file in (folder / name, start / name) if file.is_file())
        for name in _imported(path):
            parts = name.split(".")
            stems = [folder.joinpath(*parts[: n + 1]) for n in range(len(parts))]
            files = itertools.chain.from_iterable((stem.with_suffix(".py"), stem / "__init__.py") for stem in stems)
            new = [file for file in files if file.is_file() and file not in seen]
            seen.update(new)
            todo += new
    return sorted(seen - {script})


def depfile(targets: Sequence[Path], files: Iterable[Path]) -> str:
    """What the targets were made of, as a rule that Make, Ninja and CMake read; and an empty one of each file, which
    may be removed."""
    needed = [_escaped(file) for file in files]
    rule = f"{' '.join(map(_escaped, targets))}: {' '.join(needed)}\n"
    return rule + "".join(f"{file}:\n" for file in needed)


def _escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")


@functools.cache
def _texts(path: Path) -> list[str]:
    """The strings in a file that might name another one."""
    texts = {
        node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return sorted(text for text in texts if len(text) < 100 and "." in text and text.isprintable())


@functools.cache
def _imported(path: Path) -> list[str]:
    """Names of the modules that a file imports."""
    nodes = list(ast.walk(parsed(path)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    parts = ((node.module, alias.name) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names)
    return [*names, *(".".join(filter(None, part)) for part in parts)]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree; an empty one where it does not parse, which export will say better."""
    try:
        return ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])
