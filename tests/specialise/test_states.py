"""States in place: what each kind of update writes of the state, in bytes a call, and where a copy is needed after all.

The placed program is interpreted over several calls on its own bytes and held against the operators' meanings.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from etexport.kernel.call import GeometryField
from etexport.kernel.library import Library, load_ops
from etexport.passes import pipeline
from etexport.program.model import Array, Program, Ref
from etexport.specialise.model import Placed
from etexport.specialise.schedule import CallStep
from tests.specialise.graph import Graph, evaluate
from tests.specialise.interpret import interpret
from tests.specialise.test_pipeline import place

ROWS, WIDTH = 32, 4
ROW = WIDTH * 4
WHOLE = ROWS * ROW
SLICE = "aten::slice_copy.Tensor_out"
END = 2**63 - 1


@pytest.fixture(scope="module")
def library() -> Library:
    return load_ops()


def put_row(graph: Graph, state: Ref, x: Ref) -> Ref:
    return graph.call("aten::index_put.out", state, (graph.constant(np.array([5])),), x, False)


def put_two_rows(graph: Graph, state: Ref, x: Ref) -> Ref:
    return graph.call("aten::slice_scatter.out", put_row(graph, state, x), x, 0, 9, 10, 1)


def narrow_copy(graph: Graph, state: Ref, x: Ref) -> Ref:
    before = graph.call(SLICE, state, 0, 3, 4, 1)
    return graph.call("aten::slice_scatter.out", state, graph.call("aten::copy.out", before, x, False), 0, 3, 4, 1)


def slide(graph: Graph, state: Ref, x: Ref) -> Ref:
    return graph.call("aten::cat.out", (graph.call(SLICE, state, 0, 1, END, 1), x), 0)


def roll_and_write(graph: Graph, state: Ref, x: Ref) -> Ref:
    parts = graph.call(SLICE, state, 0, 1, END, 1), graph.call(SLICE, state, 0, 0, 1, 1)
    rolled = graph.call("aten::cat.out", parts, 0)
    row = graph.view(x, WIDTH)
    return graph.call("aten::select_scatter.out", rolled, row, 0, -1)


def leak(graph: Graph, state: Ref, x: Ref) -> Ref:
    return graph.add(graph.call("aten::mul.out", state, graph.constant(np.array(0.5, np.float32))), x)


UPDATES: dict[Callable[[Graph, Ref, Ref], Ref], int] = {
    put_row: ROW,
    put_two_rows: 2 * ROW,
    narrow_copy: ROW,
    slide: WHOLE,  # each row is another one's place
    roll_and_write: WHOLE,
    leak: 2 * WHOLE,
}
"""How a state is updated, and the bytes that this writes."""


@pytest.mark.parametrize("update", UPDATES, ids=lambda one: one.__name__)
def test_only_what_is_new_is_written(library: Library, update: Callable[[Graph, Ref, Ref], Ref]) -> None:
    graph, state, new = _updated(library, update)
    placed = _check(graph, library, state, new, graph.call("aten::sum.IntList_out", new, (0,), False, None))
    assert _written(placed) == UPDATES[update]
    assert placed.solution.size["ram"] < 1.5 * WHOLE


def test_what_the_state_held_before_stays_while_it_is_read(library: Library) -> None:
    graph, state, new = _updated(library, put_row)
    old = graph.call("aten::sum.IntList_out", state, (0,), False, None)
    placed = _check(graph, library, state, new, old)
    assert _written(placed) == 2 * WHOLE + ROW


def test_states_that_change_places(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(ROWS, WIDTH)
    first, second = (graph.state(np.full((ROWS, WIDTH), at, np.float32)) for at in (1, 2))
    shown = graph.call("aten::sum.IntList_out", first, (0,), False, None)
    sums = graph.add(second, x), graph.add(first, x)
    for state, new in zip((first, second), sums, strict=True):
        graph.call("aten::copy_", state, new, False, into=state)
    placed = _compared(graph.program(shown), library)
    assert _written(placed) == 3 * WHOLE  # one of the two sums lies in its state


def _updated(library: Library, update: Callable[[Graph, Ref, Ref], Ref]) -> tuple[Graph, Ref, Ref]:
    graph = Graph(library)
    x = graph.input(1, WIDTH)
    state = graph.state(np.arange(ROWS * WIDTH, dtype=np.float32).reshape(ROWS, WIDTH))
    return graph, state, update(graph, state, x)


def _check(graph: Graph, library: Library, state: Ref, new: Ref, *outputs: Ref) -> Placed:
    """The placed program, once three calls in a row gave what the operators say, in outputs and states."""
    graph.call("aten::copy_", state, new, False, into=state)
    return _compared(graph.program(*outputs), library)


def _compared(given: Program, library: Library) -> Placed:
    program = pipeline.run(given, library)
    placed = place(program, library)
    rng = np.random.default_rng(3)
    wanted: dict[int, Array] = {}
    states: dict[int, Array] = {}
    for _ in range(3):
        method = program.method()
        inputs = [rng.normal(size=method.values[one].spec.shape).astype(np.float32) for one in method.inputs]
        expected = evaluate(given, library, inputs, wanted)
        got = interpret(placed, library, inputs, states)
        for want, have in zip((*expected, *wanted.values()), (*got, *states.values()), strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
    return placed


def _written(placed: Placed) -> int:
    """Bytes that the kernels write a call into what is as large as the state."""
    return sum(_written_by(placed, step) for step in placed.specialised.calls.values())


def _written_by(placed: Placed, step: CallStep) -> int:
    values = placed.specialised.method.values
    out = values[step.instruction.outs[0]]
    if out.spec.nbytes != WHOLE:
        return 0
    kernel, geometry = step.call.function, step.call.geometry
    in_place = kernel in ("put", "overwrite") and placed.place(values[step.instruction.reads[0]]) == placed.place(out)
    if kernel == "put":
        elements = _product(geometry["sizes"]) + (0 if in_place else out.spec.numel)
    elif kernel == "overwrite":
        elements = _product(geometry["part_sizes"]) + (0 if in_place else out.spec.numel)
    else:
        elements = out.spec.numel
    return elements * out.spec.dtype.itemsize


def _product(sizes: GeometryField) -> int:
    assert isinstance(sizes, tuple)
    return math.prod(int(size) for size in sizes)
