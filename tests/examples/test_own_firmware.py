"""examples/own_firmware as its reader takes it: copied anywhere, made, run in QEMU; the numbers are PyTorch's."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from elftools.elf.elffile import ELFFile

HERE = Path(__file__).parents[2] / "examples" / "own_firmware"

pytestmark = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm") or not shutil.which("make"),
    reason="arm-none-eabi-gcc, qemu-system-arm or make is not installed",
)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(name: str, folder: Path) -> list[float]:
    """What the image says; its arena is a part of .bss, by a linker script that knows nothing of it."""
    shutil.copytree(HERE, folder, dirs_exist_ok=True)
    command = ["make", f"ETEXPORT={sys.executable} -m etexport", f"run_{name}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / f"{name}.elf").open("rb") as stream:
        elf = ELFFile(stream)
        (arena,) = [one for one in elf.get_section_by_name(".symtab").iter_symbols() if one.name.endswith("_arena")]
        section = elf.get_section(arena["st_shndx"])
        assert section.name == ".bss" and section["sh_type"] == "SHT_NOBITS" and arena["st_value"] % 16 == 0
    words = [line for line in (done.stdout + done.stderr).splitlines() if len(line) == 8]
    return np.array([int(word, 16) for word in words], np.uint32).view(np.float32).tolist()


def sensor(at: int) -> float:
    """As sampler.c has it."""
    phase = at * (1 + at // 40) % 32
    return (phase if phase < 16 else 32 - phase) / 8 - 1


def test_a_sampler_with_a_sliding_window(tmp_path: Path) -> None:
    network = script("gesture").model()
    windows = [[sensor(at) for at in range(end - 64, end)] for end in range(64, 160, 16)]
    with torch.no_grad():
        wanted = [network(torch.tensor(window).reshape(1, 1, 64)).flatten().tolist() for window in windows]
    np.testing.assert_allclose(np.reshape(made("sampler", tmp_path), (6, 3)), wanted, rtol=1e-5, atol=1e-6)
    assert 'score_classes[] = {"rest", "swing", "shake"}' in (tmp_path / "gesture" / "src" / "gesture_c.h").read_text()


def test_a_stream_that_remembers_until_it_is_reset(tmp_path: Path) -> None:
    network = script("stream").model()
    with torch.no_grad():
        wanted = [network(torch.tensor([[at % 4 - 1.5]])).item() for at in range(10)]
    found = made("stream", tmp_path)
    assert found[:10] == found[10:]
    np.testing.assert_allclose(found[:10], wanted, rtol=1e-5, atol=1e-6)


def test_two_networks_in_turns_on_one_arena(tmp_path: Path) -> None:
    """One array for both, smaller than two; the state of one is there after the other has run."""
    gesture, stream = script("gesture").model(), script("stream").model()
    wanted = []
    with torch.no_grad():
        for at in range(6):
            level = stream(torch.tensor([[at % 4 - 1.5]])).item()
            wave = level * (torch.arange(64) % 8 - 4)
            wanted.append([level, *gesture(wave.reshape(1, 1, 64)).flatten().tolist()])
    np.testing.assert_allclose(np.reshape(made("two", tmp_path), (6, 4)), wanted, rtol=1e-5, atol=1e-6)
    shared = json.loads((tmp_path / "two" / "gesture" / "memory.json").read_text())["arena"]
    apart = [json.loads((tmp_path / name / "memory.json").read_text())["arena"] for name in ("gesture", "stream")]
    assert shared["size"] < sum(one["size"] for one in apart) and shared["size"] >= max(one["size"] for one in apart)
