"""Dependencies point one way: what each room imports, read from its files, against the table of
docs/architecture.md."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "etexport"

EVERYONE = {"alone", "errors", "project", "resources", "sources", "numpy"}
ROOMS = {
    "program": {"program", "flatbuffers"},
    "kernel": {"kernel", "program"},
    "delegate": {"delegate", "backend", "program", "kernel"},
    "frontend": {"frontend", "program", "kernel", "passes", "delegate", "torch", "torchao"},
    "passes": {"passes", "program", "kernel"},
    "plan": {"plan", "jinja2"},
    "specialise": {"specialise", "program", "kernel", "board", "plan"},
    "emit": {"emit", "specialise", "program", "kernel", "plan", "board", "artifacts", "jinja2"},
    "toolchain": {"toolchain", "artifacts", "board", "elftools"},
    "device": {"device", "artifacts", "board", "program", "serial", "cobs", "elftools"},
    "artifacts": {"artifacts", "msgspec"},
    "judge": {"judge", "program", "kernel", "delegate", "artifacts"},
    "report": {
        "report", "judge", "artifacts", "program", "kernel", "plan", "board", "toolchain", "jinja2", "rich",
        "markupsafe", "elftools",
    },
    "library": {"library", "emit", "specialise", "kernel", "artifacts", "board", "toolchain", "jinja2", "__version__"},
    "stages": {
        "stages", "pandas", "frontend", "passes", "program", "plan", "specialise", "emit", "toolchain", "device",
        "artifacts", "judge", "report", "kernel", "delegate", "board",
    },
    "fleet": {
        "fleet", "stages", "program", "device", "artifacts", "report", "board", "script_files", "dask", "distributed",
        "pandas", "pyarrow", "msgspec",
    },
    "cli": {
        "__version__", "cli", "fleet", "stages", "frontend", "library", "passes", "program", "plan", "specialise",
        "emit", "toolchain", "device", "artifacts", "judge", "report", "kernel", "delegate", "board", "hardware",
        "platformio",
        "script_files", "rich",
    },
}  # fmt: skip
ONLY = {"torch": "frontend", "torchao": "frontend", "serial": "device", "dask": "fleet", "distributed": "fleet"}
"""Packages that one room alone may import."""

TOP = {"__main__.py": {"cli"}, "board.py": {"hardware"}, "backend.py": {"kernel", "program"}}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room (of etexport) or package of each import, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = (
                [f"etexport.{alias.name}" for alias in node.names] if node.module == "etexport" else [node.module or ""]
            )
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
    assert rooms - {"scons"} == set(ROOMS)  # which SCons imports, and which asks the command line


def test_files_at_the_top_point_down() -> None:
    found = [text for path in sorted(PACKAGE.glob("*.py")) for text in wrong(path, TOP.get(path.name, {"program"}))]
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


FAMILIES = sorted(path.parent.name for path in (ROOT / "kernels").glob("*/op.py"))


def test_plugins_never_import_torch_or_rooms() -> None:
    """A kernel folder knows `etexport.kernel`, the data it talks about, and other families, a delegate what it is
    written with; nothing of the stages."""
    found = [
        text
        for folder, more in (("kernels", {"etexport_kernels", *FAMILIES}), ("backends", {"backend"}))
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in wrong(path, {"kernel", "program", *more})
    ]
    assert not found, "\n".join(found)


HEADER = re.compile(r"(?P<family>\w+)/\w+\.h\b")


def headers_named(path: Path) -> Iterator[tuple[int, str]]:
    """Line and family of each string that names a header in a folder of a kernel family, comments and docstrings
    too."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield from ((number, match["family"]) for match in HEADER.finditer(line) if match["family"] in FAMILIES)


def test_nobody_outside_a_family_names_its_headers() -> None:
    """Neither the rooms nor another family's Python: who needs a call of a family asks its module for it."""
    homes = {path: path.relative_to(ROOT / "kernels").parts[0] for path in sorted((ROOT / "kernels").rglob("*.py"))}
    files = [*sorted(PACKAGE.rglob("*.py")), *homes]
    found = [
        f"{path.relative_to(ROOT)}:{line}: names a header of {family}"
        for path in files
        for line, family in headers_named(path)
        if family != homes.get(path)
    ]
    assert not found, "\n".join(found)


def test_the_scons_tool_does_not_import_the_package() -> None:
    tool = PACKAGE / "scons" / "et.py"
    names = {name for _, name in imported(tool)}
    assert not names & (set(ROOMS) | {"torch", "numpy", "board"}), "it asks the command line"
    assert "SCons" in names
    others = [
        path for path in PACKAGE.rglob("*.py") if path != tool and any(name == "SCons" for _, name in imported(path))
    ]
    assert not others, "SCons is known to etexport/scons/et.py alone"


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    planted = PACKAGE / "plan" / "problem.py"
    text = (
        planted.read_text(encoding="utf-8")
        + "\n\ndef late() -> None:\n    import torch\n    from etexport import device\n"
    )
    copy = ROOT / "build" / "planted.py"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    try:
        assert [line.rsplit(" ", 1)[1] for line in wrong(copy, ROOMS["plan"])] == ["torch", "device"]
    finally:
        copy.unlink()
