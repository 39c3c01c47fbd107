"""Firmware that speaks MLPerf Tiny's protocol: small networks with the kinds of input that the benchmark has, asked as
its runner asks."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import etexport
from etexport.__main__ import main
from etexport.board import load_board
from etexport.device.mlperf import dut
from etexport.device.session import Line
from etexport.emit.mlperf import ENCODINGS, Stored, encoding
from etexport.errors import DeviceLostError, ModelError
from etexport.stages.mlperf import tick_of

BOARD = "qemu_mps2_an386"


class Classes(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.fc(x), 1)


class Restores(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-g++") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the board needs arm-none-eabi-g++ and qemu-system-arm")
    return tmp_path_factory.mktemp("mlperf")


def built(folder: Path, network: type[torch.nn.Module], board: str, **said: object) -> Path:
    """The folder of a firmware for samples that the benchmark's encoding of keywords can say exactly."""
    torch.manual_seed(0)
    codes = torch.randint(-128, 128, (20, 1, 10), generator=torch.Generator().manual_seed(1))
    scale, zero_point = ENCODINGS["kws01"].scale, ENCODINGS["kws01"].zero_point
    given = (codes - zero_point).float() * scale / 40
    made = etexport.build(network(), given[0], board=board, samples=given, folder=folder, **said)  # type: ignore[arg-type]
    return made.folder


def test_a_classifier_in_int8(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes by a table, results to the sixth digit; what the runner says and reads; and no word of a score."""
    given = torch.rand(40, 1, 10, generator=torch.Generator().manual_seed(2)) * 8 - 4
    made = built(folder, Classes, BOARD, quantize="int8", calibration=given, int8_io=True)
    scale = ENCODINGS["kws01"].scale / 40
    words = ["mlperf", str(made), "--id", "kws01", "--input", f"i8:{scale!r}:83", "--infer", "3", "--warmups", "1"]
    assert main([*words, "-o", str(made / "mlperf.txt")]) == 0
    said = capfd.readouterr().out
    assert (
        "kws01 on qemu_mps2_an386: 20 samples, each 3 times after 1 warm-ups" in said
        and (made / "mlperf.txt").read_text() in said
    )
    assert "the class that PyTorch gives in 20" in said and "bytes cannot say" not in said
    assert float(re.search(r"largest difference ([\d.e-]+)", said)[1]) <= 1 / 256 + 1e-6  # type: ignore[index]
    assert "not a score of MLPerf Tiny" in said and "estimate: instructions at 100,000,000 Hz" in said
    with pytest.raises(DeviceLostError, match="runs kws01, not other"):
        main(["--debug", "mlperf", str(made), "--id", "other", "--ask"])
    board, elf = load_board(BOARD), made / "mlperf" / "firmware.elf"
    with dut(elf, board, Line()) as there:  # the same firmware again, word by word
        assert there.ask("name") == ["m-name-dut-[etexport]"] and there.ask("") == []
        assert there.ask("profile") == ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[kws01]"]
        assert there.ask("infer 1 0") == ["e-[No input: 'db load' and all its bytes come first]"]
        assert there.ask("db load 11") == ["e-[An input of this model has 10 bytes]"]
        there.load(bytes(range(10)))
        assert there.ask("db print 4 8") == ["m-buffer-08-09"]
        few, many = there.infer(1, 0, 60), there.infer(9, 0, 60)
        assert (
            few.results == many.results and len(few.results) == 4 and sum(few.results) == pytest.approx(1, abs=4 / 256)
        )
        assert many.microseconds == pytest.approx(9 * few.microseconds, abs=9)  # each is cut to whole ones


def test_an_error_and_a_process(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Floats come as such, and what is restored gives one result: on the host, whose clock counts."""
    made = built(folder, Restores, "host")
    assert main(["mlperf", str(made), "--id", "ad01"]) == 0
    said = capfd.readouterr().out
    assert "the host's clock" in said and "bytes cannot say" not in said
    assert float(re.search(r"largest difference ([\d.e-]+)", said)[1]) < 1e-5  # type: ignore[index]
    with (
        pytest.raises(DeviceLostError, match=r"the benchmark reads|no answer"),
        dut(made / "firmware.elf", load_board("host"), Line()),
    ):
        pass  # the usual firmware says nothing of its own accord


def test_what_the_benchmark_has_no_words_for(folder: Path) -> None:
    with pytest.raises(ModelError, match="u9 is no encoding"):
        encoding("u9")
    with pytest.raises(ModelError, match="is no encoding"):
        encoding("i8:nan")
    assert (
        encoding("u8:0.5:-3").reals(b"\x01\xff").tolist() == [2.0, 129.0]
        and encoding("u8").codes(np.array([300.0, -2.0])) == b"\xff\x00"
    )
    # ties to even
    assert Stored("int8", 4, 0.5, 3).of(np.array([0.25, 0.75, -100.0, 100.0])).tolist() == [3, 5, -128, 127]


def test_a_tick_in_microseconds() -> None:
    """In a simulator instructions at the user's clock; on a board its own clock."""
    assert tick_of(load_board(BOARD), 25_000_000)[0] == Fraction(5, 8) / 25
    tick, said = tick_of(load_board("st_nucleo_f446re"), None)
    assert tick == Fraction(1, load_board("st_nucleo_f446re").clock.hz // 1_000_000) and "board file" in said  # type: ignore[union-attr]
