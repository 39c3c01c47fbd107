"""A board with 8 KB of fast and 1 MB of slow RAM runs keyword spotting with both in use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.board import load_board
from tests.conftest import Once

ROOT = Path(__file__).parents[2]
RAM = '[[memory]]\nname = "ram"\nkind = "ram"\naddress = 0x2000_0000\nsize = 0x40_0000\n'
FAST = '[[memory]]\nname = "fast"\nkind = "ram"\naddress = 0x2000_0000\nsize = 0x2000\ncost = 1\n'
SLOW = '[[memory]]\nname = "slow"\nkind = "ram"\naddress = 0x2100_0000\nsize = 0x10_0000\ncost = 4\n'

pytestmark = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"),
    reason="arm-none-eabi-gcc or qemu-system-arm is not installed",
)


@pytest.fixture(scope="module")
def program(once: Once) -> Path:
    def fill(folder: Path) -> None:
        assert (
            main(
                [
                    "export",
                    str(ROOT / "examples" / "mlperf_tiny" / "kws.py"),
                    "-o",
                    str(folder / "kws.pte"),
                    "--quantize",
                    "int8",
                ]
            )
            == 0
        )

    return once("kws-int8", fill) / "kws.pte"


def board(folder: Path, memories: str) -> Path:
    text = (ROOT / "boards" / "qemu_mps2_an386.toml").read_text()
    assert RAM in text
    path = folder / "two_memories.toml"
    path.write_text(text.replace(RAM, memories).replace("stack = 4096", "stack = 2048"))
    return path


def run(program: Path, where: Path, out: Path, *flags: str) -> list[np.ndarray]:
    assert main(["build", str(program), "--board", str(where), "-o", str(out), *flags]) == 0
    assert main(["run", str(out), "--samples", "2"]) == 0
    with np.load(out / "outputs.npz") as arrays:
        return [arrays[name] for name in arrays]


@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_both_are_used(optimize: str, program: Path, tmp_path: Path) -> None:
    """Stack and static data lie in the first; dead bytes of both are poisoned, and nothing changes."""
    where, out = board(tmp_path, SLOW + "\n" + FAST), tmp_path / "out"
    outputs = run(program, where, out, "--optimize", optimize)
    assert main(["validate", str(out)]) == 0
    memory = json.loads((out / "memory.json").read_text())
    slow, fast = memory["regions"]
    assert (slow["name"], fast["name"]) == ("slow", "fast") and 4096 < fast["size"] <= fast["capacity"] == 8192
    assert (
        slow["size"] + fast["size"] == memory["arena"]["size"] == json.loads((out / "sizes.json").read_text())["arena"]
    )
    touched = {
        name: [one["touched"] / one["size"] for one in memory["buffers"] if one["region"] == name]
        for name in ("slow", "fast")
    }
    assert touched["slow"] and touched["fast"]
    poisoned = run(program, where, tmp_path / "poisoned", "--optimize", optimize, "--poison")
    assert all(np.array_equal(one, other) for one, other in zip(outputs, poisoned, strict=True))
    assert main(["report", str(out), "--quiet"]) == 0
    page = (out / "report.html").read_text()
    assert f"slow: {slow['size']:,} of 1,044,480 bytes" in page and f"fast: {fast['size']:,} of 8,192 bytes" in page


def test_the_stack_lies_in_the_first(program: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(program, board(tmp_path, FAST + "\n" + SLOW), out)
    fast, slow = json.loads((out / "memory.json").read_text())["regions"]
    assert fast["capacity"] == 8192 - 2048 - 2048 and fast["size"] > 0 < slow["size"]


def test_what_fits_nowhere_is_told_before_compiling(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    less = board(tmp_path, SLOW.replace("0x10_0000", "0x1800") + "\n" + FAST.replace("0x2000\n", "0x400\n"))
    assert main(["build", str(program), "--board", str(less), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "region fast needs" in said or "region slow needs" in said, said


def test_rules_of_a_script(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a script wants elsewhere lies there, on the board that it names; what cannot be is told in a line."""
    where, pte = board(tmp_path, SLOW + "\n" + FAST), tmp_path / "kws.pte"

    def built(*rules: tuple[str, str, str]) -> dict[str, str]:
        shutil.copy(program, pte)
        with np.load(program.with_suffix(".npz")) as arrays:
            np.savez(pte.with_suffix(".npz"), **arrays, memory_rules=np.array(rules))
        generated = main(["generate", str(pte), "--board", str(where), "-o", str(tmp_path / "rules")])
        if generated:
            return {}
        memory = json.loads((tmp_path / "rules" / "memory.json").read_text())
        return {one["name"]: one["region"] for one in memory["buffers"]}

    plain = built(("another", "*", "nowhere"))
    moved = next(name for name, region in plain.items() if region == "fast" and "scratch" not in name)
    name = load_board(str(where)).name
    assert built((name, moved, "slow"))[moved] == "slow"
    assert set(built((name, "*", "slow")).values()) == {"slow"}
    layer = built((name, "fc", "slow"), (name, "fc.scratch", "fast"), (name, "*", "slow"))
    assert layer.pop("fc.scratch") == "fast" and set(layer.values()) == {"slow"}
    layer = built((name, "fc", "fast"), (name, "*", "slow"))
    assert [region for region in layer.values() if region == "fast"] == ["fast"], "the result of the layer"
    for rules, words in {
        ((name, moved, "tcm"),): "the board has no RAM called tcm",
        ((name, "nothing", "fast"),): "nothing in RAM is called nothing",
        ((name, "*", "fast"),): "region fast needs",
    }.items():
        assert not built(*rules)
        said = capsys.readouterr().err
        assert words in said and len(said.splitlines()) < 12, said
