"""What a step depends on follows from what its verb imports: read here from the syntax tree, where the tool reads it by
pattern."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBS = ("export", "generate", "size", "run", "furthest", "validate", "report", "bench", "reference")

ASK = """
import sys
from SCons.Environment import Environment
from etexport.scons import et
for verb in sys.argv[1:]:
    (node,) = [et._verb(Environment(tools=[]), verb)]
    print(verb, *(child.get_abspath() for child in node.children()))
"""


@pytest.fixture(scope="module")
def depends() -> dict[str, set[Path]]:
    done = subprocess.run([sys.executable, "-c", ASK, *VERBS], cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.split()[0]: set(map(Path, line.split()[1:])) for line in done.stdout.splitlines()}


def imported(path: Path) -> set[Path]:
    """The files of etexport that a file imports, wherever in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for parts in (name.split(".") for name in names if name.partition(".")[0] == "etexport"):
            places = [ROOT.joinpath(*parts[: at + 1]) for at in range(len(parts))]
            found |= {
                file for place in places for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()
            }
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_depends_on_all_that_its_verb_imports(verb: str, depends: dict[str, set[Path]]) -> None:
    found = {path for path in depends[verb] if path.suffix == ".py"}
    start = {
        ROOT / "etexport" / "__main__.py",
        ROOT / "etexport" / "__init__.py",
        ROOT / "etexport" / "cli" / "__init__.py",
    }
    wanted = {*start, ROOT / "etexport" / "cli" / f"{verb}.py"}
    while more := set().union(*map(imported, wanted)) - wanted:
        wanted |= more
        if ROOT / "etexport" / "kernel" / "library.py" in more:
            wanted |= {*ROOT.glob("kernels/*/*.py"), *ROOT.glob("backends/*/*.py")}
    assert found == wanted, (sorted(wanted - found), sorted(found - wanted))


def test_operators_templates_and_figures_belong_to_those_who_ask_for_them(depends: dict[str, set[Path]]) -> None:
    operators = {
        verb for verb, paths in depends.items() if ROOT / "kernels" / "convolution" / "quantized_packing.py" in paths
    }
    assert operators == {"export", "generate", "furthest", "validate", "report", "bench", "reference"}, (
        "a run is the image's alone"
    )
    assert {verb for verb, paths in depends.items() if any(path.name == "program.cpp.j2" for path in paths)} == {
        "generate",
        "reference",
    }
    assert {verb for verb, paths in depends.items() if any(path.name == "peers.toml" for path in paths)} >= {
        "report",
        "bench",
    }
    assert not any(path.name == "peers.toml" for path in depends["export"] | depends["generate"] | depends["run"])


ASK_LOADED = """
import sys
from etexport.__main__ import main
code = main(sys.argv[1:])
files = [getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("etexport")]
print(*filter(None, files), sep="\\n")
sys.exit(code)
"""


def test_what_runs_was_depended_on(depends: dict[str, set[Path]], tmp_path: Path) -> None:
    """The modules that Python has loaded at the end of a verb, whatever a reader of imports might miss."""
    program = str(tmp_path / "linear.pte")
    verbs = {
        "export": [str(ROOT / "examples" / "linear" / "model.py"), "-o", program],
        "generate": [program, "--board", "host", "-o", str(tmp_path / "out")],
    }
    for verb, arguments in verbs.items():
        done = subprocess.run(
            [sys.executable, "-c", ASK_LOADED, verb, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        loaded = {
            Path(line) for line in done.stdout.splitlines() if line.startswith(str(ROOT)) and line.endswith(".py")
        }
        assert len(loaded) > 50 and loaded <= depends[verb], sorted(loaded - depends[verb])
