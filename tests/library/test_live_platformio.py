"""A model script in a PlatformIO project, by a PlatformIO whose Python has neither etexport nor torch, and a platform
made here: nothing is fetched but PlatformIO itself."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.device.messages import encode
from tests.conftest import Once
from tests.installed import Installed
from tests.library.test_library import ROOT, needs
from tests.library.test_live import LAYERS, SCRIPT
from tests.pages import files

SCONS = "4.41101.0"
"""PlatformIO's number for SCons 4.11.1, the version that it wants."""
BOARD_H = """
#pragma once
#include <cstdint>

void say(const char* text);
void say(float number);  // its bits
int program();           // the exit code of QEMU
"""
BOARD = """
#include "board.h"

extern "C" uint32_t stack_top[];
extern "C" void reset();

namespace {
volatile uint32_t* const uart = reinterpret_cast<volatile uint32_t*>(0x40004000);

void send(char letter) {
  while (uart[1] & 1) {
  }
  uart[0] = static_cast<uint32_t>(letter);
}
}  // namespace

void say(const char* text) {
  while (*text) send(*text++);
}

void say(float number) {
  uint32_t bits;
  __builtin_memcpy(&bits, &number, 4);
  for (int shift = 28; shift >= 0; shift -= 4) send("0123456789abcdef"[bits >> shift & 15]);
  send('\\n');
}

struct Vectors {
  uint32_t* stack;
  void (*reset)();
};
__attribute__((used, section(".vectors"))) const Vectors vectors = {stack_top, reset};

void reset() {
  *reinterpret_cast<volatile uint32_t*>(0xE000ED88) |= 0xF << 20;
  uart[4] = 16;
  uart[2] = 3;
  const uint32_t block[] = {0x20026, static_cast<uint32_t>(program())};
  register uint32_t operation asm("r0") = 0x20;
  register const void* argument asm("r1") = block;
  asm volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
  for (;;) {
  }
}
"""
FIRMWARE = """
#include "board.h"
#include "gesture.h"

#ifndef PIO_UNIT_TESTING
int program() {
  gesture::init();
  for (int i = 0; i < 4; ++i) gesture::inputs::motion()[i] = 0.5f;
  gesture::run();
  for (int i = 0; i < 3; ++i) say(gesture::outputs::last()[i]);
  return 7;
}
#endif
"""
TESTING = """
#include "board.h"
#include "gesture.h"

int program() {
  gesture::init();
  for (int i = 0; i < 4; ++i) gesture::inputs::motion()[i] = 0.5f;
  gesture::run();
  const float first = gesture::outputs::last()[0];
  say(first == first ? "a number: PASS\\n" : "a number: FAIL\\n");
  say(first > LARGEST ? "large: PASS\\n" : "large: FAIL too small\\n");
  return 0;
}
"""
BUILDER = """
from SCons.Script import Default, DefaultEnvironment

env = DefaultEnvironment()
machine = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
tools = {name: f"arm-none-eabi-{program}" for name, program in (("AR", "ar"), ("AS", "as"), ("CC", "gcc"), ("CXX", "g++"), ("LINK", "g++"))}
env.Replace(**tools, RANLIB="arm-none-eabi-ranlib", SIZETOOL="arm-none-eabi-size", PROGSUFFIX=".elf",
    SIZEPROGREGEXP=r"^(?:\\.text|\\.rodata|\\.data)\\s+(\\d+).*", SIZEDATAREGEXP=r"^(?:\\.data|\\.bss)\\s+(\\d+).*",
    SIZECHECKCMD="$SIZETOOL -A -d $SOURCES", SIZEPRINTCMD="$SIZETOOL -B -d $SOURCES")
arena = "-Wl,--defsym=arena_bytes=4096"
env.Append(CCFLAGS=[*machine, "-fno-exceptions"])
env.Append(LINKFLAGS=[*machine, "--specs=nano.specs", "-nostartfiles", arena, "-T", "$PROJECT_DIR/link.ld"])
program = env.BuildProgram()
Default([program, env.Alias("checkprogsize", program, env.VerboseAction(env.CheckUploadSize, "Checking size $PIOMAINPROG"))])
"""  # noqa: E501


@pytest.fixture(scope="module")
def pio(once: Once) -> Path:
    """PlatformIO in an environment of its own."""

    def install(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        command = [folder / "bin/python", "-m", "pip", "install", "-q", "platformio==6.2.0", "scons==4.11.1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            (folder / "why").write_text(done.stderr)

    folder = once("platformio", install)
    if (folder / "why").is_file():
        pytest.skip(f"pip cannot install platformio: {(folder / 'why').read_text().strip().splitlines()[-1]}")
    return folder / "bin/python"


@dataclass(frozen=True)
class Pio:
    """PlatformIO in a project."""

    command: tuple[str | Path, ...]
    project: Path
    environment: dict[str, str]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words], cwd=self.project, env=self.environment, capture_output=True, text=True, check=False
        )


def _here(ini: str, folder: Path, script: str) -> str:
    """The page's file, with the platform and the board that there are here, and the script's path."""
    places = {
        "platform = ststm32": f"platform = symlink://{folder}/platform",
        "board = nucleo_f446re": "board = mps2",
        "/path/to/model.py": script,
        "/path/to ": f"{Path(script).parent} ",
    }
    for word, place in places.items():
        assert word in ini
        ini = ini.replace(word, place)
    return ini


@pytest.fixture
def project(pio: Path, installed: Installed, tmp_path: Path) -> Pio:
    """A project with a platform of its own; etexport is found beside the script that platformio.ini
    names."""
    needs("arm-none-eabi-g++", "qemu-system-arm")
    script = installed.run("etexport", "--platformio-script", cwd=tmp_path).strip()
    texts = {
        "core/packages/tool-scons/package.json": json.dumps({"name": "tool-scons", "version": SCONS}),
        "core/packages/tool-scons/.piopm": json.dumps(
            {"type": "tool", "name": "tool-scons", "version": SCONS,
             "spec": {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}}
        ),
        "core/packages/tool-scons/scons.py": "import sys\nfrom SCons.Script.Main import main\n\nsys.exit(main())\n",
        "gcc/package.json": json.dumps({"name": "toolchain-here", "version": "1.0.0"}),
        "platform/platform.json": json.dumps(
            {"name": "here", "title": "here", "version": "1.0.0", "description": "none",
            "engines": {"platformio": "^6"},
             "packages": {"toolchain-here": {"type": "toolchain", "version": f"file://{tmp_path}/gcc"}}}
        ),
        "platform/platform.py": "from platformio.platform.base import PlatformBase\n\n\nclass "
            "HerePlatform(PlatformBase):\n    pass\n",
        "platform/boards/mps2.json": json.dumps(
            {"name": "MPS2", "vendor": "Arm", "url": "none", "frameworks": [],
             "build": {"cpu": "cortex-m4", "f_cpu": "25000000L", "mcu": "an386"},
             "upload": {"maximum_ram_size": 8192, "maximum_size": 4194304}}
        ),
        "platform/builder/main.py": BUILDER,
        "project/platformio.ini": _here(files("platformio.md")["platformio.ini"], tmp_path, script),
        "project/test/test_custom_runner.py": files("platformio.md")["test/test_custom_runner.py"],
        "project/src/board.h": BOARD_H, "project/src/board.cpp": BOARD, "project/src/main.cpp": FIRMWARE,
        "project/gesture.py": SCRIPT, "project/layers.py": LAYERS,
        "project/link.ld": (ROOT / "tests/examples/own_main.ld").read_text(),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    environment = {
        **os.environ,
        "PLATFORMIO_CORE_DIR": str(tmp_path / "core"),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
    }
    return Pio((pio, "-m", "platformio"), tmp_path / "project", environment)


def monitored(project: Pio, said: bytes) -> list[str]:
    """What `pio device monitor` shows of a port at which this is said; it wants a terminal, and gets a pseudo one."""
    board, port = pty.openpty()
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*project.command, "device", "monitor", "--port", os.ttyname(port)], cwd=project.project,
        stdin=terminal, stdout=terminal, stderr=terminal, env=project.environment,
    )  # fmt: skip
    os.close(terminal)
    shown = b""

    def wait_for(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            assert select.select([screen], [], [], 60)[0], shown.decode()
            try:
                shown += os.read(screen, 4096)
            except OSError:  # it has ended
                pytest.fail(shown.decode())

    try:
        wait_for(b"Quit:")
        os.write(board, said + b"\nthe end\n")
        wait_for(b"the end")
        os.write(screen, b"\x03")  # Ctrl-C, by which one leaves it
        assert process.wait(30) == 0
    finally:
        process.kill()
        for descriptor in (board, port, screen):
            os.close(descriptor)
    return [line.strip() for line in shown.decode().splitlines()]


def test_a_model_in_a_project(project: Pio, tmp_path: Path) -> None:
    """Built once and not again; simulated, with PyTorch's outputs and the firmware's exit code; tested, with what fails
    in JUnit's file; watched; anew when an imported file changes."""
    folder, pte = project.project, tmp_path / "gesture.pte"
    assert main(["export", str(folder / "gesture.py"), "-o", str(pte)]) == 0

    first = project("run")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Making gesture of gesture.py" in first.stdout and "RAM:  " in first.stdout and "warning" not in first.stderr
    again = project("run")
    assert again.returncode == 0 and "Making" not in again.stdout and "Compiling" not in again.stdout
    simulated = project("run", "-t", "simulate")
    assert simulated.returncode == 1 and "[simulate] Error 7" in simulated.stderr, simulated.stdout + simulated.stderr
    words = [line for line in simulated.stdout.split() if len(line) == 8 and set(line) <= set("0123456789abcdef")]
    with np.load(pte.with_suffix(".npz")) as arrays:
        eager = arrays["output_0"][0].ravel()
    outputs = np.array([int(word, 16) for word in words], np.uint32).view(np.float32)
    np.testing.assert_allclose(outputs, eager, rtol=1e-6)

    (folder / "test/test_gesture").mkdir()
    for largest, code in ((eager[0] - 1, 0), (eager[0] + 1, 1)):
        (folder / "test/test_gesture/test.cpp").write_text(TESTING.replace("LARGEST", f"{largest:.9g}f"))
        tested = project("test", "--junit-output-path", "results.xml")
        assert tested.returncode == code, tested.stdout + tested.stderr
        cases = list(ElementTree.parse(folder / "results.xml").iter("testcase"))
        failed = [one.find("failure") is not None for one in cases]
        assert [one.get("name") for one in cases] == ["a number", "large"] and failed == [False, code == 1]

    lines = monitored(project, b"ready\r\n" + encode("BUSY", 7, run=3) + b"and on")
    assert lines[-4:] == ["ready", "BUSY      run 3", "and on", "the end"]

    (folder / "layers.py").write_text(LAYERS.replace("HIDDEN = 8", "HIDDEN = 9"))
    changed = project("run")
    assert "Making gesture" in changed.stdout and "Linking" in changed.stdout

    (folder / "gesture.py").write_text(SCRIPT.replace("return Net()", "return Nett()"))
    wrong = project("run")
    assert (
        wrong.returncode == 1
        and "gesture.py" in wrong.stderr
        and "Nett" in wrong.stderr
        and "Traceback" not in wrong.stderr
    )
