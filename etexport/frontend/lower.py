"""An exported graph becomes a Program: ExecuTorch's operators, constants with names, state with its write-back, source
lines.

Inside the program every tensor is contiguous; memory formats in the script mean nothing but for inputs and outputs,
whose dim orders are kept (a copy stands beside them). Views are their copying variants. int64 and float64 stay as they
are: what has no kernel for them is reported later, with everything else that has none.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from etexport.errors import EtError, ModelError, raise_all
from etexport.frontend.dynamic import Known
from etexport.frontend.operators import (
    HALVES,
    MEMORY_FORMATS,
    SCALAR_TYPES,
    arguments,
    dtype_of,
    out_name,
    to_array,
    to_tensor,
)
from etexport.frontend.script import Script
from etexport.frontend.sources import line, source_of, source_within
from etexport.kernel.library import Library
from etexport.kernel.sizes import COMPUTED
from etexport.program.model import (
    BEGIN,
    JUMP_FALSE,
    JUMPS,
    MOVE,
    NEXT,
    ROW,
    SET_ROW,
    Arg,
    Array,
    DType,
    Instruction,
    Method,
    Program,
    Ref,
    Role,
    TensorSpec,
    Value,
    channels_last,
    contiguous,
)
from etexport.program.names import Names
from etexport.program.operators import CLONE, CONVERT, SIZE, WRITE_BACK

aten = torch.ops.aten

SAME = frozenset(
    {
        aten.alias.default,
        aten.detach.default,
        aten.lift_fresh_copy.default,
        aten.alias_copy.default,
        aten.detach_copy.default,
    }
)
"""The result is the operand: nothing is written in place in a functional graph."""

ASSERTIONS = frozenset(
    {
        aten._assert_tensor_metadata.default,
        aten._assert_async.msg,
        aten._assert_scalar.default,
        aten.sym_constrain_range.default,
        aten.sym_constrain_range_for_size.default,
    }
)
"""True for the shapes and types that were captured, and no others reach the device."""

PROMOTING = frozenset(
    {
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.div.Tensor,
        aten.div.Tensor_mode,
        aten.maximum.default,
        aten.minimum.default,
        aten.remainder.Tensor,
        aten.fmod.Tensor,
        aten.pow.Tensor_Tensor,
        aten.atan2.default,
        aten.bitwise_and.Tensor,
        aten.bitwise_or.Tensor,
        aten.bitwise_xor.Tensor,
        aten.eq.Tensor,
        aten.ne.Tensor,
        aten.lt.Tensor,
        aten.le.Tensor,
        aten.gt.Tensor,
        aten.ge.Tensor,
    }
)
"""Operators that bring their operands to one type; their kernels want them so already."""

CASTS = frozenset({aten._to_copy.default, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar})
"""Elementwise operators whose operand says nothing of the result's type."""


ARITHMETIC: dict[object, torch._ops.OpOverload] = {
    operator.add: aten.add.Tensor,
    operator.sub: aten.sub.Tensor,
    operator.mul: aten.mul.Tensor,
    operator.lt: aten.lt.Tensor,
    operator.le: aten.le.Tensor,
    operator.gt: aten.gt.Tensor,
    operator.ge: aten.ge.Tensor,
    operator.eq: aten.eq.Tensor,
    operator.ne: aten.ne.Tensor,
    operator.and_: aten.bitwise_and.Tensor,
    operator.or_: aten.bitwise_or.Tensor,
    torch.sym_not: aten.logical_not.default,
}
"""What a loop may do with the Python numbers that it carries."""

SIZES: dict[object, str] = {
    {max: torch.sym_max, min: torch.sym_min}.get(function, function): f"executorch_prim::{name}.Scalar"
    for name, function in COMPUTED.items()
}
"""What is computed with sizes, by ExecuTorch's operators on numbers."""

NUMBERS = TensorSpec(DType.INT64, ())
"""What a Python number is that is not known before: a tensor without dimensions."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """`nodes` gives the node of the exported graph that each instruction computes, by handle."""

    program: Program
    nodes: dict[int, str]
    modules: dict[str, str]
    """The path of the layer that each instruction lies in, by the instruction's name: "features.0"."""
    output_names: tuple[str, ...]
    """What forward() calls each output: the key of a dict, the attribute of a dataclass or named tuple; nothing in a
    tuple or alone."""


@dataclass(eq=False)
class Stored:
    """The states and constants of a program's methods so far: one that several have is the same tensor in PyTorch."""

    mutated: frozenset[Identity] = frozenset()
    """What any method writes: a state also where another one only reads it."""
    values: dict[Identity, Value] = field(default_factory=dict)
    next_id: int = 0
    """The first id that no method has."""


Identity = tuple[int, torch.dtype, tuple[int, ...], tuple[int, ...]]
"""Where a tensor lies in PyTorch, and how: equal for what is one tensor under several names."""


def identity(tensor: Tensor) -> Identity:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride())


def mutated(exported: ExportedProgram) -> frozenset[Identity]:
    """The tensors that the graph writes to."""
    tensors = {**exported.constants, **exported.state_dict}
    writes = (spec for spec in exported.graph_signature.output_specs if spec.kind is OutputKind.BUFFER_MUTATION)
    return frozenset(identity(tensors[str(spec.target)]) for spec in writes)


def lower(exported: ExportedProgram, script: Script, library: Library, stored: Stored | None = None) -> Lowered:
    """What depends on constants only is computed here where `library` has no kernel for it; the passes compute the
    rest. Of a method among several, `stored` has what those before it keep, and gets what this one does.

    ModelError, or `Errors` of all of them: dynamic shapes, types without a counterpart, inputs or outputs that are no
    tensors."""
    return _Lowering(exported, script, library, stored or Stored(mutated(exported))).run()


@dataclass
class _Lowering:
    exported: ExportedProgram
    script: Script
    library: Library
    stored: Stored
    values: dict[int, Value] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    lowered: dict[fx.Node, Any] = field(default_factory=dict)
    """Ref, None, or a tuple of these for each node."""
    nodes: dict[int, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    path: str = ""
    """Of branches and loops, as PyTorch names their graphs: `body_graph_0.true_graph_0.`."""
    errors: list[EtError] = field(default_factory=list)
    failed: set[fx.Node] = field(default_factory=set)
    known: dict[fx.Node, bool] = field(default_factory=dict)
    bounded: set[int] = field(default_factory=set)
    """Values whose shapes depend on sizes that are known at run time."""
    numbers: set[int] = field(default_factory=set)
    """Values that are such sizes, and what is computed with them."""
    contents: dict[fx.Node, Any] = field(default_factory=dict)
    """What PyTorch computed here: a tensor, or a tuple of them, for each node."""

    def __post_init__(self) -> None:
        self.fallback = line(self.script.path, self.script.model_line)
        self.signature = self.exported.graph_signature
        self.tensors = {**self.exported.constants, **self.exported.state_dict}
        self.names = Names(value.name for value in self.stored.values.values())
        self.next_id = self.stored.next_id

    def run(self) -> Lowered:
        graph = self.exported.graph
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        specs = zip(placeholders, self.signature.input_specs, strict=True)
        given = [node for node, spec in specs if spec.kind is InputKind.USER_INPUT]
        self.sizes = Known(self.exported, self.script, given)
        inputs = self._inputs(placeholders)
        self._graph(graph)
        outputs = self._outputs(next(node for node in graph.nodes if node.op == "output"))
        raise_all(self.errors)
        values = {
            value.id: replace(value, role=Role.OUTPUT)
            if value.role is Role.ACTIVATION and value.id in outputs
            else value
            for value in self.values.values()
        }
        self.stored.next_id = self.next_id
        method = Method(
            self.script.method, values, tuple(map(self._within, self.instructions)), tuple(inputs), tuple(outputs),
            symbols=tuple(self.sizes.symbols.values()), extents=tuple(self.sizes.extents),
            bounded=frozenset(self.bounded),
        )  # fmt: skip
        return Lowered(Program((method,)), self.nodes, self.modules, _output_names(self.exported))

    def _graph(self, graph: fx.Graph) -> None:
        """All that it computes; what fails is noted."""
        for node in graph.nodes:
            if node.op == "call_function":
                if not self.failed.isdisjoint(node.all_input_nodes):
                    self.failed.add(node)  # its mistake is the operand's
                    continue
                try:
                    self._call(node)
                except EtError as error:
                    self.errors.append(error)
                    self.failed.add(node)
            elif node.op == "get_attr":
                self.lowered[node] = self._attribute(node)

    def _within(self, instruction: Instruction) -> Instruction:
        """A jump behind the last instruction leads to the end."""
        behind = instruction.op in JUMPS and instruction.destination == len(self.instructions)
        return instruction.leading_to(-1) if behind else instruction

    # ---- inputs and constants ----------------------------------------------------------------------------------------

    def _inputs(self, placeholders: Sequence[fx.Node]) -> list[int]:
        inputs: list[int] = []
        for node, spec in zip(placeholders, self.signature.input_specs, strict=True):
            try:
                if spec.kind is InputKind.USER_INPUT:
                    inputs.append(self._user_input(node))
                elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
                    known = identity(self.tensors[str(spec.target)])
                    if node.users or known in self.stored.mutated:
                        self.lowered[node] = self._stored(str(spec.target), known)
                else:
                    raise ModelError(
                        f"{node.name} is a {spec.kind.name.lower()}, not a tensor", where=str(self.script.path)
                    )
            except EtError as error:
                self.errors.append(error)
                self.failed.add(node)
        return inputs

    def _user_input(self, node: fx.Node) -> int:
        meta = node.meta.get("val")
        if not isinstance(meta, Tensor):
            what = f"the argument {node.name} of forward() is {type(meta).__name__}, not a tensor"
            raise ModelError(
                what, where=str(self.script.path), hint="keep numbers in the model, and give tensors to it"
            )
        spec = self._spec(meta, node)
        rank = len(spec.shape)
        order = channels_last(rank) if self.script.channels_last else _dim_order(meta)
        value = self._value(node.name, spec.with_order(order), Role.INPUT)
        self._note(value.id, meta)
        self.lowered[node] = Ref(value.id)
        if not value.spec.is_contiguous:
            self.lowered[node] = self._helper(CLONE, Ref(value.id), spec, f"{node.name}_contiguous", node)
        return value.id

    def _stored(self, target: str, known: Identity) -> Ref:
        """A parameter or buffer: the value that an earlier method has of it, or a new one."""
        value = self.stored.values.get(known)
        if value is None:
            tensor = self.tensors[target].detach().cpu().contiguous()
            role = Role.STATE if known in self.stored.mutated else Role.CONSTANT
            value = self.values[self._constant(target, self._array(tensor, target), role).id]
            self.stored.values[known] = value
        self.values[value.id] = value
        return Ref(value.id)

    def _attribute(self, node: fx.Node) -> Any:
        tensor = getattr(node.graph.owning_module, str(node.target), None)
        if not isinstance(tensor, Tensor):
            return None  # a subgraph, which only control flow uses
        return self._constant(str(node.target), self._array(tensor.detach().cpu().contiguous(), str(node.target)))

    def _array(self, tensor: Tensor, name: str) -> Array:
        try:
            dtype_of(tensor.dtype, constant=True)
        except ValueError as error:
            raise ModelError(
                f"{name}: {error}", where=str(self.script.path), hint="convert the model with .float()"
            ) from None
        if tensor.layout is not torch.strided:
            raise ModelError(
                f"{name}: {tensor.layout} is not supported", where=str(self.script.path), hint="write x.to_dense()"
            )
        return to_array(tensor)

    def _constant(self, name: str, data: Array, role: Role = Role.CONSTANT) -> Ref:
        spec = TensorSpec(DType.of_numpy(data.dtype), tuple(data.shape))
        return Ref(self._value(name, spec, role, data).id)

    def _value(self, name: str, spec: TensorSpec, role: Role, data: Array | None = None) -> Value:
        value = Value(self.next_id, self.names.new(name), spec, role, data)
        self.next_id += 1
        self.values[value.id] = value
        return value

    # ---- operators ---------------------------------------------------------------------------------------------------

    def _call(self, node: fx.Node) -> None:
        target = node.target
        if target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node) and isinstance(index, int)
            self.lowered[node] = self.lowered[source][index]
        elif target in ASSERTIONS:
            self.lowered[node] = None
        elif target in SAME:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self.lowered[node] = self.lowered[source]
        elif isinstance(target, torch._ops.OpOverload):
            self._operator(node, target)
        elif target is torch.ops.higher_order.auto_functionalized_v2:
            self._writing(node)
        elif isinstance(target, torch._ops.HigherOrderOperator):
            self._control(node)
        elif target in SIZES and self._of_sizes(node):
            self._size(node, SIZES[target])
        elif target in ARITHMETIC:
            self._number(node, ARITHMETIC[target])
        else:
            raise self._error(
                node, f"{getattr(target, '__name__', target)} computes with a size that is not fixed", FIXED
            )

    def _of_sizes(self, node: fx.Node) -> bool:
        refs = [self.lowered.get(one) for one in node.all_input_nodes]
        return all(isinstance(ref, Ref) and ref.id in self.numbers for ref in refs)

    def _size(self, node: fx.Node, op: str) -> None:
        """A number that is computed from sizes."""
        args: tuple[Any, ...] = tuple(self.lowered[one] if isinstance(one, fx.Node) else one for one in node.args)
        value = self._value(node.name, NUMBERS, Role.ACTIVATION)
        self.numbers.add(value.id)
        self._append(op, args, (value.id,), None)  # torch puts many of them where no line asks
        self.lowered[node] = Ref(value.id)

    def _size_of(self, table: Ref) -> Ref:
        """How many rows it has, as a number."""
        value = self._value(f"{self.values[table.id].name}_rows", NUMBERS, Role.ACTIVATION)
        self.numbers.add(value.id)
        self._append(SIZE, (table, 0), (value.id,), None)
        return Ref(value.id)

    def _note(self, id_: int, meta: object) -> None:
        if isinstance(meta, Tensor) and any(isinstance(size, torch.SymInt) for size in meta.shape):
            self.bounded.add(id_)

    def _operator(self, node: fx.Node, overload: torch._ops.OpOverload) -> None:
        if overload is aten.sym_size.int:
            self._size(node, SIZE)
            return
        if self._is_constant(node, overload):
            self.lowered[node] = self._computed(node)
            return
        if (empty := self._without_elements(node)) is not None:
            self.lowered[node] = empty
            return
        if torch.Tag.nondeterministic_seeded in overload.tags and self.library.find(out_name(overload)) is None:
            raise self._error(
                node, f"{overload.overloadpacket} draws random numbers, for which there is no kernel", NOISE
            )
        op, args = self._operation(node, overload)
        results = self._results(node)
        outs = tuple(ref.id for ref in (results if isinstance(results, tuple) else (results,)))
        self._append(op, args, outs, node)
        self.lowered[node] = results

    def _writing(self, node: fx.Node) -> None:
        """An operator of a user's that writes arguments: what they hold afterwards are further results, in the order of
        the arguments. Torch gives what the operator returns (None for nothing), then each tensor that was written."""
        (overload,), bases = node.args, node.kwargs["_all_bases"]
        assert isinstance(overload, torch._ops.OpOverload) and isinstance(bases, (list, tuple))
        places = {}
        for argument in overload._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                told = [key for key in node.kwargs if key.startswith(f"_{argument.name}_")]
                if told != [f"_{argument.name}_base_index"] or not isinstance(node.kwargs[told[0]], int):
                    what = f"{overload} writes a part of a tensor or a list of them: {argument.name}"
                    raise self._error(node, what, "give it whole tensors, and copy the part back with slices")
                places[argument.name] = int(str(node.kwargs[told[0]]))
        given = {**node.kwargs, **{name: bases[place] for name, place in places.items()}}
        args = [self._argument(node, kind, value, None) for _, kind, value in arguments(overload, (), given)]
        val = node.meta["val"]
        returned = [one for one in val[: len(val) - len(bases)] if one is not None]
        if not all(isinstance(one, Tensor) for one in returned) or len(set(places.values())) < len(places):
            raise self._error(node, f"{overload} returns what is no tensor, or writes one tensor twice")
        name = overload._schema.name.partition("::")[2]
        written = [val[len(val) - len(bases) + place] for place in places.values()]
        refs = [Ref(self._value(name, self._spec(one, node), Role.ACTIVATION).id) for one in (*returned, *written)]
        self._append(out_name(overload), tuple(args), tuple(ref.id for ref in refs), node)
        after = dict(zip(places.values(), refs[len(returned) :], strict=True))
        kept = [after.get(at, self.lowered.get(base)) for at, base in enumerate(bases)]
        self.lowered[node] = (*(refs[: len(returned)] if returned else (None,)), *kept)

    # ---- branches and loops ------------------------------------------------------------------------------------------

    def _control(self, node: fx.Node) -> None:
        """Its instructions have the line of the script where it stands, if torch knows no better: a part of it may."""
        fallback, self.fallback = self.fallback, source_within(node, self.script.folder, self.fallback)
        if node.target is torch.ops.higher_order.cond:
            self._branches(node)
        elif node.target is torch.ops.higher_order.while_loop:
            self._while(node)
        elif node.target is torch.ops.higher_order.scan:
            body, carried, rows, others = node.args
            self._counted(node, body, carried, rows, others)
        elif node.target is torch.ops.higher_order.map_impl:
            body, rows, others = node.args
            self._counted(node, body, (), rows, others)
        else:
            hint = "of control flow there are torch.cond, while_loop, map and scan"
            raise self._error(node, f"torch.{node.target} cannot be built", hint)
        self.fallback = fallback

    def _branches(self, node: fx.Node) -> None:
        """`torch.cond` as ExecuTorch writes it: a jump over what is computed where the condition holds, to what is
        computed where not; either way ends with its results moved to those of the whole."""
        predicate, yes, no, operands = node.args
        condition = self._condition(node, self._given(predicate))
        assert isinstance(yes, fx.Node) and isinstance(no, fx.Node) and isinstance(operands, (tuple, list))
        results = self._results(node)
        outs = [ref.id for ref in results]
        to_other = self._jump(node, condition)
        self._move_all(node, self._subgraph(node, yes, self._operands(node, operands)), outs)
        to_end = self._jump(node, False)
        self._lead_here(to_other)
        self._move_all(node, self._subgraph(node, no, self._operands(node, operands)), outs)
        self._lead_here(to_end)
        self.lowered[node] = results

    def _while(self, node: fx.Node) -> None:
        """What is carried is moved to the results, which each round reads and moves its own to; a jump behind the loop
        where the condition fails, and one back at its end."""
        asked, body, first, others = node.args
        assert isinstance(asked, fx.Node) and isinstance(body, fx.Node)
        assert isinstance(first, (tuple, list)) and isinstance(others, (tuple, list))
        specs = [self._spec(one, node) if isinstance(one, Tensor) else NUMBERS for one in node.meta["val"]]
        results = tuple(Ref(self._value(node.name, spec, Role.ACTIVATION).id) for spec in specs)
        outs = [ref.id for ref in results]
        for id_, meta in zip(outs, node.meta["val"], strict=True):
            self._note(id_, meta)
        self._move_all(node, self._operands(node, first), outs)
        given = [*results, *self._operands(node, others)]
        head = len(self.instructions)
        (condition,) = self._subgraph(node, asked, given)
        if self.errors:
            return
        to_end = self._jump(node, self._condition(node, condition))
        self._move_all(node, self._subgraph(node, body, given), outs)
        self._lead(self._jump(node, False), head)
        self._lead_here(to_end)
        self.lowered[node] = results

    def _counted(self, node: fx.Node, body: Any, first: Any, rows: Any, others: Any) -> None:
        """`map` and `scan`: each round reads a row of each of `rows`, writes one of each stacked result, and gives the
        next what `first` is for the first."""
        results = self._results(node)
        outs = [ref.id for ref in results]
        stacked = outs[len(first) :]
        tables = self._operands(node, rows)
        rounds = rows[0].meta["val"].shape[0]
        self._move_all(node, self._operands(node, first), outs[: len(first)])
        self.lowered[node] = results
        if isinstance(rounds, torch.SymInt):
            rounds = self._size_of(tables[0])
        elif not rounds:
            for at in range(len(first), len(outs)):
                outs[at] = self._constant(
                    node.name, np.zeros(self.values[outs[at]].spec.shape, self.values[outs[at]].spec.dtype.numpy)
                ).id
            self.lowered[node] = tuple(map(Ref, outs))
            return
        count = self._value(f"{node.name}_count", TensorSpec(DType.INT32, ()), Role.ACTIVATION)
        self._plain(BEGIN, (), (count.id, *stacked), count.name)
        head = len(self.instructions)
        taken = []
        for table, meta in zip(tables, (one.meta["val"] for one in rows), strict=True):
            row = self._value(f"{self.values[table.id].name}_row", self._row_of(table), Role.ACTIVATION)
            if any(isinstance(size, torch.SymInt) for size in meta.shape[1:]):
                self.bounded.add(row.id)
            self._plain(ROW, (table, Ref(count.id)), (row.id,), row.name)
            taken.append(Ref(row.id))
        given = [*results[: len(first)], *taken, *self._operands(node, others)]
        made = self._subgraph(node, body, given)
        if self.errors:
            return
        for table_id, result in zip(stacked, made[len(first) :], strict=True):
            assert result is not None
            self._plain(SET_ROW, (Ref(table_id), result, Ref(count.id)), (table_id,), self.values[table_id].name)
        self._move_all(node, made[: len(first)], outs[: len(first)])
        self._plain(NEXT, (Ref(count.id), rounds, head), (count.id,), f"{node.name}_next")

    def _number(self, node: fx.Node, overload: torch._ops.OpOverload) -> None:
        """Arithmetic with numbers that a loop carries: they are tensors of int64 without dimensions."""
        spec = TensorSpec(DType.BOOL, ()) if isinstance(node.meta["val"], (bool, torch.SymBool)) else NUMBERS
        common = torch.int64 if overload in PROMOTING and not isinstance(node.meta["val"], bool) else None
        args = tuple(self._argument(node, kind, value, common) for _, kind, value in arguments(overload, node.args, {}))
        value = self._value(node.name, spec, Role.ACTIVATION)
        self._append(out_name(overload), args, (value.id,), node)
        self.lowered[node] = Ref(value.id)

    def _condition(self, node: fx.Node, ref: Ref | None) -> Ref:
        if ref is None:
            raise self._error(node, "its condition depends on a size that is not fixed", FIXED)
        if ref.id in self.numbers:
            raise self._error(node, "its condition depends on a size that is known at run time", OF_SIZES)
        spec = self.values[ref.id].spec
        if spec.dtype is not DType.BOOL or spec.numel != 1:
            raise self._error(
                node, f"its condition is {spec}, where one bool belongs", "compare: x.sum() > 0, or flag != 0"
            )
        return ref

    def _jump(self, node: fx.Node, condition: Ref | bool) -> int:
        """A jump whose target is not known yet; returns its position."""
        handle = len(self.instructions)
        source = source_of(node.meta, self.script.folder, self.fallback)
        self.instructions.append(Instruction(JUMP_FALSE, (condition, handle), (), handle, f"{node.name}_jump", source))
        return handle

    def _lead_here(self, jump: int) -> None:
        self._lead(jump, len(self.instructions))

    def _lead(self, jump: int, to: int) -> None:
        self.instructions[jump] = self.instructions[jump].leading_to(to)

    def _subgraph(self, node: fx.Node, graph_node: fx.Node, given: Sequence[Ref]) -> list[Ref | None]:
        """The instructions of a branch, a condition or a round, which is given these; returns what it gives."""
        graph: fx.Graph = getattr(node.graph.owning_module, str(graph_node.target)).graph
        placeholders = [one for one in graph.nodes if one.op == "placeholder"]
        self.lowered.update(zip(placeholders, given, strict=True))
        outside, self.path = self.path, f"{self.path}{graph_node.target}."
        self._graph(graph)
        (results,) = next(one for one in graph.nodes if one.op == "output").args
        found = [self._given(one) for one in (results if isinstance(results, (tuple, list)) else (results,))]
        self.path = outside
        return found

    def _operands(self, node: fx.Node, operands: Sequence[Any]) -> list[Ref]:
        refs = [ref for one in operands if (ref := self._given(one)) is not None]
        if len(refs) < len(operands):
            raise self._error(node, "it is given a size that is not fixed", FIXED)
        return refs

    def _given(self, operand: Any) -> Ref | None:
        """An operand or a result of control flow; a Python number is a constant. None for what failed, which is told
        already."""
        if isinstance(operand, (bool, int, float)):
            return self._constant("number", torch.tensor(operand).numpy())
        found = self.lowered.get(operand)
        return found if isinstance(found, Ref) else None

    def _move_all(self, node: fx.Node, refs: Sequence[Ref | None], outs: Sequence[int]) -> None:
        """Each to its result, as if all at once."""
        moved = []
        for ref in refs:
            # a state may be overwritten before the result is read, and a result by the move before this one
            copied = ref is not None and (self.values[ref.id].role is Role.STATE or ref.id in outs)
            moved.append(self._copy_of(ref) if copied and ref is not None else ref)
        if None in moved and not self.errors:
            raise self._error(node, "it gives what is no tensor", "give tensors back")
        for ref, out in zip(moved, outs, strict=True):
            if ref is not None and ref.id != out:
                self._plain(MOVE, (ref,), (out,), self.values[out].name)

    def _plain(self, op: str, args: tuple[Arg, ...], outs: tuple[int, ...], name: str) -> None:
        """An instruction that no node of the graph stands for."""
        self.instructions.append(Instruction(op, args, outs, len(self.instructions), name, self.fallback))

    def _row_of(self, table: Ref) -> TensorSpec:
        spec = self.values[table.id].spec
        return TensorSpec(spec.dtype, spec.shape[1:])

    def _without_elements(self, node: fx.Node) -> Any:
        """The results as constants where none has an element: there is nothing to compute. Else None."""
        specs = self._specs(node)
        if not specs or any(spec.numel for spec in specs):
            return None
        refs = tuple(self._constant(node.name, np.zeros(spec.shape, spec.dtype.numpy)) for spec in specs)
        return refs if isinstance(node.meta.get("val"), (tuple, list)) else refs[0]

    def _is_constant(self, node: fx.Node, overload: torch._ops.OpOverload) -> bool:
        """Whether the node depends on constants only, and no kernel's numpy meaning could compute it in the passes
        (weight_norm, indices made by arange). Weights of 16 bits stay so."""
        if overload is aten._to_copy.default and node.all_input_nodes[0].meta["val"].dtype in HALVES:
            return False
        return bool(node.all_input_nodes) and not self._has_kernel(node, overload) and self._is_known(node)

    def _has_kernel(self, node: fx.Node, overload: torch._ops.OpOverload) -> bool:
        op, first = self.library.find(out_name(overload)), node.all_input_nodes[0].meta.get("val")
        if op is None or op.lower is None or not isinstance(first, Tensor):
            return op is not None
        return SCALAR_TYPES.get(first.dtype) in [dtype.code for dtype in op.dtypes]

    def _is_known(self, node: fx.Node) -> bool:
        """Whether all that the node depends on are constants, and tensors made from nothing."""
        if node not in self.known:
            ref, target = self.lowered.get(node), node.target
            if node.op != "call_function" or (isinstance(ref, Ref) and self.values[ref.id].data is not None):
                found = isinstance(ref, Ref) and self.values[ref.id].role is Role.CONSTANT
            else:
                random = isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags
                computes = target is operator.getitem or (isinstance(target, torch._ops.OpOverload) and not random)
                found = computes and all(map(self._is_known, node.all_input_nodes))
            self.known[node] = found
        return self.known[node]

    def _content(self, node: fx.Node) -> Any:
        """What a known node gives, by PyTorch."""
        ref = self.lowered.get(node)
        data = self.values[ref.id].data if isinstance(ref, Ref) else None
        if data is not None:
            return to_tensor(data)
        if node not in self.contents:
            assert callable(node.target), node
            self.contents[node] = node.target(
                *fx.node.map_arg(node.args, self._content), **fx.node.map_arg(node.kwargs, self._content)
            )
        return self.contents[node]

    def _computed(self, node: fx.Node) -> Any:
        """The node's results as constants."""
        results = self._content(node)
        if isinstance(results, (bool, int, float)):
            return results  # a size that only constants decide
        every = results if isinstance(results, (tuple, list)) else (results,)
        refs = tuple(self._constant(node.name, self._array(one, node.name)) for one in every)
        return refs if isinstance(results, (tuple, list)) else refs[0]

    def _operation(self, node: fx.Node, overload: torch._ops.OpOverload) -> tuple[str, tuple[Arg, ...]]:
        """ExecuTorch's name and the arguments."""
        if overload in (aten._to_copy.default, aten.clone.default):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            (spec,) = self._specs(node)
            return CONVERT if overload is aten._to_copy.default else CLONE, (
                self.lowered[source],
                False,
                spec.dim_order,
            )
        if overload is aten.as_strided.default and not self._in_logical_order(node.all_input_nodes[0]):
            raise self._error(
                node, "it depends on how its operand lies in memory", "write it with reshape, permute or slices"
            )
        common = self._common_type(node, overload)
        args = tuple(
            self._argument(node, kind, value, common) for _, kind, value in arguments(overload, node.args, node.kwargs)
        )
        return out_name(overload), args

    def _in_logical_order(self, node: fx.Node) -> bool:
        """Whether the tensor lies in PyTorch's memory as it does here."""
        meta = node.meta["val"]
        assert isinstance(meta, Tensor), node
        sizes = meta.squeeze()  # where there is one element only, strides say nothing
        return sizes.is_contiguous()

    def _results(self, node: fx.Node) -> Any:
        """New values for what the node gives."""
        refs = tuple(Ref(self._value(node.name, spec, Role.ACTIVATION).id) for spec in self._specs(node))
        meta = node.meta.get("val")
        for ref, one in zip(refs, meta if isinstance(meta, (tuple, list)) else (meta,), strict=True):
            self._note(ref.id, one)
        return refs if isinstance(meta, (tuple, list)) else refs[0]

    def _argument(self, node: fx.Node, kind: str, value: Any, common: torch.dtype | None) -> Arg:
        """An argument of the graph as an operand: tensors as Refs, torch's enumerations as ExecuTorch's codes."""
        if isinstance(value, fx.Node):
            lowered = self.lowered.get(value)
            if not isinstance(lowered, Ref):
                if isinstance(value.meta.get("val"), torch.SymInt):
                    raise self._error(node, f"it depends on the size {value.name}, which is not fixed", FIXED)
                raise self._error(node, f"it reads {value.name}, which has no value here")
            if "Tensor" not in kind and lowered.id in self.numbers:
                return lowered
            if "Tensor" not in kind:
                raise self._error(node, f"it depends on the number {value.name}, which a loop computes", TENSORS)
            return self._cast(node, lowered, common) if kind == "Tensor" and common is not None else lowered
        if isinstance(value, (list, tuple)):
            item = kind.removeprefix("Optional[").removeprefix("List[").rstrip("]")
            return tuple(self._argument(node, "Tensor" if "Tensor" in item else item, entry, common) for entry in value)
        if isinstance(value, torch.SymInt):
            raise self._error(node, "it depends on a size that is not fixed", FIXED)
        if "Tensor" in kind and isinstance(value, (bool, int, float)):
            return self._scalar_tensor(node, value, common)
        if isinstance(value, torch.dtype):
            return SCALAR_TYPES.get(value, -1)
        if isinstance(value, torch.memory_format):
            return MEMORY_FORMATS.get(value, 1)
        if isinstance(value, torch.layout):
            return 0
        if isinstance(value, torch.device):
            return None
        if "float" in kind and isinstance(value, int):
            return float(value)
        assert value is None or isinstance(value, (bool, int, float, str)), f"{node.name}: {value!r}"
        return value

    def _common_type(self, node: fx.Node, overload: torch._ops.OpOverload) -> torch.dtype | None:
        """The type in which an elementwise operator with two tensors computes, where it is one that brings them to one
        type."""
        if overload not in PROMOTING:
            return self._float_of_integers(node, overload)
        if overload in (aten.div.Tensor, aten.atan2.default):  # of whole numbers too they give floats
            val = node.meta["val"]
            assert isinstance(val, Tensor)
            return val.dtype
        operands: list[Any] = [arg.meta["val"] if isinstance(arg, fx.Node) else arg for arg in node.args[:2]]
        return torch.result_type(*(1 if isinstance(one, torch.SymInt) else one for one in operands))

    def _float_of_integers(self, node: fx.Node, overload: torch._ops.OpOverload) -> torch.dtype | None:
        """The result's type of an elementwise function that gives floats of whole numbers: sqrt, sin, sigmoid."""
        val, operands = node.meta.get("val"), [one.meta.get("val") for one in node.all_input_nodes]
        if torch.Tag.pointwise not in overload.tags or overload in CASTS or len(operands) != 1:
            return None
        (operand,) = operands
        if not isinstance(val, Tensor) or not isinstance(operand, Tensor) or operand.is_floating_point():
            return None
        return val.dtype if val.is_floating_point() else None

    def _scalar_tensor(self, node: fx.Node, value: bool | int | float, common: torch.dtype | None) -> Ref:
        """A number where the operator takes a tensor: a constant with no dimensions, in the operator's type."""
        if common is None:
            tensors = [arg.meta["val"].dtype for arg in node.all_input_nodes if isinstance(arg.meta.get("val"), Tensor)]
            like = torch.empty((), dtype=tensors[0] if tensors else torch.get_default_dtype())
            common = torch.result_type(like, value)
        try:
            dtype_of(common)
        except ValueError as error:
            raise self._error(node, str(error), FLOAT) from None
        return self._constant(f"{node.name}_scalar", torch.tensor(value).to(common).numpy())  # -3 is 253 among uint8

    def _cast(self, node: fx.Node, operand: Ref, common: torch.dtype) -> Ref:
        value = self.values[operand.id]
        try:
            dtype = dtype_of(common)
        except ValueError as error:
            raise self._error(node, str(error), FLOAT) from None
        if value.spec.dtype is dtype:
            return operand
        spec = TensorSpec(dtype, value.spec.shape)
        return self._helper(CONVERT, operand, spec, f"{value.name}_{dtype.numpy}", node)

    # ---- outputs -----------------------------------------------------------------------------------------------------

    def _outputs(self, node: fx.Node) -> list[int]:
        """Copies that outputs need, then the write-back of every state."""
        outputs: list[int] = []
        writes: list[tuple[Ref, Ref]] = []
        results = node.args[0]
        assert isinstance(results, (tuple, list))
        states = {
            spec.target: argument
            for spec, argument in zip(self.signature.input_specs, self._placeholders(), strict=True)
        }
        for spec, result in zip(self.signature.output_specs, results, strict=True):
            ref = self.lowered.get(result) if isinstance(result, fx.Node) else None
            if spec.kind is OutputKind.BUFFER_MUTATION:
                state = self.lowered.get(states[spec.target])
                if isinstance(ref, Ref) and isinstance(state, Ref) and ref != state:
                    writes.append((state, ref))
            elif spec.kind is not OutputKind.USER_OUTPUT:
                what = (
                    f"the model changes its {'input' if 'INPUT' in spec.kind.name else 'parameter'} {spec.target} "
                    "in place"
                )
                self.errors.append(
                    ModelError(
                        what,
                        where=str(self.script.path),
                        hint="write x = x + 1, not x += 1, on what forward() is given",
                    )
                )
            elif isinstance(spec.arg, ConstantArgument) and spec.arg.value is None:
                continue
            elif not isinstance(spec.arg, TensorArgument) or not isinstance(result, fx.Node):
                what = f"output {len(outputs)} of forward() is {getattr(spec.arg, 'value', spec.arg)!r}, not a tensor"
                self.errors.append(
                    ModelError(what, where=str(self.script.path), hint="return tensors, or None, which is left out")
                )
            elif isinstance(ref, Ref):
                outputs.append(self._output(ref, result).id)
        for at, (state, ref) in enumerate(writes):
            if self.values[ref.id].role is Role.STATE:  # it may be overwritten first
                ref = self._copy_of(ref)
                writes[at] = (state, ref)
        for state, ref in writes:
            self._append(WRITE_BACK, (state, ref, False), (state.id,), None)
        return outputs

    def _placeholders(self) -> list[fx.Node]:
        return [node for node in self.exported.graph.nodes if node.op == "placeholder"]

    def _output(self, ref: Ref, node: fx.Node) -> Ref:
        """The value that is given out: in the output's dim order, and not a state, which is overwritten at the end."""
        spec = self.values[ref.id].spec
        rank = len(spec.shape)
        meta = node.meta["val"]
        follows = any(
            not self.values[one].spec.is_contiguous for one in self.values if self.values[one].role is Role.INPUT
        )
        last = self.script.channels_last or (follows and rank > 3 and _dim_order(meta) == channels_last(rank))
        wanted = spec.with_order(channels_last(rank) if last else contiguous(rank))
        if spec.physical_dims != wanted.physical_dims and self.values[ref.id].role is not Role.INPUT:
            return self._helper(CLONE, ref, wanted, f"{self.values[ref.id].name}_out", node)
        return self._copy_of(ref) if self.values[ref.id].role is Role.STATE else ref

    def _copy_of(self, ref: Ref) -> Ref:
        value = self.values[ref.id]
        spec = TensorSpec(value.spec.dtype, value.spec.shape)
        return self._helper(CLONE, ref, spec, f"{value.name}_before", None)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _specs(self, node: fx.Node) -> tuple[TensorSpec, ...]:
        meta = node.meta.get("val")
        every = meta if isinstance(meta, (tuple, list)) else (meta,)
        if not all(isinstance(one, Tensor) for one in every):
            raise self._error(node, "its result is a number that only the device would know", NUMBER)
        return tuple(self._spec(one, node) for one in every)

    def _spec(self, meta: Tensor, node: fx.Node) -> TensorSpec:
        sizes = [size if isinstance(size, int) else self.sizes.largest(size) for size in meta.shape]
        if None in sizes:
            told = "x".join(str(size) for size in meta.shape)
            if any(isinstance(size, torch.SymInt) and free_unbacked_symbols(size) for size in meta.shape):
                raise self._error(node, f"its shape {told} is not fixed: it depends on what a tensor holds", MASK)
            raise self._error(node, f"its shape {told} is not fixed", FIXED)
        try:
            constant = node.op == "call_function" and self._is_known(node)
            shape = tuple(size for size in sizes if size is not None)
            return TensorSpec(dtype_of(meta.dtype, constant=constant), shape)
        except ValueError as error:
            raise self._error(node, str(error), PARTS if meta.dtype.is_complex else FLOAT) from None

    def _helper(self, op: str, operand: Ref, spec: TensorSpec, name: str, node: fx.Node | None) -> Ref:
        """A copy or a cast that stands in the program and not in the graph; `node` is what it is there for."""
        value = self._value(name, spec, Role.ACTIVATION)
        if operand.id in self.bounded:
            self.bounded.add(value.id)
        self._append(op, (operand, False, spec.dim_order), (value.id,), node, computes=False)
        return Ref(value.id)

    def _append(
        self, op: str, args: tuple[Arg, ...], outs: tuple[int, ...], node: fx.Node | None, *, computes: bool = True
    ) -> None:
        handle = len(self.instructions)
        meta = node.meta if node is not None else {}
        source = source_of(meta, self.script.folder, self.fallback if node is not None else None)
        name = self.values[outs[0]].name if op != WRITE_BACK else f"{self.values[outs[0]].name}_write_back"
        self.instructions.append(Instruction(op, args, outs, handle, name, source))
        if node is not None and computes:
            self.nodes[handle] = f"{self.path}{node.name}"  # names of nodes are a graph's own
        if node is not None:
            self.modules[name] = _module_path(meta)

    def _error(self, node: fx.Node, what: str, hint: str = "") -> ModelError:
        source = source_of(node.meta, self.script.folder, self.fallback)
        where = f"{source}: {node.name}" if source is not None else node.name
        return ModelError(what, where=where, hint=hint)


FIXED = "every size must be known when the firmware is built: export without dynamic_shapes, pad to the largest"
TENSORS = "only arithmetic with tensors takes such a number: no sizes, places or dimensions"
NUMBER = "keep it a tensor: without .item(), int() and float(); of a k without dimensions x[k] is x[k.reshape(1)][0]"
OF_SIZES = "compare what a tensor holds, such as a length that is given as an input"
MASK = "keep the full size, with a mask: torch.where, sums of x * mask, topk"
NOISE = "give the noise as an input; dropout and the like rest in eval mode"
PARTS = "compute real and imaginary parts apart: a spectrum is two products with cosines and sines"
FLOAT = "convert model and inputs with .float()"


def _dim_order(tensor: Tensor) -> tuple[int, ...]:
    """Dimensions from outermost to innermost in memory; contiguous for what is not dense, and where only sizes of 1
    differ."""
    rank = tensor.dim()
    strides = tensor.stride()
    order = tuple(sorted(range(rank), key=lambda dim: (-strides[dim], dim)))
    if any(isinstance(size, torch.SymInt) for size in tensor.shape):
        return contiguous(rank) if tensor.is_contiguous() else channels_last(rank)
    shape = tuple(int(size) for size in tensor.shape)
    if 0 in shape:
        return contiguous(rank)
    spec = TensorSpec(DType.FLOAT32, shape, order)
    if any(spec.strides[dim] != strides[dim] for dim in range(rank) if shape[dim] != 1):
        return contiguous(rank)
    for plain in (contiguous(rank), channels_last(rank)):
        if spec.physical_dims == spec.with_order(plain).physical_dims:
            return plain
    return order


def _module_path(meta: dict[str, Any]) -> str:
    stack = meta.get("nn_module_stack") or {}
    path = next((str(path) for path, _ in reversed(stack.values())), "")
    return path.removeprefix("_export_root").lstrip(".")  # what torch's strict tracer calls the model itself


def _output_names(exported: ExportedProgram) -> tuple[str, ...]:
    given = [spec for spec in exported.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    structure = exported.call_spec.out_spec
    names = [""] * len(given)
    if structure is not None and structure.num_leaves == len(given):
        try:
            paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(list(range(len(given))), structure))
            names = [_spoken(path) for path, _ in paths]
        except (TypeError, ValueError, KeyError):
            pass  # a class that says how it is taken apart and not by which names
    return tuple(name for name, spec in zip(names, given, strict=True) if isinstance(spec.arg, TensorArgument))


def _spoken(path: pytree.KeyPath) -> str:
    """`boxes_0` of `result["boxes"][0]`."""
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path]
    while path and isinstance(path[0], pytree.SequenceKey):
        path, parts = path[1:], parts[1:]
    return "_".join(parts)
