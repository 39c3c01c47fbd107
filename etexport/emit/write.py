"""Files appear whole or not at all; JSON that a person can read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> Path:
    """Write aside, then rename; returns `path`."""
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
