"""What a step's result is known by: the content of all that it was made of, as in the build (docs/build.md)."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from etexport import resources
from etexport.board import board_files, load_board, own_sources
from etexport.project import beside
from etexport.script_files import local_files


def key_of(*parts: bytes | str | Path) -> str:
    """Of bytes, words, and the content of files."""
    found = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()[:32]


def script_key(script: Path) -> str:
    """Of a model script and all that it is read to be made of."""
    return key_of(script, *_named([*local_files(script, Path.cwd()), *beside(script).declarations], script.parent))


def project_key(script: Path) -> str:
    """Of the kernels and passes beside a script."""
    return key_of(*_named(beside(script).files, script.parent))


def board_key(name: str) -> str:
    """Of a board's file and the drivers beside it."""
    file = Path(name) if name.endswith(".toml") else board_files()[name]
    return key_of(file, *sorted(own_sources(load_board(name))))


@functools.cache
def code_key() -> str:
    """Of etexport itself, its kernels and firmware, and torch."""
    folders = [Path(__file__).parents[1], resources.root() / "firmware", *resources.include_folders()]
    files = sorted(
        path for folder in folders for path in folder.rglob("*.*") if path.is_file() and path.suffix != ".pyc"
    )
    return key_of(*map(importlib.metadata.version, ("torch", "torchao")), *_named(files, folders[0].parent))


def _named(files: Iterable[Path], start: Path) -> Iterator[str | Path]:
    for file in files:
        yield os.path.relpath(file, start)
        yield file
