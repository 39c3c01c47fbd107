"""The Pico: what its ROM wants of the flash, and what rp2040js, played by etexport/device/rp2040.cjs, makes of a wrong
one."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from etexport.board import Board, load_board
from etexport.device import run
from etexport.errors import DeviceLostError, EtError, ToolMissingError
from etexport.resources import root
from tests.device.building import build_tiny
from tests.device.tiny import expected, sample


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, Path]:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    board = load_board("rpi_pico")
    return board, build_tiny(board, tmp_path_factory.mktemp("pico"))


@pytest.fixture
def node(rp2040js: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_PATH", str(rp2040js))


def flash_of(elf: Path, folder: Path) -> bytes:
    image = folder / "image.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(image)], check=True)
    return image.read_bytes()


def rom_crc(data: bytes) -> int:
    """By zlib, whose CRC has all bits the other way round."""
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{zlib.crc32(mirrored) ^ 0xFFFF_FFFF:032b}"[::-1], 2)


def test_the_first_256_bytes(pico: tuple[Board, Path], tmp_path: Path) -> None:
    """Their last word is the CRC of the rest, and the vector table is behind them: a stack in RAM and an odd address in
    flash."""
    flash = flash_of(pico[1], tmp_path)
    assert rom_crc(b"123456789") == 0x0376_E6E7
    assert rom_crc(flash[:252]) == int.from_bytes(flash[252:256], "little")
    stack, reset = (int.from_bytes(flash[at : at + 4], "little") for at in (256, 260))
    assert 0x2000_0000 < stack <= 0x2004_2000 and reset & 1 and 0x1000_0100 < reset < 0x1000_0000 + len(flash)


def test_boot2_is_what_its_comments_assemble_to(tmp_path: Path) -> None:
    """The right column of firmware/chip/rp2040/boot2.cpp, by the assembler, is the left one."""
    if shutil.which("arm-none-eabi-as") is None:
        pytest.skip("arm-none-eabi-as is not installed")
    text = (root() / "firmware" / "chip" / "rp2040" / "boot2.cpp").read_text()
    rows = re.findall(r"^    ((?:0x[0-9A-F]{4}, ?)+) +// (.+)$", text, re.MULTILINE)
    assert len(rows) == 27
    source, obj, raw = tmp_path / "b.s", tmp_path / "b.o", tmp_path / "b.bin"
    source.write_text(".syntax unified\n.cpu cortex-m0plus\n.thumb\n" + "".join(f"{line}\n" for _, line in rows))
    subprocess.run(["arm-none-eabi-as", str(source), "-o", str(obj)], check=True)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(obj), str(raw)], check=True)
    halfwords = [int(word, 16) for words, _ in rows for word in re.findall(r"0x\w+", words)]
    assert raw.read_bytes() == b"".join(word.to_bytes(2, "little") for word in halfwords)


@pytest.mark.usefixtures("node")
def test_outputs_clock_and_counts(pico: tuple[Board, Path]) -> None:
    """Through boot2, crystal and PLL: 125 MHz, and the same counts each time."""
    board, elf = pico
    done = run(elf, board, [sample(index) for index in range(4)])
    for index in range(4):
        for got, wanted in zip(done.outputs[index], expected(sample(index), index + 1), strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert done.hello.clock_hz == 125_000_000 and "reset_clock" not in done.hello.features
    assert done.exit_status == 0 and done.unit == "cycles (rp2040js)"
    again = [run(elf, board, [sample(3)] * 3).counters for _ in range(2)]
    assert len({count for counters in again for count in counters}) == 1
    assert 500 < done.init_count < 10_000, "a wrap that was none would be 2^24 more"


@pytest.mark.usefixtures("node")
def test_a_flipped_bit_of_boot2_is_refused(pico: tuple[Board, Path], tmp_path: Path) -> None:
    board, elf = pico
    data = bytearray(elf.read_bytes())
    at = data.index(flash_of(elf, tmp_path)[:256])
    data[at + 20] ^= 4
    (tmp_path / "wrong.elf").write_bytes(data)
    with pytest.raises(DeviceLostError, match="the ROM refuses the flash: CRC"):
        run(tmp_path / "wrong.elf", board, [sample(0)])


@pytest.mark.usefixtures("node")
def test_a_wrong_divider_is_noise(pico: tuple[Board, Path], tmp_path: Path) -> None:
    """A board file that says another UART clock: the UART is off the line's speed, and nothing comes through."""
    board = pico[0]
    assert board.clock is not None and board.simulator is not None
    wrong = dataclasses.replace(board, clock=dataclasses.replace(board.clock, uart_hz=120_000_000))
    elf = build_tiny(wrong, tmp_path)
    arguments = [
        part.format(device=str(root() / "etexport" / "device"), elf=str(elf)) for part in board.simulator.arguments
    ]
    with subprocess.Popen([board.simulator.program, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            port = int(process.stderr.readline().rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(bytes(32))
                assert "the UART is at 119990 bits a second, the line at 115200" in process.stderr.readline()
        finally:
            process.kill()


def test_without_rp2040js_the_hint_installs_it(
    pico: tuple[Board, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    monkeypatch.delenv("NODE_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    board, elf = pico
    with pytest.raises(EtError, match=r"rp2040js is not installed\n  hint: npm install rp2040js@1\.4\.1") as caught:
        run(elf, board, [sample(0)])
    assert isinstance(caught.value, ToolMissingError) and caught.value.exit_code == 5
