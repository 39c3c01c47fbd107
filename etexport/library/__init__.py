"""A model as a folder for another build: sources, the kernels that they include, constants, and what other build systems ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from etexport import __version__
from etexport.artifacts.files import write_whole
from etexport.artifacts.memory import Symbol, read_memory
from etexport.board import Board
from etexport.resources import root
from etexport.toolchain import gcc

__all__ = ["library"]

_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_SPACE = re.compile(r"^namespace (\w+) \{$", re.MULTILINE)
_ROW = 24
"""Bytes in a line of the constants."""


@dataclass(frozen=True)
class Constant:
    """Bytes of flash, and every symbol that begins there; the first is the longest."""

    symbols: tuple[str, ...]
    content: bytes

    @property
    def rows(self) -> list[str]:
        content = self.content or b"\0"
        return [",".join(map(str, content[at : at + _ROW])) for at in range(0, len(content), _ROW)]


def library(generated: Path, board: Board, kernels: Sequence[Path], *, model: str, out: Path) -> list[Path]:
    """Write into the folder `out` what a C++ project needs of the program whose sources `etexport generate` left in `generated`.

    src/         the model, the kernels and headers that it includes, its constants as C
    examples/    a main() that calls it once
    the rest     manifests of Make, CMake (plain, Zephyr, ESP-IDF), PlatformIO and Arduino; README, licence, memory.json

    Nothing in it names this machine, and the same program gives the same bytes. `kernels` are the library's folders of kernels. Returns
    the paths. ModelError where `generated` is no such folder.
    """
    memory = read_memory(generated)
    header, program = ((generated / name).read_text("utf-8") for name in ("program.h", "program.cpp"))
    space = _SPACE.findall(header)[0]
    own = {f"src/{space}.h": header, f"src/{space}.cpp": _renamed(program, space)}
    included = {f"src/{name}": text for name, text in _closure(program, (root() / "firmware", *kernels)).items()}
    flags = [flag for flag in board.toolchain.flags if not flag.startswith("--specs=")] if "host" not in board.features else []
    facts = {
        "model": model,
        "space": space,
        "core": board.core,
        "version": __version__,
        "machine": flags,
        "language": [flag for flag in gcc.LANGUAGE if flag.startswith("-f") and flag not in _OURS],
        "wishes": list(gcc.WISHES),
        "arena": memory.arena.size,
        "flash": memory.constants.size,
        "inputs": memory.inputs,
        "outputs": memory.outputs,
        "program_hash": memory.program_hash,
        "constants": _constants(memory.constants.symbols, (generated / "constants.bin").read_bytes()),
        "names": _tensors(header),
    }
    made = {name.format(space=space): _render(template, facts) for template, name in _TEMPLATES.items()}
    copied = {"LICENSE": (root() / "LICENSE").read_text("utf-8"), "memory.json": (generated / "memory.json").read_text("utf-8")}
    texts = {**own, **included, **made, **copied}
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
    "platformio.py.j2": "platformio.py",
    "library.properties.j2": "library.properties",
    "module.yml.j2": "zephyr/module.yml",
    "README.md.j2": "README.md",
}


def _renamed(program: str, space: str) -> str:
    """The header has the model's name, so that two libraries can be on one path; the arena lies where every linker script has its .bss."""
    arena = (
        "// Stock linker scripts take .bss.* for memory without content, and leave it out of the image.\n"
        f'#define ET_ARENA __attribute__((section(".bss.{space}_arena")))\n'
    )
    assert program.count('#include "program.h"') == 1 and '#define ET_ARENA __attribute__((section(".arena")))\n' in program
    program = program.replace('#include "program.h"', f'#include "{space}.h"')
    return program.replace('#define ET_ARENA __attribute__((section(".arena")))\n', arena)


def _closure(program: str, folders: Sequence[Path]) -> dict[str, str]:
    """Every header that the program includes from these folders, and those that they include."""
    found: dict[str, str] = {}
    waiting = [name for name in _INCLUDE.findall(program) if name != "program.h"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            (file,) = [folder / name for folder in folders if (folder / name).is_file()][:1]
            found[name] = file.read_text("utf-8")
            waiting.extend(_INCLUDE.findall(found[name]))
    return found


def _constants(symbols: Iterable[Symbol], content: bytes) -> list[Constant]:
    by_offset: dict[int, list[tuple[int, str]]] = {}
    for symbol in symbols:
        by_offset.setdefault(symbol.offset, []).append((symbol.size, symbol.symbol))
    found = []
    for offset, group in sorted(by_offset.items()):
        group.sort(key=lambda one: (-one[0], one[1]))
        found.append(Constant(tuple(name for _, name in group), content[offset : offset + group[0][0]]))
    return found


def _tensors(header: str) -> dict[str, list[str]]:
    """The functions of the header that give inputs and outputs, by the namespace in which they are."""
    found: dict[str, list[str]] = {}
    for group in ("inputs", "outputs"):
        part = header.partition(f"\nnamespace {group} {{\n")[2].partition(f"\n}}  // namespace {group}\n")[0]
        found[group] = re.findall(r"^constexpr size_t (\w+)_elements = ", part, re.MULTILINE)
    return found


def _render(template: str, facts: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root() / "integrations"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(**facts)
