"""How files are written and read: they appear whole or not at all, and one that somebody changed is an error that names
it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etexport.errors import ModelError

Array = NDArray[Any]


def write_whole(path: Path, content: bytes) -> Path:
    """Write aside, then rename; returns `path`. What is no file (`/dev/null`, a pipe) is written to, and stays what it
    is."""
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def json_text(content: Any, indent: int = 0) -> str:
    """JSON with one space a level; an object is one line where it holds no others."""
    margin = " " * (indent + 1)
    if isinstance(content, dict) and any(map(_has_objects, content.values())):
        parts = [f"{margin}{json.dumps(key)}: {json_text(value, indent + 1)}" for key, value in content.items()]
        return "{\n" + ",\n".join(parts) + f"\n{' ' * indent}}}"
    if isinstance(content, list) and _has_objects(content):
        return "[\n" + ",\n".join(margin + json_text(item, indent + 1) for item in content) + f"\n{' ' * indent}]"
    return json.dumps(content)


def _has_objects(content: Any) -> bool:
    return isinstance(content, dict) or (isinstance(content, list) and any(map(_has_objects, content)))


def npz(arrays: dict[str, Array]) -> bytes:
    """The file as numpy writes it, which sets no time."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The arrays of an `.npz`; ModelError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path)) from None


def numbered(arrays: Mapping[str, Array], stem: str) -> tuple[Array, ...]:
    """`stem_0`, `stem_1`, ... as far as they go."""
    found: list[Array] = []
    while f"{stem}_{len(found)}" in arrays:
        found.append(arrays[f"{stem}_{len(found)}"])
    return tuple(found)
