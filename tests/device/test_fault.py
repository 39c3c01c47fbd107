"""Faults of a running board, in the terms of the model script."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from etexport.artifacts.records import write_record
from etexport.board import Board
from etexport.device import run
from etexport.device.elf import Place
from etexport.device.fault import cause_by_instruction, step_marks, step_of
from etexport.errors import DeviceFaultError
from tests.device.building import TINY
from tests.device.conftest import BOARDS, IN_QEMU, Firmware
from tests.device.tiny import BAD_INSTRUCTION, OVERFLOW, WRITE_NOWHERE, sample
from tests.report import handmade

STEPS = ((4, "sum", "aten::sum.out", 11), (7, "misbehave", "aten::relu.out", 12), (9, "table", "aten::mul.out", 13))
"""Handle, name, operator, and line of the script."""

LIKE = handmade.memory()
MEMORY = replace(
    LIKE,
    board="host",
    steps=tuple(
        replace(LIKE.steps[0], step=at, handle=handle, name=name, op=op, source=f"model.py:{line}")
        for at, (handle, name, op, line) in enumerate(STEPS)
    ),
)


def as_built(folder: Path, elf: Path) -> Path:
    """The ELF with what emit writes beside it."""
    shutil.copy(TINY / "program.cpp", folder / "program.cpp")
    write_record(folder / "memory.json", MEMORY)
    return Path(shutil.copy(elf, folder / "firmware.elf"))


def fault(board: Board, elf: Path, first: float) -> DeviceFaultError:
    with pytest.raises(DeviceFaultError) as caught:
        run(elf, board, [sample(0), sample(1, first)])
    return caught.value


METHODS = """\
void encode::run() {
  // 0  fc: aten::addmm.out
  linear();
}

bool decode::run(int32_t rows) {

  // 1  head: aten::addmm.out
  linear();
}
"""
TABLE = """\
ET_TABLE constexpr uint8_t kCalls[] = {0, 1, 0};
void run() {
    switch (kCalls[step]) {
      case 0:
        linear();
      default:  // 1
        softmax();
    }
}
"""


@pytest.mark.parametrize(
    ("text", "steps"), [(METHODS, {3: (0,), 5: None, 9: (1,), 11: None}), (TABLE, {3: None, 5: (0, 2), 7: (1,)})]
)
def test_a_line_of_the_program_is_a_step_s(text: str, steps: dict[int, tuple[int, ...] | None], tmp_path: Path) -> None:
    """In several methods; where steps are a table, of all that share a case."""
    (tmp_path / "program.cpp").write_text(text)
    marks = step_marks(tmp_path / "program.cpp")
    for line, expected in steps.items():
        found = step_of([Place("linear", "linear.h", line), Place("run", "program.cpp", line)], marks)
        assert found == (None if expected is None else (1, expected)), line
    assert step_marks(tmp_path / "none.cpp") == []


@pytest.mark.parametrize("probes", [False, True])
@pytest.mark.parametrize("name", BOARDS)
def test_a_bad_write_is_traced_to_the_line_of_the_script(
    firmware: Firmware, tmp_path: Path, name: str, probes: bool
) -> None:
    board, built = firmware(name, probes=probes)
    error = fault(board, as_built(tmp_path, built), WRITE_NOWHERE)
    assert error.exit_code == 4
    assert error.where == "model.py:12"
    assert "in run 2, in step 1 misbehave (aten::relu.out)" in error.what
    assert "in tiny::misbehave(float) at program.cpp:" in error.what
    assert "from tiny::run() at program.cpp:" in error.what
    assert (
        "0x70000000" in error.what
        or "0x00000010" in error.what
        or "(0x10)" in error.what
        or "UndefinedBehavior" in error.what
    )


@pytest.mark.parametrize("name", IN_QEMU)
def test_a_bad_instruction(firmware: Firmware, tmp_path: Path, name: str) -> None:
    board, built = firmware(name)
    error = fault(board, as_built(tmp_path, built), BAD_INSTRUCTION)
    assert error.what.startswith(("undefined instruction", "illegal instruction", "breakpoint"))
    assert error.where == "model.py:12"


@pytest.mark.parametrize("name", IN_QEMU)
def test_a_stack_overflow_is_called_so(firmware: Firmware, tmp_path: Path, name: str) -> None:
    board, built = firmware(name)
    error = fault(board, as_built(tmp_path, built), OVERFLOW)
    assert error.what.startswith("stack overflow, in run 2")
    assert "tiny::deep" in error.what
    assert "stack" in error.hint


def test_without_what_lies_beside_the_elf_the_function_is_still_named(firmware: Firmware, tmp_path: Path) -> None:
    board, built = firmware("qemu_mps2_an386")
    error = fault(board, Path(shutil.copy(built, tmp_path / "alone.elf")), WRITE_NOWHERE)
    assert "tiny::misbehave(float)" in error.what
    assert error.where == ""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("de01", "undefined instruction"),
        ("6019", "access to an address where nothing is (0x70000000)"),  # str r1, [r3]
        ("60d9", "access to an address where nothing is (0x7000000c)"),  # str r1, [r3, #12]
        ("5898", "unaligned access (0x70000001)"),  # ldr r0, [r3, r2]
        ("5c98", "access to an address where nothing is (0x70000001)"),  # ldrb r0, [r3, r2]
        ("885a", "access to an address where nothing is (0x70000002)"),  # ldrh r2, [r3, #2]
        ("c303", "access to an address where nothing is (0x70000000)"),  # stmia r3!, {r0, r1}
        # str r1, [r4], which a fault does not save
        ("6021", "access to an address where nothing is, or unaligned access"),
        ("4770", "hard fault"),  # bx lr
    ],
)
def test_what_a_core_without_fault_registers_may_have_done(code: str, told: str) -> None:
    registers = {"r0": 0, "r1": 0, "r2": 1, "r3": 0x70000000, "pc": 0x100}
    assert cause_by_instruction(registers, bytes.fromhex(code)[::-1]) == told
    assert "0x00000100" in cause_by_instruction(registers, None)
