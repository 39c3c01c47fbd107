"""The `.pte` container and its flatbuffer: bytes <-> plain dictionaries.

The schema is data (`TABLES`, `UNIONS`; `schema/program.fbs` says the same in words). A table is a dict with every field
of the schema, None for an absent table, vector or string, 0 for an absent number; a vector is a tuple (of bytes:
`bytes`); a union is `(member, table)` or None. Nothing here knows what a field means: that is `pte.py`.

The reader believes nothing. Every read lies inside the program's bytes and is naturally aligned; a vtable's *own size*
is checked but its *table size* is not, because flatbuffers 25.2.10, with which official files are written, shares
vtables between tables of different length. What a file may make us allocate is bounded by its own size, because a small
file can point to the same list thousands of times.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from etexport.errors import ProgramError

Table = dict[str, Any]

IDENTIFIER = b"ET12"
BUNDLE_IDENTIFIER = b"BP08"
DUMP_IDENTIFIER = b"ED00"
HEADER_MAGIC = b"eh00"
HEADER_BYTES = 32
SEGMENT_ALIGNMENT = 128

TABLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    # One entry a field, in slot order: (name, type). `[T]` is a vector, `[u8]16` one whose bytes start at a multiple of
    # 16, `i32=-1` a number that is -1 where it is absent.
    "Program": (
        ("version", "u32"),
        ("execution_plan", "[ExecutionPlan]"),
        ("constant_buffer", "[Buffer]"),
        ("backend_delegate_data", "[BackendDelegateInlineData]"),
        ("segments", "[DataSegment]"),
        ("constant_segment", "SubsegmentOffsets"),
        ("mutable_data_segments", "[SubsegmentOffsets]"),
        ("named_data", "[NamedData]"),
    ),
    "ExecutionPlan": (
        ("name", "str"),
        ("container_meta_type", "ContainerMetadata"),
        ("values", "[EValue]"),
        ("inputs", "[i32]"),
        ("outputs", "[i32]"),
        ("chains", "[Chain]"),
        ("operators", "[Operator]"),
        ("delegates", "[BackendDelegate]"),
        ("non_const_buffer_sizes", "[i64]"),
        ("non_const_buffer_device", "[NonConstBufferDevice]"),
    ),
    "ContainerMetadata": (("encoded_inp_str", "str"), ("encoded_out_str", "str")),
    "EValue": (("val", "KernelTypes"),),
    "Null": (),
    "Int": (("int_val", "i64"),),
    "Bool": (("bool_val", "bool"),),
    "Double": (("double_val", "f64"),),
    "String": (("string_val", "str"),),
    "IntList": (("items", "[i64]"),),
    "DoubleList": (("items", "[f64]"),),
    "BoolList": (("items", "[bool]"),),
    "TensorList": (("items", "[i32]"),),
    "OptionalTensorList": (("items", "[i32]"),),
    "Tensor": (
        ("scalar_type", "i8"),
        ("storage_offset", "i32"),
        ("sizes", "[i32]"),
        ("dim_order", "[u8]"),
        ("requires_grad", "bool"),
        ("data_buffer_idx", "u32"),
        ("allocation_info", "AllocationDetails"),
        ("layout", "i8"),
        ("shape_dynamism", "i8"),
        ("extra_tensor_info", "ExtraTensorInfo"),
    ),
    "AllocationDetails": (("memory_id", "u32"), ("memory_offset_low", "u32"), ("memory_offset_high", "u32")),
    "ExtraTensorInfo": (
        ("mutable_data_segments_idx", "u64"),
        ("fully_qualified_name", "str"),
        ("location", "i8"),
        ("device_type", "i8"),
        ("device_index", "i8"),
    ),
    "Operator": (("name", "str"), ("overload", "str")),
    "Chain": (
        ("inputs", "[i32]"),
        ("outputs", "[i32]"),
        ("instructions", "[Instruction]"),
        ("stacktrace", "[FrameList]"),
    ),
    "Instruction": (("instr_args", "InstructionArguments"),),
    "KernelCall": (("op_index", "i32"), ("args", "[i32]")),
    "DelegateCall": (("delegate_index", "i32"), ("args", "[i32]")),
    "MoveCall": (("move_from", "i32"), ("move_to", "i32")),
    "JumpFalseCall": (("cond_value_index", "i32"), ("destination_instruction", "i32")),
    "FreeCall": (("value_index", "i32"),),
    "FrameList": (("items", "[Frame]"),),
    "Frame": (("filename", "str"), ("lineno", "i32"), ("name", "str"), ("context", "str")),
    "BackendDelegate": (
        ("id", "str"),
        ("processed", "BackendDelegateDataReference"),
        ("compile_specs", "[CompileSpec]"),
    ),
    "BackendDelegateDataReference": (("location", "i8"), ("index", "u32")),
    "CompileSpec": (("key", "str"), ("value", "[u8]")),
    "NonConstBufferDevice": (("buffer_idx", "i32"), ("device_type", "i8"), ("device_index", "i8")),
    "Buffer": (("storage", "[u8]16"),),
    "BackendDelegateInlineData": (("data", "[u8]16"),),
    "DataSegment": (("offset", "u64"), ("size", "u64")),
    "SubsegmentOffsets": (("segment_index", "u32"), ("offsets", "[u64]")),
    "NamedData": (("key", "str"), ("segment_index", "u32")),
    # The root of a bundled program, a file of its own.
    "BundledProgram": (("version", "u32"), ("method_test_suites", "[BundledSuite]"), ("program", "[u8]32")),
    "BundledSuite": (("method_name", "str"), ("test_cases", "[BundledCase]")),
    "BundledCase": (("inputs", "[BundledValue]"), ("expected_outputs", "[BundledValue]")),
    "BundledValue": (("val", "BundledUnion"),),
    "BundledTensor": (("scalar_type", "i8"), ("sizes", "[i32]"), ("data", "[u8]16"), ("dim_order", "[u8]")),
    # The root of what ExecuTorch's Inspector reads of a run, a file of its own.
    "Dump": (("version", "u32"), ("run_data", "[DumpRun]")),
    "DumpRun": (
        ("name", "str"),
        ("bundled_input_index", "i32=-1"),
        ("allocators", "[DumpAllocator]"),
        ("events", "[DumpEvent]"),
    ),
    "DumpAllocator": (("name", "str"),),
    "DumpEvent": (
        ("profile_event", "DumpProfile"),
        ("allocation_event", "DumpAllocation"),
        ("debug_event", "DumpDebug"),
    ),
    "DumpAllocation": (("allocator_id", "i32"), ("allocation_size", "u64")),
    "DumpProfile": (
        ("name", "str"),
        ("chain_index", "i32"),
        ("instruction_id", "i32=-1"),
        ("delegate_debug_id_int", "i32=-1"),
        ("delegate_debug_id_str", "str"),
        ("delegate_debug_metadata", "[u8]"),
        ("start_time", "u64"),
        ("end_time", "u64"),
    ),
    "DumpDebug": (
        ("chain_index", "u64"),
        ("instruction_id", "i32=-1"),
        ("debug_entry", "DumpValue"),
        ("delegate_debug_id_int", "i32=-1"),
        ("delegate_debug_id_str", "str"),
        ("name", "str"),
    ),
    "DumpValue": (("val", "i8"), ("tensor", "DumpTensor")),
    "DumpTensor": (("scalar_type", "i8"), ("sizes", "[i64]"), ("strides", "[i64]"), ("offset", "i64")),
}

UNIONS: Mapping[str, tuple[str, ...]] = {
    # The type code is the position plus one; 0 means that nothing is there.
    "KernelTypes": (
        *("Null", "Int", "Bool", "Double", "Tensor", "String"),
        *("IntList", "DoubleList", "BoolList", "TensorList", "OptionalTensorList"),
    ),
    "BundledUnion": ("BundledTensor", "Int", "Bool", "Double"),
    "InstructionArguments": ("KernelCall", "DelegateCall", "MoveCall", "JumpFalseCall", "FreeCall"),
}

SCALARS: Mapping[str, tuple[str, int]] = {
    # struct format and size in bytes, which is also the alignment
    "u8": ("B", 1),
    "i8": ("b", 1),
    "bool": ("?", 1),
    "i32": ("i", 4),
    "u32": ("I", 4),
    "i64": ("q", 8),
    "u64": ("Q", 8),
    "f64": ("d", 8),
}

MAX_TABLES = 40_000
MAX_ELEMENTS = 2_000_000
SHARING = 8
"""A file may be read as this many times its own size: tables and vectors may be shared, but not without end."""


@dataclass(frozen=True)
class Field:
    """A field of a table, ready to read: `kind` is scalar, string, vector (of `item`), table or union; `absent` is its
    default."""

    name: str
    full_name: str
    slot: int
    kind: str
    item: str
    format: str = ""
    size: int = 4
    align: int = 1
    absent: bool | int | float | None = None


def _fields(table: str) -> tuple[Field, ...]:
    found: list[Field] = []
    slot = 0
    for name, said in TABLES[table]:
        full = f"{table}.{name}"
        text, _, default = said.partition("=")
        if text in UNIONS:
            found.append(Field(name, full, slot, "union", text))
            slot += 1  # a union takes two slots: the type, then the value
        elif text in SCALARS:
            code, size = SCALARS[text]
            absent = int(default) if default else {"bool": False, "f64": 0.0}.get(text, 0)
            found.append(Field(name, full, slot, "scalar", text, "<" + code, size, absent=absent))
        elif text == "str":
            found.append(Field(name, full, slot, "string", text))
        elif text.startswith("["):
            item, _, align = text[1:].partition("]")
            found.append(Field(name, full, slot, "vector", item, align=int(align or 1)))
        else:
            found.append(Field(name, full, slot, "table", text))
        slot += 1
    return tuple(found)


FIELDS: Mapping[str, tuple[Field, ...]] = {table: _fields(table) for table in TABLES}


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Container:
    """A `.pte` taken apart: the root table, and the segments in order as views of the file's bytes."""

    program: Table
    segments: tuple[memoryview, ...]


def read(data: bytes) -> Container:
    """Take a file apart; ProgramError says at which byte it stops making sense."""
    if len(data) < 8:
        raise ProgramError(f"{len(data)} bytes are no .pte file")
    if data[4:8] != IDENTIFIER:
        raise ProgramError(
            f"the file identifier is {data[4:8]!r} and not {IDENTIFIER!r}",
            hint="`etexport bundle X.bpte -o X.pte` takes a bundled program apart"
            if data[4:8] == BUNDLE_IDENTIFIER
            else "only ExecuTorch programs of schema ET12 can be read",
        )
    program_bytes, base, segment_bytes = _read_header(data)
    root = _Reader(data, program_bytes).root()
    return Container(root, _segments(data, root, base, segment_bytes))


def read_bundle(data: bytes) -> Table:
    """The root of a bundled program; ProgramError as of `read`."""
    if data[4:8] != BUNDLE_IDENTIFIER:
        raise ProgramError(f"the file identifier is {data[4:8]!r} and not {BUNDLE_IDENTIFIER!r}")
    reader = _Reader(data, len(data))
    return reader.table("BundledProgram", reader.follow(0, "the root"))


def _read_header(data: bytes) -> tuple[int, int, int]:
    """(bytes of the flatbuffer, file offset of the segments or 0, bytes of all segments or 0 for unchecked)."""
    if data[8:12] != HEADER_MAGIC:
        return len(data), 0, 0
    if len(data) < 32:
        raise ProgramError(f"the file ends at byte {len(data)}, inside its header")
    (length,) = struct.unpack_from("<I", data, 12)
    if length < 24:
        raise ProgramError(f"the header states a length of {length} bytes where at least 24 belong", where="byte 12")
    if len(data) < 8 + length:
        raise ProgramError(f"the file ends at byte {len(data)}, inside its header of {length} bytes")
    program_bytes, base = struct.unpack_from("<QQ", data, 16)
    segment_bytes = struct.unpack_from("<Q", data, 32)[0] if length >= HEADER_BYTES else 0
    if not 8 + length <= program_bytes <= len(data):
        raise ProgramError(
            f"the header states a program of {program_bytes} bytes; the file has {len(data)}", where="byte 16"
        )
    if base and not program_bytes <= base <= len(data):
        raise ProgramError(
            f"the header states segments from byte {base}; the program has {program_bytes} bytes and the file "
            f"{len(data)}",
            where="byte 24",
        )
    if segment_bytes and (not base or base + segment_bytes > len(data)):
        raise ProgramError(
            f"the header states {segment_bytes} bytes of segments from byte {base}; the file has {len(data)} bytes",
            where="byte 32",
        )
    return program_bytes, base, segment_bytes


def _segments(data: bytes, root: Table, base: int, segment_bytes: int) -> tuple[memoryview, ...]:
    view = memoryview(data)
    end = base + segment_bytes if segment_bytes else len(data)
    found: list[memoryview] = []
    for index, entry in enumerate(root["segments"] or ()):
        offset, size = entry["offset"], entry["size"]
        if size == 0:
            found.append(view[:0])
            continue
        if not base:
            raise ProgramError(
                f"it has {size} bytes, but the file has no header that says where segments start",
                where=f"segment {index}",
            )
        if base + offset + size > end:
            raise ProgramError(
                f"it ends at byte {base + offset + size}; the segments end at byte {end}", where=f"segment {index}"
            )
        found.append(view[base + offset : base + offset + size])
    return tuple(found)


class _Reader:
    """Reads tables out of the first `end` bytes; keeps count of what it has made."""

    def __init__(self, data: bytes, end: int) -> None:
        self.data = data
        self.end = end
        self.tables_left = MAX_TABLES
        self.elements_left = MAX_ELEMENTS
        self.bytes_left = SHARING * end + 4096

    def root(self) -> Table:
        return self.table("Program", self.follow(0, "the root"))

    def check(self, position: int, size: int, align: int, what: str) -> None:
        if position < 0 or position + size > self.end:
            raise ProgramError(f"{what} would lie at bytes {position} to {position + size}; the program has {self.end}")
        if position % align:
            raise ProgramError(f"{what} lies at byte {position}, which is no multiple of {align}")

    def spend(self, size: int, what: str) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ProgramError(
                f"{what}: the program refers to the same bytes so often that it would be {SHARING} times its own size"
            )

    def follow(self, position: int, what: str) -> int:
        """The target of the offset at `position`."""
        self.check(position, 4, 4, what)
        target = position + int(struct.unpack_from("<I", self.data, position)[0])
        self.check(target, 4, 4, what)
        return target

    def table(self, name: str, position: int) -> Table:
        self.tables_left -= 1
        if self.tables_left < 0:
            raise ProgramError(f"the program has more than {MAX_TABLES:,} tables")
        self.spend(8, name)
        data = self.data
        vtable = position - int(struct.unpack_from("<i", data, position)[0])
        vtable_bytes = 4 if vtable < 0 or vtable + 4 > self.end else int(struct.unpack_from("<H", data, vtable)[0])
        if vtable < 0 or vtable + vtable_bytes > self.end or vtable % 2 or vtable_bytes < 4 or vtable_bytes % 2:
            listed = f"the field list of a table {name} at byte {position}"
            self.check(vtable, max(vtable_bytes, 4), 2, listed)
            raise ProgramError(f"{listed} states a length of {vtable_bytes}")
        offsets = struct.unpack_from(f"<{(vtable_bytes - 4) // 2}H", data, vtable + 4)
        result: Table = {}
        for entry in FIELDS[name]:
            offset = offsets[entry.slot] if entry.slot < len(offsets) else 0
            if 0 < offset < 4:
                raise ProgramError(
                    f"{entry.full_name} of the table at byte {position} lies at offset {offset}, inside the table's "
                    "head"
                )
            if entry.kind == "union":
                value_offset = offsets[entry.slot + 1] if entry.slot + 1 < len(offsets) else 0
                result[entry.name] = self.union(entry, position, offset, value_offset)
            elif not offset:
                result[entry.name] = entry.absent
            elif entry.kind == "scalar":
                self.check(position + offset, entry.size, entry.size, entry.full_name)
                result[entry.name] = struct.unpack_from(entry.format, data, position + offset)[0]
            else:
                result[entry.name] = self.object(entry, self.follow(position + offset, entry.full_name))
        return result

    def object(self, entry: Field, target: int) -> Any:
        if entry.kind == "table":
            return self.table(entry.item, target)
        if entry.kind == "string":
            return self.string(target, entry.full_name)
        return self.vector(entry.item, target, entry.full_name)

    def union(self, entry: Field, position: int, type_offset: int, value_offset: int) -> tuple[str, Table] | None:
        def fail(what: str) -> ProgramError:
            return ProgramError(f"{entry.full_name} of the table at byte {position} {what}")

        code = 0
        if type_offset:
            self.check(position + type_offset, 1, 1, entry.full_name)
            code = self.data[position + type_offset]
        if 0 < value_offset < 4:
            raise fail(f"lies at offset {value_offset}, inside the table's head")
        if code == 0:
            return None
        members = UNIONS[entry.item]
        if code > len(members):
            raise fail(f"has the unknown type {code}")
        if not value_offset:
            raise fail(f"has the type {members[code - 1]} and no value")
        return members[code - 1], self.table(members[code - 1], self.follow(position + value_offset, entry.full_name))

    def length(self, target: int, item_bytes: int, what: str) -> int:
        count = int(struct.unpack_from("<I", self.data, target)[0])
        if target + 4 + count * item_bytes > self.end:
            raise ProgramError(
                f"{what} at byte {target} states {count} entries, which end beyond the program's {self.end} bytes"
            )
        self.spend(4 + count * item_bytes, what)
        return count

    def string(self, target: int, what: str) -> str:
        count = self.length(target, 1, what)
        start = target + 4
        self.check(start + count, 1, 1, what)
        if self.data[start + count] != 0:
            raise ProgramError(f"{what} at byte {target} is a string without its final zero")
        try:
            return self.data[start : start + count].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProgramError(f"{what} at byte {target} is not UTF-8: {error.reason}") from None

    def vector(self, item: str, target: int, what: str) -> Any:
        if item in SCALARS:
            code, size = SCALARS[item]
            count = self.length(target, size, what)
            if count:
                self.check(target + 4, size, size, what)
            if item == "u8":
                return self.data[target + 4 : target + 4 + count]
            self.elements_left -= count
            if self.elements_left < 0:
                raise ProgramError(f"{what}: the program has more than {MAX_ELEMENTS:,} numbers in lists")
            return struct.unpack_from(f"<{count}{code}", self.data, target + 4)
        count = self.length(target, 4, what)
        return tuple(self.table(item, self.follow(target + 4 + 4 * index, what)) for index in range(count))


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(program: Table, segments: Sequence[tuple[int, bytes]]) -> bytes:
    """The file: `program` with its `segments` field filled in from `segments`, each (extra alignment in bytes,
    content).

    The same tables and the same flatbuffers version give the same bytes. The segments start at a multiple of 128, as
    ExecuTorch's do.
    """
    entries: list[Table] = []
    offset = end = 0
    for alignment, content in segments:
        step = max(alignment, SEGMENT_ALIGNMENT)
        offset = -(-end // step) * step
        entries.append({"offset": offset, "size": len(content)})
        if content:
            end = offset + len(content)
    plain = _written("Program", {**program, "segments": entries}, IDENTIFIER)
    program_bytes = len(plain) + HEADER_BYTES
    base = -(-program_bytes // SEGMENT_ALIGNMENT) * SEGMENT_ALIGNMENT if end else 0
    (root,) = struct.unpack_from("<I", plain, 0)
    file = bytearray()
    file += struct.pack("<I", root + HEADER_BYTES) + IDENTIFIER
    file += HEADER_MAGIC + struct.pack("<IQQQ", HEADER_BYTES, program_bytes, base, end)
    file += plain[8:]
    if not end:
        return bytes(file)
    for entry, (_, content) in zip(entries, segments, strict=True):
        if content:
            file += bytes(base + entry["offset"] - len(file))
            file += content
    return bytes(file)


def write_bundle(root: Table) -> bytes:
    """The file of a bundled program."""
    return _written("BundledProgram", root, BUNDLE_IDENTIFIER)


def write_dump(root: Table) -> bytes:
    """An ETDump, which begins with its own length."""
    return _written("Dump", root, DUMP_IDENTIFIER, sized=True)


def _written(name: str, root: Table, identifier: bytes, *, sized: bool = False) -> bytes:
    builder = flatbuffers.Builder(1 << 16)
    finish = builder.FinishSizePrefixed if sized else builder.Finish
    finish(_build(builder, name, root), file_identifier=identifier)
    return bytes(builder.Output())


def _build(builder: Any, name: str, table: Table) -> int:
    """Write a table, its children first; the builder's handle of it."""
    unknown = set(table) - {entry.name for entry in FIELDS[name]}
    assert not unknown, f"{name} has no field {sorted(unknown)}"
    ready: list[tuple[int, Field, int, Any]] = []  # size, field, slot, value
    for entry in FIELDS[name]:
        value = table.get(entry.name)
        if value is None:
            continue
        if entry.kind == "scalar":
            ready.append((entry.size, entry, entry.slot, value))
        elif entry.kind == "union":
            member, content = value
            ready.append((1, entry, entry.slot, UNIONS[entry.item].index(member) + 1))
            ready.append((4, entry, entry.slot + 1, _build(builder, member, content)))
        elif entry.kind == "table":
            ready.append((4, entry, entry.slot, _build(builder, entry.item, value)))
        elif entry.kind == "string":
            ready.append((4, entry, entry.slot, builder.CreateSharedString(value)))
        else:
            ready.append((4, entry, entry.slot, _build_vector(builder, entry, value)))
    slots = FIELDS[name][-1].slot + (2 if FIELDS[name][-1].kind == "union" else 1) if FIELDS[name] else 0
    builder.StartObject(slots)
    for size, entry, slot, value in sorted(ready, key=lambda item: -item[0]):
        if entry.kind == "scalar":
            _prepend_scalar(builder, entry, slot, value)
        elif size == 1:
            builder.PrependUint8Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())


def _prepend_scalar(builder: Any, entry: Field, slot: int, value: Any) -> None:
    prepend = {
        "u8": builder.PrependUint8Slot,
        "i8": builder.PrependInt8Slot,
        "bool": builder.PrependBoolSlot,
        "i32": builder.PrependInt32Slot,
        "u32": builder.PrependUint32Slot,
        "i64": builder.PrependInt64Slot,
        "u64": builder.PrependUint64Slot,
        "f64": builder.PrependFloat64Slot,
    }[entry.item]
    if entry.item == "f64" and struct.pack("<d", value) != bytes(8):
        # -0.0 equals the default but is not it, so it must be stored
        builder.PrependFloat64(value)
        builder.Slot(slot)
        return
    prepend(slot, value, entry.absent)


def _build_vector(builder: Any, entry: Field, value: Any) -> int:
    if entry.item == "u8":
        content = bytes(value)
        builder.StartVector(1, len(content), entry.align)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        return int(builder.EndVector())
    if entry.item in SCALARS:
        size = SCALARS[entry.item][1]
        content = np.asarray(value, dtype=np.dtype(f"<{_NUMPY[entry.item]}")).tobytes()
        builder.StartVector(size, len(value), size)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        return int(builder.EndVector())
    children = [_build(builder, entry.item, child) for child in value]
    builder.StartVector(4, len(children), 4)
    for child in reversed(children):
        builder.PrependUOffsetTRelative(child)
    return int(builder.EndVector())


_NUMPY = {"i8": "i1", "bool": "u1", "i32": "i4", "u32": "u4", "i64": "i8", "u64": "u8", "f64": "f8"}
