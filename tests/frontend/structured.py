"""Random structured programs: branches and loops, nested, with values that are read again, cloned, swapped and kept
over rounds.

    python -m tests.frontend.structured --count 200 --seed 1 --board host

exports each and compares it with eager PyTorch: in numpy on the planned bytes, and with `--board` built and run there,
with poison.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from etexport.board import load_board
from etexport.device import run
from etexport.frontend import export
from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.plan import plan
from etexport.plan.validate import validate
from etexport.program import pte
from etexport.program.model import Role
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise
from etexport.stages.generate import generate
from etexport.toolchain import gcc
from tests.specialise.interpret import interpret

HEAD = """\
import torch
from torch import nn
from torch._higher_order_ops.map import map as loop_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4) * 0.5)
        self.register_buffer("s", torch.zeros(4))

    def forward(self, x, y):
"""

TAIL = """

def model():
    torch.manual_seed(0)
    return Net()


def example_inputs():
    return torch.ones(4), torch.ones(4)


def samples():
    torch.manual_seed(1)
    return torch.randn(6, 4), torch.randn(6, 4)
"""


@dataclass
class Writer:
    """Writes the statements of a program; every value is a vector of four floats."""

    random: random.Random
    names: int = 0
    lines: list[str] = field(default_factory=list)

    def program(self) -> str:
        kept = self.statements(["x", "y", "self.s"], 2, self.random.randint(3, 5))
        given = self.random.sample(kept, min(3, len(kept)))
        if self.random.random() < 0.5:
            self.lines.append(f"self.s.copy_({self.random.choice(kept)})")
        return (
            HEAD
            + textwrap.indent("\n".join((*self.lines, f"return {', '.join(f'{one} * 1' for one in given)},")), " " * 8)
            + TAIL
        )

    def new(self, stem: str = "v") -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def statements(self, known: list[str], depth: int, count: int) -> list[str]:
        """Writes so many; returns all names that are known then."""
        known = list(known)
        for at in range(count):
            kinds = (
                [self.plain]
                if not depth or (at and self.random.random() < 0.4)
                else [self.cond, self.loop, self.scan, self.map]
            )
            known += self.random.choice(kinds)(known, depth)
        return known

    def plain(self, known: list[str], depth: int) -> list[str]:
        a, b, new = self.random.choice(known), self.random.choice(known), self.new()
        made = self.random.choice(
            (
                f"{a} + {b}",
                f"torch.tanh({a} - {b} * 0.5)",
                f"torch.tanh({a} @ self.w) + {b}",
                f"{a}.clone()",
                f"{a}.flip(0)",
                f"{a}.reshape(2, 2).t().reshape(4) - {b}",
                f"torch.cat([{a}[2:], {b}[:2]])",
                f"torch.relu({a})",
            )
        )
        self.lines.append(f"{new} = {made}")
        return [new]

    def function(self, parameters: list[str], known: list[str], depth: int, results: int) -> str:
        """A nested function of these parameters, which may read what is known outside too; returns its name."""
        name = self.new("f")
        outer, self.lines = self.lines, []
        seen = self.statements([*parameters, *parameters, *known], depth - 1, self.random.randint(1, 2))
        given = [f"{self.random.choice(seen[-3:] + parameters)}.clone()" for _ in range(results)]
        inner = textwrap.indent("\n".join((*self.lines, f"return {', '.join(given)},")), "    ")
        self.lines = [*outer, f"def {name}({', '.join(parameters)}):", inner]
        return name

    def cond(self, known: list[str], depth: int) -> list[str]:
        operands = [self.random.choice(known) for _ in range(2)]
        count = self.random.randint(1, 2)
        yes, no = (self.function([self.new("a"), self.new("a")], known, depth, count) for _ in range(2))
        new = [self.new() for _ in range(count)]
        asked = f"{self.random.choice(known)}[{self.random.randint(0, 3)}] > 0"
        self.lines.append(f"{', '.join(new)}, = torch.cond({asked}, {yes}, {no}, ({', '.join(operands)}))")
        return new

    def loop(self, known: list[str], depth: int) -> list[str]:
        carried = [self.random.choice(known) for _ in range(2)]
        body = self.function([self.new("a"), self.new("a")], known, depth, 2)
        new, count = [self.new() for _ in carried], self.new("n")
        rounds = self.random.randint(0, 4)
        first, more, step = self.random.choice(
            (
                ("torch.zeros((), dtype=torch.int64)", f"(n < {rounds}) & (a.sum() < 3)", "n + 1"),
                ("torch.ones((), dtype=torch.int64)", f"n < {2**rounds}", "n * 2"),
                ("0", f"n < {rounds}", "n + 1"),
            )
        )
        self.lines.append(
            f"{count}, {', '.join(new)} = while_loop(lambda n, a, b: {more}, lambda n, a, b: ({step}, *{body}(a, b)), "
            f"({first}, {', '.join(f'{one}.clone()' for one in carried)}))"
        )
        self.lines.append(f"{new[0]} = {new[0]} * 0.5 + {count}")
        return new

    def scan(self, known: list[str], depth: int) -> list[str]:
        rows = ", ".join(self.random.choice(known) for _ in range(self.random.randint(1, 3)))
        body = self.function([self.new("a"), self.new("a")], known, depth, 2)
        carry, stacked = self.new(), self.new("t")
        first = self.random.choice(known)
        self.lines.append(
            f"{carry}, {stacked} = scan(lambda h, x: {body}(h, x), {first}.clone(), torch.stack([{rows}]))"
        )
        new = self.new()
        self.lines.append(f"{new} = torch.tanh({stacked}).sum(0)")
        return [carry, new]

    def map(self, known: list[str], depth: int) -> list[str]:
        rows = ", ".join(self.random.choice(known) for _ in range(self.random.randint(1, 3)))
        body, new = self.function([self.new("a")], known, depth, 1), self.new()
        self.lines.append(f"{new} = loop_map(lambda x: {body}(x)[0], torch.stack([{rows}]))[-1] * 1")
        return [new]


def text_of(seed: int) -> str:
    return Writer(random.Random(seed)).program()


def check(seed: int, folder: Path, board: str = "") -> None:
    """Export and compare with eager; AssertionError names the seed. `board`: build and run it there too."""
    script = folder / f"structured_{seed}.py"
    script.write_text(text_of(seed))
    file = script.with_suffix(".pte")
    export(script, file)
    library = load_ops()
    specialised = specialise(pte.load(file), Target(), library)
    the_problem = problem(specialised)
    solution = plan(the_problem)
    validate(the_problem, solution)
    placed = Placed(specialised, the_problem, solution)
    with np.load(file.with_suffix(".npz")) as arrays:
        expected = [
            arrays[f"output_{at}"] for at in range(sum(name.startswith("output_") for name in arrays.files) - 1)
        ]
        inputs = list(zip(arrays["input_0"], arrays["input_1"], strict=True))
    # in numpy every run is the first
    alone = not any(value.role is Role.STATE for value in specialised.method.values.values())
    _compare(seed, "in numpy", [interpret(placed, library, one) for one in (inputs if alone else inputs[:1])], expected)
    if board:
        out = folder / f"structured_{seed}_{board}"
        generate(file, board, out, optimize="speed", name="structured", poison=True)
        elf = gcc.build(out, load_board(board), library.include_dirs).elf
        _compare(seed, f"on {board}", run(elf, load_board(board), inputs).outputs, expected)


def _compare(seed: int, where: str, got: list[list[np.ndarray]], expected: list[np.ndarray]) -> None:
    for at, wanted in enumerate(expected):
        np.testing.assert_allclose(
            np.stack([one[at] for one in got]),
            wanted[: len(got)],
            rtol=1e-4,
            atol=1e-5,
            err_msg=f"seed {seed} {where}, output {at}",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--board", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.seed, options.seed + options.count):
            check(number, Path(folder), options.board)
            print(f"{number} agrees")
