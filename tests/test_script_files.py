"""What a model script is made of, as SCons, Make and CMake learn it; Make itself reads the rule."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from etexport.script_files import depfile, local_files


def test_imports_files_and_settings(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    texts = {
        "net.py": "import torch, json\nfrom parts import conv\nfrom parts.pool import *\nWEIGHTS = 'w.pt'\n",
        "parts/__init__.py": "", "parts/conv.py": "import shared\n", "parts/pool.py": "import net\n",
        "shared.py": "NAME = 'gone.pt'\n", "other.py": "", "w.pt": "", "net.quantize.toml": "",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = [str(path.relative_to(tmp_path)) for path in local_files(tmp_path / "net.py", tmp_path)]
    assert found == ["net.quantize.toml", "parts/__init__.py", "parts/conv.py", "parts/pool.py", "shared.py", "w.pt"]


def test_make_reads_the_rule(tmp_path: Path) -> None:
    """Names with a blank, a dollar and a hash; a file that was removed is no error, and makes the target anew."""
    needed = [tmp_path / name for name in ("a b.py", "c$d.py", "e#f.py")]
    target = tmp_path / "model.pte"
    for path in (*needed, target):
        path.write_text("")
    (tmp_path / "made.d").write_text(depfile([target], needed))
    (tmp_path / "Makefile").write_text(f"{target}:\n\t@echo again\n\ninclude made.d\n")

    def make() -> str:
        done = subprocess.run(["make", str(target)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stamp(path: Path, time: int) -> None:
        os.utime(path, (time, time))

    for path in needed:
        stamp(path, 1)
    stamp(target, 2)
    assert "up to date" in make()
    for path in needed:
        stamp(path, 3)
        assert "again" in make()
        stamp(path, 1)
    needed[1].unlink()
    assert "again" in make()
