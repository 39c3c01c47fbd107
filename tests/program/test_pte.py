"""Programs survive being written; what files say by sharing is said outright; what cannot be is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etexport.errors import ProgramError
from etexport.program import pte, wire
from etexport.program.arena import offsets
from etexport.program.interface import interface
from etexport.program.model import (
    Arg,
    DType,
    Epilogue,
    Instruction,
    Method,
    Program,
    QParams,
    Ref,
    Role,
    Scalar,
    Storage,
    TensorSpec,
    Value,
)
from etexport.program.verify import verify
from tests.program.programs import PROGRAMS, call, convolution, holding, method, random, shifted, value
from tests.program.sameness import described


@pytest.mark.parametrize("name", PROGRAMS)
def test_round_trip(name: str) -> None:
    program = PROGRAMS[name]
    data = pte.write(program)
    again = pte.read(data)
    expected = described(program)
    if name == "methods":  # nothing can name the values of a method without instructions
        expected["methods"][1]["values"] = {"input_0": expected["methods"][1]["values"]["x"]}
        expected["methods"][1] |= {"inputs": ["input_0"], "outputs": ["input_0"]}
    assert described(again) == expected
    assert pte.write(again) == data


def test_the_method_that_is_built() -> None:
    """The one called forward, or the only one; of several others none is taken for it."""
    one = PROGRAMS["methods"].methods[0]
    encode, decode = replace(one, name="encode"), replace(one, name="decode")
    assert Program((encode,)).method() is encode
    assert Program((encode, replace(one, name="forward"))).method().name == "forward"
    with pytest.raises(ProgramError, match="no method is called forward, the program's are encode, decode"):
        Program((encode, decode)).method()


@pytest.mark.parametrize("name", PROGRAMS)
def test_ids_and_handles_are_positions_in_the_file(name: str) -> None:
    data = pte.write(PROGRAMS[name])
    plans = wire.read(data).program["execution_plan"]
    # values of a further method are counted behind those of the others, what it shares with them is numbered there
    before = 0
    for one in pte.read(data).methods:
        plan = next(plan for plan in plans if plan["name"] == one.name)
        assert [instruction.handle for instruction in one.instructions] == list(
            range(len(plan["chains"][0]["instructions"]))
        )
        for id_, entry in one.values.items():
            if id_ >= before:
                kind, tensor = plan["values"][id_ - before]["val"]
                assert kind == "Tensor"
                assert tensor["sizes"] == entry.spec.shape
        before += len(plan["values"])


def test_methods_share_states_and_constants() -> None:
    """In the file: one entry for a constant, and the last memory, of one size in all plans, for states that several
    methods have."""
    data = pte.write(PROGRAMS["meter"])
    program = pte.read(data)
    measure, show, clear = program.methods
    names = {id_: value.name for id_, value in {**program.states, **program.constants}.items()}
    assert sorted(names.values()) == ["calls", "one", "scale", "total", "zeros"]
    assert [{names[id_] for id_ in one.shared} for one in program.methods] == [{"total"}] * 3
    (total,) = measure.shared
    assert show.values[total] is measure.values[total] is clear.values[total]
    assert "calls" not in {value.name for one in (show, clear) for value in one.values.values()}
    memories = [plan["non_const_buffer_sizes"] for plan in wire.read(data).program["execution_plan"]]
    assert [len(one) for one in memories] == [3, 3, 3]
    assert {one[-1] for one in memories} == {16}


def test_states_of_methods_that_share_no_memory_are_their_own() -> None:
    """As stock ExecuTorch writes them unless told otherwise: two states, each with a name of its own."""
    tables = wire.read(pte.write(Program((PROGRAMS["state"].method(), shifted(PROGRAMS["state"].method(), "second")))))
    for plan in tables.program["execution_plan"]:
        plan["chains"][0]["stacktrace"] = None
        for entry in plan["values"]:
            if entry["val"][0] == "Tensor" and entry["val"][1]["extra_tensor_info"]:
                entry["val"][1]["extra_tensor_info"]["fully_qualified_name"] = (
                    "m.total" if entry["val"][1]["sizes"] else "m.runs"
                )
    program = pte.read(wire.write(tables.program, [(16, bytes(tables.segments[0]))]))
    assert sorted(state.name for state in program.states.values()) == ["m_runs", "m_runs_1", "m_total", "m_total_1"]
    assert not any(method.shared for method in program.methods)


@pytest.mark.parametrize("said", [(1.0, 0, 3), (0.0, 0, -128, 127), (1.0, 200, -128, 127), ("x", 0, -128, 127)])
def test_a_scale_that_is_none_is_refused(said: tuple[Scalar, ...]) -> None:
    one = convolution()
    given = Program((one,), constant_methods={f"{one.name}_input_0_quantization": said})
    read = pte.read(pte.write(given))
    with pytest.raises(ProgramError, match="no scale, zero point, lowest and highest"):
        interface(read, read.method())


def test_an_in_place_operator_whose_result_is_a_value_of_its_own() -> None:
    """As ExecuTorch 1.0 to 1.2 wrote them: memory that nothing writes or reads."""
    tables = wire.read(pte.write(PROGRAMS["state"])).program
    (plan,) = tables["execution_plan"]
    calls = [call["instr_args"][1] for call in plan["chains"][0]["instructions"]]
    kept = next(call for call in calls if len(call["args"]) == 4 and call["args"][0] == call["args"][3])
    state = plan["values"][kept["args"][0]]
    plan["values"] = (*plan["values"], {"val": ("Tensor", {**state["val"][1], "extra_tensor_info": None})})
    kept["args"] = (*kept["args"][:3], len(plan["values"]) - 1)
    read = pte.read(wire.write(tables, [(16, bytes(wire.read(pte.write(PROGRAMS["state"])).segments[0]))]))
    assert described(read) == described(PROGRAMS["state"])


def test_what_is_read_shares_the_files_bytes_and_cannot_be_written() -> None:
    data = pte.write(PROGRAMS["shared"])
    values = pte.read(data).method().values.values()
    table, row = (next(one for one in values if one.name == name) for name in ("table", "row"))
    assert table.data is not None and row.data is not None
    assert np.shares_memory(table.data, row.data), "equal constants are stored once"
    assert not table.data.flags.writeable and not row.data.flags.writeable


def test_nothing_in_a_file_depends_on_the_day_or_the_order_of_a_set() -> None:
    assert pte.write(PROGRAMS["arguments"]) == pte.write(PROGRAMS["arguments"])


def test_unused_values_are_left_out() -> None:
    program = PROGRAMS["convolution"]
    extra = program.method().with_values(
        holding(99, "unused", random(0, 50)), value(98, "unwritten", Role.ACTIVATION, 7)
    )
    assert pte.write(replace(program, methods=(extra,))) == pte.write(program)


# ---- files of others, made by hand on the wire -----------------------------------------------------------------------


def tensor(*sizes: int, at: int | None = None, entry: int = 0, dtype: int = 6, **more: Any) -> wire.Table:
    table: wire.Table = {
        "scalar_type": dtype,
        "sizes": sizes,
        "dim_order": bytes(range(len(sizes))),
        "data_buffer_idx": entry,
        **more,
    }
    if at is not None:
        table["allocation_info"] = {"memory_id": 1, "memory_offset_low": at}
    return {"val": ("Tensor", table)}


def kernel(op: int, *args: int) -> wire.Table:
    return {"instr_args": ("KernelCall", {"op_index": op, "args": args})}


def file(
    values: list[wire.Table],
    instructions: list[wire.Table],
    operators: list[str],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    constants: bytes = b"",
    starts: tuple[int, ...] = (0,),
    /,
    **changed: Any,
) -> bytes:
    plan: wire.Table = {
        "name": "forward",
        "values": values,
        "inputs": inputs,
        "outputs": outputs,
        "chains": [{"instructions": instructions}],
        "operators": [dict(zip(("name", "overload"), op.partition(".")[::2], strict=True)) for op in operators],
        "delegates": (),
        "non_const_buffer_sizes": (0, 4096),
    }
    root: wire.Table = {
        "execution_plan": [{**plan, **changed}],
        "constant_segment": {"segment_index": 0, "offsets": starts},
    }
    return wire.write(root, [(16, constants)])


RELU, VIEW = "aten::relu.out", "aten::view_copy.out"


def test_a_view_by_address_becomes_an_instruction() -> None:
    """0 -relu-> 1, 2 is a view of 1, 2 -relu-> 3, 4 is a view of 3 and an output."""
    values = [tensor(4, at=0), tensor(4, at=64), tensor(2, 2, at=64), tensor(2, 2, at=0), tensor(1, 4, at=0)]
    program = pte.read(file(values, [kernel(0, 0, 1, 1), kernel(0, 2, 3, 3)], [RELU], (0,), (4,)))
    found = [(one.op, one.args, one.outs, one.handle) for one in program.method().instructions]
    assert found == [
        (RELU, (Ref(0),), (1,), 0),
        (VIEW, (Ref(1), (2, 2)), (2,), 2),
        (RELU, (Ref(2),), (3,), 1),
        (VIEW, (Ref(3), (1, 4)), (4,), 3),
    ]
    assert program.method().values[4].role is Role.OUTPUT


def test_a_view_of_an_input_and_one_of_a_state() -> None:
    copy: list[wire.Table] = [{"val": ("Bool", {"bool_val": False})}]
    values = [
        tensor(4, at=0),
        tensor(2, 2, at=0),
        tensor(4, at=64),
        tensor(2, 2, at=64),
        tensor(2, 2, at=128),
        tensor(4, at=128),
        *copy,
    ]
    calls = [kernel(1, 1, 3, 4, 4), kernel(2, 2, 5, 6, 2)]
    program = pte.read(file(values, calls, [RELU, "aten::mul.out", "aten::copy_"], (0,), (4,)))
    found = [(one.op, one.args, one.outs) for one in program.method().instructions]
    assert found == [
        (VIEW, (Ref(0), (2, 2)), (1,)),
        (VIEW, (Ref(2), (2, 2)), (3,)),
        ("aten::mul.out", (Ref(1), Ref(3)), (4,)),
        (VIEW, (Ref(4), (4,)), (5,)),
        ("aten::copy_", (Ref(2), Ref(5), False), (2,)),
    ]
    assert program.method().values[2].role is Role.STATE
    assert program.method().values[2].data is None


def test_bytes_of_another_value_are_not_taken_for_a_view() -> None:
    """1 is overwritten by 2 before it is read a second time: ExecuTorch would compute with 2."""
    values = [tensor(4, at=0), tensor(4, at=64), tensor(4, at=64), tensor(4, at=128)]
    calls = [kernel(0, 0, 1, 1), kernel(0, 1, 2, 2), kernel(1, 1, 2, 3, 3)]
    with pytest.raises(ProgramError, match=r"instruction 2 .*reads value 1, whose bytes value 2 has overwritten"):
        pte.read(file(values, calls, [RELU, "aten::mul.out"], (0,), (3,)))


def test_in_place_by_address_is_pure_dataflow() -> None:
    """A ReLU that writes over its input, which nobody reads again."""
    values = [tensor(4, at=0), tensor(4, at=0), tensor(4, at=0)]
    program = pte.read(file(values, [kernel(0, 0, 1, 1), kernel(0, 1, 2, 2)], [RELU], (0,), (2,)))
    assert [(one.args, one.outs) for one in program.method().instructions] == [((Ref(0),), (1,)), ((Ref(1),), (2,))]


def test_constants_of_one_entry_are_each_their_own() -> None:
    data = random(1, 4)
    values = [tensor(4, at=0), tensor(4, entry=1), tensor(2, 2, entry=1), tensor(4, at=64), tensor(2, 2, at=128)]
    calls = [kernel(0, 0, 1, 3, 3), kernel(0, 2, 2, 4, 4)]
    found = pte.read(file(values, calls, ["aten::mul.out"], (0,), (3, 4), data.tobytes(), (0, 0))).method()
    assert [one.op for one in found.instructions] == ["aten::mul.out"] * 2
    for id_, shape in ((1, (4,)), (2, (2, 2))):
        assert found.values[id_].role is Role.CONSTANT
        np.testing.assert_array_equal(found.values[id_].data, data.reshape(shape))


def test_names_of_a_file_without_names_come_from_what_uses_them() -> None:
    one: wire.Table = {"val": ("Int", {"int_val": 1})}
    zero: wire.Table = {"val": ("Int", {"int_val": 0})}
    swap: wire.Table = {"val": ("IntList", {"items": (5, 6)})}
    values = [tensor(1, 2, at=0), tensor(3, 2, entry=1), tensor(3, entry=2), tensor(2, 3, at=64), tensor(1, 3, at=128)]
    values += [one, zero, swap]
    calls = [kernel(0, 1, 7, 3, 3), kernel(1, 2, 0, 3, 5, 5, 4, 4)]
    found = pte.read(
        file(values, calls, ["aten::permute_copy.out", "aten::addmm.out"], (0,), (4,), bytes(48), (0, 0, 32))
    ).method()
    names = {one.id: one.name for one in found.values.values()}
    assert names == {0: "input_0", 1: "addmm_0_weight", 2: "addmm_0_bias", 3: "permute_0", 4: "addmm_0"}
    assert [one.name for one in found.instructions] == ["permute_0", "addmm_0"]


def relu_file(**changed: Any) -> Callable[[], bytes]:
    return lambda: file([tensor(4, at=0), tensor(4, at=64)], [kernel(0, 0, 1, 1)], [RELU], (0,), (1,), **changed)


def relu_values(*values: wire.Table) -> Callable[[], bytes]:
    return lambda: file(list(values), [kernel(0, 0, 1, 1)], [RELU], (0,), (1,))


def relu_calls(*calls: wire.Table, operators: tuple[str, ...] = (RELU,)) -> Callable[[], bytes]:
    null: list[wire.Table] = [
        {"val": ("Null", {})},
        {"val": ("TensorList", {"items": (1, 1)})},
        {"val": ("Int", {"int_val": 3})},
    ]
    return lambda: file([tensor(4, at=0), tensor(4, at=64), *null], list(calls), list(operators), (0,), (1,))


X, Y = tensor(4, at=0), tensor(4, at=64)
DELEGATE = {"id": "XnnpackBackend", "processed": {"location": 1, "index": 1}, "compile_specs": ()}

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no values": (relu_file(values=None), "'values' is missing"),
    "no sizes of memories": (relu_file(non_const_buffer_sizes=None), "'non_const_buffer_sizes' is missing"),
    "no name": (relu_file(name=""), "method 0: it has no name"),
    "two chains": (relu_file(chains=[{"instructions": ()}] * 2), "2 chains"),
    "no instructions": (relu_file(chains=[{}]), "'instructions' is missing"),
    "an input that is nothing": (relu_file(inputs=(9,)), "input 0 is value 9 of 2"),
    "an input twice": (relu_file(inputs=(0, 0)), "a value is two inputs"),
    "an output that is nothing": (relu_file(outputs=(-1,)), "output 0 is value -1"),
    "an empty value": (relu_values(X, {}), "value 1: it holds nothing"),
    "a dynamic shape": (relu_values(X, tensor(4, at=64, shape_dynamism=2)), "value 1: its shape has no bound"),
    "an external tensor": (
        relu_values(X, tensor(4, extra_tensor_info={"fully_qualified_name": "fc.weight", "location": 1})),
        r"value 1: the tensor 'fc.weight' lies in an external data file",
    ),
    "a tensor on a GPU": (relu_values(X, tensor(4, at=64, extra_tensor_info={"device_type": 1})), "device type 1"),
    "negative sizes": (relu_values(X, tensor(-4, at=64)), "negative"),
    "no sizes": (
        relu_values(X, tensor(4, at=64) | {"val": ("Tensor", {"scalar_type": 6, "dim_order": b"\0"})}),
        "no sizes",
    ),
    "a short dim order": (relu_values(X, tensor(4, at=64, dim_order=b"")), "no permutation"),
    "a wrong dim order": (relu_values(X, tensor(4, at=64, dim_order=b"\1")), "no permutation"),
    "rank 17": (relu_values(X, tensor(*[1] * 17, at=64)), "at most 16"),
    "complex numbers": (relu_values(X, tensor(4, at=64, dtype=9)), "ScalarType 9"),
    "a storage offset": (relu_values(X, tensor(4, at=64, storage_offset=4)), "storage offset is 4"),
    "huge": (relu_values(X, tensor(2**31 - 1, 2**31 - 1, at=64)), "more than"),
    "huge and empty": (relu_values(X, tensor(0, 2**31 - 1, 2**31 - 1, at=64)), "more than"),
    "outside the memory": (relu_values(X, tensor(4, at=4081)), "ends at byte 4097 of memory 1"),
    "memory 0": (relu_values(X, tensor(4, allocation_info={"memory_id": 0})), "lies in memory 0"),
    "memory 2": (relu_values(X, tensor(4, allocation_info={"memory_id": 2})), "lies in memory 2"),
    "no such constant": (relu_values(tensor(4, at=0), tensor(4, entry=3)), "entry 3 of the 1 constants"),
    "no such initial state": (
        relu_values(tensor(4, at=0), tensor(4, at=64, entry=3)),
        "entry 3 of the 1 initial states",
    ),
    "an unknown operator number": (relu_calls(kernel(5, 0, 1, 1)), "operator 5 of 1"),
    "a nameless operator": (relu_calls(kernel(0, 0, 1, 1), operators=("",)), "no operator name"),
    "an argument that is nothing": (relu_calls(kernel(0, 0, 99, 99)), "value 99 of 5"),
    "a negative argument": (relu_calls(kernel(0, -1, 1, 1)), "value -1 of 5"),
    "no repeated result": (relu_calls(kernel(0, 0, 1)), "do not end with its results"),
    "Null for a result": (relu_calls(kernel(0, 0, 1, 2)), "do not end with its results"),
    "no arguments": (relu_calls(kernel(0)), "do not end with its results"),
    "one result twice": (relu_calls(kernel(0, 0, 1, 1, 3)), "writes the same value twice"),
    "a delegate": (
        relu_file(
            delegates=[DELEGATE], chains=[{"instructions": [{"instr_args": ("DelegateCall", {"args": (0, 1)})}]}]
        ),
        "instruction 0: the delegate's data is entry 1 of 1",
    ),
    "a free call": (relu_calls({"instr_args": ("FreeCall", {"value_index": 1})}), "unbounded shape"),
    "an empty instruction": (relu_calls({}), "instruction 0: it holds nothing"),
    "a move of Null": (relu_calls({"instr_args": ("MoveCall", {"move_from": 2, "move_to": 1})}), "it moves value 2"),
    "a jump on an Int": (relu_calls({"instr_args": ("JumpFalseCall", {"cond_value_index": 4})}), "it jumps on value 4"),
    "a jump on a float": (
        relu_calls(kernel(0, 0, 1, 1), {"instr_args": ("JumpFalseCall", {"cond_value_index": 0})}),
        "not bool",
    ),
    "a jump backwards": (
        relu_calls({"instr_args": ("JumpFalseCall", {"cond_value_index": 0, "destination_instruction": -3})}),
        "it jumps to -3",
    ),
    "an operator on numbers without a result": (
        relu_calls(kernel(0), operators=("executorch_prim::add.Scalar",)),
        "it computes no number",
    ),
    "an operator of ExecuTorch's own": (
        relu_calls(kernel(0, 0, 4, 4), operators=("executorch_prim::et_other.default",)),
        "it is not known",
    ),
    "a result that is an input": (
        relu_calls(kernel(0, 0, 1, 1), kernel(0, 1, 0, 0)),
        "it writes input_0, which is input",
    ),
    "an output that nobody writes": (relu_calls(), "output 0.*nothing has written"),
    "an unknown list of results": (
        relu_calls(kernel(0, 0, 3, 3), operators=("aten::chop.out",)),
        "returns a list of tensors, and is not known to",
    ),
    "in place on Null": (
        relu_calls(kernel(0, 2, 0, 2), operators=("aten::copy_",)),
        "its result is not its first argument",
    ),
    "in place on an input": (
        relu_calls(kernel(1, 0, 1, 1), kernel(0, 0, 0), operators=("aten::relu_", RELU)),
        "it writes input_0, which is input",
    ),
    "a wrong number of stack traces": (
        relu_file(chains=[{"instructions": [kernel(0, 0, 1, 1)], "stacktrace": [{}, {}]}]),
        "1 instructions have 2 stack traces",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ProgramError, match=message):
        pte.read(make())


def test_the_file_that_the_refusals_are_changes_of_is_good() -> None:
    assert [one.op for one in pte.read(relu_file()()).method().instructions] == [RELU]


@pytest.mark.parametrize(
    ("items", "message"),
    [((0, 9), "no Int"), ((0, 5), "no Int"), ((0, 2), "no Int")],
)
def test_an_int_list_of_something_else(items: tuple[int, ...], message: str) -> None:
    values: list[wire.Table] = [
        {"val": ("Int", {"int_val": 1})},
        {"val": ("Bool", {"bool_val": True})},
        {"val": ("IntList", {"items": items})},
    ]
    with pytest.raises(ProgramError, match=rf"value 2 \(IntList\).*{message}"):
        pte.read(file(values, [], [], (), ()))


@pytest.mark.parametrize(
    ("kind", "item"), [("TensorList", -1), ("TensorList", 1), ("OptionalTensorList", -2), ("OptionalTensorList", 7)]
)
def test_a_tensor_list_of_something_else(kind: str, item: int) -> None:
    with pytest.raises(ProgramError, match="no tensor before it"):
        pte.read(file([X, {"val": (kind, {"items": (0, item)})}], [], [], (), ()))


def test_an_initialised_input_is_refused() -> None:
    with pytest.raises(ProgramError, match="is an input and has initial content"):
        pte.read(file([tensor(4, at=0, entry=1), Y], [kernel(0, 0, 1, 1)], [RELU], (0,), (1,)))


def test_a_state_does_not_share_its_bytes() -> None:
    """3 is planned onto the state 2: after the first run the state would be lost."""
    values = [X, Y, tensor(4, at=128), tensor(4, at=128), {"val": ("Bool", {})}]
    calls = [kernel(0, 2, 1, 1), kernel(0, 0, 3, 3), kernel(1, 2, 1, 4, 2)]
    with pytest.raises(ProgramError, match="writing value 3 overwrites the state 2"):
        pte.read(file(values, calls, [RELU, "aten::copy_"], (0,), (1,)))


# ---- what no file can hold -------------------------------------------------------------------------------------------


def changed(change: Callable[[Method], Method]) -> Program:
    program = PROGRAMS["convolution"]
    return replace(program, methods=(change(program.method()),))


def with_value(id_: int, **fields: Any) -> Callable[[Method], Method]:
    return lambda one: one.with_values(replace(one.values[id_], **fields))


def with_epilogue(one: Method) -> Method:
    return replace(one, instructions=(replace(one.instructions[0], epilogue=Epilogue(low=0.0)), *one.instructions[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_epilogue, "model.py:12: features.conv .* has an epilogue"),
        (with_value(7, storage=Storage(5)), "forward: flat: .*address"),
        (
            with_value(3, spec=TensorSpec(DType.FLOAT32, (1, 4, 8, 8), qparams=QParams((1.0,), (0,), -128, 127))),
            "forward: conv: .*quantisation",
        ),
        (with_value(3, role=Role.SCRATCH), "forward: conv: .*scratch"),
    ],
)
def test_what_the_target_side_adds_is_not_written(change: Callable[[Method], Method], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        pte.write(changed(change))


def test_stock_refuses_our_own_operators() -> None:
    values = [value(0, "x", Role.INPUT, 2), value(1, "y", Role.OUTPUT, 2)]
    program = Program(
        (method(values, [call(0, "etexport::fused.out", (Ref(0),), 1, name="fused")], (0,), (1,), "forward"),)
    )
    assert described(pte.read(pte.write(program))) == described(program)
    with pytest.raises(ProgramError, match=r"fused .*etexport::fused.out exist only in etexport"):
        pte.write(program, stock=True)
    assert pte.write(PROGRAMS["convolution"], stock=True) == pte.write(PROGRAMS["convolution"])


# ---- any program -----------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=9),
)
LISTS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=4),
    st.lists(st.booleans(), min_size=1, max_size=4),
).map(tuple)


@st.composite
def any_program(draw: st.DrawFn) -> Program:
    """A graph of made-up operators with any arguments, shapes, layouts, states and numbers of results."""
    values: dict[int, Value] = {}

    def add(role: Role) -> int:
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
        order = tuple(draw(st.permutations(range(len(shape)))))
        one = TensorSpec(draw(st.sampled_from(list(DType))), shape, order)
        data = None
        if role is Role.CONSTANT or (role is Role.STATE and draw(st.booleans())):
            data = np.arange(one.numel).reshape(shape).astype(one.dtype.numpy)
        values[len(values)] = Value(len(values), f"v{len(values)}", one, role, data)
        return len(values) - 1

    inputs = tuple(add(Role.INPUT) for _ in range(draw(st.integers(1, 3))))
    readable: list[int] = [
        *inputs,
        *(add(draw(st.sampled_from([Role.CONSTANT, Role.STATE]))) for _ in range(draw(st.integers(0, 3)))),
    ]
    instructions: list[Instruction] = []
    for handle in range(draw(st.integers(0, 6))):
        args: list[Arg] = [Ref(draw(st.sampled_from(readable)))]
        args += draw(st.lists(st.one_of(SCALARS, LISTS), max_size=3))
        if draw(st.booleans()):
            args.append(tuple(Ref(one) for one in draw(st.lists(st.sampled_from(readable), min_size=1, max_size=3))))
        states = [one for one in readable if values[one].role is Role.STATE and values[one].spec.nbytes]
        if states and draw(st.booleans()):
            target = draw(st.sampled_from(states))
            instructions.append(Instruction("test::update_", (Ref(target), *args), (target,), handle, f"i{handle}"))
            continue
        outs = [add(Role.ACTIVATION) for _ in range(draw(st.integers(1, 3)))]
        instructions.append(Instruction("test::op.out", tuple(args), tuple(outs), handle, f"i{handle}", None))
        readable += outs
    outputs = tuple(draw(st.lists(st.sampled_from(readable), max_size=3)))
    used = {id_ for one in instructions for id_ in (*one.reads, *one.outs)}
    outputs = tuple(id_ for id_ in outputs if id_ in used)
    for id_ in outputs:
        if values[id_].role is Role.ACTIVATION:
            values[id_] = replace(values[id_], role=Role.OUTPUT)
    inputs = tuple(id_ for id_ in inputs if id_ in used)
    kept = {id_: one for id_, one in values.items() if id_ in used}
    return Program((Method("forward", kept, tuple(instructions), inputs, outputs),))


@settings(max_examples=300, deadline=None)
@given(any_program())
def test_any_program_survives(program: Program) -> None:
    verify(program)
    data = pte.write(program)
    again = pte.read(data)
    assert described(again) == described(program)
    assert pte.write(again) == data


@settings(max_examples=100, deadline=None)
@given(any_program())
def test_planned_offsets_never_overlap_while_both_are_needed(program: Program) -> None:
    """Checked by brute force over instructions, apart from the planner's own idea of a live range."""
    one = program.method()
    placed, total = offsets(one)
    count = len(one.instructions)
    for id_, offset in placed.items():
        assert offset % 16 == 0
        assert offset + one.values[id_].spec.nbytes <= total
    for position in range(count):
        needed: set[int] = set()
        for id_ in placed:
            written = [
                at for at, i in enumerate(one.instructions) if id_ in i.outs and one.values[id_].role is not Role.STATE
            ]
            read = [at for at, i in enumerate(one.instructions) if id_ in i.reads]
            for_ever = one.values[id_].role is Role.STATE
            starts = min(written, default=-1)
            ends = count if for_ever or id_ in one.outputs else max([*read, starts])
            if starts <= position <= ends:
                needed.add(id_)
        spans = sorted(
            (placed[id_], placed[id_] + one.values[id_].spec.nbytes) for id_ in needed if one.values[id_].spec.nbytes
        )
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
