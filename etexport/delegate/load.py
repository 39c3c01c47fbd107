"""How the folders of delegates are found: `<name>/backend.py` with `BACKEND = Backend(...)`, in the folders that
installed packages name by the entry point group `etexport.backends`. Nothing registers itself."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from etexport.backend import Backend
from etexport.errors import EtError, ModelError
from etexport.resources import backend_folders

_PACKAGE = "etexport_backends"


@functools.cache
def load_backends() -> Mapping[str, Backend]:
    """Every backend by the name of its folder. ModelError for a folder that cannot be read, and for two of one name or
    one id."""
    found: dict[str, Backend] = {}
    ids: dict[str, str] = {}
    for path in (path for folder in backend_folders() for path in sorted(folder.glob("*/backend.py"))):
        name = path.parent.name
        with told(path.parent, "the backend cannot be read"):
            backend = getattr(_module(name, path), "BACKEND", None)
        if not isinstance(backend, Backend) or (backend.claim is None) != (backend.compile is None):
            what = "declares no BACKEND = Backend(...), with both of claim and compile or none"
            raise ModelError(what, where=str(path), hint="docs/delegates.md says what belongs there")
        if name in found or backend.id in ids:
            other = name if name in found else ids[backend.id]
            raise ModelError(f"{other} has the same name, or the same id {backend.id!r}", where=str(path))
        object.__setattr__(backend, "family", name)
        found[name], ids[backend.id] = backend, name
    return found


def _module(name: str, path: Path) -> ModuleType:
    """The package `etexport_backends.<name>.backend`, so that the modules of a folder find one another."""
    for package, folders in ((_PACKAGE, []), (f"{_PACKAGE}.{name}", [str(path.parent)])):
        if package not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = folders
    return importlib.import_module(f"{_PACKAGE}.{name}.backend")


@contextlib.contextmanager
def told(folder: Path | str, what: str) -> Iterator[None]:
    """What a backend's code raises is told as its own mistake, with the line in its folder where there is one."""
    try:
        yield
    except EtError:
        raise
    except Exception as error:
        frames = [(frame.filename, frame.lineno) for frame in reversed(traceback.extract_tb(error.__traceback__))]
        frames += [(error.filename, error.lineno)] if isinstance(error, SyntaxError) and error.filename else []
        where = next((f"{file}:{line}" for file, line in frames if Path(file).parent.name == Path(folder).name), "")
        raise ModelError(f"{what}: {type(error).__name__}: {error}", where=where or str(folder)) from None
