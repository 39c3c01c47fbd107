"""Several methods of one program: planned on one arena, compiled, and called in turn over the link; numpy says what
they compute."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.board import load_board
from etexport.device import run
from etexport.emit import emit
from etexport.errors import ModelError
from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.plan import plan
from etexport.plan.problem import Region
from etexport.program import pte
from etexport.program.model import Array
from etexport.specialise.memory import place
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise_all
from etexport.stages.place import planned
from etexport.toolchain import gcc
from tests.program.programs import meter

LIBRARY = load_ops()
RANDOM = np.random.default_rng(2)
CALLS = [
    ("show", ()),
    *(("measure", (RANDOM.standard_normal(3).astype(np.float32),)) for _ in range(2)),
    ("show", ()),
    ("reset", ()),
    ("measure", (RANDOM.standard_normal(3).astype(np.float32),)),
    ("init", ()),
    ("show", ()),
    ("measure", (RANDOM.standard_normal(3).astype(np.float32),)),
]


def expected() -> Iterator[tuple[Array, ...]]:
    values = {
        value.name: value.data
        for method in meter().methods
        for value in method.values.values()
        if value.data is not None
    }
    total, calls = values["total"], 0
    for name, inputs in CALLS:
        if name == "measure":
            total, calls = total + inputs[0] * values["scale"], calls + 1
            yield total, np.array(calls)
        elif name == "show":
            yield (total / values["scale"],)
        else:
            total = values["total"] if name == "init" else np.zeros_like(total)
            calls = 0 if name == "init" else calls
            yield ()


def placed(optimize: str, features: frozenset[str] = frozenset()) -> tuple[Placed, ...]:
    program = pte.read(pte.write(meter()))
    (placed,) = place([specialise_all(program, Target(features, optimize), LIBRARY)], (Region("ram"),), planned(None))
    return placed


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("name", ["host", "qemu_mps2_an386"])
def test_methods_in_turn_over_the_link(name: str, optimize: str, tmp_path: Path) -> None:
    board = load_board(name)
    methods = placed(optimize, board.features)
    emit(methods, board, LIBRARY, program_hash=7, model_name="meter", out=tmp_path, poison=True)
    memory = json.loads((tmp_path / "memory.json").read_text())
    assert [one["name"] for one in memory["methods"]] == ["measure", "show", "reset"]
    assert [step["step"] for step in memory["steps"]] == list(range(7))
    elf = gcc.build(
        tmp_path, board, LIBRARY.include_dirs, sanitize=name == "host", probe_count=len(memory["steps"]) + 1
    ).elf
    done = run(elf, board, [inputs for _, inputs in CALLS], calls=[called for called, _ in CALLS], probes=True)
    assert [one.name for one in done.hello.methods] == ["measure", "show", "reset"]
    for (called, _), got, wanted in zip(CALLS, done.outputs, expected(), strict=True):
        assert len(got) == len(wanted), called
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, err_msg=called)
    ran = {called: {at for at, times in enumerate(one) if times} for (called, _), one in zip(
        [call for call in CALLS if call[0] != "init"], done.executions, strict=True)}  # fmt: skip
    assert ran == {"measure": {0, 1, 2, 3, 4}, "show": {5}, "reset": {6}}


def test_a_file_of_calls_runs_and_a_call_of_no_method_is_refused(tmp_path: Path) -> None:
    board = load_board("host")
    emit(placed("speed"), board, LIBRARY, program_hash=7, model_name="meter", out=tmp_path)
    elf = gcc.build(tmp_path, board, LIBRARY.include_dirs).elf
    named = {f"call_{at}_name": np.array(name) for at, (name, _) in enumerate(CALLS)}
    given = {
        f"call_{at}_input_{place}": one for at, (_, inputs) in enumerate(CALLS) for place, one in enumerate(inputs)
    }
    np.savez(tmp_path / "calls.npz", **named, **given)
    assert main(["run", str(tmp_path), "--board", "host", "--inputs", str(tmp_path / "calls.npz")]) == 0
    with np.load(tmp_path / "outputs.npz") as outputs:
        wanted = {
            f"call_{at}_output_{place}": one for at, made in enumerate(expected()) for place, one in enumerate(made)
        }
        assert outputs.keys() == wanted.keys()
        assert all(np.allclose(outputs[name], one, rtol=1e-6) for name, one in wanted.items())
    assert json.loads((tmp_path / "run.json").read_text())["calls"] == [name for name, _ in CALLS]
    with pytest.raises(ModelError, match="the program has no method 'forward'"):
        run(elf, board, [()], calls=["forward"])
    with pytest.raises(ModelError, match="the program has several methods, none called forward"):
        run(elf, board, [()])
    with pytest.raises(ModelError, match="sample 0: 0 inputs where 1 belong"):
        run(elf, board, [()], calls=["measure"])


def test_methods_share_one_arena() -> None:
    """As large as that of the largest method alone, with the states of all; a state is at one place in every method."""
    methods = placed("speed")
    (size,) = {one.solution.size["ram"] for one in methods}
    assert size == max(plan(one.problem).size["ram"] for one in methods)
    for state in ("total", "calls"):
        assert len({one.solution.places[state] for one in methods}) == 1
    assert [one.first for one in methods] == [0, 5, 6]


def test_the_interface_has_a_namespace_a_method(tmp_path: Path) -> None:
    """One that is called as a function of the interface gets another name there."""
    emit(placed("speed"), load_board("host"), LIBRARY, program_hash=7, model_name="meter", out=tmp_path)
    header = (tmp_path / "program.h").read_text()
    at = [header.index(f"namespace {name} {{") for name in ("measure", "show", "reset_")]
    assert at == sorted(at) and header.count("void reset();") == 1 and header.count("void run();") == 3
    source = (tmp_path / "program.cpp").read_text()
    assert all(f"void {name}::run() {{" in source for name in ("measure", "show", "reset_"))
    assert source.count("meter_scale[") == 1, "a constant that two methods have is stored once"
