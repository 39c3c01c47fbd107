"""What can be said of the Renode files without Renode: they say what it knows, and agree with the board files; with it,
the boards run."""

from __future__ import annotations

import dataclasses
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from etexport.board import board_names, load_board
from etexport.device import run
from etexport.device.launch import command
from etexport.resources import root
from tests.device.building import build_tiny
from tests.device.tiny import expected, sample

FOLDER = root() / "boards" / "renode"
BOARDS = [
    name
    for name in board_names()
    if (simulator := load_board(name).simulator) is not None and simulator.kind == "renode"
]

STATEMENTS = (
    r"using sysbus",
    r'mach create "\w+"',
    r"machine LoadPlatformDescription (\$ORIGIN/[\w-]+\.repl|@platforms/(cpus|boards)/[\w-]+\.repl)",
    r"cpu PerformanceInMips \d+",
    r"cpu PC `sysbus GetSymbolAddress \"\w+\"`",
    r'emulation CreateServerSocketTerminal \$port "\w+" false',
    r"connector Connect sysbus\.\w+ \w+",
    r"macro reset",
    r'"""',
    r"sysbus LoadELF \$bin",
    r'sysbus Tag <0x[0-9A-F]+ 4> "\w+" 0x[0-9A-F]+',
    r"runMacro \$reset",
)
"""What our scripts may say: commands of the Monitor and their arguments, as Renode's own sources and scripts have
them."""

PROPERTIES = {
    "Memory.MappedMemory": {"size"},
    "UART.NS16550": set(),
    "IRQControllers.CoreLevelInterruptor": {"frequency"},
    "CPU.RiscV32": {"cpuType", "timeProvider"},
}
"""Models that our platforms use, with their constructors' arguments in Renode's sources."""

PLATFORMS = {
    "platforms/cpus/stm32f4.repl": {
        "sram": (0x2000_0000, 0x4_0000),
        "flash": (0x0800_0000, 0x20_0000),
        "uart": {"usart1", "usart2"},
    },
    "platforms/cpus/sifive-fe310.repl": {
        "dtim": (0x8000_0000, 0x4000),
        "qspi0Xip": (0x2000_0000, 0x2000_0000),
        "uart": {"uart0", "uart1"},
    },
    "platforms/boards/nrf52840dk_nrf52840.repl": {
        "ram": (0x2000_0000, 0x4_0000),
        "flash": (0, 0x10_0000),
        "uart": {"uart0"},
    },
}
"""Of Renode's own platforms (renode/renode, platforms/) what our boards use: memories with address and size, and serial
ports."""


def script_of(name: str) -> str:
    simulator = load_board(name).simulator
    assert simulator is not None
    told = re.search(r"include @\{renode\}/(\w+\.resc); start$", simulator.arguments[-1])
    assert told, simulator.arguments
    return (FOLDER / told[1]).read_text()


def platform_of(name: str) -> str:
    told = re.search(r"^machine LoadPlatformDescription (\S+)$", script_of(name), re.MULTILINE)
    assert told
    return told[1]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.resc")), ids=lambda path: path.name)
def test_scripts_say_what_renode_knows(path: Path) -> None:
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert lines[0].startswith(":name: ") and lines[1].startswith(":description: ")
    wrong = [
        line
        for line in lines[2:]
        if line and not line.startswith("#") and not any(re.fullmatch(one, line) for one in STATEMENTS)
    ]
    assert not wrong
    assert "start" not in lines, "whoever includes it says so: what is started cannot be told to RunFor"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.repl")), ids=lambda path: path.name)
def test_platforms_use_models_that_renode_has(path: Path) -> None:
    kind = ""
    for line in path.read_text().splitlines():
        if told := re.fullmatch(r"(\w+): ([\w.]+) @ sysbus( 0x[0-9A-F]+)?", line, re.IGNORECASE):
            kind = told[2]
            assert kind in PROPERTIES
        elif told := re.fullmatch(r"    (\w+): .+", line):
            assert told[1] in PROPERTIES[kind], f"{kind} has no {told[1]}"
        else:
            assert not line or line.startswith("//") or re.fullmatch(r"    \[[\d, ]+\] -> cpu@\[[\d, ]+\]", line), line


@pytest.mark.parametrize("name", BOARDS)
def test_memories_and_port_are_those_of_the_platform(name: str) -> None:
    board, platform = load_board(name), platform_of(name)
    port = re.search(r"^connector Connect sysbus\.(\w+) serial$", script_of(name), re.MULTILINE)
    assert port
    if platform.startswith("$ORIGIN/"):
        text = (FOLDER / platform.removeprefix("$ORIGIN/")).read_text()
        found = re.findall(r"^\w+: Memory\.MappedMemory @ sysbus (0x\w+)\n    size: (0x\w+)$", text, re.MULTILINE)
        memories = [(int(address, 0), int(size, 0)) for address, size in found]
        uart = re.search(rf"^{port[1]}: UART\.\w+ @ sysbus (0x\w+)$", text, re.MULTILINE)
        assert uart and int(uart[1], 0) == board.defines["ET_UART_ADDRESS"]
    else:
        there = PLATFORMS[platform.removeprefix("@")]
        memories = [part for part in there.values() if isinstance(part, tuple)]
        assert port[1] in there["uart"]
    for region in board.memory:
        assert any(at <= region.address and region.address + region.size <= at + size for at, size in memories), region


@pytest.mark.parametrize(
    ("name", "twin"), [("virt_rv32", "qemu_virt_rv32"), ("stm32f4", "qemu_netduinoplus2"), ("fe310", "qemu_sifive_e")]
)
def test_the_image_is_that_of_the_twin_in_qemu(name: str, twin: str) -> None:
    """Seen in Renode: QEMU's images run there. So nothing but counter, exit and simulator differs."""
    mine, other = load_board(f"renode_{name}"), load_board(twin)
    for field in dataclasses.fields(mine):
        if field.name not in ("name", "description", "defines", "counter", "simulator"):
            assert getattr(mine, field.name) == getattr(other, field.name), field.name
    assert mine.defines.items() <= other.defines.items()


@pytest.mark.parametrize("name", BOARDS)
def test_the_command_line(name: str) -> None:
    simulator = load_board(name).simulator
    assert simulator is not None
    line = command(simulator, Path("/a b/x.elf"), 4321)
    assert line[0] == "renode" and r"$bin=@/a\ b/x.elf; $port=4321;" in line[-1], "a blank ends a path"
    assert ("--port", "-1") in pairwise(line), "two Monitors would want one port"
    assert Path(line[-1].rsplit("@", 1)[1].removesuffix("; start")).is_file()


@pytest.mark.skipif(shutil.which("renode") is None, reason="renode is not installed")
@pytest.mark.parametrize("name", BOARDS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    done = run(build_tiny(board, tmp_path), board, [sample(0)])
    np.testing.assert_array_equal(done.outputs[0][1], expected(sample(0), 1)[1])
