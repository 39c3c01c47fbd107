"""A `.pte` file's tables -> Program: everything that is said in numbers is checked, and then means something.

What the file says by sharing (views at one address, an out argument repeated as the result, integers boxed as values)
is said outright in the Program: see `sharing.py` and `calls.py`.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from etexport.errors import ProgramError
from etexport.program import counting, wire
from etexport.program.calls import LIST_OUT, SCRATCH, is_in_place
from etexport.program.flow import forward
from etexport.program.interface import with_sizes
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
    Delegate,
    DType,
    Instruction,
    Method,
    Program,
    Ref,
    Role,
    Scalar,
    Source,
    TensorSpec,
    Value,
    substitute,
)
from etexport.program.names import OPERAND_NAMES, TRANSPOSES, Names, base_name, short_name
from etexport.program.operators import ET_VIEW, SELECT, VIEW, WRITE_BACK, is_number
from etexport.program.sharing import AT_START, Place, View, find_views
from etexport.program.verify import MAX_RANK, MAX_TENSOR_BYTES, extent_bytes, verify
from etexport.program.wire import Table

VALUE_FRAME = "<value>"
"""The file name of a frame that is none: it holds the name of a value (`name`) by its index in the file (`lineno`)."""

MAX_ARGUMENTS = 500_000
MAX_OPERATOR_NAME = 99
STATIC = 0
DYNAMIC_BOUND = 1
EXTERNAL = 1
INLINE = 0
IN_SEGMENT = 1
"""Where a delegate's blob lies."""

_OPERATOR = re.compile(r"[A-Za-z_]\w*::\w+(\.\w+)?", re.ASCII)

_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages)[/\\]")
"""Lines of installed packages are not the user's."""


def decode(data: bytes) -> Program:
    """The Program in a `.pte` file. ProgramError says what is malformed or not supported, and where in the file."""
    container = wire.read(data)
    file = _File.of(container)
    budget = _Budget(MAX_ARGUMENTS)
    belongings = _Belongings(_lasting_memory(container.program["execution_plan"] or ()))
    methods: list[Method] = []
    metadata: dict[str, str] = {}
    literals: dict[str, tuple[Scalar, ...]] = {}
    names: set[str] = set()
    for index, plan in enumerate(container.program["execution_plan"] or ()):
        name = plan["name"]
        if not name:
            raise ProgramError("it has no name", where=f"method {index}")
        if name in names:
            raise ProgramError(f"a second method is called {name!r}")
        names.add(name)
        try:
            constant = _constant_method(plan)
            if constant is None:
                methods.append(_MethodReader(file, plan, budget, belongings).method())
            elif len(constant) == 1 and isinstance(constant[0], str):
                metadata[name] = constant[0]
            else:
                literals[name] = constant
        except ProgramError as error:
            where = f"{name}: {error.where}" if error.where else name
            raise ProgramError(error.what, where=where, hint=error.hint) from None
    program = with_sizes(Program(tuple(methods), metadata, literals, file.delegates))
    verify(program, "reading the file")
    return program


def _lasting_memory(plans: Sequence[Table]) -> int:
    """The planned memory that methods share: the last one of several, of one size in all; 0 where there is none. Only
    states lie there."""
    sizes = [plan["non_const_buffer_sizes"] or () for plan in plans]
    last = Counter((len(one) - 1, *one[-1:]) for one in sizes if len(one) > 2)
    return max((memory for (memory, *_), count in last.items() if count > 1), default=0)


@dataclass
class _Belongings:
    """The states and constants that methods read so far, by what the file says of them, and the first id that is free.
    `memory` is that of the states that methods share."""

    memory: int
    first: int = 0
    known: dict[tuple[object, ...], list[Value]] = field(default_factory=dict)
    state_names: set[str] = field(default_factory=set)

    def of(self, reader: _MethodReader, ids: Iterable[int], states: frozenset[int]) -> dict[int, Value]:
        """Those of these values that a method before has, too."""
        found: dict[int, Value] = {}
        seen: Counter[tuple[object, ...]] = Counter()
        for id_ in ids:
            key = reader.identity(id_, states)
            equal = self.known.get(key, ()) if key else ()
            if seen[key] < len(equal):
                found[id_] = equal[seen[key]]
            seen[key] += 1
        return found

    def add(self, reader: _MethodReader, method: Method, mine: Mapping[int, Value]) -> Method:
        """The method with ids of its own, behind those of the methods before, and what `mine` names (by its own index)
        as it is there."""
        ids = {id_: mine[id_].id if id_ in mine else id_ + self.first for id_ in method.values}
        states = frozenset(value.id for value in method.values.values() if value.role is Role.STATE)
        values = {}
        for old, value in method.values.items():
            values[ids[old]] = made = mine.get(old, value if ids[old] == old else replace(value, id=ids[old]))
            key = reader.identity(old, states)
            if key and old not in mine:
                self.known.setdefault(key, []).append(made)
        self.state_names |= {value.name for value in values.values() if value.role is Role.STATE}
        self.first += len(reader.plan["values"])
        if all(old == new for old, new in ids.items()):
            return method
        instructions = tuple(
            replace(one, args=tuple(substitute(arg, ids) for arg in one.args), outs=tuple(ids[out] for out in one.outs))
            for one in method.instructions
        )
        inputs, outputs = (tuple(ids[id_] for id_ in end) for end in (method.inputs, method.outputs))
        bounded = frozenset(ids[id_] for id_ in method.bounded)
        return Method(method.name, values, instructions, inputs, outputs, bounded=bounded)


@dataclass
class _Budget:
    left: int

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ProgramError(f"its calls have more than {MAX_ARGUMENTS:,} arguments, those inside lists included")


@dataclass(frozen=True)
class _Store:
    """The constants, or the initial contents of states: a segment and where each entry starts in it."""

    kind: str
    content: memoryview
    offsets: tuple[int, ...]

    def array(self, index: int, spec: TensorSpec, where: str) -> Array:
        """Entry `index` as an array of the logical shape; it shares the file's bytes."""
        if index >= len(self.offsets):
            raise ProgramError(f"its data is entry {index} of the {len(self.offsets)} {self.kind}", where=where)
        start = self.offsets[index]
        if start + spec.nbytes > len(self.content):
            raise ProgramError(
                f"its data ends at byte {start + spec.nbytes} of the {self.kind}, which have {len(self.content)} bytes",
                where=where,
            )
        if not spec.numel:
            return np.zeros(spec.shape, spec.dtype.numpy)
        flat: Array = np.frombuffer(self.content, dtype=spec.dtype.numpy, count=spec.numel, offset=start)
        physical = flat.reshape([spec.shape[dim] for dim in spec.dim_order])
        return physical.transpose(np.argsort(spec.dim_order)) if spec.shape else physical


@dataclass(frozen=True)
class _File:
    constants: _Store
    initial: _Store
    segments: tuple[memoryview, ...]
    inline: tuple[bytes, ...]
    delegates: dict[str, Delegate] = field(default_factory=dict)
    """Those that were called so far."""

    @classmethod
    def of(cls, container: wire.Container) -> _File:
        """Check what concerns the whole file."""
        program = container.program
        if program["version"] != 0:
            raise ProgramError(f"the file has schema version {program['version']}; only version 0 is known")
        if program["execution_plan"] is None:
            raise ProgramError("the file has no method")
        if program["constant_segment"] is None or not program["constant_segment"]["offsets"]:
            raise ProgramError(
                "the file keeps its constants inside the flatbuffer, as old versions of ExecuTorch did",
                hint="export it again with ExecuTorch 1.0 or newer",
            )
        for buffer in program["constant_buffer"] or ():
            if buffer["storage"]:
                raise ProgramError("the file keeps constants in a segment and inside the flatbuffer")
        mutable = program["mutable_data_segments"] or ()
        if len(mutable) > 1:
            raise ProgramError(f"the file has {len(mutable)} segments of initial states; one is known")
        return cls(
            _store("constants", container, program["constant_segment"]),
            _store("initial states", container, mutable[0] if mutable else None),
            tuple(container.segments),
            tuple(entry["data"] or b"" for entry in program["backend_delegate_data"] or ()),
        )

    def blob(self, delegate: Table, where: str) -> bytes:
        place = delegate["processed"]
        if place is None or place["location"] not in (INLINE, IN_SEGMENT):
            raise ProgramError("it does not say where the delegate's data is", where=where)
        stores: Sequence[bytes | memoryview] = self.segments if place["location"] == IN_SEGMENT else self.inline
        if place["index"] >= len(stores):
            raise ProgramError(f"the delegate's data is entry {place['index']} of {len(stores)}", where=where)
        return bytes(stores[place["index"]])


def _store(kind: str, container: wire.Container, entry: Table | None) -> _Store:
    if entry is None:
        return _Store(kind, memoryview(b""), (0,))
    offsets = entry["offsets"] or ()
    index = entry["segment_index"]
    if index < len(container.segments):
        return _Store(kind, container.segments[index], offsets)
    if len(offsets) > 1:
        raise ProgramError(f"the {kind} lie in segment {index}; the file has {len(container.segments)} segments")
    return _Store(kind, memoryview(b""), offsets)


def _constant_method(plan: Table) -> tuple[Scalar, ...] | None:
    """The literals of a method that returns nothing else, None for any other method."""
    values, outputs = plan["values"] or (), plan["outputs"] or ()
    if plan["inputs"] or not outputs or any(chain["instructions"] for chain in plan["chains"] or ()):
        return None
    found: list[Scalar] = []
    for index in outputs:
        if not 0 <= index < len(values):
            raise ProgramError(f"an output is value {index} of {len(values)}")
        kind, content = _member(values[index], index)
        if kind not in _LITERALS:
            return None
        found.append(_literal(kind, content, f"value {index}"))
    return tuple(found)


_LITERALS = {"Null": "", "Int": "int_val", "Bool": "bool_val", "Double": "double_val", "String": "string_val"}


def _literal(kind: str, content: Table, where: str) -> Scalar:
    if kind == "Null":
        return None
    value: Scalar = content[_LITERALS[kind]]
    if value is None:
        raise ProgramError("it is a text without characters' bytes", where=where)
    return value


def _member(value: Table, index: int) -> tuple[str, Table]:
    if value["val"] is None:
        raise ProgramError("it holds nothing", where=f"value {index}")
    kind, content = value["val"]
    return kind, content


@dataclass(frozen=True)
class _Tensor:
    """What the file says of a tensor: `memory` is its place in a planned arena, `entry` its data (0: none)."""

    spec: TensorSpec
    place: Place | None
    entry: int
    qualified_name: str


@dataclass(frozen=True)
class _List:
    """A list of tensors (ids, -1 for none) as the file has it; anything else is an Arg already."""

    ids: tuple[int, ...]


@dataclass
class _MethodReader:
    """Reads one execution plan. Value ids are indices into the plan's values, handles are positions in its chain."""

    file: _File
    plan: Table
    budget: _Budget
    belongings: _Belongings
    tensors: dict[int, _Tensor] = field(default_factory=dict)
    others: dict[int, Arg | _List] = field(default_factory=dict)
    bounded: set[int] = field(default_factory=set)
    """Tensors whose sizes are the largest that they may have."""
    counted: counting.Counting = field(default_factory=lambda: counting.Counting({}, (), frozenset(), {}))

    def method(self) -> Method:
        for name in ("values", "inputs", "outputs", "chains", "operators", "delegates", "non_const_buffer_sizes"):
            if self.plan[name] is None:
                raise ProgramError(f"the field {name!r} is missing")
        for device in self.plan["non_const_buffer_device"] or ():
            if device["device_type"]:
                raise ProgramError(
                    f"planned memory {device['buffer_idx']} is on device type {device['device_type']}; only the CPU is "
                    "known"
                )
        if len(self.plan["chains"]) != 1:
            raise ProgramError(f"the method has {len(self.plan['chains'])} chains of instructions; one is supported")
        (chain,) = self.plan["chains"]
        self.read_values(self.calls(chain))
        inputs = self.ends("inputs", "input")
        outputs = self.ends("outputs", "output")
        if len(set(inputs)) != len(inputs):
            raise ProgramError("a value is two inputs")
        instructions = self.instructions(chain)
        carries = self.carried(instructions)
        states = self.states(instructions, frozenset(inputs), carries)
        instructions = tuple(
            replace(one, args=one.args[1:2]) if carries.intersection(one.outs) else one for one in instructions
        )
        places = {
            id_: tensor.place for id_, tensor in self.tensors.items() if tensor.place is not None and tensor.spec.nbytes
        }
        for instruction in instructions:
            if instruction.op == VIEW and instruction.outs[0] in places and self.is_et_view(chain, instruction.handle):
                del places[instruction.outs[0]]  # et_view gives its out another pointer
        views = find_views(instructions, places, inputs, states, outputs)
        instructions = _with_views(instructions, views, self.tensors)
        instructions = tuple(replace(one, op=MOVE) if carries.intersection(one.outs) else one for one in instructions)
        return _Namer(self, chain, inputs, outputs, states, instructions).method()

    def identity(self, id_: int, states: frozenset[int]) -> tuple[object, ...]:
        """What is equal for a constant or a shared state in all methods, and for nothing else; empty for other
        values."""
        tensor = self.tensors[id_]
        if id_ in states:
            assert tensor.place is not None
            return ("state", tensor.place) if tensor.place.memory == self.belongings.memory else ()
        return ("constant", tensor.entry, tensor.spec) if tensor.place is None and tensor.entry else ()

    # ---- values ------------------------------------------------------------------------------------------------------

    def calls(self, chain: Table) -> list[counting.Call]:
        """The instructions as `counting` wants them; nothing is checked yet."""
        found: list[counting.Call] = []
        operators = self.plan["operators"]
        for call in chain["instructions"] or ():
            nothing: Table = {}
            kind, content = call["instr_args"] or ("", nothing)
            if kind == "KernelCall" and 0 <= content["op_index"] < len(operators):
                table = operators[content["op_index"]]
                found.append((f"{table['name']}.{table['overload']}", tuple(content["args"] or ())))
            elif kind == "MoveCall":
                found.append((counting.MOVE, (content["move_from"], content["move_to"])))
            elif kind == "JumpFalseCall":
                found.append((counting.JUMP, (content["cond_value_index"], content["destination_instruction"])))
            else:
                found.append(("", tuple(content.get("args") or ())))
        return found

    def read_values(self, calls: Sequence[counting.Call]) -> None:
        stacked = {args[0] for op, args in calls if op == counting.COPY_INDEX and args}
        lists: list[tuple[int, str, Table]] = []
        for index, value in enumerate(self.plan["values"]):
            kind, content = _member(value, index)
            if kind == "Tensor":
                self.tensors[index] = self.tensor(content, f"value {index}")
                if content["shape_dynamism"] == DYNAMIC_BOUND and index not in stacked:
                    self.bounded.add(index)
            elif kind in _LITERALS:
                self.others[index] = _literal(kind, content, f"value {index}")
            elif content["items"] is None:
                raise ProgramError("its list is missing", where=f"value {index} ({kind})")
            elif kind in ("DoubleList", "BoolList"):
                self.others[index] = tuple(content["items"])
            else:
                lists.append((index, kind, content))
        numbers = {args[-1] for op, args in calls if is_number(op) and args and args[-1] in self.others}
        ints = {index: one for index, one in self.others.items() if isinstance(one, int) and not isinstance(one, bool)}
        while True:  # what a loop over rows that vary stacks varies too, and may be what another one goes over
            fixed = {index: one.spec.shape for index, one in self.tensors.items() if index not in self.bounded}
            self.counted = counting.find(calls, ints, fixed)
            counts = {loop.count for loop in self.counted.loops if loop.end is not None}
            written = [args for op, args in calls if op == counting.COPY_INDEX and len(args) == 3]
            grown = {table for table, _, count in written if count in counts}
            if grown <= self.bounded:
                break
            self.bounded |= grown
        self.others |= self.counted.sizes
        numbers -= self.counted.sizes.keys() | {one for at in self.counted.parts for one in calls[at][1][-1:]}
        for number in numbers - {loop.count for loop in self.counted.loops}:
            del self.others[number]
            self.tensors[number] = _Tensor(TensorSpec(DType.INT64, ()), None, 0, "")
        for loop in self.counted.loops:
            del self.others[loop.count]
            self.tensors[loop.count] = _Tensor(TensorSpec(DType.INT32, ()), None, 0, "")
        for index, kind, content in lists:
            where = f"value {index} ({kind})"
            if kind == "IntList":
                items = content["items"]
                self.others[index] = tuple(Ref(one) if one in numbers else self.integer(one, where) for one in items)
                continue
            for item in content["items"]:
                if not (0 <= item < index and item in self.tensors) and not (
                    item == -1 and kind == "OptionalTensorList"
                ):
                    raise ProgramError(f"it lists value {item}, which is no tensor before it", where=where)
            self.others[index] = _List(content["items"])

    def integer(self, index: int, where: str) -> int:
        found = self.others.get(index)
        if isinstance(found, bool) or not isinstance(found, int):
            raise ProgramError(f"it lists value {index}, which is no Int", where=where)
        return found

    def tensor(self, table: Table, where: str) -> _Tensor:
        def fail(what: str, hint: str = "") -> ProgramError:
            return ProgramError(what, where=where, hint=hint)

        extra = table["extra_tensor_info"] or {"fully_qualified_name": "", "location": 0, "device_type": 0}
        name = extra["fully_qualified_name"] or ""
        if extra["location"] == EXTERNAL:
            raise fail(
                f"the tensor {name!r} lies in an external data file (.ptd), which is not supported",
                "export without external constants, so that the .pte holds them",
            )
        if extra["location"] or extra["device_type"]:
            raise fail(
                f"its data has location {extra['location']} on device type {extra['device_type']}, which are not known"
            )
        if table["shape_dynamism"] not in (STATIC, DYNAMIC_BOUND):
            raise fail(
                "its shape has no bound",
                "export with Dim(..., max=...): the memory of a microcontroller is planned for the largest sizes",
            )
        sizes, order = table["sizes"], table["dim_order"]
        if sizes is None or order is None:
            raise fail("it has no sizes or no dim order")
        if len(sizes) > MAX_RANK or sorted(order) != list(range(len(sizes))):
            raise fail(
                f"its dim order {list(order[:MAX_RANK])} is no permutation of its {len(sizes)} dimensions (at most "
                f"{MAX_RANK})"
            )
        if any(size < 0 for size in sizes):
            raise fail(f"its sizes {list(sizes)} are negative")
        if table["storage_offset"]:
            raise fail(f"its storage offset is {table['storage_offset']} and not 0")
        try:
            dtype = DType.of_code(table["scalar_type"], halves=True)
        except ValueError:
            raise fail(f"its element type is ScalarType {table['scalar_type']}, which is not supported") from None
        spec = TensorSpec(dtype, sizes, tuple(order))
        if extent_bytes(spec) > MAX_TENSOR_BYTES:
            raise fail(f"its shape {list(sizes)} is more than {MAX_TENSOR_BYTES:,} bytes")
        return _Tensor(spec, self.place(table["allocation_info"], spec, where), table["data_buffer_idx"], name)

    def place(self, allocation: Table | None, spec: TensorSpec, where: str) -> Place | None:
        if allocation is None:
            return None
        memory, sizes = allocation["memory_id"], self.plan["non_const_buffer_sizes"]
        if not 0 < memory < len(sizes):
            raise ProgramError(
                f"it lies in memory {memory}; the method has {len(sizes) - 1}, counted from 1", where=where
            )
        start = allocation["memory_offset_low"] + (allocation["memory_offset_high"] << 32)
        if start + spec.nbytes > sizes[memory]:
            raise ProgramError(
                f"it ends at byte {start + spec.nbytes} of memory {memory}, which has {sizes[memory]}", where=where
            )
        return Place(memory, start, start + spec.nbytes)

    def ends(self, field_name: str, kind: str) -> tuple[int, ...]:
        """The graph's inputs or outputs; only tensors are supported."""
        ids: tuple[int, ...] = self.plan[field_name]
        for position, id_ in enumerate(ids):
            if not 0 <= id_ < len(self.plan["values"]):
                raise ProgramError(f"{kind} {position} is value {id_} of {len(self.plan['values'])}")
            if id_ not in self.tensors:
                raise ProgramError(
                    f"{kind} {position} is {self.others[id_]!r} and no tensor",
                    hint="export a module whose inputs and outputs are tensors",
                )
        return ids

    # ---- instructions ------------------------------------------------------------------------------------------------

    def instructions(self, chain: Table) -> tuple[Instruction, ...]:
        calls = chain["instructions"]
        if calls is None:
            raise ProgramError("the field 'instructions' is missing")
        if chain["stacktrace"] and len(chain["stacktrace"]) != len(calls):
            raise ProgramError(f"{len(calls)} instructions have {len(chain['stacktrace'])} stack traces")
        loops = self.counted.loops
        ours = {loop: at for at, loop in self.counted.moves.items()}
        begins = {loop.head: len(calls) + number for number, loop in enumerate(loops) if loop not in ours}
        ends = {loop.jump: loop for loop in loops}
        entered, inside = {len(calls): -1}, dict[int, int]()
        for index in reversed(range(len(calls))):
            inside[index] = entered[index + 1] if index in self.counted.parts else index
            entered[index] = begins.get(index, inside[index])
        found: list[Instruction] = []
        for index, call in enumerate(calls):
            loop = next((one for one in loops if index == ours.get(one, one.head)), None)
            if loop is not None:
                found.append(Instruction(BEGIN, (), (loop.count,), begins.get(index, index)))
            if index in ends:
                loop = ends[index]
                rounds = loop.rounds if loop.end is None else Ref(loop.end)
                found.append(Instruction(NEXT, (Ref(loop.count), rounds, inside[loop.head]), (loop.count,), index))
            elif index not in self.counted.parts and index not in self.counted.moves:
                found.append(self.instruction(index, call, len(calls)))
        for at, one in enumerate(found):
            if one.op == BEGIN:
                stacked = dict.fromkeys(
                    row.outs[0] for row in found if row.op == SET_ROW and row.args[2] == Ref(one.outs[0])
                )
                found[at] = replace(one, outs=(*one.outs, *stacked))
        return tuple(one.leading_to(entered.get(one.destination, -1)) if one.op == JUMP_FALSE else one for one in found)

    def instruction(self, index: int, call: Table, count: int) -> Instruction:
        where = f"instruction {index}"
        if call["instr_args"] is None:
            raise ProgramError("it holds nothing", where=where)
        kind, content = call["instr_args"]
        if kind == "KernelCall":
            return self.kernel_call(index, content)
        if kind == "MoveCall":
            source, target = content["move_from"], content["move_to"]
            for id_ in (source, target):
                if id_ not in self.tensors:
                    raise ProgramError(f"it moves value {id_}, which is no tensor", where=where)
            return Instruction(MOVE, (Ref(source),), (target,), index)
        if kind == "JumpFalseCall":
            condition = content["cond_value_index"]
            arg: Arg = Ref(condition) if condition in self.tensors else False
            if condition not in self.tensors and self.others.get(condition) is not False:
                raise ProgramError(f"it jumps on value {condition}, which is no tensor and not False", where=where)
            destination = content["destination_instruction"]
            if destination < 0:
                raise ProgramError(f"it jumps to {destination}", where=where)
            return Instruction(JUMP_FALSE, (arg, destination if destination < count else -1), (), index)
        if kind == "DelegateCall":
            return self.delegate_call(index, content)
        raise ProgramError("it frees a tensor of unbounded shape, which is not supported", where=where)

    def delegate_call(self, index: int, call: Table) -> Instruction:
        """Its results are the last arguments: those that the program has not made before."""
        where = f"instruction {index}"
        number, args = call["delegate_index"], call["args"] or ()
        if not 0 <= number < len(self.plan["delegates"]):
            raise ProgramError(f"it calls delegate {number} of {len(self.plan['delegates'])}", where=where)
        table = self.plan["delegates"][number]
        self.budget.spend(len(args))
        if any(id_ not in self.tensors for id_ in args):
            raise ProgramError(f"it gives the delegate {table['id']!r} what is no tensor", where=where)
        first = next((at for at in reversed(range(len(args))) if self.is_given(args[at], index)), -1) + 1
        inputs, outs = args[:first], args[first:]
        if not table["id"] or not outs or len(set(outs)) < len(outs):
            raise ProgramError(f"the delegate {table['id']!r} gives no results, or one twice", where=where)
        specs = tuple((one["key"] or "", bytes(one["value"] or b"")) for one in table["compile_specs"] or ())
        sides = (tuple(self.tensors[id_].spec for id_ in side) for side in (inputs, outs))
        delegate = Delegate(table["id"], self.file.blob(table, where), specs, *sides)
        self.file.delegates[delegate.op] = delegate
        return Instruction(delegate.op, self.arguments(inputs), outs, index)

    def is_given(self, id_: int, index: int) -> bool:
        """Whether the value holds something as instruction `index` begins: an input, a constant, a state, or what
        instructions before had to do with."""
        tensor = self.tensors[id_]
        return id_ in self.plan["inputs"] or tensor.place is None or bool(tensor.entry) or self.first[id_] < index

    @functools.cached_property
    def first(self) -> dict[int, int]:
        """The instruction that first has to do with a value; -1 of what one changes in place, which is a state."""
        found: dict[int, int] = {}
        for at, (op, args) in enumerate(self.calls(self.plan["chains"][0])):
            for arg in args:
                listed = self.others.get(arg)
                for id_ in listed.ids if isinstance(listed, _List) else (arg,):
                    found.setdefault(id_, at)
            if op and is_in_place(op):
                found[args[-1]] = -1
        return found

    def operator(self, number: int, where: str) -> str:
        operators = self.plan["operators"]
        if not 0 <= number < len(operators):
            raise ProgramError(f"it calls operator {number} of {len(operators)}", where=where)
        name, overload = operators[number]["name"], operators[number]["overload"]
        joined = f"{name}.{overload}" if overload else name or ""
        if len(joined) > MAX_OPERATOR_NAME or not _OPERATOR.fullmatch(joined):
            raise ProgramError(
                f"operator {number} is called {joined[:MAX_OPERATOR_NAME]!r}, which is no operator name", where=where
            )
        return joined

    def kernel_call(self, index: int, call: Table) -> Instruction:
        op = self.operator(call["op_index"], f"instruction {index}")
        where = f"instruction {index} ({op})"
        args: tuple[int, ...] = call["args"] or ()
        for id_ in args:
            if not 0 <= id_ < len(self.plan["values"]):
                raise ProgramError(f"an argument is value {id_} of {len(self.plan['values'])}", where=where)
        if op == ET_VIEW:
            if len(args) != 3 or args[2] not in self.tensors:
                raise ProgramError(f"a view has three arguments, the last a tensor; it has {len(args)}", where=where)
            return Instruction(VIEW, self.arguments(args[:2]), (args[2],), index)
        counts = [loop.count for loop in self.counted.loops]
        if op == SELECT and len(args) == 5 and args[2] in counts and self.others.get(args[1]) == 0:
            return Instruction(ROW, (self.argument(args[0]), Ref(args[2])), (args[4],), index)
        if (
            op == counting.COPY_INDEX
            and len(args) == 3
            and args[2] in counts
            and {args[0], args[1]} <= self.tensors.keys()
        ):
            return Instruction(SET_ROW, self.arguments(args), (args[0],), index)
        if is_number(op):
            if not args or args[-1] not in self.tensors:
                raise ProgramError("it computes no number", where=where)
            return Instruction(op, self.arguments(args[:-1]), args[-1:], index)
        if op.startswith("executorch_prim::"):
            raise ProgramError("it is not known", where=where, hint="export with fixed shapes")
        count, outs = self.outs(op, args, where)
        scratch = min(SCRATCH.get(op, 0), count)
        return Instruction(op, (*self.arguments(args[: count - scratch]), *[None] * scratch), outs, index)

    def outs(self, op: str, args: tuple[int, ...], where: str) -> tuple[int, tuple[int, ...]]:
        """(how many arguments come before the outs, the outs)."""
        self.budget.spend(len(args))
        wrong = ProgramError("its arguments do not end with its results, and the results once again", where=where)
        if len(args) < 2:
            raise wrong
        result = self.others.get(args[-1])
        if isinstance(result, _List):
            self.budget.spend(len(result.ids))
        if is_in_place(op):
            # until ExecuTorch 1.2 the result was a value of its own, which nothing ever wrote or read
            if (
                not all(id_ in self.tensors for id_ in (args[0], args[-1]))
                or self.tensors[args[0]].spec != self.tensors[args[-1]].spec
            ):
                raise ProgramError("it works in place, but its result is not its first argument", where=where)
            return len(args) - 1, (args[0],)
        if op in LIST_OUT:
            if not isinstance(result, _List) or self.others.get(args[-2]) != result or -1 in result.ids:
                raise wrong
            return len(args) - 2, result.ids
        if args[-1] in self.tensors:
            if args[-2] != args[-1]:
                raise wrong
            return len(args) - 2, (args[-1],)
        if not isinstance(result, _List) or not result.ids or args[-1 - len(result.ids) : -1] != result.ids:
            if isinstance(result, _List) and self.others.get(args[-2]) == result:
                raise ProgramError("it returns a list of tensors, and is not known to", where=where)
            raise wrong
        return len(args) - 1 - len(result.ids), result.ids

    def arguments(self, ids: Sequence[int]) -> tuple[Arg, ...]:
        return tuple(self.argument(id_) for id_ in ids)

    def argument(self, id_: int) -> Arg:
        if id_ in self.tensors:
            self.budget.spend(1)
            return Ref(id_)
        found = self.others[id_]
        if isinstance(found, _List):
            self.budget.spend(len(found.ids) + 1)
            return tuple(Ref(item) if item >= 0 else None for item in found.ids)
        self.budget.spend(1 + (len(found) if isinstance(found, tuple) else 0))
        return found

    def is_et_view(self, chain: Table, index: int) -> bool:
        kind, content = chain["instructions"][index]["instr_args"]
        return kind == "KernelCall" and self.operator(content["op_index"], "") == ET_VIEW

    def carried(self, instructions: Sequence[Instruction]) -> set[int]:
        """What is only ever copied onto, from several places and before it is read on every way: the carry of a
        loop."""
        writers = Counter(out for one in instructions for out in one.outs)
        copies = Counter(one.outs[0] for one in instructions if one.op == WRITE_BACK)
        found = {id_ for id_, count in copies.items() if count == writers[id_] > 1 and not self.tensors[id_].entry}

        def step(position: int, written: set[int]) -> None:
            one = instructions[position]
            reads = one.reads if one.op != WRITE_BACK else [arg.id for arg in one.args[1:] if isinstance(arg, Ref)]
            found.difference_update(id_ for id_ in reads if id_ not in written)
            written.update(one.outs)

        if found:
            forward(instructions, set[int](), step, set.copy, set.__and__)
        return found

    def states(self, instructions: Sequence[Instruction], inputs: frozenset[int], carries: set[int]) -> frozenset[int]:
        """Values that keep their content between runs: those with initial content, those that an in-place operator
        writes though no instruction has made them, and those that have a name of their own and are never written.
        """
        written = {out for instruction in instructions for out in instruction.outs}
        found = {
            id_
            for id_, tensor in self.tensors.items()
            if tensor.place is not None
            and (tensor.entry or (tensor.qualified_name and id_ not in written and id_ not in inputs))
        }
        made: set[int] = set()
        for instruction in instructions:
            for out in instruction.outs:
                if (
                    is_in_place(instruction.op)
                    and not {out} & (made | inputs | carries)
                    and self.tensors[out].place is not None
                ):
                    found.add(out)
                made.add(out)
        self.add_lasting(instructions, inputs, found)
        doubled = sorted(found & inputs)
        if doubled:
            raise ProgramError("it is an input and has initial content", where=f"value {doubled[0]}")
        return frozenset(found)

    def add_lasting(self, instructions: Sequence[Instruction], inputs: frozenset[int], found: set[int]) -> None:
        """What lies in the memory that methods share is a state, though this method may only read it; a second value
        there is a view."""

        def lasting(id_: int) -> bool:
            place = self.tensors[id_].place
            return place is not None and place.memory == self.belongings.memory and place.end > place.start

        made = {out for one in instructions if not is_in_place(one.op) for out in one.outs}
        if not self.belongings.memory or any(lasting(id_) for id_ in made | inputs):
            return
        taken = {self.tensors[id_].place for id_ in found}
        for id_ in dict.fromkeys(read for one in instructions for read in one.reads):
            if lasting(id_) and self.tensors[id_].place not in taken:
                found.add(id_)
                taken.add(self.tensors[id_].place)


def _with_views(
    instructions: Sequence[Instruction], views: Sequence[View], tensors: dict[int, _Tensor]
) -> tuple[Instruction, ...]:
    """The instructions with each view as one of its own, right behind the instruction that writes what it shows."""
    behind: dict[int, list[Instruction]] = {}
    for number, view in enumerate(views):
        new, old = tensors[view.value].spec, tensors[view.base].spec
        if (new.dtype, new.numel) != (old.dtype, old.numel):
            raise ProgramError(
                f"value {view.value}, {new}, shares its bytes with value {view.base}, {old}, and is no view of it"
            )
        call = Instruction(VIEW, (Ref(view.base), new.shape), (view.value,), len(instructions) + number)
        behind.setdefault(view.after, []).append(call)
    found = list(behind.get(AT_START, ()))
    for position, instruction in enumerate(instructions):
        found.append(instruction)
        found.extend(behind.get(position, ()))
    return tuple(found)


@dataclass(frozen=True)
class _Namer:
    """Makes the method of what was read: roles, names and sources."""

    reader: _MethodReader
    chain: Table
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    states: frozenset[int]
    instructions: tuple[Instruction, ...]

    def method(self) -> Method:
        frames = [entry["items"] or () for entry in self.chain["stacktrace"] or ()]
        ours = any(frame["filename"] == VALUE_FRAME for items in frames for frame in items)
        stored = {
            frame["lineno"]: frame["name"] or ""
            for items in frames
            for frame in items
            if frame["filename"] == VALUE_FRAME
        }
        instructions = tuple(self.named(instruction, frames, ours) for instruction in self.instructions)
        used = {id_ for instruction in instructions for id_ in (*instruction.reads, *instruction.outs)}
        used.update(self.inputs, self.outputs)
        shared = self.reader.belongings.of(self.reader, sorted(used), self.states)
        names = self.names(instructions, sorted(used), stored, shared)
        if not ours:
            instructions = self.named_by_results(instructions, names)
        written = {out for instruction in instructions for out in instruction.outs}
        inputs, outputs = frozenset(self.inputs), frozenset(self.outputs)
        values = {id_: self.value(id_, names[id_], self.role(id_, inputs, outputs, written)) for id_ in sorted(used)}
        for id_, value in shared.items():
            if value.data is None and values[id_].data is not None:
                raise ProgramError("it has initial content, and none in a method before", where=f"value {id_}")
        if self.reader.counted.loops:  # what only counts has had a place in the file
            handles = {instruction.handle: at for at, instruction in enumerate(instructions)}
            instructions = tuple(replace(one, handle=handles[one.handle]) for one in instructions)
            instructions = tuple(
                one.leading_to(handles.get(one.destination, -1)) if one.op in JUMPS else one for one in instructions
            )
        bounded = frozenset(self.reader.bounded & values.keys())
        method = Method(self.reader.plan["name"], values, instructions, self.inputs, self.outputs, bounded=bounded)
        return self.reader.belongings.add(self.reader, method, shared)

    def named(self, instruction: Instruction, frames: Sequence[Sequence[Table]], ours: bool) -> Instruction:
        """With the name and the source line that the file's frames give it."""
        items = (
            [frame for frame in frames[instruction.handle] if frame["filename"] != VALUE_FRAME]
            if instruction.handle < len(frames)
            else []
        )
        if ours and items:
            instruction = replace(instruction, name=items[0]["name"] or "")
            items = items[:1]
        elif not ours:
            items = [frame for frame in items if frame["filename"] and not _LIBRARY.search(frame["filename"])]
        if not items or not items[-1]["filename"]:
            return instruction
        frame = items[-1]
        # foreign traces hold absolute paths of the machine that exported the file
        file = frame["filename"] if ours else re.split(r"[/\\]", frame["filename"])[-1]
        return replace(instruction, source=Source(file, frame["lineno"], frame["context"] or ""))

    def named_by_results(self, instructions: Sequence[Instruction], names: dict[int, str]) -> tuple[Instruction, ...]:
        new = Names(names.values())
        return tuple(
            replace(i, name=names[i.outs[0]] if i.outs and i.outs[0] not in self.states else new.new(short_name(i.op)))
            for i in instructions
        )

    def names(
        self,
        instructions: Sequence[Instruction],
        used: Sequence[int],
        stored: dict[int, str],
        shared: Mapping[int, Value],
    ) -> dict[int, str]:
        found = {id_: value.name for id_, value in shared.items()}
        names = Names({*found.values(), *self.reader.belongings.state_names})
        found |= {id_: names.new(stored[id_]) for id_ in used if stored.get(id_) and id_ not in found}
        for id_, wanted in self.derived(instructions, used):
            if id_ not in found:
                found[id_] = names.new(wanted)
        return found

    def derived(self, instructions: Sequence[Instruction], used: Sequence[int]) -> Iterator[tuple[int, str]]:
        """(value, the name it should have), best first."""
        tensors = self.reader.tensors
        yield from ((id_, f"input_{position}") for position, id_ in enumerate(self.inputs))
        for position, id_ in enumerate(sorted(self.states)):
            if id_ in used:
                yield id_, tensors[id_].qualified_name or f"state_{position}"
        counts: dict[str, int] = {}
        chosen: dict[int, str] = {}
        for instruction in instructions:
            base = instruction.name or short_name(instruction.op)
            number = counts[base] = counts.get(base, -1) + 1
            name = instruction.name or f"{base}_{number}"
            for position, id_ in enumerate(instruction.outs):
                chosen.setdefault(id_, f"{name}_{position}" if position else name)
                yield id_, chosen[id_]
        roles: dict[int, str] = {}
        for instruction in reversed(instructions):
            for role, arg in zip(OPERAND_NAMES.get(base_name(instruction.op), ()), instruction.args, strict=False):
                if role and isinstance(arg, Ref) and instruction.outs:
                    roles[arg.id] = f"{chosen[instruction.outs[0]]}_{role}"
            if instruction.op in TRANSPOSES and instruction.outs[0] in roles and isinstance(instruction.args[0], Ref):
                roles[instruction.args[0].id] = roles[instruction.outs[0]]
        yield from roles.items()
        yield from ((id_, f"const_{position}") for position, id_ in enumerate(used))

    def role(self, id_: int, inputs: frozenset[int], outputs: frozenset[int], written: set[int]) -> Role:
        tensor = self.reader.tensors[id_]
        if id_ in inputs:
            return Role.INPUT
        if id_ in self.states:
            return Role.STATE
        if tensor.place is None and tensor.entry:
            return Role.CONSTANT
        if not tensor.spec.nbytes and id_ not in written:
            return Role.CONSTANT  # ExecuTorch's form of a tensor argument that was not given
        return Role.OUTPUT if id_ in outputs else Role.ACTIVATION

    def value(self, id_: int, name: str, role: Role) -> Value:
        tensor = self.reader.tensors[id_]
        where = f"value {id_}"
        if role is Role.INPUT and tensor.entry:
            raise ProgramError("it is an input and has data", where=where)
        if role is Role.STATE and tensor.entry:
            return Value(id_, name, tensor.spec, role, self.reader.file.initial.array(tensor.entry, tensor.spec, where))
        if role is Role.CONSTANT and tensor.entry:
            return Value(
                id_, name, tensor.spec, role, self.reader.file.constants.array(tensor.entry, tensor.spec, where)
            )
        empty = np.zeros(tensor.spec.shape, tensor.spec.dtype.numpy) if role is Role.CONSTANT else None
        return Value(id_, name, tensor.spec, role, empty)
