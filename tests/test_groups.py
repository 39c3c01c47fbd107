"""The tests of a file go to one worker: what a fixture of theirs has made is not made again on another."""

from __future__ import annotations

import os

import pytest

from tests.conftest import Once, group_of


@pytest.mark.parametrize("at", range(6))
def test_a_file_stays_with_one_worker(at: int, once: Once) -> None:
    folder = once("workers", lambda folder: None)
    (folder / os.environ.get("PYTEST_XDIST_WORKER", "alone")).touch()
    assert len(list(folder.iterdir())) == 1


def test_the_tests_of_a_kernel_folder_stay_together() -> None:
    ids = ("test_boards.py::test_core[qemu_mps2_an386-speed-pooling]", "test_mutants.py::test_x[pooling]",
           "test_references.py::test_y[aten::max_pool2d_with_indices.out]")  # fmt: skip
    assert {group_of(f"tests/operators/{one}") for one in ids} == {"operators/pooling"}
    assert group_of("tests/plan/test_picture.py::test_z[pooling]") == "tests/plan/test_picture.py"
