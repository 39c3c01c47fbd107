"""Names that nobody chose for a compiler: legal code that says them and does nothing else, and two models in one
firmware."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.board import load_board, parse_board
from etexport.device import launch
from etexport.emit.names import LONGEST, comment, identifier, quoted, unique
from etexport.errors import BoardError, BuildError, ModelError
from etexport.program.model import DType, Instruction, Method, Program, Ref, Role, TensorSpec, Value
from etexport.program.pte import write
from etexport.resources import kernel_folders, root
from etexport.stages.generate import generate
from etexport.toolchain import gcc

ODD = (
    "model", 'x"; int evil = __builtin_trap(), y = "', "sp ace", "quo'te", "a*/b/*c", "$(touch PWNED)", "per%cent %s%n",
    "日本", "tab\there", "a\\", "sin", "what??/", "9lives", "中国", "float", "new\nline", "index", "et", "größe", "grüße",  # noqa: E501
    "\u202eback", "n" * 300, "n" * 301, "#if 0", "", "__", "1 2",
)  # fmt: skip

MAIN = """
#include <stdio.h>
{includes}
int main() {{
{calls}
}}
"""


def test_every_name_gives_an_identifier_of_its_own() -> None:
    found = [identifier(name) for name in ODD]
    assert len(set(found)) == len(ODD) and all(
        len(one) < LONGEST + 12 and one.isascii() and one.isidentifier() for one in found
    )
    assert [identifier(name) for name in ("fc_weight", "x.1", "9-to-5")] == ["fc_weight", "x_1", "n9_to_5"], (
        "plain ones stay as they are"
    )
    assert not {"float", "sin", "et", "index"} & set(found)


def test_text_is_a_literal_or_a_remark() -> None:
    assert quoted('a"b\\n??/é\n') == '"a\\042b\\134n\\077\\077/\\303\\251\\012"'
    assert comment("a\nb */ c \\") == "a b * / c \\ ."


def program() -> Program:
    """A sum with a table, a relu and a product; names that meet in program.h, and one that would hide a constant."""
    spec = TensorSpec(DType.FLOAT32, (2, 3))
    table = Value(3, "x_sizes", spec, Role.CONSTANT, np.arange(6, dtype=np.float32).reshape(2, 3) - 2)
    values = [Value(0, "x", spec, Role.INPUT), Value(1, "x_elements", spec, Role.INPUT), table]
    values += [
        Value(4, "sum", spec, Role.ACTIVATION),
        Value(5, "sin", spec, Role.OUTPUT),
        Value(6, "model_x_sizes", spec, Role.OUTPUT),
    ]
    steps = (
        Instruction("aten::add.out", (Ref(0), Ref(3), 1), (4,), 0, "sum"),
        Instruction("aten::relu.out", (Ref(4),), (5,), 1, "sin"),
        Instruction("aten::mul.out", (Ref(5), Ref(1)), (6,), 2, "model_x_sizes"),
    )
    return Program((Method("forward", {one.id: one for one in values}, steps, (0, 1), (5, 6)),))


def built(folder: Path, pte: Path, board_name: str, name: str, optimize: str = "speed") -> list[Path]:
    """The objects of a model without the bundled runtime."""
    board = load_board(board_name)
    generate(pte, board_name, folder, optimize=optimize, name=name)
    objects = []
    for source in ("program.cpp", "constants.S"):
        objects.append(folder / f"{source}.o")
        gcc.run(gcc.compile_command(board, folder / source, objects[-1], folder, kernel_folders(), {}), board)
    return objects


def test_odd_names_compile_and_do_nothing(tmp_path: Path) -> None:
    """All of them are in one process, and each computes what it should."""
    pte = tmp_path / "model.pte"
    pte.write_bytes(write(program()))
    names = [name for name in ODD if name][::3]
    objects, includes, calls = [], [], []
    for at, name in enumerate(names):
        folder = tmp_path / f"of {at}'s; $(x)"
        objects += built(folder, pte, "host", name, "size" if at % 2 else "speed")
        space = identifier(name)
        includes.append(f'#include "{folder.name}/program.h"')
        calls.append(
            f"  {space}::inputs::x()[0] = 5; {space}::inputs::x_elements_2()[0] = 2; {space}::init(); {space}::run();"
        )
        calls.append(f'  printf("%g ", {space}::outputs::model_x_sizes()[0]);')
        board = load_board("host")
        gcc.run(
            gcc.compile_command(board, folder / "binding.cpp", folder / "binding.o", folder, kernel_folders(), {}),
            board,
        )
    (tmp_path / "main.cpp").write_text(MAIN.format(includes="\n".join(includes), calls="\n".join(calls)))
    command = ["g++", f"-I{tmp_path}", tmp_path / "main.cpp", *objects, "-lm", "-no-pie", "-o", tmp_path / "all"]
    subprocess.run(command, check=True)
    said = subprocess.run([tmp_path / "all"], check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    assert said == ["6"] * len(names)
    assert not (tmp_path / "PWNED").exists()


def weak(objects: list[Path], board_name: str) -> set[str]:
    """The symbols of which the linker keeps one of several: functions and data that headers define."""
    nm = gcc.tool(load_board(board_name), "nm")
    lines = subprocess.run(
        [nm, "-f", "posix", *map(str, objects)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {line.split()[0] for line in lines if len(line.split()) > 1 and line.split()[1] in "WVu"}


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386", "qemu_virt_rv32"])
def test_a_model_for_speed_and_one_for_size_share_no_kernel(tmp_path: Path, board: str, int8_net: object) -> None:
    from tests.frontend.nets import NETS

    if shutil.which(f"{load_board(board).toolchain.prefix}g++") is None:
        pytest.skip("no compiler")
    pte = int8_net(NETS["squeeze_excite"])  # type: ignore[operator]
    fast = weak(built(tmp_path / "fast", pte, board, "fast"), board)
    small = weak(built(tmp_path / "small", pte, board, "small", "size"), board)
    assert small and not fast & small, "the linker would keep one of two functions that were compiled differently"


def test_names_in_a_board_file_and_in_a_path_are_refused_where_they_mean_something(tmp_path: Path) -> None:
    import tomllib

    table = tomllib.loads((root() / "boards" / "qemu_mps2_an386.toml").read_text())
    for bad in ("fla sh", "x; } SECTIONS {", "org", "", "1st", "größe"):
        memory = [{**table["memory"][0], "name": bad}, *table["memory"][1:]]
        with pytest.raises(BoardError, match="letters, digits"):
            parse_board("b", {**table, "memory": memory}, where="b.toml", folder=tmp_path)
    with pytest.raises(BoardError, match="letters, digits"):
        parse_board("b", {**table, "defines": {"A=1 -DB": 1}}, where="b.toml", folder=tmp_path)
    simulator = load_board("qemu_mps2_an386").simulator
    assert simulator is not None
    inside = replace(simulator, arguments=("-device", "loader,file={elf}"))
    assert launch.command(inside, Path("/tmp/plain-1/firmware.elf"))[-1] == "loader,file=/tmp/plain-1/firmware.elf"
    with pytest.raises(ModelError, match="between other words"):
        launch.command(inside, Path("/tmp/a,b/firmware.elf"))


def test_a_folder_that_no_line_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="characters"):
        gcc.build(tmp_path / "new\nline", load_board("host"), [])


def test_equal_names_are_numbered() -> None:
    taken: set[str] = set()
    assert [unique(name, taken) for name in ("日本", "日本", "x")][1:] == [f"{identifier('日本')}_2", "x"]
