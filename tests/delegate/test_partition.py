"""Groups and calls: what may be one call, in which order the rest stands, what is never offered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.backend import Backend, Claims, Compiled
from etexport.delegate import delegated, library_for, partition
from etexport.delegate import library as operators
from etexport.delegate.library import computed
from etexport.delegate.partition import convex, ordered
from etexport.errors import ModelError
from etexport.kernel.call import Call
from etexport.kernel.library import load_ops
from etexport.kernel.node import Node
from etexport.passes import pipeline
from etexport.program import pte
from etexport.program.model import JUMP_FALSE, MOVE, DType, Instruction, Program, Ref
from etexport.program.operators import WRITE_BACK
from etexport.program.verify import verify
from tests.specialise.graph import Graph

LIBRARY = load_ops()


def test_a_way_out_and_back_in_cuts_a_group() -> None:
    """linear -> sin -> linear with a skip: the sine would have to run in the midst of the call."""
    after = [set(), {0}, {0, 1}, {2}]
    owners = convex(after, [{0, 2, 3}])
    assert owners == [0, 1, 2, 2]
    assert ordered(after, [0, 1, 0, 0]) is None
    assert ordered(after, owners) == [0, 1, 2]


def test_two_groups_that_wait_for_each_other_are_cut() -> None:
    """Each is convex alone: 0 -> 3 and 1 -> 2 cross 0 -> 2 and 1 -> 3."""
    after = [set(), set(), {0, 1}, {0, 1}]
    assert convex(after, [{0, 2}, {1, 3}]) in ([0, 1, 0, 3], [0, 1, 2, 1], [0, 1, 2, 3])
    assert ordered(after, [0, 1, 0, 1]) is None


def test_what_hangs_together_is_one_group() -> None:
    assert len(set(convex([set(), set(), {0}, {1}, {2, 3}], [{0, 1, 2, 3, 4}]))) == 1
    assert len(set(convex([set(), set(), {0}, {1}], [{0, 1, 2, 3}]))) == 2


def everything(nodes: Sequence[Node], options: object) -> Claims:
    return Claims([[node.instruction.handle for node in nodes if node.instruction.op != "aten::sin.out"]])


def no_code(*_: object) -> Call:
    raise AssertionError("nothing is built here")


TAKES_ALL = Backend(
    "All", no_code, everything, lambda part, options: Compiled(part.name.encode()), file=Path("all/backend.py")
)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (partition, operators):
        monkeypatch.setattr(module, "load_backends", lambda _: {"all": TAKES_ALL})


def split(program: Program) -> Program:
    """The program with calls, by way of a file; passes change nothing in it."""
    made, _, _ = delegated(program, {"all": {}}, LIBRARY)
    verify(made)
    again = pte.read(pte.write(made))
    assert again.delegates == made.delegates
    assert pipeline.run(again, library_for(again, LIBRARY)) is again
    return again


def ops(program: Program) -> list[str]:
    return [one.op.partition("_")[0] for one in program.method().instructions]


def test_several_outputs_and_several_calls_compute_what_the_program_does() -> None:
    """A skip round a sine: what is made before it leaves its call twice, and a result is an output as well."""
    graph = Graph(LIBRARY)
    x = graph.input(2, 3)
    product = graph.call("aten::mul.out", x, graph.weight(2, 3))
    other = graph.call("aten::relu.out", product)
    sine = graph.call("aten::sin.out", product)
    total = graph.call("aten::add.out", sine, other, 1)
    program = graph.program(graph.call("aten::tanh.out", total), other)
    made = split(program)
    assert ops(made) == ["delegate::All", "aten::sin.out", "delegate::All"]
    assert len(made.method().instructions[0].outs) == 2
    given = (np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32),)
    library = library_for(made, LIBRARY)
    for one, other_one in zip(
        computed(made.method(), given, library), computed(program.method(), given, LIBRARY), strict=True
    ):
        np.testing.assert_array_equal(one, other_one)


def test_jumps_lead_to_the_call_that_their_block_begins_with() -> None:
    """if condition: out = tanh(relu(x)), else: out = neg(relu(x)); abs(out)."""
    graph = Graph(LIBRARY)
    x, condition = graph.input(4), graph.input(1, dtype=DType.BOOL)
    y = graph.call("aten::relu.out", x)
    graph.instructions.append(Instruction(JUMP_FALSE, (condition, 5), (), 1))
    true = graph.call("aten::tanh.out", y)
    graph.instructions.append(Instruction(MOVE, (true,), (9,), 3))
    graph.instructions.append(Instruction(JUMP_FALSE, (False, 7), (), 4))
    false = graph.call("aten::neg.out", y)
    graph.values[9] = replace(graph.values[y.id], id=9, name="joined")
    graph.instructions.append(Instruction(MOVE, (false,), (9,), 6))
    made = split(graph.program(graph.call("aten::abs.out", Ref(9)))).method()
    kinds = [one.op.partition("_")[0] for one in made.instructions]
    call, jump, move = "delegate::All", "executorch::jump", "executorch::move"
    assert kinds == [call, jump, call, move, jump, call, move, "aten::abs.out"], "what changes is not offered"
    handles = [one.handle for one in made.instructions]
    assert [handles.index(one.destination) for one in made.instructions if one.op == JUMP_FALSE] == [5, 7]


def test_states_stay_outside() -> None:
    graph = Graph(LIBRARY)
    x, state = graph.input(3), graph.state(np.ones(3, np.float32))
    total = graph.call("aten::add.out", x, state, 1)
    graph.call(WRITE_BACK, state, total, False, into=state)
    made = split(graph.program(graph.call("aten::relu.out", total)))
    assert [op for op in ops(made) if not op.startswith("delegate")] == ["aten::add.out", "aten::copy"]
    assert sum(op.startswith("delegate") for op in ops(made)) == 1


def test_claims_of_what_was_not_offered_are_the_backends_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(TAKES_ALL, claim=lambda nodes, options: Claims([[77]]))
    monkeypatch.setattr(partition, "load_backends", lambda _: {"all": wrong})
    graph = Graph(LIBRARY)
    with pytest.raises(ModelError, match="all failed to claim operators: ValueError"):
        delegated(graph.program(graph.call("aten::relu.out", graph.input(2))), {"all": {}}, LIBRARY)


def test_an_unknown_id_is_named_with_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(LIBRARY)
    made = split(graph.program(graph.call("aten::relu.out", graph.input(2))))
    monkeypatch.setattr(operators, "load_backends", lambda _: {"other": replace(TAKES_ALL, id="Other")})
    with pytest.raises(ModelError, match="delegate 'All', and no backend that is known here runs it") as error:
        library_for(made, LIBRARY)
    assert error.value.hint.startswith("known: Other;")
