"""Builds the tiny program for a board, with the flags of the project and a linker script of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from etexport.board import Board, firmware_defines, firmware_sources
from etexport.resources import root

TINY = Path(__file__).parent / "tiny"
_FLAGS = (
    "-std=c++17", "-g", "-O2", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-ffunction-sections",
    "-fdata-sections", "-fno-move-loop-stores", "-Wall", "-Wextra", "-Wconversion", "-Werror",
)  # fmt: skip
_SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build_tiny(
    board: Board,
    out: Path,
    *,
    probes: bool = False,
    trace: bool = False,
    sanitize: bool = False,
    defines: Sequence[str] = (),
) -> Path:
    """The ELF of the tiny program in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    macros = [
        f"-D{name}={value}"
        for name, value in firmware_defines(board, probe_count=4 if probes else 0, trace=trace).items()
    ]
    macros += [f'-DTINY_BOARD="{board.name}"', *defines]
    flags = [
        *_FLAGS,
        *board.toolchain.flags,
        *(_SANITIZE if sanitize else ()),
        f"-I{root() / 'firmware'}",
        f"-I{TINY}",
        *macros,
    ]
    objects = []
    for index, source in enumerate((*firmware_sources(board), TINY / "program.cpp", TINY / "binding.cpp")):
        target = out / f"{index}_{source.stem}.o"
        _run([f"{board.toolchain.prefix}g++", *flags, "-c", str(source), "-o", str(target)])
        objects.append(str(target))
    elf = out / "firmware.elf"
    link = [
        f"{board.toolchain.prefix}gcc",
        *board.toolchain.flags,
        *board.toolchain.link_flags,
        *(_SANITIZE if sanitize else ()),
    ]
    if board.arch != "host":
        script = out / "link.ld"
        script.write_text(_link_script(board))
        link += ["-nostartfiles", "-T", str(script), "-Wl,--gc-sections", f"-Wl,-Map={out / 'firmware.map'}"]
    _run([*link, *objects, "-lm", "-o", str(elf)])
    return elf


def _link_script(board: Board) -> str:
    text = (TINY / "link.ld.in").read_text()
    for region in board.memory:
        text = text.replace(f"@{region.kind}_address@", hex(region.address)).replace(
            f"@{region.kind}_size@", hex(region.size)
        )
    return text.replace("@stack@", str(board.stack))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
