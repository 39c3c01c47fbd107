"""What quantises a network best: equalised layers, corrected biases, ranges, what stays in float; and what is said
about the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from etexport.__main__ import main
from etexport.errors import EtError
from etexport.frontend.quantize import preparation, quiet, settings
from etexport.frontend.quantize.doubts import doubts
from etexport.frontend.quantize.settings import Settings
from tests.frontend.nets import Net, net_script
from tests.frontend.scripts import exported, script

with quiet():
    from etexport.frontend.quantize.equalize import equalized, pairs
    from etexport.frontend.quantize.ranges import RangeObserver
    from etexport.frontend.quantize.simulate import outputs, snr_db
    from etexport.frontend.quantize.tune import calibrated, tuned


class Own(nn.Module):
    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.body = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


C = nn.Conv2d
IMAGE = (1, 3, 8, 8)
PAIRS: dict[str, tuple[Callable[[], Own], tuple[int, ...], int]] = {
    "depthwise": (
        lambda: Own(lambda s, x: s.c(torch.relu_(s.b(s.a(x).relu()))), a=C(3, 8, 1), b=C(8, 8, 3, padding=1, groups=8),
        c=C(8, 4, 1)), IMAGE, 2,
    ),
    "groups": (
        lambda: Own(lambda s, x: s.c(s.b(s.a(x).relu()).relu()), a=C(4, 8, 1, groups=2), b=C(8, 12, 3, groups=4),
        c=C(12, 4, 1, groups=2)), (1, 4, 8, 8), 2,
    ),
    "two readers, slices": (
        lambda: Own(lambda s, x: s.b(s.a(x).relu()[:, :4]) + s.c(s.a(x).relu()[:, 4:]), a=C(3, 8, 1), b=C(4, 4, 1),
        c=C(4, 4, 1)), IMAGE, 0,  # the layer is called twice
    ),
    "halves": (
        lambda: Own(lambda s, x: (lambda y: s.b(y[:, :4]) + s.c(y[:, 4:]))(s.a(x).relu()), a=C(3, 8, 1), b=C(4, 4, 1),
        c=C(4, 4, 1)), IMAGE, 1,
    ),
    "flattened": (
        lambda: Own(lambda s, x: s.c(F.max_pool2d(F.pad(s.a(x).relu(), (1, 1)), 2).flatten(1)), a=C(3, 8, 1),
        c=nn.Linear(160, 4)), IMAGE, 1,
    ),
    "means": (lambda: Own(lambda s, x: s.c(s.a(x).relu().mean((2, 3))), a=C(3, 8, 1), c=nn.Linear(8, 4)), IMAGE, 1),
    "rows": (lambda: Own(lambda s, x: s.c(F.leaky_relu(s.a(x))), a=nn.Linear(8, 16), c=nn.Linear(16, 4)), (2, 7, 8), 1),
    "sequences with slopes": (
        lambda: Own(lambda s, x: s.c(s.p(s.n(s.a(x)))), a=nn.Conv1d(4, 8, 3), n=nn.BatchNorm1d(8), p=nn.PReLU(8),
        c=nn.Conv1d(8, 4, 3)), (1, 4, 20), 1,
    ),
    "transposed": (
        lambda: Own(lambda s, x: s.b(s.a(x).relu()), a=nn.ConvTranspose2d(3, 8, 3),
        b=nn.ConvTranspose2d(8, 4, 3, groups=2)), IMAGE, 1,
    ),
    "columns, not channels": (lambda: Own(lambda s, x: s.c(s.a(x).mT), a=nn.Linear(8, 6), c=nn.Linear(7, 4)), (1, 7, 8),
    0), "bounded": (lambda: Own(lambda s, x: s.c(F.relu6(s.a(x))), a=C(3, 8, 1), c=C(8, 4, 1)), IMAGE, 0),
    "curved": (lambda: Own(lambda s, x: s.c(F.gelu(s.a(x))), a=C(3, 8, 1), c=C(8, 4, 1)), IMAGE, 0),
    "moved": (lambda: Own(lambda s, x: s.c(s.a(x) + 1), a=C(3, 8, 1), c=C(8, 4, 1)), IMAGE, 0),
    "padded with a number": (lambda: Own(lambda s, x: s.c(F.pad(s.a(x), (1, 1), value=0.5)), a=C(3, 8, 1),
    c=C(8, 4, 1)), IMAGE, 0), "read elsewhere": (lambda: Own(lambda s, x: (lambda y: (s.c(y), y))(s.a(x).relu()),
    a=C(3, 8, 1), c=C(8, 4, 1)), IMAGE, 0), "mixed by place": (lambda: Own(lambda s, x: s.c(F.pixel_shuffle(s.a(x), 2)),
    a=C(3, 8, 1), c=C(2, 4, 1)), IMAGE, 0),
}  # fmt: skip
"""Networks, an input's shape, and how many pairs are exact."""


def bad(channels: Tensor) -> Tensor:
    return torch.exp(1.4 * torch.randn(channels.shape))


def graph(model: nn.Module, shape: tuple[int, ...]) -> tuple[GraphModule, Callable[[GraphModule], GraphModule]]:
    with quiet():
        return preparation(model.eval(), (torch.randn(shape),), [(torch.randn(shape),)], ())


@pytest.mark.parametrize("name", PAIRS)
def test_equalisation_is_exact(name: str) -> None:
    make, shape, count = PAIRS[name]
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        first: Any = model.a
        first.bias.mul_(bad(first.bias))
    captured, _ = graph(model, shape)
    found = pairs(captured)
    assert len(found) == count
    x, alike = torch.randn(shape), equalized(captured)
    before, after = captured(x), alike(x)
    before, after = (one if isinstance(one, tuple) else (one,) for one in (before, after))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(one.abs().max()))
    if found:
        assert not torch.equal(alike.get_parameter("a.weight"), captured.get_parameter("a.weight"))


def residual(badly: bool) -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(
        C(3, 16, 1), nn.ReLU(), C(16, 16, 3, padding=1, groups=16), nn.ReLU(), C(16, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    if badly:
        first, second, third = (net[at] for at in (0, 2, 4))
        with torch.no_grad():
            for layer, reader, by_input in ((first, second, False), (second, third, True)):
                factor = bad(layer.bias)
                layer.weight.mul_(factor.reshape(-1, 1, 1, 1))
                layer.bias.mul_(factor)
                reader.weight.div_(factor.reshape((1, -1, 1, 1) if by_input else (-1, 1, 1, 1)))
    return net


@pytest.mark.parametrize("badly", [True, False])
def test_the_default_is_judged_on_fresh_samples(badly: bool) -> None:
    """Bad channels are repaired; nothing that was good is lost; the same data give the same network."""
    captured, prepare = graph(residual(badly), IMAGE)
    data = [(torch.randn(IMAGE, generator=torch.Generator().manual_seed(seed)),) for seed in range(72)]
    with quiet():
        plain, best, again = (
            tuned(captured, prepare, data[:40], how)
            for how in (Settings(False, "histogram", False), Settings(), Settings())
        )
    real = outputs(plain.prepared, data[40:], in_int8=False)
    before, after = (snr_db(real, outputs(one.prepared, data[40:], in_int8=True)) for one in (plain, best))
    assert best.settings == again.settings and best.snr_db == again.snr_db
    assert best.settings.equalize is badly
    assert after > before + 8 if badly else after > before - 1, (before, after)


def test_what_shares_a_scale_is_rounded_and_not_observed() -> None:
    """A scale of several tensors has a name for each of them in the prepared network."""
    captured, prepare = graph(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 4)), IMAGE)
    prepared = calibrated(prepare(captured), [(torch.randn(IMAGE),)])
    before = [one.max_val.clone() for one in prepared.modules() if isinstance(one, RangeObserver)]
    far = [(torch.full(IMAGE, 100.0),)]
    real, got = (outputs(prepared, far, in_int8=in_int8)[0][0] for in_int8 in (False, True))
    assert [one.max_val for one in prepared.modules() if isinstance(one, RangeObserver)] == before
    assert got.abs().max() < real.abs().max() / 4, "it saturates"


def test_ranges() -> None:
    """torchao's own search finds the same range; a percentile leaves out what one value in 100,000 needs."""
    from torchao.quantization.pt2e import HistogramObserver

    how: dict[str, Any] = {"dtype": torch.int8, "quant_min": -128, "quant_max": 127, "qscheme": torch.per_tensor_affine}
    ours, torchao = RangeObserver(**how), HistogramObserver(**how)
    torch.manual_seed(0)
    for _ in range(6):
        x = torch.randn(50_000)
        x[0] *= 100
        for one in (ours, torchao):
            one(x)
    assert ours.calculate_qparams() == torchao.calculate_qparams()
    found = {}
    for rule in settings.RANGES:
        ours.rule = rule
        found[rule] = ours.bounds()
    assert found["minmax"] == (float(ours.min_val), float(ours.max_val))
    assert found["percentile"][1] - found["percentile"][0] < 0.5 * (found["minmax"][1] - found["minmax"][0])
    ours(torch.tensor([float("nan"), float("inf"), 1.0]))
    assert np.isfinite(ours.bounds()).all()


BODY = "s = torch.relu(self.conv(x))"
CONV = ("self.conv = nn.Conv2d(3, 8, 3)", "self.last = nn.Conv2d(8, 4, 1)")
EXTREME = {
    "inputs of 1e-12": ((), 1e-12, 30.0, ()),
    "inputs of 1e9": ((), 1e9, 30.0, ()),
    "a channel of next to nothing": (
        ("self.conv.weight.data[2] *= 1e-12", "self.conv.bias.data[2] = 3"),
        1.0,
        30.0,
        (),
    ),
    "a bias of 1e10": (("self.conv.bias.data[1] = 1e10", "self.last.weight.data[:, 1] = 0"), 1.0, None, ()),
    "an infinite weight": (("self.conv.weight.data[1, 1] = float('inf')",), 1.0, None, ("conv",)),
    "NaN": (("self.conv.bias.data[1] = float('nan')",), 1.0, None, ("conv",)),
    "weights of 1e30": (("self.last.weight.data *= 1e30",), 1.0, 30.0, ("last",)),
}
"""More of __init__, the size of inputs, dB, and which layers stay in float."""


@pytest.mark.parametrize("name", EXTREME)
def test_numbers_of_any_size(name: str, tmp_path: Path) -> None:
    more, size, least, in_float = EXTREME[name]
    net = Net((*CONV, *more), (f"x = x * {size}", BODY, "return self.last(s)"), IMAGE)
    program, arrays = exported(net_script(tmp_path, net), quantize="int8")
    instructions = {one.handle: one.name for one in program.method().instructions}
    kept = {
        instructions[int(at)]
        for at, why in zip(arrays.get("float_handles", ()), arrays.get("float_reasons", ()), strict=True)
        if "no scale" in why
    }
    assert kept == set(in_float)
    real, got = arrays["float_output_0"].astype(float), arrays["output_0"].astype(float)
    if least is not None:
        assert 10 * np.log10((real**2).sum() / ((real - got) ** 2).sum()) > least


KEPT = {
    "a module": ["first"], "a line": ["model.py:{line}"], "an operator": ["softmax"], "one operator": ["mul_1"],
    "by aten": ["aten::tanh"],
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_kept_in_float(name: str, tmp_path: Path) -> None:
    """By module, by line or by operator; a front end in forward() too."""
    body = ("y = self.first(x * 0.5)", "y = torch.tanh(y) * x", "return torch.softmax(y, -1)")
    path = net_script(tmp_path, Net(("self.first = nn.Linear(8, 8)",), body, (2, 8)))
    line = next(at for at, text in enumerate(path.read_text().splitlines(), 1) if "torch.tanh" in text)
    names = [one.format(line=line) for one in KEPT[name]]
    path.write_text(path.read_text() + f"\nkeep_float = {names}\n")
    program, arrays = exported(path, quantize="int8")
    assert any(f"the script keeps {names[0]} in float" == str(one) for one in arrays["float_reasons"])
    assert any("quantize" in one.op for one in program.method().instructions)


def test_settings_of_a_file(tmp_path: Path) -> None:
    path = net_script(tmp_path, Net(("self.first = nn.Linear(8, 8)",), ("return torch.tanh(self.first(x))",), (2, 8)))
    beside = settings.path_of(path)
    beside.write_text(settings.text(Settings(True, "minmax", False, ("first",))))
    assert settings.read(beside) == Settings(True, "minmax", False, ("first",))
    _, arrays = exported(path, quantize="int8")
    assert "the script keeps first in float" in [str(one) for one in arrays["float_reasons"]]
    for wrong in (
        'ranges = "narrow"',
        "equalise = true",
        "keep_float = 3",
        "equalize = 1",
        "=",
        'keep_float = ["nobody"]',
    ):
        beside.write_text(wrong + "\n")
        with pytest.raises(EtError) as caught:
            exported(path, quantize="int8")
        assert "Traceback" not in str(caught.value)


def test_doubts_about_data() -> None:
    random = torch.Generator().manual_seed(0)
    data = torch.randn(48, 1, 8, generator=random)
    assert doubts([data], [data], ["x"]) == []
    assert "8 samples" in doubts([data[:8]], None, ["x"])[0]
    odd = data.clone()
    odd[17] *= 10
    assert "sample 17 of calibration()" in doubts([odd], None, ["x"])[0]
    assert "samples() reach" in doubts([data], [3 * data], ["x"])[0]
    (line,) = doubts([1013 + data / 8], None, ["pressure"])
    assert line.startswith("pressure:") and "x - 1013" in line
    assert (
        doubts([torch.ones(48, 1, 8)], None, ["x"]) == []
        and doubts([torch.arange(48).reshape(48, 1)], None, ["x"]) == []
    )


def test_warnings_reach_screen_and_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    net = Net(("self.first = nn.Linear(8, 8)",), ("return torch.tanh(self.first(x))",), (2, 8))
    text = net_script(tmp_path, net).read_text() + "\ndef calibration():\n    return torch.zeros(4, 2, 8) + 7\n"
    _, arrays = exported(script(tmp_path / "few", text), quantize="int8")
    assert "4 samples" in str(arrays["quantize_warnings"][0])
    assert "4 samples" in capfd.readouterr().err


def test_the_tool_writes_what_export_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = ("x = torch.relu(self.first(x) * 30)", "return self.last(torch.exp(-x))")
    path = net_script(tmp_path, Net(("self.first = nn.Linear(8, 8)", "self.last = nn.Linear(8, 3)"), body, (1, 8)))
    assert main(["quantize", str(path), "--target", "60"]) == 0
    shown = capsys.readouterr().out
    assert "held-out samples" in shown and "recommended" in shown and "what hurts most" in shown
    assert settings.read(settings.path_of(path)).ranges in settings.RANGES
    exported(path, quantize="int8")
