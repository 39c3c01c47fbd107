"""One verdict by every road, and what int8 costs against the float network, of small networks on the host board."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.artifacts.memory import read_memory
from etexport.artifacts.reference import Reference, read_reference
from etexport.judge.against_float import against_float, ratio_db, require_signal, warning
from etexport.judge.compare import Traced, compare
from etexport.judge.folder import question_of, read_evidence
from etexport.judge.replay import Passed, compared_with_pytorch
from etexport.judge.steps import Steps, steps_of
from etexport.judge.verdict import TRIED, Evidence, by_outputs, verdict, wanted
from etexport.kernel.library import load_ops
from etexport.program import pte
from etexport.program.model import Array
from etexport.report.quality import quality, with_sources
from tests.frontend.scripts import script

LAYERS = """
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.boxes, self.state = nn.Linear(16, 40), nn.Linear(16, 160), nn.Linear(16, 16)
        self.register_buffer("kept", torch.zeros(1, 16))
"""
SAMPLES = """
def example_inputs():
    return (torch.zeros(1, 16),)
def drawn(number, seed):
    return torch.randn(number, 1, 16, generator=torch.Generator().manual_seed(seed))
def samples():
    return drawn(24, 1)
def calibration():
    return drawn(40, 2)
quantize = "int8"
"""
FORWARDS = {
    # equal scores of int8 come in another order than PyTorch's, and with them the boxes
    "ties": """
        v, i = torch.softmax(self.first(x) / 4, -1).topk(5, 1)
        return v, torch.gather(self.boxes(x).view(1, 40, 4), 1, i[..., None].expand(-1, -1, 4)), i""",
    "kept": """
        kept = torch.tanh(self.state(x) + self.kept * 0.5)
        self.kept.copy_(kept)
        return self.first(kept).softmax(-1)""",
    # means of four lie between two stored values, and a norm of two numbers makes much of how they are rounded
    "norm": """
        v = nn.functional.adaptive_avg_pool1d(self.boxes(x).view(1, 8, 20), 5).amin(2, keepdim=True)
        return nn.functional.group_norm(v, 4)""",
    "tail": """
        x = self.first(x)
        return torch.cat([x.relu(), x[:, :8] * 30], 1).view(-1), x[:, 8:].clamp(-1, 1), (x * 5).softmax(1), x.argmax(1)""",  # noqa: E501
}


def network(forward: str) -> str:
    head = "import torch\nfrom torch import nn\nclass Net(nn.Module):"
    return f"{head}{LAYERS}    def forward(self, x):{forward}\ndef model():\n    return Net()\n{SAMPLES}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("programs")
    scripts = {name: script(where, network(forward), f"{name}.py") for name, forward in FORWARDS.items()}
    outs = [where / f"{name}.pte" for name in scripts]
    assert main(["export", *map(str, scripts.values()), "-o", *map(str, outs)]) == 0
    return dict(zip(scripts, outs, strict=True))


@pytest.fixture(scope="module")
def folders(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As `etexport build` and `etexport run` leave them."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    found = {}
    for name in ("ties", "kept", "norm"):
        folder = found[name] = tmp_path_factory.mktemp(name)
        assert main(["build", str(programs[name]), "--board", "host", "-o", str(folder)]) == 0
        assert main(["run", str(folder)]) == 0
    return found


def test_ties_are_no_differences_by_any_road(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The five commands, `--trace`, and the report; the second road finds what the first one has built."""
    folder, said, figures = folders["ties"], [], []
    for flags in ([], [], ["--trace"]):
        capsys.readouterr()
        assert main(["validate", str(folder), *flags, "-o", str(tmp_path / "validate.json")]) == 0
        said.append(capsys.readouterr().out)
        figures.append(json.loads((tmp_path / "validate.json").read_text()))
    assert ["built with traces" in one for one in said] == [True, False, True]
    assert main(["report", str(folder), "-q"]) == 0
    figures.append(json.loads((folder / "report.json").read_text())["compare"])
    for one in figures:
        assert one["mismatched"] == 0 and one["rounded"] > 0
        assert any(
            re.fullmatch(r"equal values come in another order in \w*topk\w* at ties.py:\d+: no difference", flag)
            for flag in one["flags"]
        )
    assert figures[0]["exact"]["checked"] == figures[0]["exact"]["operators"] >= 5 and figures[0]["exact"]["wrong"] == 0


def test_a_small_fault_is_seen_by_every_road(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zero point that is off by one, built anew: outputs, and the order of scores, are as near as those of
    rounding."""
    for name, layer in (("ties", "boxes"), ("kept", "state"), ("norm", "boxes")):
        folder = tmp_path / name
        shutil.copytree(folders[name], folder)
        pattern = rf"(struct {layer.title()}\w*Geometry \{{[^}}]*\b(?:zero_point|output_zero_point) = )(-?\d+)"
        for source in (folder / "program.cpp", folder / "marked.cpp"):
            changed, count = re.subn(pattern, lambda found: f"{found[1]}{int(found[2]) + 1}", source.read_text())
            assert count == 1, name
            source.write_text(changed)
        built = ["build", str(folder / "none.pte"), "--sources", str(folder), "-o", str(folder), "--board", "host"]
        origin = json.loads((folder / "build.json").read_text())["program"]
        built[1] = str((folders[name] / origin).resolve())
        assert main(built) == 0 and main(["run", str(folder)]) == 0
        capsys.readouterr()
        assert main(["validate", str(folder)]) == 2
        assert f"first wrong is {layer}" in capsys.readouterr().err
        assert main(["report", str(folder), "-q"]) == 0
        assert json.loads((folder / "report.json").read_text())["exact"]["wrong"] >= 1


def test_what_goes_back_into_a_state_is_computed_again(folders: dict[str, Path], programs: dict[str, Path]) -> None:
    """As the board stores it: the program's state is float, the board's is int8, and is made in its place, so that
    nothing is written back."""
    folder = folders["kept"]
    assert main(["validate", str(folder), "--trace"]) == 0
    question = question_of(folder, programs["kept"])
    evidence = read_evidence(folder / "trace", read_memory(folder))
    makers = {out: one for one in question.method.instructions for out in one.outs if one.op != "aten::copy_"}
    (back,) = (one for one in question.method.instructions if one.op == "aten::copy_")
    dequantise = makers[back.args[1].id]  # type: ignore[union-attr]
    new = makers[dequantise.args[0].id].handle  # type: ignore[union-attr]
    exact = verdict(question, evidence).exact
    assert exact is not None and new in question.handles and (exact.checked, exact.wrong) == (exact.operators, 0)
    assert back.handle not in question.handles
    last = max(evidence.traced)
    (kept,) = (one for one in evidence.traced[last] if one.handle == new)
    assert kept.data.dtype == np.int8
    off = [replace(one, data=one.data + np.int8(1)) if one.handle == new else one for one in evidence.traced[last]]
    exact = verdict(question, replace(evidence, traced={**evidence.traced, last: off})).exact
    assert exact is not None and exact.wrong == 1 and "at kept.py:13: 16 of 16 results" in str(exact.first_wrong), exact


def test_the_signal_can_be_asked_for(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders["kept"]
    assert main(["report", str(folder), "-q"]) == 0
    report = json.loads((folder / "report.json").read_text())
    found = report["compare"]["snr_db"]
    assert 25 < found == report["compare"]["against_float"]["snr_db"] < 60 and report["compare"]["snr_missing"] == ""
    assert report["quality"] and report["warnings"] == [], "a state does not hide where accuracy goes"
    samples = int(re.search(r"on (\d+) samples", (folder / "report.txt").read_text())[1])  # type: ignore[index]
    assert samples == report["compare"]["judged"] == 24
    assert main(["validate", str(folder), "--fail-below", str(found - 1)]) == 0
    assert f"{found:.1f} dB of signal to noise against float PyTorch, on 24 samples" in capsys.readouterr().out
    for verb in ("validate", "report"):
        assert main([verb, str(folder), "--fail-below", str(found + 1)]) == 2
        assert f"output 0 has {found:.1f} dB of signal to noise against the float network" in capsys.readouterr().err
    origin = (folder / json.loads((folder / "build.json").read_text())["program"]).resolve()
    with np.load(origin.with_suffix(".npz")) as read:
        np.savez(tmp_path / "asks.npz", **{name: read[name] for name in read.files}, min_snr_db=np.array(90.0))
    assert (
        main(
            ["validate", str(folder), "--reference", str(tmp_path / "asks.npz"), "-o", str(tmp_path / "validate.json")]
        )
        == 2
    )
    assert "90 are asked for" in capsys.readouterr().err and not (tmp_path / "validate.json").exists()


# ---- without a board -------------------------------------------------------------------------------------------------


def test_steps_are_what_the_scales_say(programs: dict[str, Path]) -> None:
    """Through relu, cat, views and clamps element by element; behind a softmax what it makes of a step of its
    logits."""
    method, reference = (
        pte.read(programs["tail"].read_bytes()).method(),
        read_reference(programs["tail"].with_suffix(".npz")),
    )
    steps = steps_of(method, load_ops(), reference.steps)
    assert steps is not None
    scales = sorted(
        {one.args[1] for one in method.instructions if one.op.startswith("quantized_decomposed::dequantize_per_tensor")}
    )
    whole, clamped, softmax, places = steps.sizes
    assert isinstance(whole, np.ndarray) or whole in scales
    if isinstance(whole, np.ndarray):
        assert whole.shape == (48,) and set(whole.tolist()) <= set(scales) and whole[-1] > whole[0]
    assert clamped in scales and places is None
    if softmax is None:
        assert 0 < steps.worth[2] < 1


def test_the_program_is_held_against_pytorch_operator_by_operator(programs: dict[str, Path]) -> None:
    """A choice among equal values is PyTorch's; a result of another operator, or a choice of other values, is not."""
    path = programs["ties"]
    method, reference, library = (
        pte.read(path.read_bytes()).method(),
        read_reference(path.with_suffix(".npz")),
        load_ops(),
    )
    topk = next(one for one in method.instructions if one.op == "aten::topk.values")
    assert reference.choices[topk.handle, 1].dtype == np.int64

    def replayed(steps: dict[int, Array], choices: dict[tuple[int, int], Array]) -> tuple[int, bool]:
        made = [
            Traced(one.handle, one.name, one.source, steps[one.handle], (choices.get((one.handle, 1)),))
            for one in method.instructions
            if one.handle in steps
        ]
        run = Passed([one[0] for one in reference.inputs], outputs=[one[0] for one in reference.outputs])
        found, complete = compared_with_pytorch(method, library, made, run)
        return sum(bool(one.wrong) for one in found), complete

    assert replayed(dict(reference.steps), dict(reference.choices)) == (0, True)
    other = dict(reference.choices)
    other[topk.handle, 1] = (other[topk.handle, 1] + 1) % 40
    assert replayed(dict(reference.steps), other)[0] >= 1
    steps = dict(reference.steps)
    softmax = next(one.handle for one in method.instructions if one.op == "aten::_softmax.out")
    steps[softmax] = steps[softmax] * np.float32(1.01)
    assert replayed(steps, dict(reference.choices))[0] >= 1


def test_only_what_is_proven_is_excused(folders: dict[str, Path], programs: dict[str, Path]) -> None:
    """Not a sample that was not traced, nor one whose traced outputs are not those that are judged, nor one of another
    network."""
    folder, program = folders["ties"], programs["ties"]
    assert main(["validate", str(folder)]) == 0
    question = question_of(folder, program)
    evidence = read_evidence(folder / "trace", read_memory(folder))
    comparison = by_outputs(question)
    tried = wanted(question, comparison, 99)
    assert tried and tried == comparison.beyond[:TRIED] and set(tried) <= set(evidence.traced)

    def mismatched(evidence: Evidence | None, reference: Reference = question.reference) -> int:
        return verdict(replace(question, reference=reference), evidence).comparison.mismatched

    assert mismatched(evidence) == 0 and mismatched(None) == len(comparison.beyond)
    lacking = replace(evidence, traced={sample: one for sample, one in evidence.traced.items() if sample != tried[0]})
    assert mismatched(lacking) == len(comparison.beyond) - len(tried) + 1
    others = {sample: [one.copy() for one in outputs] for sample, outputs in evidence.outputs.items()}
    others[tried[0]][0].reshape(-1)[0] += 1
    assert mismatched(replace(evidence, outputs=others)) > 0
    steps = dict(question.reference.steps)
    steps[max(steps)] = steps[max(steps)] + np.ones((), steps[max(steps)].dtype)
    assert mismatched(evidence, replace(question.reference, steps=steps)) == len(comparison.beyond), (
        "the program is not PyTorch's"
    )


def test_what_is_not_known_is_said() -> None:
    real = np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32)
    inputs = (np.zeros((6, 1, 9), np.float32),)

    def found(reference: Reference, got: Array = real) -> tuple[float | None, str]:
        comparison = compare([got], reference, 0.0, Steps(4, (0.1,)))
        return comparison.snr_db, comparison.snr_missing

    def quantised(**more: object) -> Reference:
        return Reference(inputs, (real,), **{"by": "PyTorch in int8", "float_outputs": (real,), **more})  # type: ignore[arg-type]

    assert found(quantised()) == (np.inf, "")
    assert found(quantised(float_outputs=(), by="PyTorch"))[1].endswith("the program came quantised")
    assert found(quantised(float_outputs=(), by="the host board"))[1].endswith("the program came without one")
    assert found(quantised(calibrated=np.ones(6, bool))) == (
        None,
        "all 6 samples were calibrated with (no noise on these, which flatters)",
    )
    whole = quantised(float_outputs=(np.zeros((6, 1, 4), np.int64),))
    assert found(whole) == (None, "no output is a real number")
    drawn = compare([real], quantised(origin="example_inputs() and random ones"), 0.0, Steps(4, (0.1,)))
    assert drawn.against_float is not None and drawn.against_float.on == "6 samples: example_inputs() and random ones"
    stored = np.rint(real / 0.05).astype(np.int8) + np.int8(3)
    noisy = compare(
        [stored], Reference(inputs, (stored,), float_outputs=(real,), scales=((0.05, 3),)), 0.0, Steps(2, (1.0,))
    )
    assert noisy.snr_db == pytest.approx(
        10 * np.log10((real**2).sum() / ((real - np.rint(real / 0.05) * 0.05) ** 2).sum()), abs=0.01
    )


def test_the_worst_element_and_the_first_layer_that_loses_are_named() -> None:
    real = np.ones((3, 1, 4), np.float32)
    got = real.copy()
    got[2, 0, 1] = 0.0
    found = against_float([got], [real], ["logits"], np.array([False, True, True]), "2 samples")
    assert found is not None and (found.samples, found.lowest.sample, found.lowest.index) == (2, 2, (0, 1))
    assert found.snr_db == pytest.approx(10 * np.log10(8)) and (found.lowest.got, found.lowest.expected) == (0.0, 1.0)

    class Layer:
        def __init__(self, name: str, snr_db: float) -> None:
            self.name, self.source, self.snr_db = name, "model.py:3", snr_db

    first, later = Layer("conv", 12.0), Layer("fc", 3.0)
    assert "output 0 has 9.0 dB" in warning(found, [first, later]) and warning(found, [first, later]).endswith(
        "conv (model.py:3), 12.0 dB"
    )
    assert "no activation alone is below" in warning(found, [Layer("conv", 30.0)]) and warning(None, []) == ""
    assert "which activation loses it is not known" in warning(found, [])
    with pytest.raises(Exception, match="12 are asked for; worst is sample 2"):
        require_signal(found, "", 12.0, "board")
    with pytest.raises(Exception, match="is not known: why"):
        require_signal(found, "why", 1.0, "board")
    require_signal(found, "", 9.0, "board")
    minus = np.full((2, 3), -np.inf, np.float32)
    assert ratio_db(0.0, 0.0) == np.inf and ratio_db(0.0, 1.0) == -np.inf and ratio_db(1.0, np.inf) == -np.inf
    masked = against_float([minus], [minus], [], np.ones(2, bool), "")
    assert masked is not None and masked.snr_db == np.inf, "what stands for minus infinity in both is no noise"


ELSEWHERE = """
import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from etexport.frontend.quantize.quantizer import MicrocontrollerQuantizer
def example_inputs():
    return (torch.ones(1, 16),)
def model():
    graph = prepare_pt2e(torch.export.export(nn.Linear(16, 4), example_inputs()).module(), MicrocontrollerQuantizer())
    graph(*example_inputs())
    return convert_pt2e(graph)
"""


def test_export_says_what_int8_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each int8 network one line with the figure that a board will have; `--fail-below` ends with 2, and all files
    are there."""
    tail = network("\n        return self.first(self.state(x).relu())")
    scripts = {
        "good": tail,
        "beyond": tail.replace("return drawn(24, 1)", "return 8 * drawn(24, 1)"),
        "flatters": tail.replace("return drawn(24, 1)", "return drawn(40, 2)[:24]"),
        "elsewhere": ELSEWHERE,
        "float": tail.replace('"int8"', '"float32"'),
    }
    paths = {name: script(tmp_path, text, f"{name}.py") for name, text in scripts.items()}
    outs = {name: tmp_path / f"{name}.pte" for name in scripts}
    jobs = [*map(str, paths.values()), "-o", *map(str, outs.values())]
    assert main(["export", *jobs, "--fail-below", "21"]) == 2
    assert all(out.is_file() and out.with_suffix(".npz").is_file() for out in outs.values())
    said, errors = capsys.readouterr()
    words = {**dict.fromkeys(scripts, "int8"), "elsewhere": "quantised"}
    lines = {
        name: [line for line in said.splitlines() if line.startswith(f"{out}: {words[name]}: ")]
        for name, out in outs.items()
    }
    assert {name: len(found) for name, found in lines.items()} == {**dict.fromkeys(scripts, 1), "float": 0}
    for name in ("good", "beyond"):
        with np.load(outs[name].with_suffix(".npz")) as arrays:
            real, got = arrays["float_output_0"].astype(np.float64), arrays["output_0"].astype(np.float64)
        decibels = 10 * np.log10((real**2).sum() / ((real - got) ** 2).sum())
        assert (decibels > 21) == (name == "good")
        assert (
            f" {decibels:.1f} dB of signal to noise against float PyTorch, on 24 samples; worst element "
            in lines[name][0]
        )
        assert (f"error: {paths[name]}: output 0 has {decibels:.1f} dB" in errors) == (name == "beyond")
    assert f"warning: {paths['beyond']}: output 0 has " in errors and "below 20 dB; first lost in x, " in errors
    assert (
        "all 24 samples were calibrated with (" in lines["flatters"][0]
        and "the program came quantised" in lines["elsewhere"][0]
    )
    assert errors.count("are asked for") == 3 and errors.count("the signal to noise is not known") == 2
    assert f"{paths['good']}: output" not in errors and str(paths["float"]) not in errors


def test_the_first_lost_layer_has_its_line(programs: dict[str, Path]) -> None:
    method = pte.load(programs["kept"]).method()
    found = with_sources(quality(programs["kept"].with_suffix(".npz")), method)
    text = (programs["kept"].with_suffix(".py")).read_text().splitlines()
    lines = {one.name: text[int(one.source.rpartition(":")[2]) - 1] if one.source else "" for one in found}
    assert lines["x"] == "" and "torch.tanh" in lines["tanh"] and "softmax" in lines["softmax"], lines
