"""PlatformIO's board files as drafts: what they have is taken, what is missing is named, and a draft is never taken for
a board."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from etexport.board import load_board
from etexport.errors import BoardError, Errors, EtError
from etexport.platformio import draft

ARM: dict[str, Any] = {
    "build": {"cpu": "cortex-m4", "f_cpu": "120000000L", "mcu": "made4up", "hwids": [["0x1234", "0xAB01"]]},
    "debug": {"openocd_board": "made_up"},
    "name": "Made-up Board",
    "upload": {"maximum_ram_size": 65_536, "maximum_size": 262_144, "protocols": ["jlink", "stlink", "picotool"]},
    "vendor": "Nobody",
}
RISCV: dict[str, Any] = {
    "build": {"f_cpu": "320000000L", "mabi": "ilp32", "march": "rv32imac", "mcu": "x"},
    "debug": {"openocd_target": "chip.cfg"},
    "name": "Nobody Other",
    "upload": {"maximum_ram_size": 16_384},
    "vendor": "Nobody",
}


def drafted(table: object, folder: Path) -> tuple[Path, dict[str, Any], str]:
    path = folder / "made_up.json"
    path.write_text(json.dumps(table))
    text, missing = draft(path)
    (folder / "made_up.toml").write_text(text)
    return folder / "made_up.toml", tomllib.loads(text), "\n".join(missing)


def test_what_it_has(tmp_path: Path) -> None:
    _, found, missing = drafted(ARM, tmp_path)
    assert (
        found["description"] == "Nobody Made-up Board" and found["core"] == "Cortex-M4" and "dsp" in found["features"]
    )
    assert "-mcpu=cortex-m4" in found["toolchain"]["flags"]
    assert [(region["kind"], region["size"]) for region in found["memory"]] == [("flash", 262_144), ("ram", 65_536)]
    assert found["attach"] == {
        "usb": ["1234:ab01"], "flash": ["openocd", "picotool"], "openocd": ["-f", "board/made_up.cfg"],
        "platformio": "made_up",
    }  # fmt: skip
    for word in ("floating point unit", "memory.flash.address", "ET_UART_ADDRESS", "120000000 Hz", "reset_cause"):
        assert word in missing


def test_a_draft_is_no_board_yet(tmp_path: Path) -> None:
    path, _, _ = drafted(ARM, tmp_path)
    with pytest.raises((BoardError, Errors)) as caught:
        load_board(str(path))
    for key in ("memory[0].address", "memory[1].address", "defines.ET_UART_ADDRESS"):
        assert f"'{key}' is '?', a string; an integer belongs there" in str(caught.value)


def test_filled_in_it_loads(tmp_path: Path) -> None:
    path, _, _ = drafted(ARM, tmp_path)
    text = path.read_text()
    for value in ('"stm32"', "0x4000_4400", "0x0800_0000", "0x2000_0000", '"dwt"', '"cycles (dwt)"'):
        text = text.replace('"?"', value, 1)
    path.write_text(text)
    board = load_board(str(path))
    assert board.attach is not None and board.attach.platformio == "made_up" and board.memory[1].address == 0x2000_0000


def test_risc_v_and_what_a_file_lacks(tmp_path: Path) -> None:
    _, found, missing = drafted(RISCV, tmp_path)
    assert found["description"] == "Nobody Other" and found["arch"] == "riscv" and found["features"] == ["riscv"]
    assert found["attach"]["openocd"] == ["-f", "target/chip.cfg"] and "interface/" in missing
    assert found["memory"][0]["size"] == "?" and "memory.flash.size" in missing


@pytest.mark.parametrize(
    "table", [[], {"name": "x"}, {"name": 1, "build": {}}, ARM | {"build": ARM["build"] | {"hwids": [["x"]]}}]
)
def test_what_is_no_board_file(table: object, tmp_path: Path) -> None:
    with pytest.raises(EtError, match=r"made_up\.json: is no board file of PlatformIO"):
        drafted(table, tmp_path)
