"""C that the calls of a model bring, for builds that know nothing of it: its files are included at the end of the
model's C, and find one another by where they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from etexport.artifacts.memory import Linked
from etexport.errors import ModelError
from etexport.sources import folder_of

_INCLUDE = re.compile(r'^(?P<word>[ \t]*#[ \t]*include[ \t]*)"(?P<name>[^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Foreign:
    """`texts` by name below src/; `files` of them are compiled, each with these `defines`."""

    texts: dict[str, str]
    files: tuple[str, ...]
    defines: tuple[tuple[str, str], ...]


def foreign(linked: Linked, folders: Sequence[Path]) -> Foreign:
    """What a kernel or delegate in one of the `folders` brings. ModelError for what C cannot include: other languages,
    and flags of the compiler but definitions and warnings."""
    family, sources = linked.family, linked.sources
    home = next(folder / family for folder in folders if (folder / family).is_dir())
    homes = [(home, family, sources.files, (".", *sources.include))]
    for package in sources.packages:
        homes.append((folder_of(package), f"{family}/{package.name}", package.files, package.include))
    compiled = [(folder / name) for folder, _, names, _ in homes for name in names]
    if others := [path.name for path in compiled if path.suffix != ".c"] + [
        flag for flag in sources.flags if not flag.startswith(("-D", "-W", "-w"))
    ]:
        what = f"{family} brings {', '.join(others)}, and a library has C without flags of its own"
        raise ModelError(what, where=str(home), hint="`etexport build` compiles it")
    places = [Path(os.path.normpath(folder / name)) for folder, _, _, names in homes for name in names]

    def called(path: Path) -> str:
        folder, at = next((folder, at) for folder, at, *_ in homes if path.is_relative_to(folder))
        name = f"{at}/{path.relative_to(folder).as_posix()}"
        return f"{name.removesuffix('.c')}.inc" if name.endswith(".c") else name  # which nobody compiles by itself

    texts: dict[str, str] = {}
    waiting = list(compiled)
    while waiting:
        path = waiting.pop()
        if (name := called(path)) in texts:
            continue

        def named(match: re.Match[str], path: Path = path, name: str = name) -> str:
            tried = (Path(os.path.normpath(place / match["name"])) for place in (path.parent, *places))
            found = next((one for one in tried if one.is_file()), None)
            if found is None:  # of a case that is not compiled
                return match[0]
            waiting.append(found)
            return f'{match["word"]}"{os.path.relpath(called(found), PurePosixPath(name).parent)}"'

        texts[name] = _INCLUDE.sub(named, path.read_text("utf-8", "replace"))
    for folder, at, *_ in homes[1:]:
        if (folder / "LICENSE").is_file():
            texts[f"{at}/LICENSE"] = (folder / "LICENSE").read_text("utf-8")
    defines = [flag[2:].partition("=") for flag in sources.flags if flag.startswith("-D")]
    return Foreign(texts, tuple(map(called, compiled)), tuple((name, said or "1") for name, _, said in defines))
