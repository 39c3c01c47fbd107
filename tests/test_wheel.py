"""What pip installs, away from the repository: everything that the code reads is there, and the page's commands run."""

from __future__ import annotations

from pathlib import Path

from tests.installed import Installed
from tests.pages import commands, files
from tests.test_tree import tracked

DATA = ("kernels", "firmware", "backends", "boards", "integrations", "schema", "benchmarks", "examples")
NOTEBOOK = """
import torch, etexport
from gesture import example_inputs, model
built = etexport.build(model(), example_inputs(), board="host", samples=torch.rand(8, 1, 4), classes=("a", "b", "c"))
assert built.validate().comparison.samples == 8 and built.report.compare.mismatched == 0
assert built.run(torch.zeros(5, 4)).shape == (5, 3) and len(built.rows()) == 2
assert '_classes[] = {"a", "b", "c"}' in (built.folder / "program.h").read_text()
"""


def test_every_file_is_in_the_wheel(installed: Installed) -> None:
    wanted = {path for path in tracked() if path.parts[0] == "etexport"}
    wanted |= {Path("etexport/data") / path for path in tracked() if path.parts[0] in DATA}
    there = {path.relative_to(installed.site) for path in (installed.site / "etexport").rglob("*") if path.is_file()}
    assert not wanted - there
    extra = {path for path in there - wanted if path.suffix != ".pyc"}
    assert extra == {Path("etexport/data/LICENSE")}


def test_the_commands_of_the_page(installed: Installed, tmp_path: Path) -> None:
    """In order, in a folder with the page's script; then the words for a notebook, and every verb's help."""
    for name, text in files("install.md").items():
        (tmp_path / name).write_text(text)
    typed = [line for line in commands("install.md") if line.startswith("etexport ")]
    assert len(typed) == 6
    said = [installed.run("bash", "-c", line, cwd=tmp_path) for line in (*typed, 'cp -r "$(etexport --examples)" .')]
    assert "mine: all 20 samples agree with PyTorch, largest error " in said[3]
    header = (tmp_path / "lib/gesture/src/gesture.h").read_text()
    assert "float* motion()" in header and "float* last()" in header, "the names that other pages use"
    assert (tmp_path / "examples/own_project/SConstruct").is_file()
    assert (tmp_path / "mine/report.html").is_file()
    installed.run("python", "-c", NOTEBOOK, cwd=tmp_path)


def test_another_environment_is_not_looked_into(installed: Installed, tmp_path: Path) -> None:
    """The package that runs is the installed one, though the dependencies are those of the tests."""
    where = installed.run("python", "-c", "import etexport; print(etexport.__file__)", cwd=tmp_path)
    assert Path(where.strip()) == installed.site / "etexport/__init__.py"
