"""Names of operators are written once: what two stages know stands in program/operators.py."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "etexport"
NAME = re.compile(
    r"(aten|dim_order_ops|cortex_m|quantized_decomposed|etexport|executorch_prim|executorch)::\w+(\.\w+)?"
)


def names_of(source: str) -> set[str]:
    """The strings that are nothing but an operator's name."""
    strings = (
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {text for text in strings if NAME.fullmatch(text)}


def test_a_name_is_written_in_one_file() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in names_of(path.read_text(encoding="utf-8")):
            found.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert len(found) > 50, "the check sees names"
    twice = {name: files for name, files in found.items() if len(files) > 1}
    assert not twice, twice


def test_what_stands_there_is_known_to_more_than_one_file() -> None:
    """What one file alone asks for belongs into that file."""
    source = (PACKAGE / "program" / "operators.py").read_text(encoding="utf-8")
    constants = re.findall(r"^([A-Z_]+) = ", source, re.MULTILINE)
    others = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "operators.py"]
    users = {name: sum(bool(re.search(rf"(?<!\w){name}(?!\w)", text)) for text in others) for name in constants}
    assert constants and all(count > 1 for count in users.values()), users
