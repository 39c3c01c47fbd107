"""What a reader takes from a page of docs/: its files and its commands."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_FILE = re.compile(r"^`(?P<name>[\w/.]+)`[^\n]*:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def files(page: str) -> dict[str, str]:
    """By name: a block of code behind a line that begins with the file's name and ends with a colon."""
    return {match["name"]: match["text"] for match in _FILE.finditer((DOCS / page).read_text(encoding="utf-8"))}


def commands(page: str) -> list[str]:
    """What stands behind `$ `, without the remark, in order."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]
