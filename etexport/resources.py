"""Where the files beside the Python code are (kernels, firmware, boards, schema), and what installed packages add to
them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from etexport.errors import ModelError, PackageError
from etexport.project import NOTHING, Project


def root() -> Path:
    """The folder that holds `kernels/`, `firmware/`, `boards/` and `schema/`: the repository, or the installed
    package's `data/`."""
    here = Path(__file__).parent
    return here / "data" if (here / "data").is_dir() else here.parent


def kernel_folders(project: Project = NOTHING) -> tuple[Path, ...]:
    """Our own `kernels/`, those of installed packages, by entry point name, then the project's. ModelError where one of
    these holds none."""
    _check_folders(project.kernels, "op.py", "a folder of kernels", "docs/kernels.md")
    return (root() / "kernels", *installed_folders("etexport.kernels", "*/op.py"), *project.kernels)


def backend_folders(project: Project = NOTHING) -> tuple[Path, ...]:
    """Our own `backends/`, those of installed packages, by entry point name, then the project's. ModelError where one
    of these holds none."""
    _check_folders(project.backends, "backend.py", "a folder of delegates", "docs/delegates.md")
    return (root() / "backends", *installed_folders("etexport.backends", "*/backend.py"), *project.backends)


def _check_folders(folders: Sequence[Path], file: str, kind: str, page: str) -> None:
    for folder in folders:
        if not any(folder.glob(f"*/{file}")):
            hint = f"{kind} has a folder with {file} for each: {page}"
            what = f"holds no */{file}" if folder.is_dir() else "no such folder"
            raise ModelError(what, where=str(folder), hint=hint)


def include_folders(project: Project = NOTHING) -> tuple[Path, ...]:
    """Where C++ finds the headers of kernels and delegates."""
    return (*kernel_folders(project), *backend_folders(project))


def board_folders() -> tuple[Path, ...]:
    """Our own `boards/`, then those of installed packages, by entry point name."""
    return (root() / "boards", *installed_folders("etexport.boards", "*.toml"))


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """What is imported while the block lasts leaves no bytecode beside itself: the folder is somebody's project."""
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = kept


@functools.cache
def declared(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, sorted by name; found once, for what is installed does not change while a process
    runs. PackageError where two packages give one name: the order would be chance."""
    found = sorted(set(entry_points(group=group)), key=lambda entry: (entry.name, entry.value))
    for one, other in itertools.pairwise(found):
        if one.name == other.name:
            raise PackageError(
                f"two packages give the name {one.name!r}: {package(one)} ({one.value}) and {package(other)} "
                f"({other.value})",
                where=group,
                hint="rename one of the entry points, or uninstall a package",
            )
    return tuple(found)


def package(entry: EntryPoint) -> str:
    """The distribution that declares an entry point, as people know it."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "a package"


def load(entry: EntryPoint) -> object:
    """What an entry point names. PackageError where it cannot be imported, whatever the reason."""
    try:
        found: object = entry.load()
    except (Exception, SystemExit) as error:
        raise refused(entry, f"cannot be imported: {type(error).__name__}: {error}") from None
    return found


def refused(entry: EntryPoint, what: str) -> PackageError:
    """The error that names an entry point and its package."""
    hint = f"mend or uninstall {package(entry)}; `etexport doctor` lists what is installed"
    return PackageError(f"{entry.value} {what}", where=f"{package(entry)}, {entry.group} {entry.name!r}", hint=hint)


def installed_folders(group: str, pattern: str) -> tuple[Path, ...]:
    """The folders of the modules or packages that a group names. PackageError where one holds no file that fits the
    pattern."""
    folders = []
    for entry in declared(group):
        module = load(entry)
        places = [*getattr(module, "__path__", ()), *filter(None, [getattr(module, "__file__", None)])]
        if not places:
            raise refused(
                entry, f"is a {type(module).__name__}; a module or package belongs there, whose folder holds {pattern}"
            )
        folder = Path(places[0]) if hasattr(module, "__path__") else Path(places[0]).parent
        if not any(folder.glob(pattern)):
            raise refused(entry, f"holds no {pattern}: {folder}")
        folders.append(folder)
    return tuple(folders)
