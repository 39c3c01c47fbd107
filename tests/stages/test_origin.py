"""What models are called, and what a build folder says of where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from etexport.errors import ModelError
from etexport.stages.origin import board_of, model_name, note_origin, program_of


def test_what_no_screen_can_show_is_not_in_a_model_s_name() -> None:
    assert model_name(Path("a\nb\udcff.pte"), None) == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("path", "name"), [("kws.pte", "kws"), ("m/kws-int8/model.pte", "kws"), ("m/gesture/model.py", "gesture")]
)
def test_a_model_is_called_as_its_file_or_its_folder(path: str, name: str) -> None:
    assert model_name(Path(path), None) == name and model_name(Path(path), "given") == "given"


def test_a_folder_knows_its_program_and_board_wherever_both_are_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "out").mkdir(parents=True)
    (before / "x.pte").write_bytes(b"")
    note_origin(before / "out", before / "x.pte", "host")
    before.rename(after)
    assert program_of(after / "out", None) == after / "x.pte" and board_of(after / "out", None) == "host"
    with pytest.raises(ModelError, match="not known what this was built from"):
        program_of(tmp_path, None)
