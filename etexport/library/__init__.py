"""A model as a folder for another build: sources, the kernels that they include, constants, and what other build
systems ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2

from etexport import __version__
from etexport.artifacts.files import write_whole
from etexport.board import Board
from etexport.emit import explained, modelled, sources
from etexport.emit.cpp import inside
from etexport.emit.memory_map import linked
from etexport.kernel.library import Library
from etexport.library.foreign import foreign
from etexport.resources import root
from etexport.specialise.model import Placed
from etexport.toolchain import gcc

__all__ = ["library"]

_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_ROW = 24
"""Bytes in a line of the constants."""


def library(
    methods: Sequence[Placed],
    board: Board,
    kernels: Library,
    *,
    model_name: str,
    program_hash: int,
    out: Path,
    between: bool = False,
    arena: str = "",
) -> list[Path]:
    """Write into the folder `out` what a C++ project needs of a placed program.

    src/         the model, the kernels and headers that it includes, its constants as C
    examples/    a main() that calls it once
    the rest     manifests of Make, CMake (plain, Zephyr, ESP-IDF), PlatformIO and Arduino; README, licence, memory.json

    With `between`, run() calls a function of the firmware before each step. `arena` is the model whose arena this one
    shares, if it does.

    Nothing in it names this machine, and the same program gives the same bytes. Returns the paths.
    """
    model = modelled(methods, kernels, model_name=model_name, program_hash=program_hash, between=between, arena=arena)
    space = model.space
    facts = {
        "model": model,
        "space": space,
        "core": board.core,
        "version": __version__,
        "machine": [flag for flag in board.toolchain.flags if not flag.startswith("--specs=")]
        if "host" not in board.features
        else [],
        "language": [flag for flag in gcc.LANGUAGE if flag.startswith("-f") and flag not in _OURS],
    }
    brought = [foreign(one, kernels.include_dirs) for one in linked(methods, kernels)]
    facts["foreign"] = brought
    alone = tuple(flag.removeprefix("-f") for flag in gcc.WISHES)
    code = {
        **_closure(model.headers, (root() / "firmware", *kernels.include_dirs)),
        **sources(model, space, alone=alone),
    }
    for one in brought:
        code |= one.texts
    texts = {
        **{f"src/{name}": text for name, text in code.items()},
        **{name.format(space=space): _render(template, facts) for template, name in _TEMPLATES.items()},
        "LICENSE": (root() / "LICENSE").read_text("utf-8"),
        "memory.json": explained(model, kernels, board, out),
    }
    for name, text in texts.items():
        if name != README and not ((out / name).is_file() and (out / name).read_bytes() == text.encode()):
            write_whole(out / name, text.encode())
    write_whole(out / README, texts[README].encode())
    return sorted(out / name for name in texts)


README = "README.md"
"""Written last and each time, so that a build knows by it when the folder was made; of the others only what changed."""


_OURS = ("-ffunction-sections", "-fdata-sections", "-fstack-usage", "-fno-asynchronous-unwind-tables")
"""What our own firmware is compiled with beside what the code needs; who builds decides."""

_TEMPLATES = {
    "constants.c.j2": "src/{space}_constants.c",
    "main.cpp.j2": "examples/once/main.cpp",
    "CMakeLists.txt.j2": "CMakeLists.txt",
    "library.mk.j2": "{space}.mk",
    "library.json.j2": "library.json",
    "library.properties.j2": "library.properties",
    "module.yml.j2": "zephyr/module.yml",
    "README.md.j2": "README.md",
}


def _closure(included: Iterable[str], folders: Sequence[Path]) -> dict[str, str]:
    """These headers from the first folder that has each, and those that they include."""
    found: dict[str, str] = {}
    waiting = list(included)
    while waiting:
        name = waiting.pop()
        if name not in found:
            (file,) = [folder / name for folder in folders if (folder / name).is_file()][:1]
            found[name] = file.read_text("utf-8")
            waiting.extend(_INCLUDE.findall(found[name]))
    return found


def _rows(content: bytes) -> list[str]:
    """The bytes as lines of an initializer, which C does not allow to be empty."""
    content = content or b"\0"
    return [",".join(map(str, content[at : at + _ROW])) for at in range(0, len(content), _ROW)]


def _render(template: str, facts: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root() / "integrations"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"rows": _rows, "inside": inside}
    return environment.get_template(template).render(**facts)
