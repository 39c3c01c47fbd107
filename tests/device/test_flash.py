"""Writing flash: into running QEMU machines by a real gdb, into a raw file that a machine boots from, and what fake
tools say."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from etexport.__main__ import main
from etexport.board import Board, board_names, load_board
from etexport.device.elf import program_hash
from etexport.device.flash import confirm, step_of, write
from etexport.device.flash.image_files import intel_hex, raw, segments, uf2
from etexport.device.flash.tool import known_tools
from etexport.device.session import Line
from etexport.errors import (
    BoardError,
    BuildError,
    DeviceFaultError,
    DeviceLostError,
    EtError,
    MismatchError,
    ToolMissingError,
)
from etexport.hardware import Attach
from etexport.resources import root
from tests.device.building import build_tiny
from tests.device.conftest import Firmware
from tests.device.test_capture import folder_of

ATTACH = Attach(
    flash=("openocd", "pyocd", "probe-rs", "st-flash", "picotool", "copy"),
    openocd=("-f", "board/st_nucleo_f4.cfg"),
    pyocd="stm32f446retx",
    probe_rs="STM32F446RE",
    drive="NODE_*",
    drive_format="bin",
    uf2_family=0xE48BFF56,
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stopped(board: Board, *more: str) -> Iterator[tuple[str, str]]:
    """The board's QEMU machine without a firmware, stopped, with a debugger's port: (serial URL, HOST:PORT)."""
    assert board.simulator is not None
    serial, debugger = free_port(), free_port()
    arguments = [
        part.replace(":0,server=on,wait=on", f":{serial},server=on,wait=off") for part in board.simulator.arguments
    ]
    at = arguments.index("-kernel")
    command = [
        board.simulator.program,
        *arguments[:at],
        *arguments[at + 2 :],
        "-S",
        "-gdb",
        f"tcp:127.0.0.1:{debugger}",
        *more,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        wait_for(debugger)
        yield f"socket://127.0.0.1:{serial}", f"127.0.0.1:{debugger}"
    finally:
        process.kill()
        process.communicate()


def wait_for(port: int) -> None:
    """Until somebody listens there. Asked of the system: QEMU takes a connection for a debugger."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    for _ in range(200):
        if wanted in Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens at {port}")


@pytest.mark.skipif(shutil.which("gdb-multiarch") is None, reason="gdb-multiarch is not installed")
@pytest.mark.parametrize(
    "name", ["qemu_netduinoplus2", "qemu_mps2_an386", "qemu_microbit", "qemu_virt_rv32", "qemu_sifive_e"]
)
def test_gdb_loads_into_a_running_machine(
    firmware: Firmware, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The STM32's flash too, which the machine itself takes for ROM. Its own HELLO says that this image is what
    runs."""
    board, elf = firmware(name)
    folder = folder_of(elf, tmp_path / "build")
    with stopped(board) as (url, debugger):
        assert main(["flash", str(folder), "--board", name, "--tool", "gdb", "--at", debugger, "--port", url]) == 0
        told = capsys.readouterr().out
        assert "gdb: written and verified" in told and f"{name}: runs tiny 0123456789abcdef, image " in told
        other = build_tiny(board, tmp_path / "other", defines=("-DTINY_HASH=0xFEEDFACE12345678",))
        with pytest.raises(
            DeviceLostError, match=r"another program: tiny 0123456789abcdef; firmware.elf has feedface12345678"
        ):
            confirm(other, board, Line(url), wait_s=5)


@pytest.mark.skipif(shutil.which("gdb-multiarch") is None, reason="gdb-multiarch is not installed")
def test_gdb_says_what_is_wrong(firmware: Firmware) -> None:
    board, elf = firmware("qemu_mps2_an386")
    with pytest.raises(DeviceLostError, match=r"no probe or board answers(.|\n)*onnection"):
        write(step_of(elf, board, wanted="gdb", place=f"127.0.0.1:{free_port()}"))
    riscv, _ = firmware("qemu_virt_rv32")
    with stopped(riscv) as (_, debugger), pytest.raises(EtError) as caught:
        write(step_of(elf, board, wanted="gdb", place=debugger))
    assert caught.value.exit_code in (1, 4), caught.value  # an Arm image into a RISC-V machine
    with pytest.raises(BoardError, match=r"--at HOST:PORT"):
        step_of(elf, board, wanted="gdb")


def test_a_machine_boots_from_a_raw_flash_file(firmware: Firmware, tmp_path: Path) -> None:
    """RISC-V virt with its flash chip as a file: written, booted, written with another firmware, booted again."""
    simulated, _ = firmware("qemu_virt_rv32")
    assert simulated.simulator is not None
    chip = dataclasses.replace(simulated.memory[0], address=0x2000_0000, size=0x200_0000)
    arguments = tuple(part for part in simulated.simulator.arguments if part not in ("-kernel", "{elf}"))
    image = tmp_path / "flash.img"
    machine = (*arguments, "-drive", f"if=pflash,unit=0,format=raw,file={image}")
    board = dataclasses.replace(
        simulated, memory=(chip, simulated.memory[1]), defines={**simulated.defines}, attach=Attach(flash=("file",)),
        simulator=dataclasses.replace(simulated.simulator, arguments=machine),
    )  # fmt: skip
    for value in ("0x1111222233334444", "0x5555666677778888"):
        elf = build_tiny(board, tmp_path / value, defines=(f"-DTINY_HASH={value}",))
        assert program_hash(elf) == int(value, 0)
        step = step_of(elf, board, place=str(image))
        assert str(step) == f"write {elf.with_name('firmware.bin')} 'to offset 0x0 of' {image}"
        write(step)
        assert confirm(elf, board, Line(f"qemu://?elf={elf}"), wait_s=20).program_hash == int(value, 0)
    with image.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * 4)
    with pytest.raises(EtError, match=r"another firmware|does not come back"):
        confirm(elf, board, Line(f"qemu://?elf={elf}"), wait_s=3)
    image.write_bytes(b"short")
    with pytest.raises(BoardError, match=r"the chip is not the one(.|\n)*has 5 bytes, the board's flash 33,554,432"):
        write(step_of(elf, board, place=str(image)))
    with pytest.raises(DeviceFaultError, match=r"could not be written(.|\n)*No such file or directory"):
        write(step_of(elf, board, place=str(tmp_path / "nowhere" / "flash.img")))


# ---- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qemu_netduinoplus2", "qemu_virt_rv32"])
def test_images_are_those_of_objcopy(firmware: Firmware, tmp_path: Path, name: str) -> None:
    board, elf = firmware(name)
    objcopy = f"{board.toolchain.prefix}objcopy"
    subprocess.run([objcopy, "-O", "binary", elf, tmp_path / "a.bin"], check=True)
    address, content = raw(elf)
    assert content == (tmp_path / "a.bin").read_bytes() and address == board.memory[0].address
    (tmp_path / "b.hex").write_bytes(intel_hex(elf))
    subprocess.run([objcopy, "-I", "ihex", "-O", "binary", tmp_path / "b.hex", tmp_path / "b.bin"], check=True)
    assert (tmp_path / "b.bin").read_bytes() == content


def test_uf2_byte_by_byte(firmware: Firmware) -> None:
    """Read back as a boot loader does: each field of each block, and the pages together are the image."""
    _, elf = firmware("qemu_netduinoplus2")
    made = uf2(elf, 0xE48BFF56)
    start, content = raw(elf)
    count = (len(content) + 255) // 256
    assert len(made) == 512 * count and start % 256 == 0
    for number in range(count):
        block = made[512 * number : 512 * (number + 1)]
        head = struct.unpack_from("<8I", block)
        assert head == (0x0A324655, 0x9E5D5157, 0x2000, start + 256 * number, 256, number, count, 0xE48BFF56)
        assert block[32 : 32 + 256] == content[256 * number : 256 * (number + 1)].ljust(256, b"\0")
        assert block[288:508] == bytes(220) and block[508:] == bytes.fromhex("306fb10a")


def test_uf2_of_segments_that_share_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ((0x10000000, b"a" * 300), (0x10000180, b"b" * 4), (0x10001000, b"c"))
    monkeypatch.setattr("etexport.device.flash.image_files.segments", lambda elf: parts)
    made = uf2(tmp_path, 1)
    assert [struct.unpack_from("<I", made, 512 * at + 12)[0] for at in range(3)] == [0x10000000, 0x10000100, 0x10001000]
    page = made[512 + 32 : 512 + 32 + 256]
    assert page == b"a" * 44 + bytes(84) + b"b" * 4 + bytes(124)


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot be read(.|\n)*build the firmware first"):
        segments(tmp_path / "none.elf")
    (tmp_path / "x.elf").write_bytes(b"text")
    with pytest.raises(BuildError, match="is no ELF"):
        segments(tmp_path / "x.elf")


# ---- tools that no probe is there for --------------------------------------------------------------------------------


@pytest.fixture
def real(firmware: Firmware) -> tuple[Board, Path]:
    board, elf = firmware("qemu_netduinoplus2")
    return dataclasses.replace(board, name="nucleo", simulator=None, attach=ATTACH), elf


def fake(folder: Path, program: str, says: str, status: int) -> None:
    """A program of this name on PATH that keeps its arguments, says this, and ends so."""
    path = folder / program
    path.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder}/{program}.arguments\ncat <<'END'\n{says}\nEND\nexit {status}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


SAID = [
    ("openocd", "Error: unable to find a matching CMSIS-DAP device", 1, DeviceLostError),
    ("openocd", "Error: init mode failed (unable to connect to the target)", 1, DeviceLostError),
    ("openocd", "Warn : UNEXPECTED idcode: 0x2ba01477\nError: expected 1 of 1: 0x1ba01477", 1, BoardError),
    ("openocd", "Error: failed erasing sectors 0 to 1\n** Programming Failed **", 1, DeviceFaultError),
    ("openocd", "** Programming Finished **\n** Verify Started **\n** Verify Failed **", 1, MismatchError),
    ("openocd", "segmentation fault", 139, DeviceFaultError),
    ("pyocd", "0000368 W No available debug probes are connected", 1, DeviceLostError),
    ("pyocd", "C Target type stm32f446retx not recognized. Use 'pyocd list --targets'", 1, BoardError),
    (
        "pyocd",
        "FlashProgramFailure: flash program page failure (address 0x08000000; result code 0x1)",
        1,
        DeviceFaultError,
    ),
    ("probe-rs", "Error: No debug probes were found.", 1, DeviceLostError),
    ("probe-rs", "Error: The flashing procedure failed for 'firmware.elf'.", 1, DeviceFaultError),
    ("st-flash", "Couldn't find any ST-Link devices", 1, DeviceLostError),
    ("st-flash", "ERROR common.c: unknown chip id! 0xe0042000", 1, BoardError),
    ("st-flash", "ERROR: Verification of flash failed at offset: 0", 1, MismatchError),
    ("picotool", "No accessible RP2040 devices in BOOTSEL mode were found.", 1, DeviceLostError),
    ("picotool", "ERROR: The device contents did not match the file", 1, MismatchError),
]


@pytest.mark.parametrize(("tool", "says", "status", "kind"), SAID)
def test_each_way_to_fail_has_its_error(
    real: tuple[Board, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
    says: str,
    status: int,
    kind: type[EtError],
) -> None:
    board, elf = real
    fake(tmp_path, tool, says, status)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EtError) as caught:
        write(step_of(elf, board, wanted=tool))
    assert type(caught.value) is kind, caught.value
    assert says.splitlines()[-1] in str(caught.value)


def test_each_kind_has_an_exit_code_of_its_own() -> None:
    assert [
        kind.exit_code for kind in (DeviceLostError, BoardError, DeviceFaultError, MismatchError, ToolMissingError)
    ] == [3, 1, 4, 2, 5]


COMMANDS = {
    "openocd": "openocd -f board/st_nucleo_f4.cfg -c 'program {{{elf}}} verify reset exit'",
    "pyocd": "pyocd flash --target stm32f446retx -O verify=true {hex}",
    "probe-rs": "probe-rs download --chip STM32F446RE --verify --non-interactive {elf}",
    "st-flash": "st-flash --connect-under-reset --reset write {bin} 0x08000000",
    "picotool": "picotool load --verify --execute {uf2}",
    "copy": "copy {bin} 'the drive NODE_*'",
}


@pytest.mark.parametrize("tool", COMMANDS)
def test_a_dry_run_prints_what_is_run(
    real: tuple[Board, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    board, elf = real
    if tool != "copy":
        fake(tmp_path, tool, "fine", 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    step = step_of(elf, board, wanted=tool)
    files = {kind: elf.with_name(f"firmware.{kind}") for kind in ("elf", "bin", "hex", "uf2")}
    assert str(step) == COMMANDS[tool].format(**files)
    if tool != "copy":
        assert not (tmp_path / f"{tool}.arguments").exists()
        write(step)
        assert (tmp_path / f"{tool}.arguments").read_text().splitlines() == list(step.command[1:])


def test_the_first_tool_that_is_installed(
    real: tuple[Board, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, elf = real
    fake(tmp_path, "st-flash", "fine", 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert step_of(elf, board).tool.name == "st-flash"
    attach = dataclasses.replace(ATTACH, flash=("openocd", "pyocd"))
    with pytest.raises(
        ToolMissingError,
        match=r"openocd and pyocd not installed(.|\n)*apt-get install openocd; pyocd: pip install pyocd",
    ):
        step_of(elf, dataclasses.replace(board, attach=attach))
    with pytest.raises(BoardError, match="no tool is called 'magic'"):
        step_of(elf, board, wanted="magic")
    with pytest.raises(BoardError, match="no tool is known that writes its flash"):
        step_of(elf, dataclasses.replace(board, attach=None))
    for missing in ("openocd", "pyocd", "probe_rs"):
        bare = dataclasses.replace(board, attach=Attach(flash=(missing.replace("_", "-"),)))
        fake(tmp_path, missing.replace("_", "-"), "", 0)
        with pytest.raises(BoardError, match=f"'attach.{missing}' is missing"):
            step_of(elf, bare)


def test_a_drive(real: tuple[Board, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, elf = real
    copy = known_tools()["copy"]
    monkeypatch.setattr("etexport.device.flash.tools.copy._FAILS_WITHIN_S", 0.3)
    with pytest.raises(DeviceLostError, match=r"no drive NODE_\* is mounted"):
        write(step_of(elf, board, wanted="copy"))
    drive = tmp_path / "NODE_F446RE"
    drive.mkdir()
    write(step_of(elf, board, wanted="copy", place=str(drive)))
    assert (drive / "firmware.bin").read_bytes() == raw(elf)[1] and copy.act is not None
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sdz1 {tmp_path}/NODE_F446RE vfat rw 0 0\n/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr("etexport.device.flash.tools.copy._MOUNTS", mounts)
    (drive / "firmware.bin").unlink()
    write(step_of(elf, board, wanted="copy"))
    assert (drive / "firmware.bin").is_file(), "found by its label"
    (drive / "FAIL.TXT").write_text("left by somebody before")
    write(step_of(elf, board, wanted="copy"))
    monkeypatch.setattr(
        "etexport.device.flash.tools.copy.os.fsync",
        lambda _: (drive / "FAIL.TXT").write_text("error: transfer timed out"),
    )
    with pytest.raises(DeviceFaultError, match=r"could not be written(.|\n)*transfer timed out"):
        write(step_of(elf, board, wanted="copy"))
    (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nModel: Raspberry Pi RP2350\nBoard-ID: RP2350\n")
    with pytest.raises(
        BoardError, match=r"the chip is not the one(.|\n)*Board-ID: RP2350, and the board's file says NODE_\*"
    ):
        write(step_of(elf, board, wanted="copy"))


def test_a_drive_is_taken_where_it_is_mounted(
    real: tuple[Board, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next tool of the list, which may be able to do without a button that is held."""
    board, elf = real
    board = dataclasses.replace(board, attach=dataclasses.replace(ATTACH, flash=("copy", "st-flash")))
    fake(tmp_path, "st-flash", "fine", 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr("etexport.device.flash.tools.copy._MOUNTS", mounts)
    assert step_of(elf, board).tool.name == "st-flash"
    assert step_of(elf, board, place=str(tmp_path)).tool.name == "copy"
    mounts.write_text("/dev/sdz1 /media/NODE_F446RE vfat rw 0 0\n")
    assert step_of(elf, board).tool.name == "copy"
    (tmp_path / "st-flash").unlink()
    mounts.write_text("")
    with pytest.raises(DeviceLostError, match="no drive NODE_"):
        write(step_of(elf, board))


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).attach is not None])
def test_every_tool_of_a_real_board_can_be_called(
    firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What its file says is enough for a command; nothing is written."""
    board = load_board(name)
    if shutil.which(f"{board.toolchain.prefix}g++") is None:
        pytest.skip(f"{board.toolchain.prefix}g++ is not installed")
    elf = build_tiny(board, tmp_path)
    assert board.attach is not None and board.attach.flash
    for tool in board.attach.flash:
        fake(tmp_path, tool, "fine", 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for tool in board.attach.flash:
        step = step_of(elf, board, wanted=tool)
        assert step.job.image.is_file() and str(step.job.image) in str(step)
        assert step.job.address == next(region.address for region in board.memory if region.kind == "flash")


def test_a_board_that_does_not_come_back(real: tuple[Board, Path], tmp_path: Path) -> None:
    board, elf = real
    silent = socket.create_server(("127.0.0.1", 0))
    with (
        silent,
        pytest.raises(
            DeviceLostError, match=r"was written, but the board does not come back: no bytes came in 1 s"
        ) as caught,
    ):
        confirm(elf, board, Line(f"socket://127.0.0.1:{silent.getsockname()[1]}"), wait_s=1.0)
    assert caught.value.exit_code == 3


def test_a_simulator_does_not_stand_in_for_a_board(firmware: Firmware) -> None:
    """Without a port it would be asked in place of what was written."""
    board, elf = firmware("qemu_mps2_an386")
    with pytest.raises(DeviceLostError, match="names no USB ids"):
        confirm(elf, board, Line(), wait_s=1.0)


@pytest.mark.skipif(shutil.which("openocd") is None, reason="openocd is not installed")
@pytest.mark.parametrize(
    "config", ["board/st_nucleo_f4.cfg", "board/stm32f4discovery.cfg", "board/nordic_nrf52_dk.cfg"]
)
def test_a_real_openocd_finds_no_probe(real: tuple[Board, Path], config: str) -> None:
    board, elf = real
    board = dataclasses.replace(board, attach=dataclasses.replace(ATTACH, openocd=("-f", config)))
    with pytest.raises(DeviceLostError, match="no probe or board answers"):
        write(step_of(elf, board, wanted="openocd"))


@pytest.mark.skipif(shutil.which("openocd") is None, reason="openocd is not installed")
def test_a_real_openocd_and_its_simulated_flash(real: tuple[Board, Path]) -> None:
    """It writes into its "faux" bank. The target that goes with that cannot compute a checksum, so our own command ends
    in its words for a verification that failed, which is what is told."""
    board, elf = real
    chip = (
        "adapter driver dummy; adapter speed 1; jtag newtap t cpu -irlen 4 -expected-id 0",
        "target create t.cpu testee -chain-position t.cpu; flash bank f faux 0x08000000 0x100000 4 4 t.cpu",
    )
    chosen = tuple(word for step in chip for word in ("-c", step))
    board = dataclasses.replace(board, attach=dataclasses.replace(ATTACH, openocd=chosen))
    step = step_of(elf, board, wanted="openocd")
    wrote = [*step.command[:-2], "-c", "init", "-c", f"flash write_image erase {elf}", "-c", "exit"]
    done = subprocess.run(wrote, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and re.search(r"wrote \d+ bytes from file", done.stderr), done.stderr
    with pytest.raises(MismatchError, match=r"Verify Failed"):
        write(step)


def test_the_tools_that_there_are() -> None:
    assert set(known_tools()) == {"openocd", "pyocd", "probe-rs", "st-flash", "picotool", "gdb", "copy", "file"}
    assert load_board("host").attach is None and (root() / "etexport" / "device" / "flash" / "tools").is_dir()
