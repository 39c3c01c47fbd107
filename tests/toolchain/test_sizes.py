"""Every loadable byte and every byte of RAM of real ELFs is counted once, and for the right part."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from etexport.errors import BuildError
from etexport.toolchain.sizes import Part, Piece, read_map, sizes
from tests.toolchain.bare import CORES, M3, Built, Core, build, run

MAIN = """
void run();
extern const float weights[];
volatile float result; volatile int counts[25];
void handler_work() {}
void work() { run(); result = weights[3] + counts[2]; }
"""
PROGRAM = """
#include <math.h>
#include <stdint.h>
extern "C" __attribute__((section(".bss.et.net_arena"), aligned(16))) uint8_t arena[4096];
uint8_t arena[4096];
volatile float x, y;
__attribute__((noinline)) void kernel(float v) {
  static const float table[64] = {1.f, 2.f, 3.f};
  y = table[static_cast<int>(v) & 63] * expf(v) / 3.f;
}
void run() { arena[5] = 1; kernel(x); }
"""
CONSTANTS = "extern const float weights[500]; const float weights[500] = {1, 2, 3};\n"


@pytest.fixture(params=CORES, ids=lambda core: core.name)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    core: Core = request.param
    return build(tmp_path, core, MAIN, more={"program.cpp": PROGRAM, "constants.cpp": CONSTANTS})


def test_every_byte_once(built: Built) -> None:
    found = sizes(built.elf, built.map, built.objects)
    with built.elf.open("rb") as stream:
        file = ELFFile(stream)
        loadable = sum(segment["p_filesz"] for segment in file.iter_segments() if segment["p_type"] == "PT_LOAD")
        sections = {section.name: section["sh_size"] for section in file.iter_sections()}
    assert found.flash_total == loadable == sum(found.flash.values())
    assert found.arena == sections[".arena"] == 4096
    assert found.stack == sections[".stack"] == 8192
    assert (
        found.static_total
        == sum(found.static.values())
        == sections[".data"] + sections[".bss"] + sections.get(".tdata", 0)
    )


def test_each_part_has_its_own(built: Built) -> None:
    found = sizes(built.elf, built.map, built.objects)
    with built.elf.open("rb") as stream:
        file = ELFFile(stream)
        symbols = {symbol.name: symbol["st_size"] for symbol in file.get_section_by_name(".symtab").iter_symbols()}
    # The weights and the kernel's table, and at most the padding behind them and a constant or two.
    assert 2000 + 256 <= found.flash[Part.CONSTANTS] <= 2000 + 256 + 64
    kernel = symbols["_Z6kernelf"]
    assert kernel <= found.flash[Part.KERNELS] <= kernel + symbols["_Z3runv"] + 32
    assert found.flash[Part.LIBC] >= symbols["expf"]
    assert found.flash[Part.RUNTIME] >= symbols["begin"]
    assert 100 <= found.static[Part.RUNTIME] <= 140
    assert found.static[Part.KERNELS] + found.static[Part.CONSTANTS] >= 8


def test_a_table_of_steps_is_code(tmp_path: Path) -> None:
    """It is read-only data of the program, as tables of kernels are, but it stands for calls (OPTIMIZE=size)."""
    steps = """
extern const int steps[300];
__attribute__((section(".rodata.et_table"))) const int steps[300] = {1};
"""
    without = build(tmp_path / "without", M3, MAIN, more={"program.cpp": PROGRAM, "constants.cpp": CONSTANTS})
    other = PROGRAM.replace("arena[5] = 1;", "arena[5] = static_cast<uint8_t>(steps[static_cast<int>(x)]);")
    table = build(tmp_path / "table", M3, MAIN, more={"program.cpp": steps + other, "constants.cpp": CONSTANTS})
    one, two = (sizes(made.elf, made.map, made.objects).flash for made in (without, table))
    assert 1200 <= two[Part.KERNELS] - one[Part.KERNELS] <= 1200 + 64
    assert two[Part.CONSTANTS] == one[Part.CONSTANTS]


def test_more_weights_are_more_constants(tmp_path: Path) -> None:
    small = build(tmp_path / "small", M3, MAIN, more={"program.cpp": PROGRAM, "constants.cpp": CONSTANTS})
    large = build(
        tmp_path / "large", M3, MAIN, more={"program.cpp": PROGRAM, "constants.cpp": CONSTANTS.replace("500", "600")}
    )
    one, other = (sizes(made.elf, made.map, made.objects) for made in (small, large))
    assert [other.flash[part] - one.flash[part] for part in Part] == [
        400 if part is Part.CONSTANTS else 0 for part in Part
    ]
    assert other.static == one.static


def test_a_process_of_the_host(tmp_path: Path) -> None:
    """By its own linker script the arena is a part of .bss, and takes no room in the file."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    (tmp_path / "main.cpp").write_text(MAIN + "int main() { work(); }")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    (tmp_path / "constants.cpp").write_text(CONSTANTS)
    objects = ["main.o", "program.o", "constants.o"]
    for name in objects:
        run(["g++", "-O2", "-c", name.replace(".o", ".cpp"), "-o", name], tmp_path)
    run(["gcc", "-no-pie", "-Wl,-Map=fw.map", *objects, "-lm", "-o", "fw.elf"], tmp_path)
    found = sizes(tmp_path / "fw.elf", tmp_path / "fw.map", [tmp_path / name for name in objects])
    with (tmp_path / "fw.elf").open("rb") as stream:
        loadable = sum(
            segment["p_filesz"] for segment in ELFFile(stream).iter_segments() if segment["p_type"] == "PT_LOAD"
        )
    assert found.arena == 4096
    assert sum(found.flash.values()) == found.flash_total == loadable
    assert 2256 <= found.flash[Part.CONSTANTS] < 2400


def test_a_map_of_another_build_is_still_a_sum(tmp_path: Path) -> None:
    """Whatever the map says, the parts add up to the ELF: a wrong map cannot invent bytes."""
    made = build(tmp_path, M3, MAIN, more={"program.cpp": PROGRAM, "constants.cpp": CONSTANTS})
    whole = sizes(made.elf, made.map, made.objects)
    lines = made.map.read_text().splitlines()
    head = lines.index("Linker script and memory map")
    chance = random.Random(1)
    for _ in range(20):
        kept = [line for number, line in enumerate(lines) if number <= head + 60 or chance.random() < 0.7]
        made.map.write_text("\n".join(kept))
        found = sizes(made.elf, made.map, made.objects)
        assert sum(found.flash.values()) == whole.flash_total
        assert sum(found.static.values()) == whole.static_total


LONG = "_ZN2et17depthwise_3x3_rowILl2EEEvNS_5PlainIXT_EEERKNS_12Depthwise3x3EPfPKPKfS8_.isra.0"
MAP = f"""Archive member included to satisfy reference by file (symbol)

Discarded input sections

 .text.gone     0x00000000      0x40 obj/main.o

Memory Configuration

Linker script and memory map

LOAD obj/main.o

.text           0x00000000      0x100
                0x00000000                        __image_start = .
 *(.vectors .vectors.*)
 .vectors       0x00000000       0x40 obj/start.o
 *(.text .text.*)
 .text.{LONG}
                0x00000040       0x98 obj/program.o
                0x00000040                et::depthwise
 .text          0x000000d8        0xe /usr/lib/gcc/libgcc.a(_arm_mulsf3.o)
 *fill*         0x000000e6        0x2
 .text.a name   0x000000e8        0x4 my folder/obj/x.o

.rodata         0x00000100       0x10
 .rodata.str1.1
                0x00000100       0x10 obj/main.o
                                 0x1c (size before relaxing)
 .rodata.cst4   0x00000110        0x0 obj/main.o

.debug_info     0x00000000      0x500
 .debug_info    0x00000000      0x500 obj/main.o
"""


def test_lines_of_a_map() -> None:
    pieces = read_map(MAP)
    assert pieces[:3] == [
        Piece(0, 0x40, ".vectors", "obj/start.o", ".text"),
        Piece(0x40, 0x98, f".text.{LONG}", "obj/program.o", ".text"),
        Piece(0xD8, 0xE, ".text", "/usr/lib/gcc/libgcc.a(_arm_mulsf3.o)", ".text"),
    ]
    assert Piece(0x100, 0x10, ".rodata.str1.1", "obj/main.o", ".rodata") in pieces
    assert pieces[-1] == Piece(0, 0x500, ".debug_info", "obj/main.o", ".debug_info")
    assert not [piece for piece in pieces if piece.section.startswith(".text.gone")]


def test_what_is_no_map_and_no_elf(tmp_path: Path) -> None:
    made = build(tmp_path, M3, MAIN, more={"program.cpp": PROGRAM, "constants.cpp": CONSTANTS})
    empty = tmp_path / "empty"
    empty.write_text("")
    with pytest.raises(BuildError, match="map"):
        sizes(made.elf, empty, made.objects)
    with pytest.raises(BuildError, match="cannot be read"):
        sizes(empty, made.map, made.objects)
    with pytest.raises(BuildError, match="cannot be read"):
        sizes(replace(made, elf=tmp_path / "none").elf, made.map, made.objects)
