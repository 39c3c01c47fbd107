"""CMSIS-DSP as docs/cmsis-dsp.md has it, and all that it takes in one network; how its sources are fetched, and what is
said where they cannot be."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from etexport.errors import ToolMissingError
from etexport.sources import Package, folder_of
from tests import pages
from tests.test_packages import etexport

EVERYTHING = """
    import torch
    from torch.nn import functional as F

    def fourier(length, window):
        turns = torch.outer(torch.arange(length // 2 + 1), torch.arange(length)).double() * (2 * torch.pi / length)
        return (torch.cat([turns.cos(), -turns.sin()]) * window).float()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.register_buffer("frames", fourier(64, torch.hann_window(64).double()))
            self.register_buffer("sliding", fourier(32, torch.ones(32).double())[:, None])
            self.filters = torch.nn.Conv1d(2, 2, 5, groups=2)
            self.plain = torch.nn.Conv1d(2, 2, 5, groups=2, padding=2)
            self.layer = torch.nn.Linear(66, 3)

        def forward(self, x, y):
            spectra = x @ self.frames.T
            return (
                self.layer(spectra),
                F.conv1d(y[:, :1], self.sliding, stride=10),
                self.filters(y),
                torch.bmm(y, y.transpose(1, 2)),
                self.plain(y),
            )

    def model():
        return Net().eval()
    def example_inputs():
        return (torch.randn(3, 64), torch.randn(2, 2, 95))
    delegates = ["cmsis_dsp"]
"""


def run(site: Path, line: str, code: int = 0) -> str:
    done = etexport(site, *line.split())
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    for name, text in pages.files("cmsis-dsp.md").items():
        (tmp_path / name).write_text(text)
    said = "".join(run(tmp_path, command.removeprefix("etexport ")) for command in pages.commands("cmsis-dsp.md"))
    assert "delegate cmsis_dsp: 4 calls" in said and "all 8 samples agree with PyTorch" in said, said
    report = json.loads((tmp_path / "build/listen/report.json").read_text())
    calls = {row["kernel"]: row for row in report["ops"] if row["kernel"].startswith("cmsis_")}
    assert set(calls) == {"cmsis_filter", "cmsis_transform", "cmsis_product"}
    rows = [line.split("|") for line in (pages.DOCS / "cmsis-dsp.md").read_text().splitlines()]
    said_there = {row[1].split(",")[0].strip(): row[3].strip().replace(",", "") for row in rows if len(row) == 6}
    for title, count in (("filter", calls["cmsis_filter"]["count"]), ("spectrum", calls["cmsis_transform"]["count"])):
        assert count == pytest.approx(int(said_there[title]), rel=0.01), "docs/cmsis-dsp.md has another count"
    assert {"arm_fir_f32", "arm_rfft_fast_f32"} <= {one["function"] for one in report["code"]}


def test_every_kind_of_call_on_a_host(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("\n".join(line[4:] for line in EVERYTHING.splitlines()))
    said = run(tmp_path, "export net.py -o net.pte")
    assert "5 calls: mm, addmm, convolution, convolution_1, bmm" in said, said
    assert "not convolution_2 (aten::convolution.out)" in said, "it is padded"
    run(tmp_path, "build net.pte --board host -o host --sanitize --poison")
    run(tmp_path, "run host")
    assert "all 8 samples agree" in run(tmp_path, "validate host")
    steps = json.loads((tmp_path / "host/memory.json").read_text())["steps"]
    kernels = [step["kernel"] for step in steps if step["family"] == "cmsis_dsp"]
    assert sorted(kernels) == ["cmsis_filter", *["cmsis_product"] * 2, *["cmsis_transform"] * 2]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in place of PyPI that has one source package; its SHA-256."""
    setup = b"from setuptools import setup\nsetup(name='tiny', version='1.0')\n"
    with tarfile.open(tmp_path / "tiny-1.0.tar.gz", "w:gz") as archive:
        for name, content in (("setup.py", setup), ("tiny.c", b"int tiny;\n"), ("PKG-INFO", b"Name: tiny\n")):
            member = tarfile.TarInfo(f"tiny-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return hashlib.sha256((tmp_path / "tiny-1.0.tar.gz").read_bytes()).hexdigest()


def test_a_package_is_fetched_once(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("tiny", "1.0", index, ("tiny.c",))
    folder = folder_of(package)
    assert (folder / "tiny.c").read_text() == "int tiny;\n" and folder.is_relative_to(tmp_path / "cache")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert folder_of(package) == folder
    assert [one.name for one in (tmp_path / "cache" / "etexport").iterdir()] == [folder.parent.name]


def test_another_package_is_refused_and_so_is_none(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolMissingError, match=r"tiny 1\.0 cannot be fetched.*HASHES"):
        folder_of(Package("tiny", "1.0", "0" * 64))
    with pytest.raises(ToolMissingError, match="Could not find a version") as error:
        folder_of(Package("tiny", "2.0", index))
    assert "they are fetched once" in error.value.hint
    assert not list((tmp_path / "cache" / "etexport").iterdir()), "nothing is left of them"
