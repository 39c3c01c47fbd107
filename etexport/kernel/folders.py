"""The Python files of folders that others may add to (kernels, delegates): each folder a package of its own, and what
goes wrong in one told with its line."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from etexport.errors import ModelError
from etexport.resources import leaving_nothing, root


def by_name(folders: Iterable[Path], file: str) -> dict[str, Path]:
    """The `<name>/<file>` in these folders. ModelError for two of one name: the headers of one would be found in place
    of the other's."""
    found: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(f"*/{file}"))):
        other = found.setdefault(path.parent.name, path)
        if other != path:
            hint = "give the folder a name of its own"
            raise ModelError(f"{other.parent} has the same name", where=str(path.parent), hint=hint)
    return found


def as_packages(package: str, files: Mapping[str, Path]) -> None:
    """Make `<package>.<name>` of the folder of each file, so that its modules find one another; what was loaded under
    the package from other folders is forgotten."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    for name, folders in {
        package: [],
        **{f"{package}.{family}": [str(path.parent)] for family, path in files.items()},
    }.items():
        module = ModuleType(name)
        module.__path__ = folders
        sys.modules[name] = module


def read(package: str, path: Path, what: str) -> ModuleType:
    """The module in a file of one of the package's folders. ModelError where it cannot be read: `what` it holds."""
    quietly = contextlib.nullcontext() if path.is_relative_to(root()) else leaving_nothing()
    try:
        with quietly:
            return importlib.import_module(f"{package}.{path.parent.name}.{path.stem}")
    except Exception as error:
        said = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
        raise ModelError(f"{what} cannot be read: {said}", where=line_in(path, error)) from None


def line_in(path: Path, error: Exception) -> str:
    """The innermost line of the files in this one's folder at which it happened."""
    frames = [(error.filename, error.lineno)] if isinstance(error, SyntaxError) else []
    frames += [(frame.filename, frame.lineno) for frame in reversed(traceback.extract_tb(error.__traceback__))]
    folder = path.parent.resolve()
    inside = ((Path(file), at) for file, at in frames if file and Path(file).is_relative_to(folder))
    return next((f"{path.parent / file.relative_to(folder)}:{at}" for file, at in inside), str(path))
