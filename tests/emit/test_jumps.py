"""A schedule with a loop and branches, made by hand: planned, poisoned, compiled and run; numpy says what it
computes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.board import load_board
from etexport.device import run
from etexport.emit import _templates, emit
from etexport.emit.blocks import Form, forms
from etexport.emit.wires import wires
from etexport.errors import ProgramError
from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.plan import plan, validate
from etexport.program.flow import lives
from etexport.program.model import (
    JUMP_FALSE,
    MOVE,
    Array,
    DType,
    Instruction,
    Method,
    Ref,
    Role,
    Storage,
    TensorSpec,
    Value,
)
from etexport.program.verify import verify_method
from etexport.specialise.contents import check_contents
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.pipeline import choose_kernels, tidy
from etexport.specialise.schedule import JumpStep, Schedule, Step
from etexport.toolchain import gcc
from tests.specialise.interpret import interpret

LIBRARY = load_ops()
BIG = 96
WEIGHTS = np.random.default_rng(0).standard_normal((2, BIG)).astype(np.float32)

X, ROUNDS, ONE, ZERO, H, H0, H1, N, N0, N1, DONE, TOTAL, UP, WIDE, FIRST, SECOND, BOTH, OTHER, RESULT, KEPT, LOW = (
    range(21)
)


def grown(carried_in: int = H) -> Method:
    """`h = x`, doubled until it was done `rounds` times, once at least; then on one of two ways, of which one takes
    much memory; negated where its sum is below a limit; `x` is added."""
    values = [
        Value(X, "x", TensorSpec(DType.FLOAT32, (BIG,)), Role.INPUT),
        Value(ROUNDS, "rounds", TensorSpec(DType.INT64, ()), Role.INPUT),
        Value(ONE, "one", TensorSpec(DType.INT64, ()), Role.CONSTANT, np.array(1)),
        Value(ZERO, "zero", TensorSpec(DType.INT64, ()), Role.CONSTANT, np.array(0)),
        _float(H, "h"),
        _float(H0, "h_first", carried_in),
        _float(H1, "h_next", H),
        Value(N, "n", TensorSpec(DType.INT64, ()), Role.ACTIVATION),
        Value(N0, "n_first", TensorSpec(DType.INT64, ()), Role.ACTIVATION, storage=Storage(N)),
        Value(N1, "n_next", TensorSpec(DType.INT64, ()), Role.ACTIVATION, storage=Storage(N)),
        Value(DONE, "done", TensorSpec(DType.BOOL, ()), Role.ACTIVATION),
        Value(TOTAL, "total", TensorSpec(DType.FLOAT32, ()), Role.ACTIVATION),
        Value(UP, "up", TensorSpec(DType.BOOL, ()), Role.ACTIVATION),
        Value(WIDE, "weights", TensorSpec(DType.FLOAT32, (2, BIG)), Role.CONSTANT, WEIGHTS),
        Value(FIRST, "first", TensorSpec(DType.FLOAT32, (2, BIG)), Role.ACTIVATION),
        Value(SECOND, "second", TensorSpec(DType.FLOAT32, (2, BIG)), Role.ACTIVATION),
        _float(BOTH, "both", KEPT),
        _float(OTHER, "other", KEPT),
        Value(RESULT, "result", TensorSpec(DType.FLOAT32, (BIG,)), Role.OUTPUT),
        _float(KEPT, "kept"),
        Value(LOW, "low", TensorSpec(DType.BOOL, ()), Role.ACTIVATION),
    ]
    negative = Value(len(values), "negative", TensorSpec(DType.FLOAT32, (BIG,)), Role.ACTIVATION, storage=Storage(KEPT))
    code = [
        ("aten::clone.out", (Ref(X), None), H0),  # 0
        ("aten::clone.out", (Ref(ZERO), None), N0),
        (MOVE, (Ref(H0),), H),
        (MOVE, (Ref(N0),), N),
        ("aten::add.out", (Ref(H), Ref(H), 1), H1),  # 4, the loop
        ("aten::add.out", (Ref(N), Ref(ONE), 1), N1),
        (MOVE, (Ref(H1),), H),
        (MOVE, (Ref(N1),), N),
        ("aten::ge.Tensor_out", (Ref(N), Ref(ROUNDS)), DONE),
        (JUMP_FALSE, (Ref(DONE), 4), None),
        ("aten::sum.IntList_out", (Ref(H), (0,), False, None), TOTAL),  # 10
        ("aten::gt.Scalar_out", (Ref(TOTAL), 0), UP),
        (JUMP_FALSE, (Ref(UP), 18), None),
        ("aten::mul.out", (Ref(H), Ref(WIDE)), FIRST),
        ("aten::mul.out", (Ref(FIRST), Ref(FIRST)), SECOND),
        ("aten::sum.IntList_out", (Ref(SECOND), (0,), False, None), BOTH),
        (MOVE, (Ref(BOTH),), KEPT),
        (JUMP_FALSE, (False, 20), None),
        ("aten::abs.out", (Ref(H),), OTHER),  # 18
        (MOVE, (Ref(OTHER),), KEPT),
        ("aten::lt.Scalar_out", (Ref(TOTAL), -50), LOW),  # 20
        (JUMP_FALSE, (Ref(LOW), 24), None),
        ("aten::neg.out", (Ref(KEPT),), negative.id),
        (MOVE, (Ref(negative.id),), KEPT),
        ("aten::add.out", (Ref(KEPT), Ref(X), 1), RESULT),  # 24
    ]
    instructions = tuple(
        Instruction(op, args, () if out is None else (out,), at, op.rpartition("::")[2].partition(".")[0])
        for at, (op, args, out) in enumerate(code)
    )
    return Method("forward", {one.id: one for one in (*values, negative)}, instructions, (X, ROUNDS), (RESULT,))


def _float(id: int, name: str, inside: int | None = None) -> Value:
    storage = None if inside is None or inside == id else Storage(inside)
    return Value(id, name, TensorSpec(DType.FLOAT32, (BIG,)), Role.ACTIVATION, storage=storage)


def computed(x: Array, rounds: int) -> Array:
    h = x * np.float32(2) ** max(rounds, 1)
    kept = np.square(h * WEIGHTS).sum(0) if h.sum() > 0 else np.abs(h)
    return (-kept if h.sum() < -50 else kept) + x


def placed(optimize: str = "speed", features: frozenset[str] = frozenset()) -> Placed:
    method = tidy(grown())
    schedule = choose_kernels(method, Target(features, optimize), LIBRARY)
    check_contents(method, method, schedule)
    specialised = Specialised(method, schedule, Target(features, optimize))
    the_problem = problem(specialised)
    solution = plan(the_problem)
    validate(the_problem, solution)
    return Placed(specialised, the_problem, solution)


def samples() -> list[tuple[Array, Array]]:
    """Each of the ways at least once; loops of 0 (which is 1), 1, 2 and 5 rounds."""
    random = np.random.default_rng(1)
    shifts = ((0.3, 0), (0.3, 1), (-0.05, 2), (-0.05, 1), (-1.0, 5))
    return [
        ((random.standard_normal(BIG) * 0.1 + shift).astype(np.float32), np.array(rounds)) for shift, rounds in shifts
    ]


def test_the_method_is_legal_and_the_interpreter_agrees() -> None:
    verify_method(grown())
    there = placed()
    for x, rounds in samples():
        (got,) = interpret(there, LIBRARY, (x, rounds))
        np.testing.assert_allclose(got, computed(x, int(rounds)), rtol=1e-5, atol=1e-5)


def test_lives_are_sets_of_steps() -> None:
    known = lives(tidy(grown()))
    assert known[H].taken == frozenset(range(14)) | {18}, "not in the branch that has read it, nor behind"
    assert known[N].taken == frozenset(range(1, 10)), "from its first round to the loop's end"
    assert known[DONE].taken == {8, 9}
    assert known[FIRST].taken == {13, 14} and known[SECOND].taken == {14, 15}
    assert known[KEPT].taken == {15, 16, 17} | set(range(18, 25)), "on both ways to where they meet"
    assert known[X].taken == frozenset(range(25)), "the loop does not end it"


def test_wires_follow_every_way() -> None:
    """A step reads what the round before made, and what was made on either of two ways."""
    found = wires(placed())
    makers = {reader: {maker for maker, to in found if to == reader} for _, reader in found}
    assert makers[4] == {2, 6} and makers[10] == {6}, "the loop runs once at least"
    assert makers[18] == {6} and makers[22] == {16, 19} and makers[24] == {"x", 16, 19, 23}
    assert makers["result"] == {24} and makers[8] == {"rounds", 7}


def test_exclusive_ways_share_bytes() -> None:
    """The plan is as large as the larger way, and what is made on the other one costs nothing."""
    there = placed()
    live = {buffer.name: buffer.live for buffer in there.problem.buffers}
    assert live["h"] == ((0, 14), (18, 19))
    assert there.solution.optimal
    # x, kept or h, and both wide products
    assert there.solution.size["ram"] <= 4 * BIG * (1 + 2 + 2) + 5 * 16


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("name", ["host", "qemu_mps2_an386"])
def test_runs_on_boards(name: str, optimize: str, tmp_path: Path) -> None:
    board = load_board(name)
    there = placed(optimize, board.features)
    outputs = {}
    for poison in (False, True):
        out = tmp_path / str(poison)
        emit((there,), board, LIBRARY, program_hash=7, model_name="jumps", out=out, poison=poison)
        elf = gcc.build(out, board, LIBRARY.include_dirs, sanitize=name == "host").elf
        outputs[poison] = run(elf, board, samples()).outputs
    for (x, rounds), (plain,), (poisoned,) in zip(samples(), outputs[False], outputs[True], strict=True):
        np.testing.assert_allclose(plain, computed(x, int(rounds)), rtol=1e-5, atol=1e-5)
        assert plain.tobytes() == poisoned.tobytes()


@pytest.mark.parametrize(("forged_name", "over"), [("n", "h"), ("total", "h"), ("kept", "x")])
def test_a_plan_that_forgets_a_jump_is_seen(forged_name: str, over: str, tmp_path: Path) -> None:
    """What the loop carries over a round, what both ways read, and what is read behind them."""
    board = load_board("host")
    there = placed()
    places = {**there.solution.places, forged_name: there.solution.places[over]}
    forged = replace(there, solution=replace(there.solution, places=places))
    emit((forged,), board, LIBRARY, program_hash=7, model_name="jumps", out=tmp_path, poison=True)
    outputs = run(gcc.build(tmp_path, board, LIBRARY.include_dirs).elf, board, samples()).outputs
    assert not any(
        np.allclose(got, computed(x, int(rounds))) for (x, rounds), (got,) in zip(samples(), outputs, strict=True)
    )


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("name", ["host", "qemu_mps2_an386"])
def test_executions_are_counted_and_traces_have_each(name: str, optimize: str, tmp_path: Path) -> None:
    board = load_board(name)
    there = placed(optimize, board.features)
    emit((there,), board, LIBRARY, program_hash=7, model_name="jumps", out=tmp_path)
    steps = len(there.specialised.schedule.steps)
    elf = gcc.build(tmp_path, board, LIBRARY.include_dirs, probe_count=steps + 1, trace=True).elf
    done = run(elf, board, samples(), probes=True, trace=True)
    for (x, rounds), executions, counts, trace in zip(samples(), done.executions, done.probes, done.trace, strict=True):
        times = max(int(rounds), 1)
        total = (x * np.float32(2) ** times).sum()
        assert executions[4] == executions[8] == executions[9] == times and executions[0] == 1
        assert executions[13] == (total > 0) and executions[18] == (total <= 0) and executions[22] == (total < -50)
        np.testing.assert_array_equal(
            np.frombuffer(trace[4, 0], np.float32).reshape(times, BIG),
            [x * np.float32(2) ** (at + 1) for at in range(times)],
        )
        assert ((13, 0) in trace) == (total > 0)
        if name != "host":
            assert all(
                (count > 0) == (times > 0)
                for at, (count, times) in enumerate(zip(counts, executions, strict=True))
                if at in (4, 13, 18)
            )


@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_a_count_is_the_sum_of_its_executions(optimize: str, tmp_path: Path) -> None:
    board = load_board("qemu_mps2_an386")
    there = placed(optimize, board.features)
    emit((there,), board, LIBRARY, program_hash=7, model_name="jumps", out=tmp_path)
    elf = gcc.build(tmp_path, board, LIBRARY.include_dirs, probe_count=len(there.specialised.schedule.steps) + 1).elf
    done = run(elf, board, samples(), probes=True)
    once, often = done.probes[1][4], done.probes[4][4]
    assert once > BIG and abs(often - 5 * once) <= 5  # 8 ticks are 5 instructions: a mark may be off by one


def test_the_code_is_an_if_and_a_loop(tmp_path: Path) -> None:
    emit((placed(),), load_board("host"), LIBRARY, program_hash=7, model_name="jumps", out=tmp_path)
    text = (tmp_path / "program.cpp").read_text()
    assert "goto" not in text
    lines = [
        line
        for line in text.partition("void run() {")[2].splitlines()
        if line.strip().startswith(("do", "if", "}", "for"))
    ]
    assert lines == [
        "  do {", "  } while (!*done);", "  if (*up) {", "  } else {", "  }", "  if (*low) {", "  }", "}",
        "}  // namespace jumps",
    ]  # fmt: skip
    steps = json.loads((tmp_path / "memory.json").read_text())["steps"]
    assert (
        [step["kind"] for step in steps].count("jump") == 4
        and steps[9]["kind"] == "jump"
        and steps[2]["kind"] == "move"
    )


def test_a_carry_that_lies_elsewhere_is_caught() -> None:
    method = tidy(grown(carried_in=H0))
    with pytest.raises(ProgramError, match="h_first has another place than what it becomes"):
        check_contents(method, method, choose_kernels(method, Target(), LIBRARY))


def test_what_a_round_overwrites_is_caught() -> None:
    """`done` on the bytes of `n`, which the next round reads."""
    method = grown()
    wrong = tidy(method.with_values(replace(method.values[DONE], storage=Storage(N))))
    with pytest.raises(ProgramError, match="is read there from memory that"):
        check_contents(wrong, wrong, choose_kernels(wrong, Target(), LIBRARY))


def _steps(*jumps: tuple[int, int, bool], count: int) -> list[Step]:
    """(position, target, is it on a condition)."""
    found: list[Step] = [Step(Instruction("toy::op.out", (), (), at)) for at in range(count)]
    for at, target, conditional in jumps:
        found[at] = JumpStep(found[at].instruction, target, 1 if conditional else None)
    return found


def _text(steps: Sequence[Step]) -> list[str]:
    """The lines of `control.j2`, and each other step as its number."""
    control = getattr(_templates().get_template("control.j2").module, "control")  # noqa: B009
    lines: list[str] = []
    for at, form in enumerate(forms(steps)):
        lines += control(form.before, {1: "v"}).splitlines()
        if at < len(steps) and not isinstance(steps[at], JumpStep):
            lines.append("  " * (form.depth + 1) + str(at))
        lines += control(form.control, {1: "v"}).splitlines()
    return [line.removeprefix("  ") for line in lines]


FORMS = {
    "if": (_steps((0, 3, True), count=4), ["if (*v) {", "  1", "  2", "}", "3"]),
    "if else to the end": (_steps((0, 3, True), (2, 4, False), count=4), ["if (*v) {", "  1", "} else {", "  3", "}"]),
    "nested": (
        _steps((0, 7, True), (1, 4, True), (3, 5, False), (6, 8, False), count=8),
        ["if (*v) {", "  if (*v) {", "    2", "  } else {", "    4", "  }", "  5", "} else {", "  7", "}"],
    ),
    "empty ways": (_steps((0, 2, True), (1, 2, False), count=3), ["if (*v) {", "} else {", "}", "2"]),
    "do while": (_steps((2, 0, True), count=3), ["do {", "  0", "  1", "} while (!*v);"]),
    "while": (
        _steps((1, 4, True), (3, 0, False), count=5),
        ["for (;;) {", "  0", "  if (!*v) {", "    break;", "  }", "  2", "}", "4"],
    ),
    "loops with one head": (
        _steps((1, 0, True), (3, 0, True), count=4),
        ["do {", "  do {", "    0", "  } while (!*v);", "  2", "} while (!*v);"],
    ),
    "if in a loop": (
        _steps((0, 3, True), (2, 4, False), (4, 0, True), count=5),
        ["do {", "  if (*v) {", "    1", "  } else {", "    3", "  }", "} while (!*v);"],
    ),
    "loop in an if": (
        _steps((0, 4, True), (3, 1, True), count=4),
        ["if (*v) {", "  do {", "    1", "    2", "  } while (!*v);", "}"],
    ),
    "into a loop": (
        _steps((0, 3, True), (4, 2, True), count=5),
        [
            "if (!*v) {",
            "  goto step_3;",
            "}",
            "1",
            "step_2:",
            "2",
            "step_3:",
            "3",
            "if (!*v) {",
            "  goto step_2;",
            "}",
        ],
    ),
    "crossing": (
        _steps((0, 3, True), (1, 4, True), count=5),
        [
            "if (!*v) {",
            "  goto step_3;",
            "}",
            "if (!*v) {",
            "  goto step_4;",
            "}",
            "2",
            "step_3:",
            "3",
            "step_4:",
            "4",
        ],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_jumps(name: str) -> None:
    steps, lines = FORMS[name]
    assert _text(steps) == lines


def test_no_jumps_no_form() -> None:
    assert set(forms(_steps(count=3))) == {Form()}


@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_jumps_that_are_no_blocks_run_as_well(optimize: str, tmp_path: Path) -> None:
    """Way over crossing ways: labels and goto in one form, a table that is jumped through in the other."""
    method = grown()
    first = method.instructions
    # the first way goes on behind the question whether the sum is low, into what was a block
    there = tidy(replace(method, instructions=(*first[:17], replace(first[17], args=(False, 22)), *first[18:])))
    verify_method(there)
    schedule = choose_kernels(there, Target(frozenset(), optimize), LIBRARY)
    check_contents(there, there, schedule)
    specialised = Specialised(there, Schedule(schedule.steps), Target(frozenset(), optimize))
    the_problem = problem(specialised)
    board = load_board("host")
    emit(
        (Placed(specialised, the_problem, plan(the_problem)),),
        board,
        LIBRARY,
        program_hash=7,
        model_name="jumps",
        out=tmp_path,
        poison=True,
    )
    assert ("goto step_22;" in (tmp_path / "program.cpp").read_text()) == (optimize == "speed")
    outputs = run(gcc.build(tmp_path, board, LIBRARY.include_dirs, sanitize=True).elf, board, samples()).outputs
    for (x, rounds), (got,) in zip(samples(), outputs, strict=True):
        h = x * np.float32(2) ** max(int(rounds), 1)
        kept = np.square(h * WEIGHTS).sum(0) if h.sum() > 0 else np.abs(h)
        expected = (-kept if h.sum() > 0 or h.sum() < -50 else kept) + x
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
