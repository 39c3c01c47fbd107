"""A placed program by hand: column sums, two linears, an addition, state; every kind of operand once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from etexport.board import Board, Counter, Memory, Toolchain
from etexport.kernel.call import Call, Const, Operand, Read, RowRead, Scratch, Target, Window, Write
from etexport.kernel.library import Library
from etexport.plan.problem import Buffer, Problem, Region, Solution
from etexport.program.model import Array, DType, Instruction, Method, Ref, Role, Source, Storage, TensorSpec, Value
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.schedule import CallStep, Schedule
from tests.plan.oracle import in_ram

KERNELS = Path(__file__).parent / "kernels"
LIBRARY = Library({}, (KERNELS,))
RNG = np.random.default_rng(7)
TAPS = np.array([0.5, -1.25, 2.0], np.float32)
FC = RNG.standard_normal((6, 12)).astype(np.float32)
OUT = RNG.standard_normal((4, 6)).astype(np.float32)
OUT_BIAS = RNG.standard_normal(4).astype(np.float32)
STATE = np.arange(6, dtype=np.float32).reshape(2, 3) + 1


HOST, ARM, RISCV = (
    Board(
        name, "for the tests of emit", core, frozenset({feature}), arch, "", {}, Toolchain(prefix, flags),
        (Memory("flash", "flash", 0x8000_0000, 1 << 20), Memory("ram", "ram", 0x2000_0000, 1 << 16)), Counter("", ""),
        4096,
    )
    for name, core, feature, arch, prefix, flags in (
        ("host", "host", "host", "host", "", ()),
        ("arm", "Cortex-M4F", "arm", "cortex_m", "arm-none-eabi-",
        ("-mcpu=cortex-m4", "-mthumb", "--specs=nano.specs")),
        ("riscv", "RV32IMAFC", "riscv", "riscv", "riscv64-unknown-elf-",
         ("-misa-spec=2.2", "-march=rv32imafc", "-mabi=ilp32f", "--specs=picolibc.specs")),
    )
)  # fmt: skip


def f32(*shape: int) -> TensorSpec:
    return TensorSpec(DType.FLOAT32, shape)


def expected(image: Array) -> tuple[Array, Array]:
    """What the program computes for an image (1, 4, 3): logits (1, 4) and the new state (2, 3)."""
    padded = np.vstack([np.zeros((1, 3)), image[0], np.zeros((1, 3))])
    column = sum(TAPS[k] * padded[k : k + 4] for k in range(3)) + image[0]
    hidden = np.maximum(FC.astype(np.float64) @ column.reshape(12), 0)
    total = STATE + hidden.reshape(2, 3)
    return OUT.astype(np.float64) @ total.reshape(6) + OUT_BIAS, total


def placed(optimize: str = "speed", offsets: dict[str, int] | None = None) -> Placed:
    """image -> column sums (+ image) -> linear, relu -> + state (in place of it) -> linear with bias."""
    taps = Value(1, "taps", f32(3), Role.CONSTANT, TAPS)
    values = [
        Value(0, "image", f32(1, 4, 3), Role.INPUT),
        taps,
        Value(2, "column", f32(1, 4, 3), Role.ACTIVATION),
        Value(3, "flat", f32(1, 12), Role.ACTIVATION, storage=Storage(2)),
        Value(4, "double", f32(1, 6), Role.ACTIVATION),
        Value(5, "memory", f32(2, 3), Role.STATE, STATE),
        Value(6, "logits", f32(1, 4), Role.OUTPUT),
        Value(7, "same_taps", f32(3), Role.CONSTANT, TAPS.copy()),
    ]
    method = Method("forward", {value.id: value for value in values}, (), (0,), (6, 5, 7))
    window = Window(
        input=0, output=2, batch=1, in_rows=4, in_row=3, out_rows=4, out_row=3, kernel=3, stride=1, pad=1, dilation=1,
        pad_value=0.0, pad_elements=3,
    )  # fmt: skip
    steps = [
        _step(3, "column", (Ref(0), Ref(1)), 2, "toy_column", {"columns": 3}, (Read(1), RowRead(0)), window),
        _step(5, "fc", (Ref(3),), 4, "toy_linear", _linear(12, 6, 0.0),
        (Write(4), Read(3), Const("weight", FC), Const("bias", None))),
        _step(8, "add", (Ref(5), Ref(4)), 5, "toy_add", {"sizes": (2, 3)},
        (Write(5), Read(5), Read(4), Scratch(DType.FLOAT32, 6))),
        _step(9, "logits", (Ref(5),), 6, "toy_linear", _linear(6, 4, -math.inf),
              (Write(6), Read(5), Const("weight", OUT), Const("bias", OUT_BIAS))),
    ]  # fmt: skip
    method = replace(method, instructions=tuple(step.instruction for step in steps))
    problem = Problem(
        (
            Buffer("image", 48, ((0, 1),)),
            Buffer("column", 48, ((0, 2),)),
            Buffer("double", 24, ((1, 3),)),
            Buffer("memory", 24, ((0, 5),)),
            Buffer("add.scratch", 24, ((2, 3),)),
            Buffer("logits", 16, ((3, 5),)),
        ),
        (Region("ram", 4096),),
    )
    good = {"memory": 0, "column": 32, "image": 80, "double": 80, "add.scratch": 32, "logits": 32}
    solution = Solution(in_ram({**good, **(offsets or {})}), {"ram": 128}, {"ram": 120}, "by hand")
    return Placed(Specialised(method, Schedule(tuple(steps)), Target(frozenset(), optimize)), problem, solution)


def _linear(inputs: int, outputs: int, low: float) -> dict[str, int | float]:
    return {"in": inputs, "out": outputs, "low": low, "high": math.inf}


def _step(
    handle: int, name: str, args: tuple[Ref, ...], out: int, function: str, geometry: dict[str, object],
    operands: tuple[Operand, ...], window: Window | None = None,
) -> CallStep:  # fmt: skip
    source = Source("toy.py", 10 + handle, f"{name} = self.{name}(x)  # a line that ends in \\")
    instruction = Instruction(f"toy::{name}.out", args, (out,), handle, name, source)
    return CallStep(instruction, Call(function, "toy/toy.h", geometry, operands, window, macs=12))  # type: ignore[arg-type]
