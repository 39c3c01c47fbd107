"""A folder that is not complete is named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from etexport.board import load_board
from etexport.emit.code import header_of
from etexport.errors import ModelError
from etexport.kernel.call import Target
from etexport.kernel.library import Library, library_of
from etexport.specialise.pipeline import specialise
from etexport.toolchain import gcc

from .batch import batch
from .cases import documented
from .completeness import complaints


def test_our_folders_are_complete(library: Library) -> None:
    assert not complaints(library)


def folder_with(tmp_path: Path, family: str, *changes: tuple[str, str]) -> Library:
    """A library of one folder, copied from ours, with changes to its op.py."""
    shutil.copytree(Path(__file__).parents[2] / "kernels" / family, tmp_path / "kernels" / family)
    path = tmp_path / "kernels" / family / "op.py"
    text = path.read_text()
    for old, new in changes:
        assert old in text, f"{family}/op.py has no {old!r}"
        text = text.replace(old, new)
    path.write_text(text)
    return library_of((tmp_path / "kernels",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("        draw=_draw,\n", "")], "has no draw"),
        ([("softmax/softmax.h", "softmax/missing.h")], "there is no header softmax/missing.h"),
        (
            [("bool half_to_float, *,", "bool half, *,"), ('node["half_to_float"]', 'node["half"]')],
            "PyTorch has aten::_softmax.out",
        ),
    ],
)
def test_an_incomplete_folder_is_named(tmp_path: Path, changes: list[tuple[str, str]], words: str) -> None:
    found = complaints(folder_with(tmp_path, "softmax", *changes))
    assert found
    assert all("softmax/op.py" in text for text in found)
    assert any(words in text for text in found), found


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    library = folder_with(tmp_path, "full", ("        cases=(", "        cases=()[:0] and ("))
    assert complaints(library) == ["full/op.py: aten::full.out has no cases"]


def test_a_folder_without_operators_is_named(tmp_path: Path) -> None:
    library = folder_with(tmp_path, "full")
    (tmp_path / "kernels" / "nothing").mkdir()
    (tmp_path / "kernels" / "nothing" / "nothing.h").write_text("// a kernel that nobody declares\n")
    assert complaints(library) == ["nothing: no op.py declares an operator"]


def test_two_folders_with_one_operator_are_refused(tmp_path: Path) -> None:
    from etexport.errors import ModelError

    shutil.copytree(Path(__file__).parents[2] / "kernels" / "full", tmp_path / "kernels" / "full")
    shutil.copytree(tmp_path / "kernels" / "full", tmp_path / "kernels" / "full_again")
    with pytest.raises(ModelError, match=re.escape("aten::full.out is declared in full and in full_again")):
        library_of((tmp_path / "kernels",))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("OPS = [", "OPS = [[", r"softmax/op.py:\d+: the operators cannot be read: '\[' was never closed"),
        ("OPS = [", "OPS = [nothing,", r"softmax/op.py:\d+: the operators cannot be read: NameError: name 'nothing'"),
    ],
)
def test_a_folder_that_cannot_be_read_is_named_with_the_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        folder_with(tmp_path, "softmax", (old, new))
    assert re.search(words, str(caught.value))


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    """As when a package names its folder as one of ours: `#include` would find the other's headers."""
    ours = Path(__file__).parents[2] / "kernels"
    shutil.copytree(ours / "softmax", tmp_path / "softmax")
    with pytest.raises(ModelError, match="has the same name"):
        library_of((ours, tmp_path))


@pytest.mark.parametrize("name", ["host", "qemu_mps2_an385", "qemu_mps2_an386", "qemu_virt_rv32"])
def test_all_kernels_for_a_core_fit_in_one_image(name: str, library: Library, tmp_path: Path) -> None:
    """A network may have a layer of each kind, in float and in int8: no two headers define one name."""
    board = load_board(name)
    samples = [one for op in library.ops.values() if op.lower is not None for one in documented(op)]
    steps = specialise(batch(samples).program, Target(board.features), library).calls.values()
    headers = sorted({header_of(step, library) for step in steps})
    assert len(headers) > len({sample.op.family for sample in samples})
    source = tmp_path / "all.cpp"
    source.write_text("".join(f'#include "{header}"\n' for header in headers))
    command = gcc.compile_command(board, source, tmp_path / "all.o", tmp_path, library.include_dirs, {})
    gcc.run([*command, "-Werror"], board)
