"""A model script in a PlatformIO project, by a PlatformIO whose Python has neither etexport nor torch, and a platform
made here: nothing is fetched but PlatformIO itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from tests.conftest import Once
from tests.installed import Installed
from tests.library.test_library import ROOT, needs
from tests.library.test_live import LAYERS, SCRIPT
from tests.pages import files

SCONS = "4.41101.0"
"""PlatformIO's number for SCons 4.11.1, the version that it wants."""
FIRMWARE = """
#include <cstdint>
#include "gesture.h"

extern "C" uint32_t stack_top[];
extern "C" void reset();

namespace {
volatile uint32_t* const uart = reinterpret_cast<volatile uint32_t*>(0x40004000);

void say(char letter) {
  while (uart[1] & 1) {
  }
  uart[0] = static_cast<uint32_t>(letter);
}

[[noreturn]] void leave(uint32_t code) {
  const uint32_t block[] = {0x20026, code};
  register uint32_t operation asm("r0") = 0x20;
  register const void* argument asm("r1") = block;
  asm volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
  for (;;) {
  }
}
}  // namespace

struct Vectors {
  uint32_t* stack;
  void (*reset)();
};
__attribute__((used, section(".vectors"))) const Vectors vectors = {stack_top, reset};

void reset() {
  *reinterpret_cast<volatile uint32_t*>(0xE000ED88) |= 0xF << 20;
  uart[4] = 16;
  uart[2] = 3;
  gesture::init();
  for (int i = 0; i < 4; ++i) gesture::inputs::motion()[i] = 0.5f;
  gesture::run();
  for (int i = 0; i < 3; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, gesture::outputs::last() + i, 4);
    for (int shift = 28; shift >= 0; shift -= 4) say("0123456789abcdef"[bits >> shift & 15]);
    say('\\n');
  }
  leave(7);
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


Pio = Callable[..., subprocess.CompletedProcess[str]]


def _here(ini: str, folder: Path, script: str) -> str:
    """The page's file, with the platform and the board that there are here, and the script's path."""
    places = {
        "platform = ststm32": f"platform = symlink://{folder}/platform",
        "board = nucleo_f446re": "board = mps2",
        "/path/to/model.py": script,
    }
    for word, place in places.items():
        assert word in ini
        ini = ini.replace(word, place)
    return ini


@pytest.fixture
def run(pio: Path, installed: Installed, tmp_path: Path) -> Pio:
    """run(words) in a project with a platform of its own; etexport is found beside the script that platformio.ini
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
        "project/gesture.py": SCRIPT, "project/layers.py": LAYERS,
        "project/link.ld": (ROOT / "tests/examples/own_main.ld").read_text(),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def pio_run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PLATFORMIO_CORE_DIR": str(tmp_path / "core"),
            "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
        }
        command = [pio, "-m", "platformio", "run", *words]
        return subprocess.run(
            command, cwd=tmp_path / "project", env=environment, capture_output=True, text=True, check=False
        )

    return pio_run


def test_a_model_in_a_project(run: Pio, tmp_path: Path) -> None:
    """Built once and not again; simulated, with PyTorch's outputs and the firmware's exit code; anew when an imported
    file changes."""
    project, pte = tmp_path / "project", tmp_path / "gesture.pte"
    assert main(["export", str(project / "gesture.py"), "-o", str(pte)]) == 0
    (project / "src").mkdir()
    (project / "src/main.cpp").write_text(FIRMWARE)

    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Making gesture of gesture.py" in first.stdout and "RAM:  " in first.stdout and "warning" not in first.stderr
    again = run()
    assert again.returncode == 0 and "Making" not in again.stdout and "Compiling" not in again.stdout
    simulated = run("-t", "simulate")
    assert simulated.returncode == 1 and "[simulate] Error 7" in simulated.stderr, simulated.stdout + simulated.stderr
    words = [line for line in simulated.stdout.split() if len(line) == 8 and set(line) <= set("0123456789abcdef")]
    with np.load(pte.with_suffix(".npz")) as arrays:
        eager = arrays["output_0"][0].ravel()
    outputs = np.array([int(word, 16) for word in words], np.uint32).view(np.float32)
    np.testing.assert_allclose(outputs, eager, rtol=1e-6)

    (project / "layers.py").write_text(LAYERS.replace("HIDDEN = 8", "HIDDEN = 9"))
    changed = run()
    assert "Making gesture" in changed.stdout and "Linking" in changed.stdout

    (project / "gesture.py").write_text(SCRIPT.replace("return Net()", "return Nett()"))
    wrong = run()
    assert (
        wrong.returncode == 1
        and "gesture.py" in wrong.stderr
        and "Nett" in wrong.stderr
        and "Traceback" not in wrong.stderr
    )
