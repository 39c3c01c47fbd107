"""What a model's own project adds without a package: folders like our `kernels/`, passes, a file each, and folders of
delegates.

Beside a model script they are found by name; elsewhere they are named: `--kernels DIR`, `--passes DIR`, `--backends
DIR`. Loaded by the SCons tool as a file, without the package: only Python's own modules are imported here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Project:
    """`kernels` are folders that hold kernel folders, `backends` such that hold delegates; `passes` are files in the
    order in which they run."""

    kernels: tuple[Path, ...] = ()
    passes: tuple[Path, ...] = ()
    backends: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All that firmware is made of here."""
        inside = (file for folder in self.include for file in folder.glob("*/**/*") if file.is_file())
        return sorted({*(file for file in inside if "__pycache__" not in file.parts), *self.passes})

    @property
    def declarations(self) -> list[Path]:
        """What is read before the compiler."""
        return [file for file in self.files if file.suffix == ".py"]

    @property
    def include(self) -> tuple[Path, ...]:
        """The folders in which C++ finds headers."""
        return (*self.kernels, *self.backends)

    def relative_to(self, folder: Path) -> dict[str, tuple[str, ...]]:
        """What there is, by name, as paths from a folder, for a file in it."""
        found = {name: tuple(os.path.relpath(path, folder) for path in getattr(self, name)) for name in LISTS}
        return {name: paths for name, paths in found.items() if paths}


NOTHING = Project()
LISTS = tuple(field.name for field in fields(Project))


def at(folder: Path, lists: Mapping[str, Iterable[str]]) -> Project:
    """What `Project.relative_to(folder)` gave."""
    return Project(*(tuple(Path(os.path.normpath(folder / path)) for path in lists.get(name, ())) for name in LISTS))


def beside(script: Path) -> Project:
    """The `kernels/`, `passes/` and `backends/` in a script's folder; what holds no `*/op.py` is no folder of kernels,
    what holds no `*/backend.py` none of delegates, and ours are none of a project's."""
    folder = script.parent

    def there(name: str, pattern: str) -> tuple[Path, ...]:
        found, ours = folder / name, Path(__file__).resolve().parents[1] / name
        return (found,) if any(found.glob(pattern)) and found.resolve() != ours else ()

    return Project(there("kernels", "*/op.py"), passes_in(folder / "passes"), there("backends", "*/backend.py"))


def project_at(
    kernels: Iterable[str | Path] = (), passes: Iterable[str | Path] = (), backends: Iterable[str | Path] = ()
) -> Project:
    """Folders of kernels, folders or files of passes, and folders of delegates, that a person names."""
    found = tuple(file for path in passes for file in passes_in(Path(path)))
    return Project(tuple(map(Path, kernels)), found, tuple(map(Path, backends)))


def passes_in(path: Path) -> tuple[Path, ...]:
    """A file with a pass, or those of a folder by name; files whose names begin with `_` are for the others."""
    return (path,) if path.suffix == ".py" else tuple(sorted(path.glob("[!_]*.py")))


def joined(*projects: Project) -> Project:
    """Everything once, in order."""
    lists = ([path for one in projects for path in getattr(one, name)] for name in LISTS)
    return Project(*(tuple({path.resolve(): path for path in reversed(paths)}.values())[::-1] for paths in lists))
