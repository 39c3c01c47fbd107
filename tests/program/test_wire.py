"""The container byte by byte: where things lie, and that nothing outside the file or without measure is read."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pprint import pformat

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etexport.errors import ProgramError
from etexport.program import wire
from tests.pace import pace

SEGMENTS = [(16, b"constants"), (1, b""), (1, b"states")]


def program(**plan: object) -> wire.Table:
    return {
        "execution_plan": [{"name": "forward", "values": (), **plan}],
        "constant_segment": {"segment_index": 0, "offsets": (0, 0)},
    }


def test_the_head_of_a_file() -> None:
    data = wire.write(program(), SEGMENTS)
    root, identifier, magic, length, size, base, segment_bytes = struct.unpack_from("<I4s4sIQQQ", data, 0)
    assert (identifier, magic, length) == (b"ET12", b"eh00", 32)
    assert 40 <= root < size <= base
    assert base % 128 == 0
    assert segment_bytes == 256 + len(b"states") - 128 + 0 == len(data) - base
    assert data[base : base + 9] == b"constants"
    assert data[base + 128 :] == b"states"
    assert set(data[size:base]) <= {0}


def test_segments_come_back() -> None:
    found = wire.read(wire.write(program(), SEGMENTS))
    assert [bytes(one) for one in found.segments] == [b"constants", b"", b"states"]


def test_a_file_without_segments_has_no_base() -> None:
    data = wire.write(program(), [(16, b"")])
    assert struct.unpack_from("<QQ", data, 24) == (0, 0)
    assert [bytes(one) for one in wire.read(data).segments] == [b""]


def test_a_file_without_header_is_a_program_alone() -> None:
    data = wire.write(program(), [(16, b"")])
    (root,) = struct.unpack_from("<I", data, 0)
    plain = struct.pack("<I", root - 32) + data[4:8] + data[40:]
    assert wire.read(plain).program == wire.read(data).program


def test_bytes_are_aligned_for_whoever_reads_them_in_place() -> None:
    inline = [{"storage": b"0123456789abcdef"}, {"storage": b"x"}]
    data = wire.write({**program(), "constant_buffer": inline}, [])
    assert data.index(b"0123456789abcdef") % 16 == 0
    assert wire.read(data).program["constant_buffer"] == tuple(inline)


NUMBERS = {
    "i64": st.integers(-(2**63), 2**63 - 1),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "i8": st.integers(-128, 127),
    "u8": st.integers(0, 255),
    "bool": st.booleans(),
    "f64": st.floats(allow_nan=False),
    "str": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
}


def tables(name: str) -> st.SearchStrategy[wire.Table]:
    """Any content of a table, absent fields as the reader gives them."""
    fields: dict[str, st.SearchStrategy[object]] = {}
    for field, kind in wire.TABLES[name]:
        if kind == "str":
            fields[field] = st.none() | NUMBERS["str"]
        elif kind in NUMBERS:
            fields[field] = NUMBERS[kind]
        elif kind in wire.UNIONS:
            fields[field] = st.none() | st.one_of([st.tuples(st.just(one), tables(one)) for one in wire.UNIONS[kind]])
        elif kind.startswith("[u8]"):
            fields[field] = st.none() | st.binary(max_size=40)
        elif kind.startswith("["):
            item = kind[1:-1]
            entries = NUMBERS[item] if item in NUMBERS else tables(item)
            fields[field] = st.none() | st.lists(entries, max_size=3).map(tuple)
        else:
            fields[field] = st.none() | tables(kind)
    return st.fixed_dictionaries(fields)


@settings(max_examples=100, deadline=None)
@given(tables("ExecutionPlan"))
def test_any_table_comes_back(plan: wire.Table) -> None:
    root = {"execution_plan": (plan,)}
    found = wire.read(wire.write(root, [])).program["execution_plan"][0]
    assert found == plan
    assert pformat(found) == pformat(plan), "-0.0 and False are not 0"


def test_a_field_beyond_the_length_that_its_table_states_is_read() -> None:
    """flatbuffers 25.2.10 shares field lists between tables of different length; official files hold hundreds of
    these."""
    data = bytearray(wire.write(program(), [(16, b"")]))
    (root,) = struct.unpack_from("<I", data, 0)
    vtable = root - struct.unpack_from("<i", data, root)[0]
    struct.pack_into("<H", data, vtable + 2, 4)
    assert wire.read(bytes(data)).program == wire.read(wire.write(program(), [(16, b"")])).program


def test_a_newer_schema_may_have_more_fields() -> None:
    builder = flatbuffers.Builder(64)
    name = builder.CreateString("future")
    builder.StartObject(20)
    builder.PrependUOffsetTRelativeSlot(19, name, 0)
    builder.PrependUint32Slot(0, 7, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"ET12")
    assert wire.read(bytes(builder.Output())).program["version"] == 7


@pytest.mark.parametrize(
    ("at", "content", "message"),
    [
        (4, b"ET11", "identifier"),
        (12, struct.pack("<I", 8), "length of 8 bytes"),
        (16, struct.pack("<Q", 1 << 40), "states a program"),
        (16, struct.pack("<Q", 39), "states a program"),
        (24, struct.pack("<Q", 1 << 40), "states segments"),
        (24, struct.pack("<Q", 40), "states segments"),
        (24, struct.pack("<QQ", 0, 0), "segment 0: it has 9 bytes, but"),
        (32, struct.pack("<Q", 1 << 63), "bytes of segments"),
        (32, struct.pack("<Q", 100), "segment 2: it ends at byte"),
        (8, b"eh01", "segment 0"),
        (0, struct.pack("<I", 1 << 31), "root"),
        (0, struct.pack("<I", 41), "multiple"),
    ],
)
def test_a_wrong_head_is_refused(at: int, content: bytes, message: str) -> None:
    data = bytearray(wire.write(program(), SEGMENTS))
    data[at : at + len(content)] = content
    with pytest.raises(ProgramError, match=message):
        wire.read(bytes(data))


@pytest.mark.parametrize("size", [0, 3, 8, 12, 31, 39, 63])
def test_a_file_of_hardly_any_bytes_is_refused(size: int) -> None:
    with pytest.raises(ProgramError):
        wire.read(wire.write(program(), SEGMENTS)[:size])


def bomb(values: int, items: int) -> bytes:
    """`values` IntLists that are all the same vector of `items` numbers."""
    builder = flatbuffers.Builder(1 << 20)
    builder.StartVector(8, items, 8)
    builder.head -= 8 * items
    vector = builder.EndVector()
    tables = []
    for _ in range(values):
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        inner = builder.EndObject()
        builder.StartObject(2)
        builder.PrependUint8Slot(0, 7, 0)
        builder.PrependUOffsetTRelativeSlot(1, inner, 0)
        tables.append(builder.EndObject())
    return finished(builder, tables)


def mirrors(values: int) -> bytes:
    """A list of `values` offsets to one and the same value."""
    builder = flatbuffers.Builder(1 << 20)
    builder.StartObject(0)
    inner = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUint8Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(1, inner, 0)
    return finished(builder, [builder.EndObject()] * values)


def finished(builder: flatbuffers.Builder, values: list[int]) -> bytes:
    builder.StartVector(4, len(values), 4)
    for one in values:
        builder.PrependUOffsetTRelative(one)
    vector = builder.EndVector()
    builder.StartObject(10)
    builder.PrependUOffsetTRelativeSlot(2, vector, 0)
    plan = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(plan)
    plans = builder.EndVector()
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(1, plans, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"ET12")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    "data", [bomb(3_000, 30_000), mirrors(1_000_000), bomb(20_000, 1)], ids=["shared list", "one value", "many"]
)
def test_a_small_file_cannot_ask_for_much(data: bytes) -> None:
    tracemalloc.start()
    start = time.process_time()
    try:
        wire.read(data)
    except ProgramError as error:
        assert "so often" in error.what or "more than" in error.what
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert seconds < 4 * pace(), "tracing costs a factor of about four"


def test_strings_end_with_zero_and_are_utf8() -> None:
    data = wire.write(program(), [])
    start = data.index(b"forward\0")
    for at, byte, message in ((start + 7, 1, "final zero"), (start, 0xFF, "UTF-8")):
        broken = bytearray(data)
        broken[at] = byte
        with pytest.raises(ProgramError, match=message):
            wire.read(bytes(broken))
