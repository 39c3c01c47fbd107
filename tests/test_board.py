"""Board files: what is right loads, and what is wrong is told all at once with what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etexport.board import (
    board_files,
    board_names,
    count_of,
    firmware_defines,
    firmware_sources,
    load_board,
    parse_board,
    source_of,
)
from etexport.device.messages import layout
from etexport.errors import BoardError, Errors, EtError
from etexport.hardware import CAUSES

Table = dict[str, Any]


def an386() -> Table:
    return tomllib.loads(board_files()["qemu_mps2_an386"].read_text())


@pytest.mark.parametrize("name", board_names())
def test_our_boards_load(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    for source in firmware_sources(board):
        assert source.is_file()
    assert all(
        isinstance(value, int) or re.fullmatch(r"(0x[0-9a-f]+,?)+", value)
        for value in firmware_defines(board, probe_count=3, trace=True).values()
    )


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
    (
        set_in("memory", 0, "size", to=0x2000_0010),
        r"memories 'flash' \(0x00000000 to 0x2000000f\) and 'ram' \(from 0x20000000\) overlap",
    ),
    (set_in("memory", 0, "kind", to="rom"), r"no \[\[memory\]\] of kind 'flash'(.|\n)*of kind 'rom'"),
    (set_in("memory", 0, "name", to="ram"), r"two memories are called 'ram'"),
    (
        set_in("arch", to="cortexm"),
        r"'arch' is 'cortexm', which does not exist(.|\n)*did you mean 'cortex_m'\? known: cortex_m, host, riscv",
    ),
    (
        set_in("uart", to="pl012"),
        r"'uart' is 'pl012', which does not exist(.|\n)*known: cmsdk, host, ibex, nrf51, nrf_uarte, ns16550",
    ),
    (set_in("counter", "driver", to="dwt2"), r"'counter.driver' is 'dwt2'(.|\n)*did you mean 'dwt'"),
    (set_in("counter", "denominator", to=0), r"must not be 0"),
    (set_in("simulator", "kind", to="qmu"), r"'simulator.kind' is 'qmu'(.|\n)*did you mean 'qemu'"),
    (
        set_in("simulator", "arguments", to=["{efl}"]),
        r"'simulator' has \{efl\}(.|\n)*known: \{elf\}, \{port\}, \{renode\}",
    ),
    (set_in("simulator", "arguments", to=["{"]), r"'simulator' has '\{'"),
    (
        set_in("simulator", "count", to={"unit": "x", "still": 1}),
        r"'simulator.count.still' is 1, an integer; true or false belongs there",
    ),
    (set_in("simulator", "count", to={"unit": "x", "numerator": 0}), r"'simulator.count.numerator' and"),
    (set_in("chip", to="stm33"), r"'chip' is 'stm33', which does not exist"),
    (set_in("bauds", to=[9600]), r"'baud' is 115200, which is not one of 'bauds'(.|\n)*known: 9600"),
    (
        set_in("pins", to={"setup": [["sett", 0, 1]]}),
        r"'pins.setup\[0\]' is \['sett', 0, 1\](.|\n)*known: \[\"write\", address, value\]",
    ),
    (set_in("pins", to={"setup": ["set"]}), r"'pins.setup\[0\]' is 'set', which is no operation"),
    (set_in("pins", to={"setup": [["set", 4, "1"]]}), r"'pins.setup\[0\]\[2\]' is '1', a string; an integer"),
    (
        set_in("pins", to={"setup": [["set", 4]]}),
        r"'pins.setup' has \[set, 0x00000004\], 1 numbers(.|\n)*set takes address, bits",
    ),
    (set_in("pins", to={"setup": [["set", 6, 1]]}), r"the address is no multiple of 4"),
    (set_in("pins", to={"setup": [["set", 4, 0]]}), r"nothing is changed or awaited"),
    (set_in("pins", to={"setup": [["write", 4, 1 << 32]]}), r"more than 32 bits"),
    (set_in("pins", to={"setup": [["field", 4, 0xF0, 0x1A0]]}), r"the value has bits that the mask lacks: 0x00000100"),
    (
        set_in("clock", to={"hz": 0, "uart_hz": 1_000_000}),
        r"'clock.hz' is 0(.|\n)*115,200 bits a second cannot be made of 1,000,000 Hz: .* 3.5 % off",
    ),
    (set_in("clock", to={"hz": 1}), r"'clock.uart_hz' is missing"),
    (
        set_in("reset_cause", to=[{"address": 4, "bits": {"pni": 32}}]),
        r"'reset_cause' has 'pni'(.|\n)*'reset_cause.bits.pni' is 32",
    ),
    (
        set_in("reset_cause", to=[{"address": 5, "mask": 3, "values": {"pin": 4}}]),
        r"no multiple of 4(.|\n)*0x00000004, outside the mask",
    ),
    (
        set_in("attach", to={"usb": ["483:374b"], "dtr": "up"}),
        r"'attach.usb' has '483:374b'(.|\n)*'attach.dtr' is 'up'(.|\n)*known: on, off",
    ),
    (set_in("attach", to={"drive": "X"}), r"only one is there"),
    (set_in("verified", to={"clok.setup": "RM0090"}), r"'verified' has 'clok.setup', which is no key"),
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


def test_a_setup_becomes_words_of_the_firmware() -> None:
    """What firmware/runtime/setup.cpp reads: address, mask, value; bit 0 of the address is a wait."""
    lines = [["write", 4, 7], ["set", 8, 6], ["clear", 8, 2], ["field", 12, 0xF0, 0xA0], ["wait", 16, 3, 1]]
    clock = {"hz": 16_000_000, "uart_hz": 8_000_000, "uart_reset_hz": 4_000_000, "setup": lines}
    causes = [
        {"address": 20, "bits": {"watchdog": 29, "pin": 26}, "otherwise": "power_on", "clear": [["set", 20, 1 << 24]]},
        {"address": 24, "mask": 3, "values": {"software": 2}},
    ]
    board = parse_board("x", an386() | {"clock": clock, "reset_cause": causes}, where="x.toml", folder=Path())
    defines = firmware_defines(board)
    assert defines["ET_CLOCK_SETUP"] == "0x4,0xffffffff,0x7,0x8,0x6,0x6,0x8,0x2,0x0,0xc,0xf0,0xa0,0x11,0x3,0x1"
    assert (defines["ET_CLOCK_RESET_HZ"], defines["ET_UART_HZ"], defines["ET_UART_RESET_HZ"]) == (
        16_000_000,
        8_000_000,
        4_000_000,
    )
    assert (
        defines["ET_RESET_CAUSES"]
        == "0x14,0x20000000,0x20000000,0x4,0x14,0x4000000,0x4000000,0x2,0x18,0x3,0x2,0x3,0x14,0x0,0x0,0x1"
    )
    assert defines["ET_RESET_CLEAR"] == "0x14,0x1000000,0x1000000"
    assert "ET_PIN_SETUP" not in defines and "ET_CHIP" not in defines


def test_causes_are_those_of_the_link() -> None:
    assert {code: name for name, code in CAUSES.items()} == dict(layout().reset_causes)


def test_the_simulator_has_the_word_on_its_own_counts() -> None:
    table = an386()
    table["simulator"]["count"] = {"unit": "none", "still": True}
    board = parse_board("x", table, where="x.toml", folder=Path())
    assert (
        count_of(board, simulated=True).still and count_of(board, simulated=False).unit == "instructions (qemu icount)"
    )


def test_a_source_stands_for_all_below_it() -> None:
    board = parse_board(
        "x", an386() | {"verified": {"memory": "AN386", "clock.hz": "RM"}}, where="x.toml", folder=Path()
    )
    assert (source_of(board, "memory.flash"), source_of(board, "clock.hz"), source_of(board, "clock.uart_hz")) == (
        "AN386",
        "RM",
        "",
    )
