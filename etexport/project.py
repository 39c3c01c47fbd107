"""What a model's own project adds without a package: folders like our `kernels/`, and passes, a file each.

Beside a model script they are found by name; elsewhere they are named: `--kernels DIR`, `--passes DIR`. Loaded by the
SCons tool as a file, without the package: only Python's own modules are imported here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Project:
    """`kernels` are folders that hold kernel folders; `passes` are files in the order in which they run."""

    kernels: tuple[Path, ...] = ()
    passes: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All that firmware is made of here."""
        inside = (file for folder in self.kernels for file in folder.glob("*/*") if file.is_file())
        return sorted({*inside, *self.passes})

    @property
    def declarations(self) -> list[Path]:
        """What is read before the compiler."""
        return [file for file in self.files if file.suffix == ".py"]

    def relative_to(self, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Both lists as paths from a folder, for a file in it."""
        kernels, passes = ([os.path.relpath(path, folder) for path in paths] for paths in (self.kernels, self.passes))
        return tuple(kernels), tuple(passes)


NOTHING = Project()


def at(folder: Path, kernels: Iterable[str], passes: Iterable[str]) -> Project:
    """What `Project.relative_to(folder)` gave."""
    lists = (tuple(Path(os.path.normpath(folder / path)) for path in paths) for paths in (kernels, passes))
    return Project(*lists)


def beside(script: Path) -> Project:
    """The `kernels/` and the `passes/` in a script's folder; what holds no `*/op.py` is no folder of kernels, and ours
    is none of a project's."""
    folder = script.parent
    found = folder / "kernels"
    ours = Path(__file__).resolve().parents[1] / "kernels"
    has_kernels = any(found.glob("*/op.py")) and found.resolve() != ours
    return Project((found,) if has_kernels else (), passes_in(folder / "passes"))


def project_at(kernels: Iterable[str | Path], passes: Iterable[str | Path]) -> Project:
    """Folders of kernels, and folders or files of passes, that a person names."""
    return Project(tuple(map(Path, kernels)), tuple(file for path in passes for file in passes_in(Path(path))))


def passes_in(path: Path) -> tuple[Path, ...]:
    """A file with a pass, or those of a folder by name; files whose names begin with `_` are for the others."""
    return (path,) if path.suffix == ".py" else tuple(sorted(path.glob("[!_]*.py")))


def joined(*projects: Project) -> Project:
    """Everything once, in order."""
    lists = ([path for one in projects for path in getattr(one, name)] for name in ("kernels", "passes"))
    return Project(*(tuple({path.resolve(): path for path in reversed(paths)}.values())[::-1] for paths in lists))
