"""The target side on programs written by hand and drawn at random: the placed program, interpreted on its own bytes,
gives the operators' results, whatever was fused, laid out, or turned into an address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etexport.errors import EtError, ModelError
from etexport.kernel.call import Call, GeometryField, Target
from etexport.kernel.library import Library, load_ops
from etexport.kernel.node import Node
from etexport.plan import plan, validate
from etexport.program.model import Program, Ref, Role
from etexport.program.operators import CONVERT
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed
from etexport.specialise.pipeline import specialise
from tests.specialise.graph import Graph, evaluate
from tests.specialise.interpret import interpret


@pytest.fixture(scope="module")
def library() -> Library:
    return load_ops()


def place(program: Program, library: Library) -> Placed:
    specialised = specialise(program, Target(frozenset()), library)
    the_problem = problem(specialised)
    solution = plan(the_problem)
    validate(the_problem, solution)
    return Placed(specialised, the_problem, solution)


def check(program: Program, library: Library) -> Placed:
    """Interpret and compare; the placed program for further looks."""
    placed = place(program, library)
    method = program.method()
    rng = np.random.default_rng(7)
    inputs = [rng.normal(size=method.values[one].spec.shape).astype(np.float32) for one in method.inputs]
    expected = evaluate(program, library, inputs)
    for run in range(2):  # twice: state apart, a run leaves nothing behind
        got = interpret(placed, library, inputs)
        for want, have in zip(expected, got, strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4, err_msg=f"run {run}")
    return placed


def ops(placed: Placed) -> list[str]:
    return [step.instruction.op for step in placed.specialised.calls.values()]


def test_activation_goes_into_its_producer(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(1, 1, 8, 8)
    out = graph.call("aten::hardtanh.out", graph.relu(graph.conv(x, 4, name="conv", line=3)), 0.0, 6.0)
    placed = check(graph.program(out), library)
    convolution = placed.specialised.calls[0].instruction
    assert convolution.op == "aten::convolution.out"
    assert (convolution.name, convolution.source.line if convolution.source else 0, convolution.handle) == (
        "conv",
        3,
        2,
    )
    assert convolution.epilogue is not None and (convolution.epilogue.low, convolution.epilogue.high) == (0.0, 6.0)


def test_numbers_of_64_bits_are_refused(library: Library) -> None:
    """Kernels count in 32 bits: what an operator lets through, of whatever a file says, is an error at its
    instruction."""
    relu = library.ops["aten::relu.out"]
    assert relu.lower is not None
    for number, right in ((2**31 - 1, True), (-(2**31), True), (2**31, False), ((1, -(2**31) - 1), False)):

        def lower(node: Node, target: Target, number: GeometryField = number) -> Call:
            return replace(relu.lower(node, target), geometry={"count": number})  # type: ignore[misc]

        other = replace(library, ops={**library.ops, "aten::relu.out": replace(relu, lower=lower)})
        graph = Graph(library)
        program = graph.program(graph.relu(graph.input(4), name="r"))
        if right:
            specialise(program, Target(frozenset()), other)
        else:
            with pytest.raises(ModelError, match=r"count is -?214748364[89]"):
                specialise(program, Target(frozenset()), other)


def test_activation_with_another_reader_stays(library: Library) -> None:
    graph = Graph(library)
    made = graph.conv(graph.input(1, 1, 8, 8), 4)
    placed = check(graph.program(graph.relu(made), made), library)
    assert "aten::relu.out" in ops(placed)


def test_residual_is_written_over(library: Library) -> None:
    """ResNet's block: the later convolution adds the earlier value, in that value's own memory."""
    graph = Graph(library)
    x = graph.relu(graph.conv(graph.input(1, 1, 16, 16), 8))
    y = graph.conv(graph.relu(graph.conv(x, 8)), 8)
    placed = check(graph.program(graph.relu(graph.add(x, y))), library)
    assert ops(placed).count("aten::add.out") == 0
    assert placed.solution.size["ram"] <= 2 * 8 * 16 * 16 * 4 + 64


@pytest.mark.parametrize("kernel", [1, 3])
def test_residual_that_the_layer_reads_itself_stays_where_it_is(kernel: int, library: Library) -> None:
    """x + conv(x): a window sees elements of x on whose place an earlier result would lie."""
    graph = Graph(library)
    x = graph.relu(graph.conv(graph.input(1, 1, 16, 16), 8))
    y = graph.relu(graph.add(x, graph.conv(x, 8, kernel, pad=kernel // 2)))
    placed = check(graph.program(graph.conv(y, 1)), library)
    assert ops(placed).count("aten::add.out") == 0
    row = 16 * 8 * 4
    assert placed.solution.size["ram"] >= 17 * row, "at least a row apart"


def test_zero_padding_is_the_convolutions_own(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(1, 2, 7, 8)
    padded = graph.call("aten::constant_pad_nd.out", x, (0, 1, 2, 0), 0.0)
    placed = check(graph.program(graph.conv(padded, 3, stride=2, pad=0), graph.conv(padded, 3, pad=1)), library)
    assert "aten::constant_pad_nd.out" not in ops(placed)


@pytest.mark.parametrize(("widths", "fill"), [((0, 1, 0, 0), 1.0), ((1, 0, 0, 0, 0, 1), 0.0), ((-1, 0, 0, 2), 0.0)])
def test_other_padding_stays(library: Library, widths: tuple[int, ...], fill: float) -> None:
    graph = Graph(library)
    padded = graph.call("aten::constant_pad_nd.out", graph.input(1, 2, 7, 8), widths, fill)
    placed = check(graph.program(graph.conv(padded, 3)), library)
    assert "aten::constant_pad_nd.out" in ops(placed)


def test_residual_between_layouts(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(1, 3, 8, 8)
    check(graph.program(graph.add(graph.conv(x, 3), x)), library)
    check(graph.program(graph.add(x, graph.conv(x, 3))), library)


def test_flatten_is_paid_in_weights(library: Library) -> None:
    graph = Graph(library)
    x = graph.conv(graph.input(2, 1, 4, 4), 6)
    placed = check(graph.program(graph.linear(graph.view(x, 2, 96), 5)), library)
    assert CONVERT not in ops(placed)


def test_flatten_that_is_an_output_too(library: Library) -> None:
    graph = Graph(library)
    flat = graph.view(graph.conv(graph.input(1, 1, 4, 4), 6), 1, 96)
    placed = check(graph.program(graph.linear(flat, 5), flat), library)
    assert CONVERT in ops(placed)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_cat(library: Library, dim: int) -> None:
    graph = Graph(library)
    x = graph.input(2, 3, 4, 5)
    parts = (graph.conv(x, 3), graph.conv(x, 3))
    placed = check(graph.program(graph.relu(graph.call("aten::cat.out", parts, dim))), library)
    assert ("aten::cat.out" in ops(placed)) == (dim != 0)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_mean_and_softmax_over_each_dimension(library: Library, dim: int) -> None:
    graph = Graph(library)
    x = graph.conv(graph.input(2, 3, 4, 5), 6)
    mean = graph.call("aten::mean.out", x, (dim,), True, None)
    check(graph.program(graph.call("aten::_softmax.out", x, dim, False), mean), library)


def test_permute_costs_nothing_between_kernels_that_follow(library: Library) -> None:
    graph = Graph(library)
    x = graph.relu(graph.input(2, 3, 4, 5))
    turned = graph.call("aten::permute_copy.out", x, (0, 3, 1, 2))
    back = graph.call("aten::permute_copy.out", graph.call("aten::sigmoid.out", turned), (0, 2, 3, 1))
    placed = check(graph.program(back), library)
    assert ops(placed) == ["aten::relu.out", "aten::sigmoid.out"]


def test_chain_of_elementwise_needs_one_buffer(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(1, 1000)
    for _ in range(4):
        x = graph.call("aten::sigmoid.out", x)
    placed = check(graph.program(x), library)
    assert placed.solution.size["ram"] == 4000


def test_state_is_written_back(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(4)
    state = graph.state(np.arange(4, dtype=np.float32))
    new = graph.add(state, x)
    before = graph.view(state, 2, 2)  # shows the old content, which the write-back destroys
    graph.call("aten::copy_", state, new, False, into=state)
    placed = check(graph.program(new, before), library)
    assert next(value for value in placed.specialised.method.values.values() if value.role is Role.STATE)


def test_every_missing_kernel_is_named_at_once(library: Library) -> None:
    graph = Graph(library)
    x = graph.input(4)
    program = graph.program(graph.relu(graph.relu(x, name="first", line=1), name="second", line=2))
    without = Library(
        {name: op for name, op in library.ops.items() if op.name != "aten::relu.out"}, library.include_dirs
    )
    with pytest.raises(EtError) as error:
        specialise(program, Target(), without)
    assert "model.py:1: first" in str(error.value) and "model.py:2: second" in str(error.value)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A random network of convolutions, elementwise operators, views, permutes, slices, concatenations and
    reductions."""
    graph = Graph(load_ops())
    shape = (
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([1, 2, 3, 4])),
        *draw(st.sampled_from([(4, 4), (2, 6), (1, 5)])),
    )
    order = draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 3, 1)]))
    known = [graph.input(*shape, order=order)]
    for _ in range(draw(st.integers(1, 9))):
        x = draw(st.sampled_from(known))
        known.append(_grow(draw, graph, x, known))
    return graph


def _grow(draw: st.DrawFn, graph: Graph, x: Ref, known: Sequence[Ref]) -> Ref:
    spec = graph.values[x.id].spec
    rank = len(spec.shape)
    choices = ["relu", "sigmoid", "clamp", "add", "softmax", "slice", "cat", "permute", "view", "mean"]
    choices += ["conv"] * 4 if rank == 4 else []
    choices += ["linear"] if rank == 2 else []
    kind = draw(st.sampled_from(choices))
    dim = draw(st.integers(0, rank - 1))
    same = [one for one in known if graph.values[one.id].spec.shape == spec.shape]
    match kind:
        case "relu":
            return graph.relu(x)
        case "sigmoid":
            return graph.call("aten::sigmoid.out", x)
        case "clamp":
            return graph.call("aten::hardtanh.out", x, -1.0, 1.0)
        case "add":
            return graph.add(x, draw(st.sampled_from(same)))
        case "softmax":
            return graph.call("aten::_softmax.out", x, dim, False)
        case "slice":
            start = draw(st.integers(0, spec.shape[dim] - 1))
            return graph.call("aten::slice_copy.Tensor_out", x, dim, start, None, draw(st.integers(1, 2)))
        case "cat":
            return graph.call("aten::cat.out", (x, draw(st.sampled_from(same))), dim)
        case "permute":
            return graph.call("aten::permute_copy.out", x, tuple(draw(st.permutations(range(rank)))))
        case "mean":
            return graph.call("aten::mean.out", x, (dim,), True, None)
        case "conv":
            return graph.conv(x, draw(st.sampled_from([1, 2, 3, 4])))
        case "linear":
            return graph.linear(x, draw(st.sampled_from([1, 3, 4])))
    return (
        graph.view(x, spec.shape[0], spec.numel // spec.shape[0]) if draw(st.booleans()) else graph.view(x, spec.numel)
    )


@settings(max_examples=400, deadline=None, derandomize=True)
@given(graphs(), st.data())
def test_random_networks(graph: Graph, data: st.DataObject) -> None:
    made = [instruction.outs[0] for instruction in graph.instructions]
    outputs = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    program = graph.program(Ref(made[-1]), *(Ref(out) for out in outputs))
    check(program, graph.library)
