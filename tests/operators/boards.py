"""Programs on boards: target side, plan, emit, compile, run over the serial link; the firmware's own files are compiled
once a board."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from etexport.board import Board, firmware_defines, firmware_sources, load_board
from etexport.device import Run, run
from etexport.emit import emit
from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.plan import Place, Problem, Solution
from etexport.plan.validate import validate
from etexport.program.model import Array, DType
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.pipeline import specialise
from etexport.toolchain import gcc

from .batch import Batch, batch
from .cases import Sample
from .oracle import difference, expected

BATCH = {"host": 240}
"""Samples a program (120 on others): the host compiles a kernel once for all of them, the rest of the work grows as
their square."""


@dataclass
class Bench:
    """A board with a folder for its builds. `objects` are the compiled files of the firmware."""

    board: Board
    optimize: str
    folder: Path
    sanitize: bool = False
    objects: list[Path] = field(default_factory=list)
    built: int = 0
    ran: Callable[[Path, Board, Sequence[Sequence[Array]]], Run] = run
    """What runs an image: a simulator, or an attached board that it is written to first."""

    @property
    def stored(self) -> bool:
        """Whether operands of cases lie in the image."""
        return "host" not in self.board.features

    def mismatches(self, samples: Sequence[Sample], library: Library, *, fused: bool = False) -> list[str]:
        """Run all samples; what differs from PyTorch, one line for each output that does. `fused`: each must be one
        step."""
        found: list[str] = []
        size = BATCH.get(self.board.name, 120)
        for start in range(0, len(samples), size):
            found.extend(self._mismatches(samples[start : start + size], library, fused))
        return found

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """The samples as one program, with operands where this board has them."""
        return batch(samples, [CASTS[at % len(CASTS)] for at in range(len(samples))], stored=self.stored)

    def _mismatches(self, samples: Sequence[Sample], library: Library, fused: bool) -> list[str]:
        whole = self.batch(samples)
        specialised = specialise(whole.program, Target(self.board.features, self.optimize), library)
        if fused:
            left = {step.instruction.op for step in specialised.calls.values()} & {
                "aten::hardtanh.out",
                "aten::add.out",
            } - {sample.op.name for sample in samples}
            assert not left, f"not fused: {left}"
        return differences(whole, self.run(specialised, whole.inputs, library))

    def run(
        self, specialised: Specialised, inputs: Sequence[Array], library: Library, solution: Solution | None = None
    ) -> tuple[Array, ...]:
        """The outputs of one sample. A `solution` of the test's own is taken as it is, and dead memory is left
        alone."""
        return self.run_all(specialised, [inputs], library, solution)[0]

    def run_all(
        self,
        specialised: Specialised,
        samples: Sequence[Sequence[Array]],
        library: Library,
        solution: Solution | None = None,
    ) -> Sequence[tuple[Array, ...]]:
        """The same of several samples, one after the other."""
        return self.results(self.generated(specialised, library, solution), library, samples)

    def generated(self, specialised: Specialised, library: Library, solution: Solution | None = None) -> Path:
        """A folder with the program's own sources."""
        the_problem = problem(specialised)
        placed = Placed(specialised, the_problem, solution or stacked(the_problem))
        if solution is None:
            validate(the_problem, placed.solution)
        self.built += 1
        out = self.folder / f"program{self.built}"
        number = int.from_bytes(hashlib.sha256(str(out).encode()).digest()[:8], "big")
        # Nobody reads a memory map, whose size is that of steps times values: of 240 results a third of all that is
        # done here.
        emit(
            (placed,),
            self.board,
            library,
            program_hash=number,
            model_name="cases",
            out=out,
            poison=solution is None,
            explain=False,
        )
        return out

    def results(self, out: Path, library: Library, samples: Sequence[Sequence[Array]]) -> Sequence[tuple[Array, ...]]:
        """What the program with its sources in `out` gives, built with the library's kernels as they are now."""
        return self.ran(self._build(out, library), self.board, samples).outputs

    def _build(self, out: Path, library: Library) -> Path:
        if not self.objects:
            self.objects = self._compile(firmware_sources(self.board), self.folder / "firmware", library, ())
        # Following variables through the code that sanitizers add takes gcc ten times as long as compiling it; what is
        # inlined has that code again at each place, and takes three times as long.
        less = ("-O1", "-fno-inline", "-g1") if "host" in self.board.features else ()
        less += CHECKS if self.sanitize else ()
        extra = ("-Werror", "-fno-var-tracking-assignments", *less)
        own = self._compile([out / name for name in gcc.GENERATED], out, library, extra)
        return gcc.link(out, self.board, [*own, *self.objects], script_dir=out, sanitize=self.sanitize).elf

    def _compile(self, sources: Sequence[Path], out: Path, library: Library, extra: tuple[str, ...]) -> list[Path]:
        out.mkdir(parents=True, exist_ok=True)
        objects = []
        for source in sources:
            target = out / f"{source.stem}.o"
            defines = firmware_defines(self.board)
            command = gcc.compile_command(
                self.board, source, target, out, library.include_dirs, defines, sanitize=self.sanitize
            )
            gcc.run([*command, *extra], self.board)
            objects.append(target)
        return objects


CHECKS = ("--param=asan-instrumentation-with-call-threshold=0", "-fno-sanitize=null,object-size,pointer-overflow")
"""Checks of addresses as calls, not in place at each access. The three kinds left out say before an access what
AddressSanitizer says at it (of null, of what is behind an object), or that 64 bits of address run over. Together they
took gcc two fifths of its time."""


CASTS = (DType.FLOAT32, DType.INT32, DType.FLOAT32, DType.INT8, DType.BOOL, DType.INT64, DType.FLOAT64)
"""Element types for results that take theirs from the output."""


def differences(whole: Batch, outputs: Sequence[Array]) -> list[str]:
    """Where these outputs of the program differ from PyTorch."""
    found = []
    for sample, node, positions in zip(whole.samples, whole.nodes, whole.results, strict=True):
        for index, (position, wanted) in enumerate(zip(positions, expected(sample), strict=True)):
            got = outputs[position]
            if takes_dtype_of_output(sample):
                with np.errstate(invalid="ignore"):
                    wanted = wanted.astype(got.dtype)
            message = difference(sample, node, index, got, wanted)
            if message:
                found.append(f"{sample}: {message}")
    return found


def takes_dtype_of_output(sample: Sample) -> bool:
    """No argument says which element type the result has."""
    return sample.op.name == "dim_order_ops::_to_dim_order_copy.out"


def bench(name: str, optimize: str, folder: Path, *, sanitize: bool = False) -> Bench:
    return Bench(load_board(name), optimize, folder, sanitize)


def stacked(problem: Problem) -> Solution:
    """One buffer after the other. Nearly all of them are live together here, so that there is nothing to be found."""
    places: dict[str, Place] = {}
    (region,) = problem.regions
    end = 0
    for buffer in problem.buffers:
        places[buffer.name] = Place(region.name, -(-end // buffer.align) * buffer.align)
        end = places[buffer.name].offset + buffer.size
    return Solution(places, {region.name: end}, {region.name: 0})
