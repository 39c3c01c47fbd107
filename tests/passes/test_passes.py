"""Each pass on programs written by hand, among them the forms in which stock ExecuTorch leaves BatchNorm, transposes
and scalars."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etexport.errors import Errors, ModelError, ProgramError
from etexport.kernel import supported
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.passes import pipeline
from etexport.program.draft import Draft
from etexport.program.model import JUMP_FALSE, DType, Instruction, Method, Program, Ref, Role, TensorSpec, Value
from etexport.program.pte import read, write
from etexport.specialise.pipeline import specialise
from tests.program.programs import meter
from tests.specialise.graph import Graph, evaluate

LIBRARY = load_ops()
RNG = np.random.default_rng(5)


def passed(program: Program) -> Program:
    """The program after the pipeline, which a second run must leave as the very same object."""
    result = pipeline.run(program, LIBRARY)
    assert pipeline.run(result, LIBRARY) is result
    return result


def ops(program: Program) -> list[str]:
    return [instruction.op for instruction in program.method().instructions]


def shape_of(program: Program) -> tuple[Any, ...]:
    """The program without ids, handles and names: equal for two programs that compute alike from equal constants."""
    method = program.method()
    known: dict[int, Any] = {
        value.id: ("state", str(value.spec)) for value in method.values.values() if value.role is Role.STATE
    }
    known.update({id_: ("input", at) for at, id_ in enumerate(method.inputs)})

    def form(arg: Any) -> Any:
        if isinstance(arg, Ref):
            value = method.values[arg.id]
            return (
                known[arg.id]
                if value.role is not Role.CONSTANT
                else ("constant", str(value.spec), value.physical_bytes)
            )
        return tuple(form(item) for item in arg) if isinstance(arg, tuple) else arg

    steps = []
    for instruction in method.instructions:
        steps.append((instruction.op, tuple(form(arg) for arg in instruction.args)))
        for number, out in enumerate(instruction.outs):
            if out not in known:
                known[out] = ("step", len(steps) - 1, number, str(method.values[out].spec))
    return tuple(steps), tuple(form(Ref(out)) for out in method.outputs)


def same_results(before: Program, after: Program, *inputs: np.ndarray) -> None:
    for old, new in zip(evaluate(before, LIBRARY, list(inputs)), evaluate(after, LIBRARY, list(inputs)), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=5e-6 * np.abs(old).max(initial=0))


def image(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def batch_norm(graph: Graph, x: Ref, channels: int, *, affine: bool = True) -> Ref:
    weight = graph.constant(RNG.uniform(0.5, 2, channels).astype(np.float32)) if affine else None
    bias = graph.weight(channels) if affine else None
    variance = graph.constant(RNG.uniform(0.2, 3, channels).astype(np.float32))
    return graph.call(
        "aten::_native_batch_norm_legit_no_training.out", x, weight, bias, graph.weight(channels), variance, 0.1, 1e-5
    )


# ---- BatchNorm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("groups", "bias"), [(1, True), (1, False), (2, True), (4, False)])
def test_batch_norm_after_a_convolution(groups: int, bias: bool, affine: bool) -> None:
    graph = Graph(LIBRARY)
    x = graph.input(1, 4, 6, 5)
    args = (
        graph.weight(8, 4 // groups, 3, 3),
        graph.weight(8) if bias else None,
        (2, 1),
        (1, 0),
        (1, 1),
        False,
        (0, 0),
        groups,
    )
    y = graph.call("aten::convolution.out", x, *args, name="conv", line=3)
    program = graph.program(graph.relu(batch_norm(graph, y, 8, affine=affine)))
    after = passed(program)
    assert ops(after) == ["aten::convolution.out", "aten::relu.out"]
    folded = after.method().instructions[0]
    assert (folded.name, folded.source.line if folded.source else 0, folded.handle) == ("conv", 3, 1)
    same_results(program, after, image(1, 4, 6, 5))


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_before_a_convolution_without_padding(groups: int) -> None:
    graph = Graph(LIBRARY)
    x = graph.input(1, 4, 6, 5)
    args = (graph.weight(6, 4 // groups, 3, 2), None, (1, 1), (0, 0), (1, 1), False, (0, 0), groups)
    program = graph.program(graph.call("aten::convolution.out", batch_norm(graph, x, 4), *args))
    after = passed(program)
    assert ops(after) == ["aten::convolution.out"]
    same_results(program, after, image(1, 4, 6, 5))


def test_batch_norm_before_a_padded_convolution_stays() -> None:
    graph = Graph(LIBRARY)
    program = graph.program(graph.conv(batch_norm(graph, graph.input(1, 4, 6, 5), 4), 3, pad=1))
    assert ops(passed(program))[0] == "aten::_native_batch_norm_legit_no_training.out"


def test_batch_norm_whose_operand_is_read_elsewhere_stays() -> None:
    graph = Graph(LIBRARY)
    y = graph.conv(graph.input(1, 4, 6, 5), 3)
    program = graph.program(graph.add(batch_norm(graph, y, 3), y))
    assert len(ops(passed(program))) == 3


@pytest.mark.parametrize("op", ["aten::addmm.out", "aten::mm.out"])
@pytest.mark.parametrize("before", [True, False])
def test_batch_norm_beside_a_linear_layer(op: str, before: bool) -> None:
    graph = Graph(LIBRARY)
    x = graph.input(3, 5)
    y = batch_norm(graph, x, 5) if before else x
    y = graph.linear(y, 4) if op == "aten::addmm.out" else graph.call(op, y, graph.weight(5, 4))
    program = graph.program(y if before else batch_norm(graph, y, 4))
    after = passed(program)
    assert ops(after) == ["aten::addmm.out"]
    same_results(program, after, image(3, 5))


def test_shared_weights_are_not_changed_for_the_other_layer() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(1, 4, 6, 6)
    weight = graph.weight(4, 4, 3, 3)
    how = (None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    first = batch_norm(graph, graph.call("aten::convolution.out", x, weight, *how), 4)
    second = graph.call("aten::convolution.out", first, weight, *how)
    program = graph.program(second)
    data = graph.values[weight.id].data
    assert data is not None
    untouched = data.copy()
    after = passed(program)
    same_results(program, after, image(1, 4, 6, 6))
    assert np.array_equal(graph.values[weight.id].data, untouched)


# ---- constants -------------------------------------------------------------------------------------------------------


def linear_by_stock(graph: Graph, x: Ref, weight: np.ndarray, bias: np.ndarray) -> Ref:
    """As ExecuTorch writes nn.Linear: the weight is transposed by an instruction."""
    return graph.call(
        "aten::addmm.out",
        graph.constant(bias),
        x,
        graph.call("aten::permute_copy.out", graph.constant(weight), (1, 0)),
        1,
        1,
    )


def test_transposed_weights() -> None:
    weight, bias = image(3, 5), image(3)
    stock = Graph(LIBRARY)
    program = stock.program(linear_by_stock(stock, stock.input(2, 5), weight, bias))
    own = Graph(LIBRARY)
    x = own.input(2, 5)
    expected = own.program(
        own.call("aten::addmm.out", own.constant(bias), x, own.constant(np.ascontiguousarray(weight.T)), 1, 1)
    )
    after = passed(program)
    assert shape_of(after) == shape_of(expected)
    names = {value.name for value in after.method().values.values()}
    assert "constant_2" in names, f"the folded weight keeps the name of the weight: {names}"


def test_scalars_by_stock() -> None:
    """`x * 2` in ExecuTorch: an int64 constant, a cast, a multiplication."""
    graph = Graph(LIBRARY)
    x = graph.input(4)
    two = graph.constant(np.array(2, np.int64))
    cast = graph._add("cast", TensorSpec(DType.FLOAT32, ()), Role.ACTIVATION)
    graph.instructions.append(Instruction("dim_order_ops::_to_dim_order_copy.out", (two, False, ()), (cast.id,), 100))
    program = graph.program(graph.call("aten::mul.out", x, cast))
    after = passed(program)
    assert ops(after) == ["aten::mul.out"]
    (constant,) = [value for value in after.method().values.values() if value.role is Role.CONSTANT]
    assert constant.spec.dtype is DType.FLOAT32 and constant.data is not None and constant.data == 2.0


def test_a_result_much_larger_than_its_operands_is_computed_on_the_device() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(300, 300)
    program = graph.program(graph.add(x, graph.call("aten::expand_copy.out", graph.weight(1, 300), (300, 300), False)))
    assert ops(passed(program)) == ["aten::expand_copy.out", "aten::add.out"]


def test_factories_of_any_size_become_constants() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(200, 200)
    program = graph.program(graph.add(x, graph.call("aten::full.out", (200, 200), 0.5)))
    after = passed(program)
    assert ops(after) == ["aten::add.out"]
    same_results(program, after, image(200, 200))


def test_a_factory_with_the_results_of_another_operator_is_left_for_the_report() -> None:
    graph = Graph(LIBRARY)
    outs = [graph._add(name, TensorSpec(DType.FLOAT32, (4,)), Role.ACTIVATION) for name in ("one", "two")]
    graph.instructions.append(Instruction("aten::full.out", ((4,), 3), tuple(out.id for out in outs), 50, "twice"))
    program = graph.program(*outs)
    assert ops(pipeline.run(program, LIBRARY)) == ["aten::full.out"]
    with pytest.raises(ModelError, match="2 results where 1 belong"):
        specialise(pipeline.run(program, LIBRARY), Target(frozenset({"host"})), LIBRARY)


def test_a_pad_without_amounts_is_left_for_the_report() -> None:
    graph = Graph(LIBRARY)
    out = graph._add("padded", TensorSpec(DType.FLOAT32, (4,)), Role.ACTIVATION)
    graph.instructions.append(Instruction("aten::constant_pad_nd.out", (graph.input(4),), (out.id,), 50, "pad"))
    program = graph.program(out)
    assert ops(pipeline.run(program, LIBRARY)) == ["aten::constant_pad_nd.out"]
    with pytest.raises(ModelError, match="pad"):
        specialise(pipeline.run(program, LIBRARY), Target(frozenset({"host"})), LIBRARY)


def test_what_the_operator_does_not_allow_is_left_for_the_report() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(4, 3)
    wrong = graph._add("wrong", TensorSpec(DType.FLOAT32, (3, 4)), Role.ACTIVATION)
    graph.instructions.append(
        Instruction("aten::permute_copy.out", (graph.weight(4, 3), (1, 0, 2)), (wrong.id,), 50, "permute")
    )
    program = graph.program(graph.call("aten::mm.out", x, wrong))
    after = pipeline.run(program, LIBRARY)
    assert ops(after) == ["aten::permute_copy.out", "aten::mm.out"]
    with pytest.raises(ModelError, match="permute"):
        supported.check(after, LIBRARY)


# ---- views and identities --------------------------------------------------------------------------------------------


def test_chains_of_views_are_one_view() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(1, 2, 3, 4)
    y = graph.call("aten::unsqueeze_copy.out", graph.view(graph.relu(x), 2, 12), -1)
    y = graph.call("aten::squeeze_copy.dims_out", y, (2,))
    y = graph.call("aten::select_copy.int_out", graph.view(y, 24, 1), 1, -1)
    program = graph.program(graph.call("aten::expand_copy.out", y, (1, 24), False))
    after = passed(program)
    assert ops(after) == ["aten::relu.out", "aten::view_copy.out"]
    assert after.method().instructions[1].args[1] == (1, 24)
    same_results(program, after, image(1, 2, 3, 4))


def test_views_that_cancel_are_gone() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(2, 6)
    y = graph.call("aten::permute_copy.out", graph.call("aten::transpose_copy.int_out", graph.relu(x), 0, -1), (1, 0))
    program = graph.program(graph.view(graph.view(y, 12), 2, 6))
    after = passed(program)
    assert ops(after) == ["aten::relu.out"]
    assert after.method().values[after.method().outputs[0]].role is Role.OUTPUT


def test_permutes_are_composed_in_order() -> None:
    graph = Graph(LIBRARY)
    y = graph.call("aten::permute_copy.out", graph.relu(graph.input(2, 3, 4)), (1, 2, 0))
    program = graph.program(graph.call("aten::permute_copy.out", y, (0, 2, -2)))
    after = passed(program)
    assert ops(after) == ["aten::relu.out", "aten::permute_copy.out"]
    same_results(program, after, image(2, 3, 4))


def test_moving_a_dimension_of_one_is_a_view() -> None:
    graph = Graph(LIBRARY)
    program = graph.program(graph.call("aten::permute_copy.out", graph.relu(graph.input(1, 3, 4)), (1, 0, 2)))
    assert ops(passed(program)) == ["aten::relu.out", "aten::view_copy.out"]


def test_clones_and_pads_by_nothing_are_gone() -> None:
    graph = Graph(LIBRARY)
    y = graph.call("dim_order_ops::_clone_dim_order.out", graph.relu(graph.input(1, 3, 4, 4)), False, (0, 1, 2, 3))
    y = graph.call("aten::constant_pad_nd.out", y, (0, 0, 0, 0), 0.0)
    y = graph.call("aten::cat.out", (graph.call("aten::clone.out", y, None),), 1)
    assert ops(passed(graph.program(y))) == ["aten::relu.out"]


def test_a_clone_that_changes_the_layout_of_an_output_stays() -> None:
    graph = Graph(LIBRARY)
    y = graph.relu(graph.input(1, 3, 4, 4))
    out = graph._add("out", TensorSpec(DType.FLOAT32, (1, 3, 4, 4), (0, 2, 3, 1)), Role.ACTIVATION)
    graph.instructions.append(
        Instruction("dim_order_ops::_clone_dim_order.out", (y, False, (0, 2, 3, 1)), (out.id,), 9)
    )
    assert len(ops(passed(graph.program(out)))) == 2


def test_a_copy_of_a_state_is_no_identity() -> None:
    graph = Graph(LIBRARY)
    x, state = graph.input(3), graph.state(np.zeros(3, np.float32))
    before = graph.call("aten::clone.out", state, None)
    graph.instructions.append(Instruction("aten::copy_", (state, graph.add(state, x), False), (state.id,), 9))
    after = passed(graph.program(before))
    assert ops(after) == ["aten::clone.out", "aten::add.out", "aten::copy_"]


def test_splits_become_slices() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(2, 7)
    parts = [
        graph._add(f"part{at}", TensorSpec(DType.FLOAT32, (2, size)), Role.ACTIVATION)
        for at, size in enumerate((4, 1, 2))
    ]
    outs = tuple(part.id for part in parts)
    graph.instructions.append(Instruction("aten::split_with_sizes_copy.out", (x, (4, 1, 2), -1), outs, 0, "split"))
    rows = [graph._add(f"row{at}", TensorSpec(DType.FLOAT32, (7,)), Role.ACTIVATION) for at in range(2)]
    graph.instructions.append(
        Instruction("aten::unbind_copy.int_out", (x, 0), tuple(row.id for row in rows), 1, "unbind")
    )
    after = passed(graph.program(parts[0], parts[2], rows[1]))
    assert ops(after) == ["aten::slice_copy.Tensor_out", "aten::slice_copy.Tensor_out", "aten::select_copy.int_out"]
    data = image(2, 7)
    for got, expected in zip(evaluate(after, LIBRARY, [data]), (data[:, :4], data[:, 5:], data[1]), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("pads", [(-1, 2, 0, -2), (-2, -1), (0, 0, 0, 0, -1, 1), (1, 2, -3, -3)])
def test_negative_pads_are_slices(pads: tuple[int, ...]) -> None:
    graph = Graph(LIBRARY)
    program = graph.program(graph.relu(graph.call("aten::constant_pad_nd.out", graph.input(2, 6, 7), pads, 0.5)))
    after = passed(program)
    assert "aten::slice_copy.Tensor_out" in ops(after)
    assert ("aten::constant_pad_nd.out" in ops(after)) == any(pad > 0 for pad in pads)
    same_results(program, after, image(2, 6, 7))


def test_a_mean_over_everything() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(2, 3)
    mean = graph._add("mean", TensorSpec(DType.FLOAT32, ()), Role.ACTIVATION)
    graph.instructions.append(Instruction("aten::mean.dtype_out", (x, None), (mean.id,), 0, "mean"))
    after = passed(graph.program(mean))
    assert [(one.op, one.args[1:]) for one in after.method().instructions] == [
        ("aten::mean.out", ((0, 1), False, None))
    ]


# ---- dead values, jumps ----------------------------------------------------------------------------------------------


def test_what_nobody_reads_is_gone_but_inputs() -> None:
    graph = Graph(LIBRARY)
    x, unread = graph.input(3), graph.input(5)
    graph.relu(graph.relu(unread))
    graph.weight(7)
    after = passed(graph.program(graph.relu(x)))
    assert ops(after) == ["aten::relu.out"]
    assert len(after.method().values) == 3 and after.method().inputs == (x.id, unread.id)


def test_a_state_that_only_counts_is_gone() -> None:
    """As in a batch normalisation that was trained; one that another state is computed from stays, if that is read."""
    graph = Graph(LIBRARY)
    x = graph.input(3)
    counter, first, second = (graph.state(np.zeros(3, np.float32)) for _ in range(3))
    result = graph.add(x, second)
    for at, (state, new) in enumerate(
        [(counter, graph.add(counter, x)), (first, graph.relu(x)), (second, graph.add(second, first))]
    ):
        graph.instructions.append(Instruction("aten::copy_", (state, new, False), (state.id,), 20 + at))
    after = passed(graph.program(result)).method()
    assert counter.id not in after.values and {first.id, second.id} <= after.values.keys()
    assert [one.op for one in after.instructions].count("aten::copy_") == 2


def test_an_input_and_a_constant_may_be_outputs() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(3)
    after = passed(
        graph.program(
            graph.call("aten::clone.out", x, None), graph.call("aten::permute_copy.out", graph.weight(2, 3), (1, 0))
        )
    )
    assert ops(after) == []
    assert [after.method().values[out].role for out in after.method().outputs] == [Role.INPUT, Role.CONSTANT]


def test_jumps_follow_what_stays() -> None:
    """if c: y = relu(clone(x)) else y = x + x, with a jump to an instruction that is removed."""
    move = "executorch::move"
    spec, flag = TensorSpec(DType.FLOAT32, (3,)), TensorSpec(DType.BOOL, ())
    names = ["x", "c", "a", "b", "d", "e", "y"]
    values = {at: Value(at, name, flag if name == "c" else spec, Role.ACTIVATION) for at, name in enumerate(names)}
    values |= {
        0: replace(values[0], role=Role.INPUT),
        1: replace(values[1], role=Role.INPUT),
        6: replace(values[6], role=Role.OUTPUT),
    }
    instructions = (
        Instruction(JUMP_FALSE, (Ref(1), 14), (), 10),
        Instruction("aten::clone.out", (Ref(0), None), (2,), 11),
        Instruction("aten::relu.out", (Ref(2),), (3,), 12),
        Instruction(move, (Ref(3),), (6,), 13),
        Instruction(JUMP_FALSE, (False, -1), (), 16),
        Instruction("aten::clone.out", (Ref(0), None), (4,), 14),
        Instruction("aten::add.out", (Ref(4), Ref(4), 1), (5,), 15),
        Instruction(move, (Ref(5),), (6,), 17),
    )
    after = passed(Program((Method("forward", values, instructions, (0, 1), (6,)),)))
    method = after.method()
    assert [instruction.handle for instruction in method.instructions] == [10, 12, 13, 16, 15, 17]
    assert [instruction.args[1] for instruction in method.instructions if instruction.op == JUMP_FALSE] == [15, -1]
    assert method.instructions[1].args == (Ref(0),)


def test_a_jump_to_a_layer_follows_it_when_a_batch_norm_becomes_part_of_it() -> None:
    """A branch that begins with the two: the layer takes the handle of what it now makes."""
    graph = Graph(LIBRARY)
    flag, x = graph.input(dtype=DType.BOOL), graph.input(1, 2, 4, 4)
    y = batch_norm(graph, graph.conv(x, 2), 2)
    program = graph.program(y)
    (method,) = program.methods
    jump = Instruction(JUMP_FALSE, (flag, method.instructions[0].handle), (), method.next_handle())
    (after,) = passed(replace(program, methods=(replace(method, instructions=(jump, *method.instructions)),))).methods
    assert [one.op for one in after.instructions] == [JUMP_FALSE, "aten::convolution.out"]
    assert after.instructions[0].destination == after.instructions[1].handle


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_the_stock_form_of_a_network_comes_out_as_the_scripts() -> None:
    """Convolution, BatchNorm, relu, pool, dropout, flatten, linear, once with everything left as instructions and once
    by hand without."""
    weight, bias = image(3, 2 * 4 * 4), image(3)
    stock = Graph(LIBRARY)
    x = stock.input(1, 1, 8, 8)
    y = stock.relu(batch_norm(stock, stock.conv(x, 2), 2))
    y = stock.call("aten::max_pool2d_with_indices.out", y, (2, 2), (2, 2), (0, 0), (1, 1), False)
    y = stock.call("dim_order_ops::_clone_dim_order.out", y, False, (0, 1, 2, 3))
    y = stock.view(stock.view(y, 1, 2, 16), 1, 32)
    program = stock.program(linear_by_stock(stock, y, weight, bias))
    after = passed(program)
    same_results(program, after, image(1, 1, 8, 8))

    (conv,) = [one for one in after.method().instructions if one.op == "aten::convolution.out"]
    folded = [after.method().values[arg.id].data for arg in conv.args[1:3] if isinstance(arg, Ref)]
    own = Graph(LIBRARY)
    x = own.input(1, 1, 8, 8)
    args = (own.constant(folded[0]), own.constant(folded[1]), (1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    y = own.relu(own.call("aten::convolution.out", x, *args))
    y = own.view(own.call("aten::max_pool2d_with_indices.out", y, (2, 2), (2, 2), (0, 0), (1, 1), False), 1, 32)
    weights = own.constant(np.ascontiguousarray(weight.T))
    expected = own.program(own.call("aten::addmm.out", own.constant(bias), y, weights, 1, 1))
    assert shape_of(after) == shape_of(expected)
    assert pipeline.run(expected, LIBRARY) is expected


def test_a_malformed_program_is_the_callers_error_and_a_broken_pass_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(LIBRARY)
    program = graph.program(graph.relu(graph.input(3)))
    broken = replace(program.method(), outputs=(77,))
    with pytest.raises(ProgramError):
        pipeline.run(Program((broken,)), LIBRARY)

    def forget(method: Method, library: object) -> Method:
        return replace(method, instructions=())

    monkeypatch.setattr(pipeline, "PASSES", (*pipeline.PASSES, forget))
    with pytest.raises(AssertionError, match="forget"):
        pipeline.run(program, LIBRARY)


def test_damaged_programs_are_left_alone_or_refused() -> None:
    """1,500 damaged files: what the reader lets through, the passes bear, and change no more the second time."""
    graph = Graph(LIBRARY)
    y = batch_norm(graph, graph.conv(graph.input(1, 2, 6, 6), 4), 4)
    y = graph.call("aten::constant_pad_nd.out", y, (0, -1, 1, 0), 0.0)
    y = graph.call("aten::cat.out", (y, graph.call("aten::full.out", (1, 1, 7, 5), 2.0)), 1)
    y = graph.view(
        graph.call("aten::permute_copy.out", graph.call("aten::transpose_copy.int_out", y, 1, 2), (0, 3, 2, 1)), 5, 35
    )
    content = write(graph.program(batch_norm(graph, linear_by_stock(graph, y, image(3, 35), image(3)), 3)))
    rng = random.Random(4)
    survivors = 0
    for _ in range(1500):
        damaged = bytearray(content)
        damaged[rng.randrange(8, int.from_bytes(content[16:24], "little"))] = rng.choice(
            (0, 1, 2, 127, 128, 255, rng.randrange(256))
        )
        try:
            program = read(bytes(damaged))
        except ProgramError:
            continue
        survivors += 1
        with contextlib.suppress(ModelError, Errors):
            supported.check(passed(program), LIBRARY)
    assert survivors > 100


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64])
@pytest.mark.parametrize("bounds", [(3, 42), (None, 42), (3, None), (9, 4)])
def test_clamps_of_whole_numbers(dtype: DType, bounds: tuple[int | None, int | None]) -> None:
    """The Cortex-M flow leaves those of int8 as they are."""
    graph = Graph(LIBRARY)
    program = graph.program(graph.call("aten::clamp.out", graph.input(60, dtype=dtype), *bounds))
    after = passed(program)
    supported.check(after, LIBRARY)
    assert "aten::clamp.out" not in ops(after)
    same_results(program, after, np.arange(60).astype(dtype.numpy))


def test_a_factor_without_dimensions_that_is_dequantised() -> None:
    """XNNPACK's quantizer makes scalars so."""
    graph = Graph(LIBRARY)
    stated = (0.02, 3, -128, 127, DType.INT8.code)

    def real(x: Ref) -> Ref:
        return graph.call("quantized_decomposed::dequantize_per_tensor.out", x, *stated, None)

    x = graph.input(2, 9)
    product = graph.call("aten::mul.out", real(graph.call("quantized_decomposed::quantize_per_tensor.out", x, *stated)),
                         real(graph.constant(np.array(28, np.int8))))  # fmt: skip
    stored = graph.call("quantized_decomposed::quantize_per_tensor.out", product, *stated)
    done = specialise(passed(graph.program(stored)), Target(), LIBRARY)
    assert [step.instruction.op for step in done.calls.values()] == [
        "cortex_m::quantize_per_tensor.out",
        "cortex_m::quantized_activation.out",
    ]


def test_everything_unsupported_is_reported_at_once() -> None:
    graph = Graph(LIBRARY)
    x = graph.input(3)
    wide = graph.input(3, dtype=DType.FLOAT64)
    y = graph.relu(x, name="fine")
    known = graph.relu(wide, name="wide", line=12)
    other = graph._add("other", TensorSpec(DType.FLOAT32, (3,)), Role.ACTIVATION)
    graph.instructions.append(Instruction("aten::max_pool2d.out", (y,), (other.id,), 9, "pool"))
    with pytest.raises(Errors) as caught:
        supported.check(graph.program(y, known, other), LIBRARY)
    text = str(caught.value)
    assert "model.py:12: wide (aten::relu.out): the kernel takes float32, not float64" in text
    assert (
        "pool (aten::max_pool2d.out): no kernel" in text
        and "aten::max_pool2d_with_indices.out" in text
        and "fine" not in text
    )


def test_the_pass_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/passes.md, put into the list as that page says."""
    page = (Path(__file__).parents[2] / "docs" / "passes.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    namespace = {"Method": Method, "Library": Library, "Draft": Draft, "Ref": Ref}
    exec(compile(f"from __future__ import annotations\n{code}", "docs/passes.md", "exec"), namespace)
    monkeypatch.setattr(
        pipeline, "PASSES", (*pipeline.PASSES[:-1], namespace["remove_double_relu"], pipeline.PASSES[-1])
    )
    graph = Graph(LIBRARY)
    program = graph.program(graph.call("aten::sigmoid.out", graph.relu(graph.relu(graph.relu(graph.input(3))))))
    assert ops(passed(program)) == ["aten::relu.out", "aten::sigmoid.out"]


def test_several_methods_keep_what_they_share() -> None:
    """What one method only writes another one reads; a constant that is folded in two methods is one again; ids do not
    meet."""
    base = meter()
    twice = Instruction("aten::add.out", (Ref(1), Ref(1), 1), (20,), 20, "twice")
    folded = Value(20, "twice", base.constants[1].spec, Role.ACTIVATION)
    methods = []
    for method in base.methods[:2]:
        used = tuple(
            replace(one, args=tuple(Ref(20) if arg == Ref(1) else arg for arg in one.args))
            for one in method.instructions
        )
        methods.append(replace(method.with_values(folded), instructions=(twice, *used)))
    result = passed(replace(base, methods=(*methods, base.methods[2])))
    measure, show, clear = result.methods
    assert [one.op for one in clear.instructions] == ["aten::copy_"]
    assert all({result.states[id].name for id in one.shared} == {"total"} for one in result.methods)
    (doubled,) = (value for value in result.constants.values() if value.id not in base.constants)
    assert measure.values[doubled.id] is show.values[doubled.id]
    assert doubled.data is not None and base.constants[1].data is not None
    assert doubled.data.tolist() == (base.constants[1].data * 2).tolist()
    alone = passed(replace(base, methods=base.methods[:1]))
    assert not alone.methods[0].shared, "a state of one method is nobody else's"
