"""What CI servers show: the verdict as JUnit XML, the report as Markdown."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.resources import root


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The linear example, run on the host."""
    where = tmp_path_factory.mktemp("pages")
    folder = where / "build"
    assert main(["export", str(root() / "examples" / "linear" / "model.py"), "-o", str(where / "model.pte")]) == 0
    assert main(["build", str(where / "model.pte"), "--board", "host", "--name", "a<b|c", "-o", str(folder)]) == 0
    assert main(["run", str(folder), "--samples", "4"]) == 0
    return folder


def cases(path: Path) -> dict[str, xml.Element]:
    return {str(case.get("name")): case for case in xml.parse(path).iter("testcase")}


def test_junit(built: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    assert main(["validate", str(built), "--junit", str(good), "--fail-below", "10"]) == 0
    (suite,) = xml.parse(good).getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("a<b|c on host", "2", "0")
    told = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert told["board"] == "host" and told["samples"] == "4" and len(str(told["program_hash"])) == 16
    assert set(cases(good)) == {"outputs", "signal"}
    assert main(["validate", str(built), "--junit", str(bad), "--fail-below", "500"]) == 2
    assert cases(bad)["signal"].find("failure") is not None and cases(bad)["outputs"].find("failure") is None


def test_junit_of_outputs_that_differ(built: Path, tmp_path: Path) -> None:
    content = (built / "outputs.npz").read_bytes()
    with np.load(built / "outputs.npz") as arrays:
        changed = dict(arrays)
    changed["output_0"][2, 0, 1] += 1
    try:
        np.savez(built / "outputs.npz", **changed)
        assert main(["validate", str(built), "--junit", str(tmp_path / "x.xml")]) == 2
    finally:
        (built / "outputs.npz").write_bytes(content)
    failure = cases(tmp_path / "x.xml")["outputs"].find("failure")
    assert failure is not None and "sample 2, output 0[0, 1]" in str(failure.get("message"))


def test_markdown(built: Path, tmp_path: Path) -> None:
    assert main(["report", str(built), "--quiet", "--markdown", str(tmp_path / "x.md")]) == 0
    text = (tmp_path / "x.md").read_text()
    assert text.startswith("### a&lt;b\\|c float32 on host (host)\n")
    assert "| outputs | all 4 samples agree with PyTorch |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows), "two columns in each row"
