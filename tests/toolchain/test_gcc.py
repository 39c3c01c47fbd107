"""The build driver on every board: no warning anywhere, flags that are asked for, errors in our words."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from etexport.board import Board, board_names, firmware_defines, firmware_sources, load_board
from etexport.emit import emit
from etexport.errors import BuildError, ToolMissingError
from etexport.toolchain import gcc

EMIT = Path(__file__).parents[1] / "emit"


def _toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", EMIT / "toy.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("toy", importlib.util.module_from_spec(spec))
    if not hasattr(module, "placed"):
        spec.loader.exec_module(module)
    return module


toy = _toy()


def boards() -> list[object]:
    """`host` comes first."""
    found = []
    for name in sorted(board_names(), key=lambda name: name != "host"):
        compiler = f"{load_board(name).toolchain.prefix}g++"
        found.append(
            pytest.param(
                load_board(name), id=name, marks=pytest.mark.skipif(not shutil.which(compiler), reason=f"no {compiler}")
            )
        )
    return found


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("board", boards())
def test_no_warning_in_firmware_and_generated_code(tmp_path: Path, board: Board, optimize: str) -> None:
    emit((toy.placed(optimize),), board, toy.LIBRARY, program_hash=1, model_name="toy", out=tmp_path)
    for extra in ({}, {"probe_count": 5, "trace": True}):
        defines = firmware_defines(board, **extra)
        for source in _compiled(tmp_path, board, optimize):
            command = gcc.compile_command(board, source, tmp_path / "x.o", tmp_path, [toy.KERNELS], defines)
            done = subprocess.run([*command, "-Werror"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def _compiled(out: Path, board: Board, optimize: str) -> tuple[Path, ...]:
    """The firmware is the same for both."""
    return (out / "program.cpp", *((out / "binding.cpp", *firmware_sources(board)) if optimize == "speed" else ()))


@pytest.mark.parametrize("board", boards())
def test_a_whole_image_and_its_files(tmp_path: Path, board: Board) -> None:
    emit((toy.placed("size"),), board, toy.LIBRARY, program_hash=1, model_name="toy", out=tmp_path)
    made = gcc.build(tmp_path, board, [toy.KERNELS], sanitize="host" in board.features)
    assert all(path.stat().st_size for path in (made.elf, made.bin, made.hex, made.map))
    assert {path.stem for path in made.stack_usage} >= {"program", "main", "link"}
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("board", boards()[1:])
def test_volatile_stores_are_not_done_twice(tmp_path: Path, board: Board) -> None:
    """gcc 12.2 moves the stores out of the inner loop and repeats the last of them, unless it is told not to."""
    source = tmp_path / "twice.cpp"
    source.write_text(
        """
        #define R(n) (*reinterpret_cast<volatile unsigned*>(0x40004000UL + 4 * (n)))
        void send(const char* s) {
          static bool first = true;
          while (*s) { while (!(first || R(0))) {} first = false; R(1) = 0; R(2) = static_cast<unsigned>(*s++); }
        }
        """
    )
    listing = tmp_path / "twice.s"
    subprocess.run([gcc.tool(board, "g++"), *gcc.compile_flags(board), "-S", source, "-o", listing], check=True)
    assert len(re.findall(r"\b(?:str[bh]?|s[wbh])\b", listing.read_text())) == 3, "`first`, R(1) and R(2)"


def test_flags_are_asked_for() -> None:
    compiler = gcc.tool(load_board("host"), "g++")
    assert gcc.understands(compiler, "-fno-exceptions")
    assert not gcc.understands(compiler, "-fno-such-flag-anywhere")


def test_a_missing_compiler_names_the_package() -> None:
    host = load_board("host")
    board = replace(host, toolchain=replace(host.toolchain, prefix="no-such-", package="gcc-no-such"))
    with pytest.raises(ToolMissingError, match="no-such-g\\+\\+ is not installed") as caught:
        gcc.tool(board, "g++")
    assert "apt-get install gcc-no-such" in caught.value.hint


def test_a_compiler_error_says_what_and_with_which_command(tmp_path: Path) -> None:
    source = tmp_path / "bad.cpp"
    source.write_text("int f( { return 1; }\n")
    board = load_board("host")
    with pytest.raises(BuildError, match=r"bad.cpp:1:\d+: error:") as caught:
        gcc.run(gcc.compile_command(board, source, tmp_path / "bad.o", tmp_path, [], {}), board)
    assert "the command was: " in caught.value.hint


def test_the_recipe_of_the_link_stands_in_one_file() -> None:
    """SCons asks for it, by `etexport boards --json --build`."""
    package = Path(gcc.__file__).parents[1]
    flags = re.compile(r'"-Wl,|"-lm"|-Xassembler|"-T"|"ihex"|-O ihex')
    files = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if flags.search(path.read_text(encoding="utf-8"))
    }
    assert files == {"toolchain/gcc.py"}
