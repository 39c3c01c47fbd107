"""C and C++ that a kernel or a delegate brings beside its header, and the packages of others that it is in."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from etexport.errors import ToolMissingError


@dataclass(frozen=True)
class Package:
    """Files of a source package of PyPI. It is fetched by the first build that needs it, held against its SHA-256
    before anything else is done with it, and kept in `cache()`; paths are from its own folder."""

    name: str
    version: str
    sha256: str
    files: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """`files` (.c, .cpp, .S) and folders for `#include`, as paths in the folder of the kernel or delegate; `flags` of
    the compiler for these, behind those of the board. All calls of one folder are compiled together."""

    files: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    packages: tuple[Package, ...] = ()


def together(many: Iterable[Sources]) -> Sources:
    """All that calls of one folder name, once."""
    many = list(many)
    packages: dict[tuple[str, str, str], list[Package]] = {}
    for package in (package for one in many for package in one.packages):
        packages.setdefault((package.name, package.version, package.sha256), []).append(package)
    return Sources(
        _once(one.files for one in many),
        _once(one.include for one in many),
        _once(one.flags for one in many),
        tuple(
            replace(same[0], files=_once(one.files for one in same), include=_once(one.include for one in same))
            for _, same in sorted(packages.items())
        ),
    )


def _once(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for some in lists for one in some))


def cache() -> Path:
    """Where packages are kept: `etexport/` in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etexport"


def folder_of(package: Package) -> Path:
    """The folder of a package's files, fetched if need be. ToolMissingError where it cannot be, or is another one."""
    called = f"{package.name}-{package.version}"
    folder = cache() / f"{called}-{package.sha256[:16]}" / called
    if folder.is_dir():
        return folder
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent.parent) as aside:
        wanted, unpacked = Path(aside) / "wanted.txt", Path(aside) / "unpacked"
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        # not in an environment of its own, for which pip would fetch what the package is built with
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--no-binary", ":all:", "--dest", aside, "--requirement", str(wanted)]
        print(f"fetching the sources of {package.name} {package.version}", flush=True)
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        archive = next(Path(aside).glob("*.tar.gz"), None)
        if done.returncode != 0 or archive is None:
            raise _not_fetched(package, done.stderr)
        with tarfile.open(archive) as files:
            files.extractall(unpacked, filter="data")
        if not folder.parent.is_dir():  # by another build, meanwhile
            unpacked.rename(folder.parent)
    return folder


def _not_fetched(package: Package, said: str) -> ToolMissingError:
    lines = [line.strip() for line in said.splitlines() if "ERROR" in line or "HASH" in line.upper()]
    return ToolMissingError(
        f"the sources of {package.name} {package.version} cannot be fetched: {lines[0] if lines else 'pip is silent'}",
        where="pip download",
        hint=f"they are fetched once, and need pip, setuptools and its index; then they are kept in {cache()}",
    )
