"""The int8 networks under a main of one's own, with its own linker script: what they take in RAM, and how soon they are
ready."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from etexport.__main__ import main
from etexport.board import load_board
from etexport.resources import kernel_folders
from etexport.toolchain import gcc
from etexport.toolchain.stack import stack_bound

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples" / "mlperf_tiny"
BOARD = "qemu_mps2_an386"
MORE = 1_536
"""Bytes above the arena that stack and static memory may take."""
READY = 20_000
"""Instructions from reset until run() may be called, at most."""

pytestmark = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"),
    reason="arm-none-eabi-gcc or qemu-system-arm is not installed",
)


@pytest.mark.parametrize(
    ("model", "optimize"), [("kws", "speed"), ("ic", "speed"), ("vww", "speed"), ("ad", "speed"), ("kws", "size")]
)
def test_ram_and_start(model: str, optimize: str, tmp_path: Path) -> None:
    program, bundled = tmp_path / "model.pte", tmp_path / "bundled"
    assert main(["export", str(EXAMPLES / f"{model}.py"), "-o", str(program), "--quantize", "int8"]) == 0
    how = ["--board", BOARD, "--name", model, "--optimize", optimize]
    assert main(["build", str(program), *how, "-o", str(bundled)]) == 0
    assert main(["run", str(bundled), "--samples", "1"]) == 0
    with np.load(program.with_suffix(".npz")) as samples, np.load(bundled / "outputs.npz") as outputs:
        image, expected = samples["input_0"][0], outputs["output_0"][0]

    elf, arena = own_image(bundled, model)
    header = (bundled / "program.h").read_text()
    order = re.search(r"_dim_order\[\] = \{([\d, ]+)\}", header)
    assert order is not None and image.dtype == np.int8
    (tmp_path / "input.bin").write_bytes(image.transpose([int(axis) for axis in order[1].split(",")]).tobytes())
    machine = ["-M", "mps2-an386", "-icount", "shift=6,sleep=off", "-semihosting-config", "enable=on,target=native"]
    quiet = ["-display", "none", "-monitor", "none", "-serial", "none", "-nic", "none"]
    done = subprocess.run(
        ["qemu-system-arm", *machine, *quiet, "-kernel", str(elf)], cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 0
    answer = (tmp_path / "output.bin").read_bytes()
    ticks, used = np.frombuffer(answer[:8], np.uint32).tolist()
    assert answer[8:] == expected.tobytes(), "the outputs are those of the bundled image"

    with elf.open("rb") as stream:
        sections = {section.name: section["sh_size"] for section in ELFFile(stream).iter_sections()}
    assert sections[".arena"] == arena
    static, stack = sections[".data"] + sections[".bss"], sections[".stack"]
    assert arena + static + stack <= arena + MORE
    bound = stack_bound(
        elf, gcc.tool(load_board(BOARD), "objdump"), sorted(elf.parent.glob("*.su")), entries=["reset"]
    ).bound
    assert used <= bound <= stack, "what was painted over, what is proven, what there is"
    ready = round(ticks * 5 / 8)
    assert 0 < ready <= READY
    report = json.loads((bundled / "sizes.json").read_text())
    without_link = report["arena"] + report["static"]["total"] - report["static"]["runtime"] + report["stack_bound"]
    print(
        f"{model} {optimize}: arena {arena} + static {static} + stack {bound} (used {used}) = "
        f"{arena + static + bound}, ready at {ready}"
    )
    assert arena + static + bound <= without_link, "the report promises no less than it takes"


def own_image(folder: Path, model: str) -> tuple[Path, int]:
    """The program of this folder linked with own_main.cpp by own_main.ld, and the bytes of its arena."""
    board, header = load_board(BOARD), (folder / "program.h").read_text()
    arena = int(re.search(r"kArenaBytes = (\d+)", header)[1])  # type: ignore[index]
    names = re.findall(r"constexpr size_t (\w+)_elements = (\d+);", header)
    (input_name, inputs), (output_name, outputs) = names
    out = folder.parent / "own"
    out.mkdir()
    facts = {"NET": model, "INPUT": input_name, "INPUT_BYTES": inputs, "OUTPUT": output_name, "OUTPUT_BYTES": outputs}
    objects = []
    for source in (folder / "program.cpp", folder / "constants.S", HERE / "own_main.cpp"):
        objects.append(out / f"{source.stem}.o")
        command = gcc.compile_command(board, source, objects[-1], folder, kernel_folders(), {})
        defines = [f"-D{name}={value}" for name, value in facts.items()] if source.stem == "own_main" else []
        gcc.run([*command, *defines], board)
    elf = out / "own.elf"
    script = ["-T", str(HERE / "own_main.ld"), f"-Wl,--defsym=arena_bytes={arena}"]
    gcc.run([gcc.tool(board, "gcc"), *gcc.link_flags(board), *script, *map(str, objects), "-lm", "-o", str(elf)], board)
    return elf, arena
