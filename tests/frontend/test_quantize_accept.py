"""Which layers int8 costs most, and the fewest in float for a loss that a script accepts."""

from __future__ import annotations

import csv
import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import etexport
from etexport.__main__ import main
from etexport.errors import EtError
from etexport.frontend.quantize.layers import Figure, Judge, Layer, fewest
from tests.frontend.scripts import exported, script

TEXT = """
import torch
from torch import nn

quantize = "int8"

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x):
        z = self.first(x)
        y = torch.exp(z * 3)
        return self.last(torch.log1p(y)), z

def model():
    torch.manual_seed(0)
    return Net()

def example_inputs():
    return (torch.zeros(1, 16),)

def drawn(count, seed):
    return torch.randn(count, 1, 16, generator=torch.Generator().manual_seed(seed))

def calibration():
    return drawn(64, 1)

def samples():
    x = drawn(40, 2)
    return x, Net.forward(model(), x)[0].argmax(-1).flatten()
"""
CURVE = "model.py:15"
"""Where log1p stands: what it gives is rounded to a scale for the largest."""


def worst_db(arrays: dict[str, np.ndarray]) -> float:
    pairs = [(arrays[f"float_output_{at}"].astype(float), arrays[f"output_{at}"].astype(float)) for at in (0, 1)]
    with np.errstate(divide="ignore"):  # of an output in float
        return min(10 * np.log10((real**2).sum() / ((real - got) ** 2).sum()) for real, got in pairs)


def test_the_fewest_layers_for_a_loss(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One, then two; the file has what is said, and twice the same bytes."""
    path = script(tmp_path, TEXT)
    found = {}
    for least in (37, 41):
        path.write_text(TEXT + f"\naccept = {{'snr_db': {least}}}\n")
        _, arrays = exported(path)
        assert worst_db(arrays) >= least and float(arrays["min_snr_db"]) == least
        said = capfd.readouterr().out
        found[least] = set(said.rpartition("layers stay in float (")[2].partition("): ")[0].split(", "))
        reasons = {str(one) for one in arrays.get("float_reasons", ())}
        accepted = {one.split(" stays in float for")[0] for one in reasons if "what the script accepts" in one}
        assert accepted == found[least], reasons
    assert found[37] == {CURVE} and found[41] == {CURVE, "first"}
    content = (tmp_path / "out" / "model.pte").read_bytes()
    exported(path)
    assert (tmp_path / "out" / "model.pte").read_bytes() == content


WRONG = {
    "{'snr_db': 200}": "no layers in float are enough for 200 dB",
    "{'snr_db': 41, 'layers': 1}": "no layers in float are enough for 41 dB",
    "{'layers': 1}": "is no loss of int8",
    "{'snr_db': True}": "is no loss of int8",
    "{'points': 1}": "is no loss of int8",
    "30": "is no loss of int8",
}


@pytest.mark.parametrize("said", WRONG)
def test_a_loss_that_cannot_be(said: str, tmp_path: Path) -> None:
    path = script(tmp_path, TEXT + f"\naccept = {said}\n")
    with pytest.raises(EtError) as caught:
        exported(path)
    assert WRONG[said] in caught.value.what and caught.value.hint
    if "enough" in WRONG[said]:
        assert "the best found of" in caught.value.hint and "in float, " in caught.value.hint


def test_points_of_accuracy(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path, TEXT + "\naccept = {'lost_points': 2.5}\n")
    _, arrays = exported(path)
    right = (arrays["output_0"].reshape(40, 4).argmax(1) == arrays["labels"].reshape(-1)).sum()
    assert right >= 39, "float has all 40 right"
    said = capfd.readouterr().out
    assert "0 of 3 layers stay in float: " in said and f"{right} of 40 right (float 40)" in said
    path.write_text(TEXT.replace("return x, Net", "return x  # Net") + "\naccept = {'lost_points': 0}\n")
    with pytest.raises(EtError) as caught:
        exported(path)
    assert "labelled samples" in caught.value.what


def reaches(wanted: float, figure: Figure) -> bool:
    return figure.snr_db >= wanted


def test_fewest_against_all_sets() -> None:
    """Gains that add up, and two neighbours that gain only together: as few as trying all sets finds."""
    noise = {"a": 4.0, "b": 3.0, "c": 2.5, "d": 1.0, "e": 0.3}

    def figure(names: tuple[str, ...]) -> Figure:
        left = sum(size for one, size in noise.items() if one not in names)
        return Figure(*(2 * (10.0 / (left + (0 if {"c", "d"} <= set(names) else 6)),)))

    order = list(noise)
    everything = [one for count in range(5) for one in itertools.combinations(order, count)]
    for wanted in sorted({figure(one).snr_db for one in everything}):
        judge = Judge(figure, lambda what: None)
        layers = [Layer(name, judge((name,))) for name in order]
        found = fewest(judge, layers, partial(reaches, wanted), 5)
        least = min(len(one) for one in everything if figure(one).snr_db >= wanted)
        assert found.found and figure(found.names).snr_db >= wanted
        assert len(found.names) <= least + 1
        shorter = [found.names[:at] + found.names[at + 1 :] for at in range(len(found.names))]
        assert all(figure(one).snr_db < wanted for one in shorter), "one of them is not needed"
    assert not fewest(judge, layers, partial(reaches, 1000), 5).found


def test_bisect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the screen, as a page and as CSV; the figures are those of an export that keeps the layer in float."""
    path = script(tmp_path, TEXT)
    assert main(["bisect", str(path), "-o", str(tmp_path / "b.html"), "--csv", str(tmp_path / "b.csv")]) == 0
    shown = capsys.readouterr().out
    assert f'keep_float = ["{CURVE}"] in the script gains' in shown and "right of 40" in shown
    rows = list(csv.DictReader((tmp_path / "b.csv").open()))
    assert rows[0]["name"] == CURVE and {"first", "last"} <= {row["name"] for row in rows}
    page = (tmp_path / "b.html").read_text()
    assert all(row["name"] in page for row in rows) and page.count("<rect") == len(rows)
    path.write_text(TEXT + f"\nkeep_float = ['{CURVE}']\n")
    _, arrays = exported(path)
    assert worst_db(arrays) == pytest.approx(float(rows[0]["snr_db"]), abs=0.2)


def test_bisect_in_python_and_on_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path, TEXT)
    rows = etexport.bisect(path, progress=lambda what: None)
    assert rows[0].name == CURVE and rows[0].gain_db > 2
    arguments = ["bisect", str(path), "--board", "host", "--layers", "1", "--csv", str(tmp_path / "b.csv")]
    assert main(arguments) == 0
    (row,) = csv.DictReader((tmp_path / "b.csv").open())
    assert row["name"] == CURVE and float(row["snr_db"]) == pytest.approx(rows[0].snr_db, abs=0.3)
    assert main(["bisect", str(path), "--board", "st_nucleo_h743zi2", "--layers", "1"]) == 1
    assert "written to no real board" in capsys.readouterr().err
