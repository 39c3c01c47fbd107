"""The statements as numbers: a table of bytes written from them is the one that the compiler makes of the generated
text."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(Path(__file__).parent))  # toy.py

import toy

from etexport.board import Board
from etexport.emit import Model, modelled
from etexport.emit.code import InFlash, InRam
from etexport.emit.geometry import Instance, Object, Struct
from etexport.emit.table import Word
from tests.emit.test_link import BOARDS, image, symbols


def instance_bytes(struct_: Struct, instance: Instance) -> bytes:
    """As C lays it out: every field at a multiple of its size."""
    content, align = b"", 1
    for field, member in zip(struct_.fields, instance.fields, strict=True):
        content += bytes(-len(content) % field.type.itemsize) + member.content
        align = max(align, field.type.itemsize)
    return content + bytes(-len(content) % align)


def symbol(of: dict[str, int], name: str) -> int:
    """Where the symbol lies, also one in a namespace, whose name C++ mangles."""
    (found,) = {place for own, place in of.items() if own == name or own.endswith(f"{len(name)}{name}E")}
    return found


def address(word: Word, model: Model, of: dict[str, int]) -> int:
    if isinstance(word, InRam):
        return symbol(of, model.code.arenas[word.place.region].symbol) + word.place.offset
    if isinstance(word, InFlash):
        first = model.flash.constants[0]
        return symbol(of, first.symbol) - first.offset + word.offset
    if isinstance(word, Object):
        return symbol(of, word.instance)
    assert word is None
    return 0


@pytest.mark.parametrize("board", BOARDS)
def test_the_table_of_an_image_is_the_statements_in_bytes(board: Board, tmp_path: Path) -> None:
    made = image(tmp_path, board, "size")
    model = modelled((toy.placed("size"),), toy.LIBRARY, model_name="toy", program_hash=1)
    assert model.table is not None
    with made.elf.open("rb") as stream:
        elf = ELFFile(stream)
        of, rodata = symbols(elf), elf.get_section_by_name(".rodata")

        def stored(name: str, size: int) -> bytes:
            return bytes(rodata.data()[symbol(of, name) - rodata["sh_addr"] :][:size])

        assert stored("kCalls", len(model.table.entries)) == bytes(entry.case for entry in model.table.entries)
        words = [address(word, model, of) for entry in model.table.entries for word in entry.words]
        assert len(words) == model.table.words > 10
        assert stored("kOperands", 4 * len(words)) == struct.pack(f"<{len(words)}I", *words)
        types = {one.name: one for one in model.geometry.structs}
        assert len(model.geometry.instances) == 2
        for one in model.geometry.instances:
            content = instance_bytes(types[one.type], one)
            assert stored(one.name, len(content)) == content
