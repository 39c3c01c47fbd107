"""Board files: what is right loads, and what is wrong is told all at once with what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etexport.board import board_files, board_names, firmware_defines, firmware_sources, load_board, parse_board
from etexport.errors import BoardError, Errors, EtError

Table = dict[str, Any]


def an386() -> Table:
    return tomllib.loads(board_files()["qemu_mps2_an386"].read_text())


@pytest.mark.parametrize("name", board_names())
def test_our_boards_load(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    for source in firmware_sources(board):
        assert source.is_file()
    assert all(isinstance(value, int) for value in firmware_defines(board, probe_count=3, trace=True).values())


def test_ours_are_there() -> None:
    assert {"host", "qemu_mps2_an386", "qemu_mps2_an385", "qemu_microbit", "qemu_virt_rv32"} <= set(board_names())


def test_a_path_works_as_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(board_files()["host"].read_text())
    assert load_board(str(path)).name == "mine"


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(BoardError, match=r"did you mean 'qemu_mps2_an386'\?.*known: .*host"):
        load_board("qemu_mps2_an368")


@pytest.mark.parametrize(("text", "told"), [("a = ", "is not TOML"), (None, "cannot be read"), ("\xff", "is not TOML")])
def test_what_is_no_toml(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "x.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BoardError, match=told):
        load_board(str(path))


def set_in(*path: str | int, to: Any) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        at: Any = table
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


WRONG: list[tuple[Callable[[Table], Any], str]] = [
    (set_in("colour", to=1), r"unknown key 'colour'(.|\n)*known: description, core"),
    (set_in("toolchain", "flag", to=[]), r"unknown key 'toolchain.flag'(.|\n)*did you mean 'flags'\?"),
    (set_in("memory", 1, "adress", to=0), r"unknown key 'memory\[1\].adress'(.|\n)*did you mean 'address'\?"),
    (lambda table: table.pop("uart"), r"'uart' is missing"),
    (lambda table: table["memory"][0].pop("size"), r"'memory\[0\].size' is missing"),
    (set_in("stack", to="4096"), r"'stack' is '4096', a string; an integer belongs there"),
    (set_in("stack", to=True), r"'stack' is True, true or false; an integer belongs there"),
    (set_in("stack", to=100), r"'stack' is 100; a positive multiple of 16"),
    (set_in("features", to="arm"), r"'features' is 'arm', a string; a list of strings belongs there"),
    (set_in("features", to=["arm", "dps"]), r"'features' has 'dps'(.|\n)*did you mean 'dsp'\? known: arm, dsp"),
    (set_in("uart", to="mine.cpp"), r"'uart' is a file that does not exist: /.*/mine.cpp"),
    (set_in("counter", "driver", to="../x.cpp"), r"'counter.driver' is a file that does not exist: /.*/../x.cpp"),
    (set_in("features", to=["arm", 1]), r"'features\[1\]' is 1"),
    (set_in("defines", to=[]), r"'defines' is \[\], a list; a table belongs there"),
    (set_in("defines", "ET_X", to="1"), r"'defines.ET_X' is '1'"),
    (set_in("memory", to={}), r"'memory' is \{\}, a table; a list belongs there"),
    (set_in("memory", 0, to=3), r"'memory\[0\]' is 3, an integer; a table belongs there"),
    (set_in("memory", 0, "size", to=-1), r"'memory\[0\].size' is -1, which is negative"),
    (set_in("memory", 0, "size", to=0x2000_0010), r"memories 'flash' \(0x00000000 to 0x2000000f\) and 'ram' \(from 0x20000000\) overlap"),
    (set_in("memory", 0, "kind", to="rom"), r"no \[\[memory\]\] of kind 'flash'(.|\n)*of kind 'rom'"),
    (set_in("memory", 0, "name", to="ram"), r"two memories are called 'ram'"),
    (
        set_in("arch", to="cortexm"),
        r"'arch' is 'cortexm', which does not exist(.|\n)*did you mean 'cortex_m'\? known: cortex_m, host, riscv",
    ),
    (set_in("uart", to="pl011"), r"'uart' is 'pl011', which does not exist(.|\n)*known: cmsdk, host, nrf51, ns16550"),
    (set_in("counter", "driver", to="dwt2"), r"'counter.driver' is 'dwt2'(.|\n)*did you mean 'dwt'"),
    (set_in("counter", "denominator", to=0), r"must not be 0"),
    (set_in("simulator", "kind", to="qmu"), r"'simulator.kind' is 'qmu'(.|\n)*did you mean 'qemu'"),
    (set_in("simulator", "arguments", to=["{efl}"]), r"'simulator' has \{efl\}(.|\n)*known: \{elf\}, \{port\}, \{renode\}"),
    (set_in("simulator", "arguments", to=["{"]), r"'simulator' has '\{'"),
]


@pytest.mark.parametrize(("change", "told"), WRONG, ids=[told[:40] for _, told in WRONG])
def test_what_is_wrong_is_named(change: Callable[[Table], Any], told: str) -> None:
    table = an386()
    change(table)
    with pytest.raises((BoardError, Errors)) as caught:
        parse_board("x", table, where="x.toml", folder=Path())
    assert re.search(told, str(caught.value)), str(caught.value)
    assert "x.toml" in str(caught.value)


def test_drivers_beside_the_board_file(tmp_path: Path) -> None:
    (tmp_path / "port.cpp").write_text("")
    (tmp_path / "main.cpp").write_text("")
    board = parse_board("x", an386() | {"uart": "port.cpp"}, where="x.toml", folder=tmp_path)
    assert firmware_sources(board)[-1] == tmp_path / "port.cpp"
    with pytest.raises(BoardError, match=r"x.toml: a driver is called main.cpp, as another file of the firmware is"):
        parse_board("x", an386() | {"uart": "main.cpp"}, where="x.toml", folder=tmp_path)


def test_all_mistakes_come_at_once() -> None:
    table = an386() | {"a": 1, "b": 2, "stack": "x"}
    with pytest.raises(EtError) as caught:
        parse_board("x", table, where="x.toml", folder=Path())
    assert isinstance(caught.value, Errors) and len(caught.value.errors) == 3
