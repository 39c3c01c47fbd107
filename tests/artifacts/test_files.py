"""Files appear whole, and one that was changed is told by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.artifacts.files import opened, read_json, write_whole
from etexport.artifacts.runs import of_samples, read_outputs, write_run
from etexport.errors import ModelError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "deep" / "a.json", b"{}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", b"{}")
    assert path.read_bytes() == b"{}" and sorted(one.name for one in tmp_path.rglob("*")) == ["a.json", "deep", "folder"]


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00", '{"a": 1'])
def test_what_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"run\.json: (is no JSON object|cannot be read)") as error:
        read_json(tmp_path / "run.json", "run it again")
    assert error.value.hint == "run it again"


def test_a_field_that_lacks_is_named_however_deep(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"link": [{"version": 1}]}')
    read = read_json(tmp_path / "run.json", "run it again")
    assert read["link"][0]["version"] == 1 and read.get("samples") is None
    with pytest.raises(ModelError, match="has no 'layout'"):
        read["link"][0]["layout"]
    with pytest.raises(ModelError, match="no such file"):
        read_json(tmp_path / "other.json", "run it again")


def test_a_run_with_traces_is_read_as_it_was_written(tmp_path: Path) -> None:
    outputs = [(np.array([1, 2], np.int8), np.array(3.0, np.float32)), (np.array([4, 5], np.int8), np.array(6.0, np.float32))]
    (tmp_path / "plain").mkdir()
    write_run(tmp_path / "plain", {"image_crc": "c0ffee"}, outputs, 2)
    assert not (tmp_path / "plain" / "trace.npz").exists()
    content = of_samples((7, 3), tmp_path / "plain")
    assert content == {"traced": [7, 3], "beside": "c0ffee"}
    write_run(tmp_path, content, outputs, 2, ([{(0, 0): b"\1\2"}, {(0, 0): b"\3\4"}], (7, 3)))
    first, second = read_outputs(tmp_path / "outputs.npz")
    assert first.tolist() == [[1, 2], [4, 5]] and second.tolist() == [3.0, 6.0]
    with opened(tmp_path / "trace.npz") as arrays:
        assert {name: arrays[name].tolist() for name in arrays} == {"step_0_0_of_7": [1, 2], "step_0_0_of_3": [3, 4]}
