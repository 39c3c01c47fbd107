"""Dependencies point one way: what each room imports, read from its files, against the table of docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "etexport"

EVERYONE = {"alone", "errors", "resources", "numpy"}
# arithmetic and layouts that kernel folders and the target side must agree on
SHARED = {
    "packing", "pointwise", "phases", "pooling", "strided", "quantized", "integer_average", "integer_layer", "integer_packing", "windows",
    "supported",
}  # fmt: skip
ROOMS = {
    "program": {"program", "flatbuffers"},
    "frontend": {"frontend", "program", "op", "passes", "supported", "torch", "torchao"},
    "passes": {"passes", "program", "op", *SHARED},
    "plan": {"plan", "jinja2"},
    "target": {"target", "program", "op", "board", "plan", *SHARED},
    "emit": {"emit", "target", "program", "op", "plan", "board", "jinja2"},
    "toolchain": {"toolchain", "board", "elftools"},
    "device": {"device", "board", "program", "serial", "cobs", "elftools"},
    "inspect": {"inspect", "program", "op", "plan", "board", "toolchain", "jinja2", "rich", "markupsafe", "elftools"},
    "cli": {"cli", "frontend", "passes", "program", "plan", "target", "emit", "toolchain", "device", "inspect", "op", "board", "rich"},
}
ONLY = {"torch": "frontend", "torchao": "frontend", "serial": "device"}
"""Packages that one room alone may import."""

TOP = {"__main__.py": {"cli", "__version__"}}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room (of etexport) or package of each import, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"etexport.{alias.name}" for alias in node.names] if node.module == "etexport" else [node.module or ""]
        for name in names:
            parts = name.split(".")
            yield getattr(node, "lineno", 0), parts[1] if parts[0] == "etexport" and len(parts) > 1 else parts[0]


def wrong(path: Path, allowed: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for line, name in imported(path)
        if name not in allowed | EVERYONE and name not in sys.stdlib_module_names
    ]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_what_its_row_allows(room: str) -> None:
    found = [text for path in sorted((PACKAGE / room).rglob("*.py")) for text in wrong(path, ROOMS[room])]
    assert not found, "\n".join(found)


def test_every_room_has_a_row() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms - {"scons_tools"} == set(ROOMS)  # that is site_scons/site_tools


def test_files_at_the_top_point_down() -> None:
    found = [text for path in sorted(PACKAGE.glob("*.py")) for text in wrong(path, TOP.get(path.name, {"op", "program", *SHARED}))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("package", "room"), ONLY.items())
def test_one_room_alone_imports(package: str, room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != room
        for line, name in imported(path)
        if name == package
    ]
    assert not found, f"{package} belongs to {room}: {found}"


def test_plugins_never_import_torch_or_rooms() -> None:
    """A kernel folder knows `etexport.op`, the data it talks about, and what the kernels share; nothing of the stages."""
    found = [text for path in sorted((ROOT / "kernels").rglob("op.py")) for text in wrong(path, {"op", "program", *SHARED})]
    assert not found, "\n".join(found)


def test_the_scons_tool_does_not_import_the_package() -> None:
    tool = ROOT / "site_scons" / "site_tools" / "et.py"
    names = {name for _, name in imported(tool)}
    assert not names & (set(ROOMS) | {"torch", "numpy", "op", "board"}), "it asks the command line"
    assert "SCons" in names
    others = [
        path for path in PACKAGE.rglob("*.py") if "scons_tools" not in path.parts and any(name == "SCons" for _, name in imported(path))
    ]
    assert not others, "SCons is known to site_scons/site_tools/et.py alone"


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    planted = PACKAGE / "plan" / "problem.py"
    text = planted.read_text(encoding="utf-8") + "\n\ndef late() -> None:\n    import torch\n    from etexport import device\n"
    copy = ROOT / "build" / "planted.py"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    try:
        assert [line.rsplit(" ", 1)[1] for line in wrong(copy, ROOMS["plan"])] == ["torch", "device"]
    finally:
        copy.unlink()
