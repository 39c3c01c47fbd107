"""What the generated linker script makes of an image, on both bare-metal toolchains."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(Path(__file__).parent))  # toy.py

import toy

from etexport.board import Board
from etexport.emit import emit
from etexport.errors import BuildError, PlanError
from etexport.toolchain import gcc

HERE = Path(__file__).parent
BOARDS = [
    pytest.param(
        board,
        marks=pytest.mark.skipif(not shutil.which(f"{board.toolchain.prefix}gcc"), reason="no compiler"),
        id=board.name,
    )
    for board in (toy.ARM, toy.RISCV)
]


def image(folder: Path, board: Board, optimize: str = "speed") -> gcc.Artifacts:
    """An image of the toy program with start.cpp in place of the firmware."""
    emit((toy.placed(optimize),), board, toy.LIBRARY, program_hash=1, model_name="toy", out=folder)
    objects = []
    for source in (folder / "program.cpp", folder / "constants.S", HERE / "start.cpp"):
        objects.append(folder / f"{source.stem}.o")
        gcc.run(gcc.compile_command(board, source, objects[-1], folder, [toy.KERNELS], {}), board)
    return gcc.link(folder, board, objects, script_dir=folder)


def symbols(elf: ELFFile) -> dict[str, int]:
    return {symbol.name: symbol["st_value"] for symbol in elf.get_section_by_name(".symtab").iter_symbols()}


@pytest.mark.parametrize("board", BOARDS)
def test_sections_and_symbols_are_the_plan(tmp_path: Path, board: Board) -> None:
    made = image(tmp_path, board)
    with made.elf.open("rb") as file:
        elf = ELFFile(file)
        at = symbols(elf)
        flash, ram = board.memory
        assert at["__image_start"] == flash.address
        assert at["__stack_bottom"] == ram.address and at["__stack_top"] - at["__stack_bottom"] == board.stack
        assert at["__arena_end"] - at["__arena_start"] == 128 and at["__arena_start"] % 16 == 0
        for name in (".arena", ".bss", ".stack"):
            assert elf.get_section_by_name(name)["sh_type"] == "SHT_NOBITS", f"{name} takes room in the file"
        assert flash.address < at["__data_load"] < at["__image_end"]
        assert at["toy_fc_weight"] % 16 == 0 and at["__image_start"] < at["toy_fc_weight"] < at["__data_load"]
        loaded = sum(segment["p_filesz"] for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD")
        size = at["__image_end"] - at["__image_start"]
        assert made.bin.stat().st_size == size, "the firmware's CRC would cover something else than the image"
        assert loaded == size
    assert toy.FC.tobytes() in made.bin.read_bytes()


@pytest.mark.parametrize("board", BOARDS)
def test_a_full_memory_is_told_in_bytes_of_the_board(tmp_path: Path, board: Board) -> None:
    flash, ram = board.memory
    with pytest.raises(PlanError, match=r"ram has 4,096 bytes and needs \d+ more"):
        image(tmp_path, replace(board, memory=(flash, replace(ram, size=4096))))


def test_constants_beyond_the_flash_are_told_before_anything_is_compiled(tmp_path: Path) -> None:
    flash, ram = toy.ARM.memory
    board = replace(toy.ARM, memory=(replace(flash, size=64), ram))
    with pytest.raises(PlanError, match=r"constants take [0-9,]+ bytes of flash, the board has 64") as caught:
        emit((toy.placed(),), board, toy.LIBRARY, program_hash=1, model_name="toy", out=tmp_path)
    assert "toy_fc_weight" in caught.value.hint and not list(tmp_path.iterdir())


@pytest.mark.parametrize("board", BOARDS)
def test_an_arena_of_another_size_does_not_link(tmp_path: Path, board: Board) -> None:
    image(tmp_path, board)
    script = tmp_path / "link.ld"
    script.write_text(script.read_text().replace("== 128", "== 144"))
    objects = [tmp_path / f"{name}.o" for name in ("program", "constants", "start")]
    with pytest.raises(BuildError, match="the arena is not the 128 bytes"):
        gcc.link(tmp_path, board, objects, script_dir=tmp_path)


@pytest.mark.parametrize("board", BOARDS)
def test_two_folders_give_the_same_bytes(tmp_path: Path, board: Board) -> None:
    one, two = (image(tmp_path / name, board) for name in ("one", "another"))
    for name in ("elf", "bin", "hex", "map"):
        assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes(), name
    assert str(tmp_path).encode() not in one.elf.read_bytes()
