"""Program -> the tables of a `.pte` file that the stock ExecuTorch runtime can load and run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from etexport.errors import ProgramError
from etexport.program import counting, wire
from etexport.program.arena import ALIGNMENT, offsets, shared_offsets
from etexport.program.calls import LIST_OUT, is_in_place, split_name
from etexport.program.decode import DYNAMIC_BOUND, IN_SEGMENT, INLINE, MAX_OPERATOR_NAME, VALUE_FRAME
from etexport.program.flow import jump_targets
from etexport.program.model import (
    BEGIN,
    JUMP_FALSE,
    MOVE,
    NEXT,
    ROW,
    SET_ROW,
    Arg,
    Delegate,
    Instruction,
    Method,
    Program,
    Ref,
    Role,
    Scalar,
    Value,
)
from etexport.program.operators import SELECT, WRITE_BACK, is_number
from etexport.program.verify import verify
from etexport.program.wire import Table

CONSTANT_ALIGNMENT = 16
COUNTING = (counting.ADD, counting.EQUAL)
"""One is added to the count of a loop, and it is compared with the number of rounds."""


def encode(program: Program, *, stock: bool = False) -> bytes:
    """The file. ProgramError where the program holds what the format cannot say, or, with `stock`, what ExecuTorch
    cannot run."""
    verify(program, "writing the file")
    if stock:
        _refuse_own_operators(program)
    constants, initial = _Pool(CONSTANT_ALIGNMENT), _Pool(1)
    shared = shared_offsets(program)
    writers = [_MethodWriter(method, program.delegates, constants, initial, *shared) for method in program.methods]
    plans = [writer.plan() for writer in writers]
    plans += [_literal_plan(name, (text,)) for name, text in program.metadata.items()]
    plans += [_literal_plan(name, literals) for name, literals in program.constant_methods.items()]
    segments = [(CONSTANT_ALIGNMENT, bytes(constants.content))]
    root: Table = {
        "version": 0,
        "execution_plan": plans,
        "constant_buffer": (),
        "backend_delegate_data": (),
        "constant_segment": {"segment_index": 0, "offsets": constants.offsets},
    }
    if len(initial.offsets) > 1:
        root["mutable_data_segments"] = [{"segment_index": 1, "offsets": initial.offsets}]
        segments.append((1, bytes(initial.content)))
    blobs = dict.fromkeys(called.blob for writer in writers for called in writer.called)
    indices = {blob: len(segments) + at for at, blob in enumerate(blob for blob in blobs if blob)}
    for plan, writer in zip(plans, writers, strict=False):
        plan["delegates"] = [_backend_delegate(called, indices) for called in writer.called]
    if b"" in blobs:
        root["backend_delegate_data"] = [{"data": b""}]
    return wire.write(root, [*segments, *((CONSTANT_ALIGNMENT, blob) for blob in indices)])


def _backend_delegate(delegate: Delegate, segments: Mapping[bytes, int]) -> Table:
    """A segment a blob; an empty one stays in the tables, as ExecuTorch has it."""
    index = segments.get(delegate.blob)
    place = {"location": INLINE, "index": 0} if index is None else {"location": IN_SEGMENT, "index": index}
    specs = [{"key": key, "value": value} for key, value in delegate.specs]
    return {"id": delegate.id, "processed": place, "compile_specs": specs}


def carried(method: Method) -> frozenset[int]:
    """What is moved to inside a loop: the move of a round must not make it another name of what the next round writes,
    so it is a copy."""
    targets = enumerate(jump_targets(method.instructions))
    rounds = [range(to, at) for at, to in targets if to is not None and to <= at]
    return frozenset(
        out
        for at, instruction in enumerate(method.instructions)
        if instruction.op == MOVE and any(at in one for one in rounds)
        for out in instruction.outs
    )


def _refuse_own_operators(program: Program) -> None:
    found = [i for method in program.methods for i in method.instructions if i.op.startswith("etexport::")]
    if found:
        operators = ", ".join(sorted({instruction.op for instruction in found}))
        raise ProgramError(
            f"{operators} exist only in etexport: ExecuTorch would refuse to load the file and Netron to open it",
            where=found[0].where,
            hint="export without 'stock', or write the model without these operators",
        )


@dataclass
class _Pool:
    """Contents of constants or states, each once. Entry 0 stands for 'no data', so that real entries start at 1."""

    alignment: int
    content: bytearray = field(default_factory=bytearray)
    offsets: list[int] = field(default_factory=lambda: [0])
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, data: bytes) -> int:
        if data not in self.known:
            self.content += bytes(-len(self.content) % self.alignment)
            self.known[data] = len(self.offsets)
            self.offsets.append(len(self.content))
            self.content += data
        return self.known[data]


def _pytree(count: int) -> Table:
    """The description of a flat tuple of `count` tensors, with which ExecuTorch's Python tools rebuild nested
    results."""
    leaf: Table = {"type": None, "context": None, "children_spec": []}
    return {"type": "builtins.tuple", "context": "null", "children_spec": [leaf] * count}


def _container_meta(inputs: int | None, outputs: int) -> Table:
    keywords = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    both = {"type": "builtins.tuple", "context": "null", "children_spec": [_pytree(inputs or 0), keywords]}
    out = _pytree(outputs) if outputs != 1 else _pytree(1)["children_spec"][0]
    return {"encoded_inp_str": "" if inputs is None else json.dumps([1, both]), "encoded_out_str": json.dumps([1, out])}


def _scalar(value: Scalar) -> tuple[str, Table]:
    if value is None:
        return "Null", {}
    if isinstance(value, bool):
        return "Bool", {"bool_val": value}
    if isinstance(value, int):
        return "Int", {"int_val": value}
    if isinstance(value, float):
        return "Double", {"double_val": value}
    return "String", {"string_val": value}


def _literal_plan(name: str, literals: Sequence[Scalar]) -> Table:
    return {
        "name": name,
        "container_meta_type": _container_meta(None, len(literals)),
        "values": [{"val": _scalar(literal)} for literal in literals],
        "inputs": (),
        "outputs": range(len(literals)),
        "chains": [{"inputs": (), "outputs": (), "instructions": ()}],
        "operators": (),
        "delegates": (),
        "non_const_buffer_sizes": (0,),
    }


@dataclass
class _MethodWriter:
    """Writes one execution plan: the tensors that are used first, in order of their ids, then what else is an
    argument."""

    method: Method
    delegates: Mapping[str, Delegate]
    constants: _Pool
    initial: _Pool
    shared_places: Mapping[int, int]
    shared_bytes: int
    values: list[Table] = field(default_factory=list)
    index: dict[int, int] = field(default_factory=dict)
    known: dict[tuple[object, ...], int] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    called: list[Delegate] = field(default_factory=list)
    """The delegate of each call, in order."""

    def __post_init__(self) -> None:
        begun = [instruction.outs for instruction in self.method.instructions if instruction.op == BEGIN]
        self.counts = {count for count, *_ in begun}
        self.stacked = {out for _, *outs in begun for out in outs}
        self.carried = carried(self.method)
        self.numbers = {out for one in self.method.instructions if is_number(one.op) for out in one.outs}

    def plan(self) -> Table:
        method = self.method
        places, arena_bytes = offsets(method)
        used = {id_ for instruction in method.instructions for id_ in (*instruction.reads, *instruction.outs)}
        used.update(method.inputs, method.outputs)
        for id_ in sorted(used):
            self.index[id_] = len(self.values)
            self.values.append(
                {
                    "val": ("Int", {"int_val": 0})
                    if id_ in self.counts or id_ in self.numbers
                    else ("Tensor", self.tensor(method.values[id_], places))
                }
            )
        positions: dict[int, int] = {}
        count = 0
        for instruction in method.instructions:
            positions[instruction.handle] = count
            count += len(COUNTING) + 1 if instruction.op == NEXT else 1
        instructions = [
            {"instr_args": call}
            for instruction in method.instructions
            for call in (*self.before(instruction), self.call(instruction, positions, count))
        ]
        return {
            "name": method.name,
            "container_meta_type": _container_meta(len(method.inputs), len(method.outputs)),
            "values": self.values,
            "inputs": [self.index[id_] for id_ in method.inputs],
            "outputs": [self.index[id_] for id_ in method.outputs],
            "chains": [{"inputs": (), "outputs": (), "instructions": instructions, "stacktrace": self.frames()}],
            "operators": [dict(zip(("name", "overload"), split_name(op), strict=True)) for op in self.operators],
            "delegates": (),
            # a tensor without bytes needs an arena to lie in, too
            "non_const_buffer_sizes": (
                *((0, max(arena_bytes, ALIGNMENT)) if places or method.shared else (0,)),
                *((self.shared_bytes,) if method.shared else ()),
            ),
        }

    def tensor(self, value: Value, places: Mapping[int, int]) -> Table:
        if value.storage is not None or value.spec.qparams is not None or value.role is Role.SCRATCH:
            raise ProgramError(
                "it has an address, a quantisation or the role scratch, which only the target side knows and no file "
                "keeps",
                where=f"{self.method.name}: {value.name}",
            )
        table: Table = {
            "scalar_type": value.spec.dtype.code,
            "sizes": value.spec.shape,
            "dim_order": bytes(value.spec.dim_order),
        }
        # et_copy_index lets it grow row by row
        if value.id in self.stacked or value.id in self.method.bounded:
            table["shape_dynamism"] = DYNAMIC_BOUND
        if value.role is Role.CONSTANT:
            return {**table, "data_buffer_idx": self.constants.add(value.physical_bytes)}
        memory, offset = (2, self.shared_places[value.id]) if value.id in self.method.shared else (1, places[value.id])
        table["allocation_info"] = {
            "memory_id": memory,
            "memory_offset_low": offset & 0xFFFFFFFF,
            "memory_offset_high": offset >> 32,
        }
        if value.role is Role.STATE:
            table["extra_tensor_info"] = {"fully_qualified_name": value.name}
            # zeros are what a state without content starts from, and Netron opens no file whose states have any
            if value.data is not None and any(content := value.physical_bytes):
                table["data_buffer_idx"] = self.initial.add(content)
        return table

    def before(self, instruction: Instruction) -> list[tuple[str, Table]]:
        """The calls that count, before the jump at the end of a loop."""
        if instruction.op != NEXT:
            return []
        (count,) = (self.index[id_] for id_ in instruction.outs)
        results = (count, self.done(instruction))
        operands = (self.argument(1), self.argument(instruction.args[1]))
        return [
            ("KernelCall", {"op_index": self.operator(op), "args": [count, operand, result]})
            for op, operand, result in zip(COUNTING, operands, results, strict=True)
        ]

    def done(self, instruction: Instruction) -> int:
        """The value that says whether the loop has made its last round."""
        return self.value("Bool", {"bool_val": False}, ("done", instruction.handle))

    def call(self, instruction: Instruction, positions: Mapping[int, int], count: int) -> tuple[str, Table]:
        if instruction.epilogue is not None:
            raise ProgramError(
                "it has an epilogue, which only the target side knows and no file keeps", where=instruction.where
            )
        if instruction.op == BEGIN:
            return "MoveCall", {"move_from": self.argument(0), "move_to": self.index[instruction.outs[0]]}
        if instruction.op == MOVE:
            (source,), (out,) = instruction.reads, instruction.outs
            if out not in self.carried:
                return "MoveCall", {"move_from": self.index[source], "move_to": self.index[out]}
            instruction = replace(instruction, op=WRITE_BACK, args=(Ref(out), Ref(source), False))
        if instruction.op in (JUMP_FALSE, NEXT):
            condition = self.argument(instruction.args[0]) if instruction.op == JUMP_FALSE else self.done(instruction)
            target = count if instruction.destination == -1 else positions[instruction.destination]
            return "JumpFalseCall", {"cond_value_index": condition, "destination_instruction": target}
        if instruction.op == ROW:
            instruction = replace(instruction, op=SELECT, args=(instruction.args[0], 0, instruction.args[1]))
        if instruction.op == SET_ROW:
            return "KernelCall", {
                "op_index": self.operator(counting.COPY_INDEX),
                "args": [self.argument(arg) for arg in instruction.args],
            }
        if instruction.op in self.delegates:
            self.called.append(self.delegates[instruction.op])
            outs = [self.index[id_] for id_ in instruction.outs]
            args = [self.argument(arg) for arg in instruction.args]
            return "DelegateCall", {"delegate_index": len(self.called) - 1, "args": [*args, *outs]}
        if len(instruction.op) > MAX_OPERATOR_NAME:
            raise ProgramError(
                f"ExecuTorch takes {MAX_OPERATOR_NAME} characters for the name of an operator", where=instruction.where
            )
        args = [self.argument(arg) for arg in instruction.args]
        return "KernelCall", {"op_index": self.operator(instruction.op), "args": [*args, *self.results(instruction)]}

    def operator(self, name: str) -> int:
        return self.operators.setdefault(name, len(self.operators))

    def results(self, instruction: Instruction) -> list[int]:
        """The end of a call: see `calls.py`."""
        outs = [self.index[id_] for id_ in instruction.outs]
        if is_number(instruction.op):
            return outs
        if is_in_place(instruction.op):
            if not instruction.args or instruction.args[0] != Ref(instruction.outs[0]) or len(outs) != 1:
                raise ProgramError(
                    "it works in place, but its result is not its first argument", where=instruction.where
                )
            return outs
        if instruction.op in LIST_OUT:
            return [self.list_of(outs)] * 2
        return [*outs, outs[0]] if len(outs) == 1 else [*outs, self.list_of(outs)]

    def argument(self, arg: Arg) -> int:
        """The index of the argument's value, made where no equal one exists."""
        if isinstance(arg, Ref):
            return self.index[arg.id]
        if not isinstance(arg, tuple):
            kind, table = _scalar(arg)
            return self.value(kind, table, (_exact(arg),))
        if any(isinstance(item, Ref) and item.id in self.numbers for item in arg):
            items = [self.argument(item) for item in arg]
            return self.value("IntList", {"items": items}, ("numbers", *items))
        if any(isinstance(item, Ref) for item in arg):
            return self.list_of([None if item is None else self.argument(item) for item in arg])
        exact = tuple(_exact(item) for item in arg)
        if arg and all(isinstance(item, bool) for item in arg):
            return self.value("BoolList", {"items": arg}, exact)
        if any(isinstance(item, float) for item in arg) and all(isinstance(item, (int, float)) for item in arg):
            return self.value("DoubleList", {"items": arg}, exact)
        if arg and all(item is None for item in arg):
            return self.value("OptionalTensorList", {"items": [-1] * len(arg)}, exact)
        if all(isinstance(item, int) and not isinstance(item, bool) for item in arg):
            return self.value("IntList", {"items": [self.argument(item) for item in arg]}, exact)
        raise ProgramError(f"{self.method.name}: the list {arg!r} mixes kinds")

    def list_of(self, ids: Sequence[int | None]) -> int:
        kind = "OptionalTensorList" if None in ids else "TensorList"
        items = [-1 if id_ is None else id_ for id_ in ids]
        return self.value(kind, {"items": items}, tuple(items))

    def value(self, kind: str, table: Table, key: tuple[object, ...]) -> int:
        full = (kind, *key)
        if full not in self.known:
            self.known[full] = len(self.values)
            self.values.append({"val": (kind, table)})
        return self.known[full]

    def frames(self) -> list[Table]:
        """One list a instruction: its name and source line, then the name of each value that no list before has
        named."""
        named: set[int] = set()
        found: list[Table] = []
        for instruction in self.method.instructions:
            source = instruction.source
            frame: Table = {"filename": source.file if source else "", "name": instruction.name}
            frame |= {"lineno": source.line, "context": source.code} if source else {"lineno": 0, "context": ""}
            new = [id_ for id_ in dict.fromkeys((*instruction.reads, *instruction.outs)) if id_ not in named]
            named.update(new)
            found += [{"items": ()}] * len(COUNTING) * (instruction.op == NEXT)
            found.append({"items": [frame, *self.value_frames(new)]})
        return found

    def value_frames(self, ids: Iterable[int]) -> list[Table]:
        return [
            {"filename": VALUE_FRAME, "lineno": self.index[id_], "name": self.method.values[id_].name, "context": ""}
            for id_ in ids
        ]


def _exact(arg: Arg) -> object:
    """A key that tells 1 from 1.0 and True, and 0.0 from -0.0."""
    return (type(arg).__name__, struct.pack("<d", arg) if isinstance(arg, float) else arg)
