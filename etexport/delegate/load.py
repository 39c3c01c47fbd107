"""How the folders of delegates are found: `<name>/backend.py` with `BACKEND = Backend(...)`, in the folders that
installed packages name by the entry point group `etexport.backends`, and in those of a model's own project. Nothing
registers itself."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping

from etexport.backend import Backend
from etexport.errors import EtError, ModelError
from etexport.kernel.folders import as_packages, by_name, line_in, read
from etexport.project import NOTHING, Project
from etexport.resources import backend_folders

_PACKAGE = "etexport_backends"


@functools.cache
def load_backends(project: Project = NOTHING) -> Mapping[str, Backend]:
    """Every backend by the name of its folder. ModelError for a folder that cannot be read, and for two of one name or
    one id."""
    files = by_name(backend_folders(project), "backend.py")
    as_packages(_PACKAGE, files)
    found: dict[str, Backend] = {}
    ids: dict[str, str] = {}
    for name, path in files.items():
        backend = getattr(read(_PACKAGE, path, "the backend"), "BACKEND", None)
        if not isinstance(backend, Backend) or (backend.claim is None) != (backend.compile is None):
            what = "declares no BACKEND = Backend(...), with both of claim and compile or none"
            raise ModelError(what, where=str(path), hint="docs/delegates.md says what belongs there")
        if backend.id in ids:
            raise ModelError(f"{ids[backend.id]} has the same id {backend.id!r}", where=str(path))
        object.__setattr__(backend, "file", path)
        found[name], ids[backend.id] = backend, name
    return found


@contextlib.contextmanager
def told(backend: Backend, what: str) -> Iterator[None]:
    """What a backend's code raises is told as its own mistake, with the line in its folder where there is one."""
    try:
        yield
    except EtError:
        raise
    except Exception as error:
        said = f"{backend.family} {what}: {type(error).__name__}: {error}"
        raise ModelError(said, where=line_in(backend.file, error)) from None
