"""Files appear whole, and one that was changed is told by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from etexport.artifacts.files import opened, write_whole
from etexport.artifacts.records import record_text, write_record
from etexport.artifacts.runs import (
    BoardTensor,
    Clock,
    LinkUse,
    RunRecord,
    StackUse,
    image_of,
    read_outputs,
    read_run,
    write_run,
)
from etexport.errors import ModelError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "deep" / "a.json", b"{}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", b"{}")
    assert path.read_bytes() == b"{}" and sorted(one.name for one in tmp_path.rglob("*")) == [
        "a.json",
        "deep",
        "folder",
    ]


def test_what_is_no_file_stays_what_it_is(tmp_path: Path) -> None:
    """A rename would put a file in the place of a device, for everybody."""
    device = tmp_path / "pipe"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(device, b"some bytes")
    assert os.read(reader, 100) == b"some bytes" and device.is_fifo() and list(tmp_path.iterdir()) == [device]
    os.close(reader)


RECORD = RunRecord(
    board="host",
    command=(),
    exit_status=0,
    program="pair",
    program_hash="00c0ffee00c0ffee",
    image_crc="c0ffee00",
    image_bytes=7,
    link=LinkUse(1, "01020304", 0, 0),
    boot=1,
    reset_cause="unknown",
    clock=Clock(0, True),
    inputs=(),
    outputs=(BoardTensor("first", "int8", (2,), (0,), False), BoardTensor("second", "float32", (), (), False)),
    samples=2,
    counter="nanoseconds (host clock)",
    counters=(5, 6),
    init_count=None,
    stack=StackUse(0, 0),
)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00", '{"a": 1', '{"board": "host"}', '"\\ud800"', "[" * 100_000])
def test_what_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"run\.json: cannot be read") as error:
        read_run(tmp_path)
    assert error.value.hint == "`etexport run` writes it"


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_run(write_record(tmp_path / "run.json", RECORD).parent) == RECORD
    with pytest.raises(ModelError, match="no such file"):
        read_run(tmp_path / "other")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"link": {"version": 1}}, r"missing required field `layout` - at `\$\.link`"),
        ({"samples": "2"}, r"Expected `int`, got `str` - at `\$\.samples`"),
        ({"counters": [1.5]}, r"got `float` - at `\$\.counters\[0\]`"),
        (
            {"outputs": [{"name": "a", "dtype": "int8", "shape": [2], "dim_order": [1], "permuted_by_host": False}]},
            r"\$\.outputs\[0\]",
        ),
        (
            {"outputs": [{"name": "a", "dtype": "none", "shape": [], "dim_order": [], "permuted_by_host": False}]},
            r"\$\.outputs\[0\]",
        ),
    ],
)
def test_a_field_that_is_not_what_it_must_be_is_named(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    path = write_record(tmp_path / "run.json", RECORD)
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ModelError, match=said):
        read_run(tmp_path)
    path.write_text(json.dumps(json.loads(record_text(RECORD)) | {"of a later version": 1}))
    assert read_run(tmp_path) == RECORD


def test_a_run_with_traces_is_read_as_it_was_written(tmp_path: Path) -> None:
    outputs = [
        (np.array([1, 2], np.int8), np.array(3.0, np.float32)),
        (np.array([4, 5], np.int8), np.array(6.0, np.float32)),
    ]
    write_run(tmp_path / "plain", RECORD, outputs)
    assert not (tmp_path / "plain" / "trace.npz").exists() and image_of(tmp_path / "plain") == "c0ffee00"
    assert image_of(tmp_path) is None
    write_run(tmp_path, RECORD, outputs, {7: {(0, 0): b"\1\2"}, 3: {(0, 0): b"\3\4"}})
    first, second = read_outputs(tmp_path / "outputs.npz")
    assert first.tolist() == [[1, 2], [4, 5]] and second.tolist() == [3.0, 6.0]
    with opened(tmp_path / "trace.npz") as arrays:
        assert {name: arrays[name].tolist() for name in arrays} == {"step_0_0_of_7": [1, 2], "step_0_0_of_3": [3, 4]}
