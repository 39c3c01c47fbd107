"""The shape of the repository: few entries at the top, no drawers for odds and ends, no paths or hosts of one
machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_ROOT_ENTRIES = 22
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "misc"}
CODE_ENDINGS = {".py", ".h", ".cpp", ".S", ".toml", ".j2", ".fbs", ".md", ""}


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("only git knows which files are the project's: no git here, or not a clone")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [Path(name) for name in listing.stdout.decode().split("\0") if name and (ROOT / name).exists()]


def test_few_entries_at_the_top() -> None:
    top = sorted({path.parts[0] for path in tracked()})
    assert len(top) <= MAX_ROOT_ENTRIES, top


def test_no_drawers_for_odds_and_ends() -> None:
    found = [
        str(path) for path in tracked() if FORBIDDEN & {part.removesuffix(path.suffix).lower() for part in path.parts}
    ]
    assert not found, found


def test_no_machine_of_ours_in_any_file() -> None:
    # Pieced together, so that this file does not find itself.
    places = [re.compile(rb"(?<![\w.])/" + word + rb"/\w") for word in (b"work", b"root", b"home")]
    hosts = re.compile(b"|".join([rb"py" + rb"pi\.org", rb"files\.python" + rb"hosted"]))
    found = []
    for path in tracked():
        if path.suffix not in CODE_ENDINGS or not (ROOT / path).is_file():
            continue
        for number, line in enumerate((ROOT / path).read_bytes().splitlines(), 1):
            if any(place.search(line) for place in places) or hosts.search(line):
                found.append(f"{path}:{number}: {line.decode(errors='replace').strip()[:100]}")
    assert not found, "\n".join(found)


def test_tests_mirror_the_package() -> None:
    rooms = {path.name for path in (ROOT / "etexport").iterdir() if (path / "__init__.py").is_file()} - {"cli", "scons"}
    missing = sorted(room for room in rooms if not list((ROOT / "tests" / room).glob("test_*.py")))
    assert not missing, f"no tests for {missing}"


def test_sconstruct_is_short() -> None:
    assert len((ROOT / "SConstruct").read_text(encoding="utf-8").splitlines()) < 40


def test_the_changelog_has_no_measurements() -> None:
    """They belong to the docs, beside the commands that give them: here nobody would measure again."""
    measured = re.compile(r"->\s*\d|\d,\d{3} (?:bytes|instructions)|\d dB [^w]|\d %|\d times (?:fewer|less|as)")
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if measured.search(line)]
