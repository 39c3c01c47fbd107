"""The poison run on real plans: right ones change no output, one forged overlap anywhere changes some."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from etexport.artifacts.reference import read_samples
from etexport.board import firmware_defines, firmware_sources, load_board
from etexport.device import run
from etexport.emit import emit
from etexport.frontend import export
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.passes import pipeline
from etexport.plan import Problem, Solution, plan
from etexport.program import pte
from etexport.resources import root
from etexport.specialise import memory
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.pipeline import specialise
from etexport.toolchain import gcc
from tests.plan.oracle import in_ram

HOST = load_board("host")
FORGED = 10
"""Pairs of buffers forged for each model, drawn with a fixed seed."""


@dataclass
class Bench:
    """A model on the host board, whose firmware is compiled once and linked with one generated program after
    another."""

    folder: Path
    library: Library
    specialised: Specialised
    problem: Problem
    samples: list[tuple[np.ndarray, ...]]

    def outputs(self, solution: Solution, *, poison: bool) -> tuple[tuple[np.ndarray, ...], ...]:
        emit(
            (Placed(self.specialised, self.problem, solution),), HOST, self.library, program_hash=1, model_name="model",
            out=self.folder, poison=poison,
        )  # fmt: skip
        objects = []
        for source in gcc.sources(HOST, self.folder):
            objects.append(self.folder / f"{source.stem}.o")
            if source not in firmware_sources(HOST) or not objects[-1].exists():
                command = gcc.compile_command(
                    HOST, source, objects[-1], self.folder, self.library.include_dirs, firmware_defines(HOST)
                )
                gcc.run([part if part != "-O2" else "-O1" for part in command], HOST)
        return run(gcc.link(self.folder, HOST, objects, script_dir=self.folder).elf, HOST, self.samples).outputs


@pytest.fixture(scope="module", params=["own_project", "mlperf_tiny/kws"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("poison")
    script = root() / "examples" / (f"{request.param}.py" if "/" in request.param else f"{request.param}/model.py")
    export(script, folder / "model.pte")
    library = load_ops()
    program = pipeline.run(pte.read((folder / "model.pte").read_bytes()), library)
    specialised = specialise(program, Target(HOST.features), library)
    return Bench(folder, library, specialised, memory.problem(specialised), read_samples(folder / "model.npz", 3))


def same(one: tuple[tuple[np.ndarray, ...], ...], other: tuple[tuple[np.ndarray, ...], ...]) -> bool:
    """Bit for bit."""
    return all(a.tobytes() == b.tobytes() for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def apart(problem: Problem) -> dict[str, int]:
    """Every buffer in memory of its own."""
    ends = itertools.accumulate((-(-buffer.size // 16) * 16 for buffer in problem.buffers), initial=0)
    return {buffer.name: offset for buffer, offset in zip(problem.buffers, ends, strict=False)}


def forgeries(problem: Problem) -> list[dict[str, int]]:
    """Plans with one overlap of a few bytes each, between two buffers that are alive together."""
    pairs = [
        (a, b)
        for a, b in itertools.combinations(problem.buffers, 2)
        if any(max(p[0], q[0]) < min(p[1], q[1]) for p in a.live for q in b.live)
    ]
    drawn = random.Random(0).sample(pairs, min(FORGED, len(pairs)))
    plans = []
    for a, b in drawn:
        offsets = apart(problem)
        # Behind everything else, where nothing but these two meets: one starts before the other ends, or, where a
        # kernel allows that of its last bytes, with it.
        end = max(offsets.values()) + max(buffer.size for buffer in problem.buffers) + 16
        low, high = (a, b) if a.live[0][0] >= b.live[0][0] else (b, a)
        offsets[low.name] = -(-end // 16) * 16
        offsets[high.name] = offsets[low.name] + -(-low.size // 16) * 16 - 16
        if allowed(problem, offsets):
            offsets[high.name] = offsets[low.name]
        plans.append(offsets)
    return plans


def allowed(problem: Problem, offsets: dict[str, int]) -> bool:
    named = {buffer.name: buffer for buffer in problem.buffers}
    return any(
        offsets[low.low] < offsets[low.high] + named[low.high].size
        and offsets[low.high] < offsets[low.low] + named[low.low].size
        and offsets[low.high] - offsets[low.low] >= low.distance
        for low in problem.overlaps
    )


def test_a_right_plan_changes_nothing(bench: Bench) -> None:
    solution = plan(bench.problem)
    assert same(bench.outputs(solution, poison=False), bench.outputs(solution, poison=True))


def test_every_forged_overlap_changes_an_output(bench: Bench) -> None:
    solution = plan(bench.problem)
    good = bench.outputs(solution, poison=False)
    tried = 0
    for offsets in forgeries(bench.problem):
        if allowed(bench.problem, offsets):
            continue
        tried += 1
        size = max(offsets[buffer.name] + buffer.size for buffer in bench.problem.buffers)
        forged = replace(solution, places=in_ram(offsets), size={"ram": size})
        moved = [name for name, offset in offsets.items() if offset != apart(bench.problem)[name]]
        assert not same(good, bench.outputs(forged, poison=True)), f"nobody noticed that {moved} share bytes"
    assert tried >= 3
