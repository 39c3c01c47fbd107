"""Recurrent layers are one operator a layer and direction, whatever the sequence's length, and what eager PyTorch
computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from tests.frontend.nets import Net, net_script
from tests.frontend.scripts import agrees, exported, forward_script, layout

LAYERS = {
    "one layer, last result": ("nn.LSTM(5, 7)", "self.r(x)[0][-1]", "3, 1, 5", ["lstm"]),
    "all of what it gives": ("nn.LSTM(5, 7)", "(lambda y, s: (y, *s))(*self.r(x))", "3, 2, 5", ["lstm"]),
    "two layers, both directions": ("nn.LSTM(5, 7, 2, bidirectional=True)", "(lambda y, s: (y, *s))(*self.r(x))",
    "3, 2, 5", ["lstm"] * 4), "a projection": ("nn.LSTM(5, 7, proj_size=3)", "(lambda y, s: (y, *s))(*self.r(x))",
    "4, 2, 5", ["lstm"]), "a projection, no bias": ("nn.LSTM(5, 7, proj_size=3, bias=False)", "self.r(x)[0]", "4, 2, 5",
    ["lstm"]), "batch first": ("nn.LSTM(5, 7, 2, batch_first=True)", "self.r(x)[0]", "2, 4, 5", ["lstm"] * 2),
    "no batch": ("nn.LSTM(5, 7)", "self.r(x)[0]", "4, 5", ["lstm"]),
    "dropout, which rests": ("nn.LSTM(5, 7, 2, dropout=0.5)", "self.r(x)[0]", "4, 1, 5", ["lstm"] * 2),
    "states of its own": ("nn.LSTM(5, 7)", "self.r(x, (x[:1, :, :1] + self.k, x[:1, :, 1:2] * self.k))[1]", "3, 1, 5",
    ["lstm"]), "gru": ("nn.GRU(5, 7)", "self.r(x)", "3, 2, 5", ["gru"]),
    "gru, both directions, from a state": ("nn.GRU(5, 7, bidirectional=True)",
    "self.r(x, self.k.expand(2, 2, 7) * x[0, 0, 0])", "3, 2, 5",
                                           ["gru"] * 2),
    "rnn": ("nn.RNN(5, 7, bias=False)", "self.r(x)", "3, 1, 5", ["rnn"]),
    "rnn of ReLU": ("nn.RNN(5, 7, 2, nonlinearity='relu', batch_first=True)", "self.r(x)", "2, 3, 5", ["rnn"] * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(tmp_path: Path, name: str) -> None:
    layer, body, shape, operators = LAYERS[name]
    init = f"self.r = {layer}; self.k = nn.Parameter(torch.randn(7))"
    program, arrays = exported(forward_script(tmp_path, body, f"torch.randn({shape})", init=init))
    agrees(program, arrays)
    assert [op for op in layout(program) if "etexport" in op] == [f"etexport::{one}.out" for one in operators]


def test_stock_programs_have_every_step(tmp_path: Path) -> None:
    path = forward_script(tmp_path, "self.r(x)[0]", "torch.randn(3, 1, 5)", init="self.r = nn.GRU(5, 7)")
    program, arrays = exported(path, stock=True)
    agrees(program, arrays)
    assert not any("etexport" in op for op in layout(program)) and layout(program).count("aten::tanh.out") == 3


@pytest.mark.parametrize("board", ["host", "qemu_mps2_an386"])
def test_code_and_constants_do_not_grow_with_the_sequence(tmp_path: Path, board: str) -> None:
    """A state that stays on the board, too: what one call leaves is where the next begins."""
    images = []
    for steps in (3, 60):
        init = (
            "self.r = nn.LSTM(5, 8); self.register_buffer('h', torch.zeros(1, 1, 8)); self.register_buffer('c', "
            "torch.zeros(1, 1, 8))"
        )
        more = (
            "\ndef step(self, x):\n    y, (h, c) = self.r(x, (self.h, self.c))\n    self.h.copy_(h)\n    "
            "self.c.copy_(c)\n    return y\n"
        )
        drawn = f"torch.randn(4, {steps}, 1, 5, generator=torch.Generator().manual_seed(2))"
        path = forward_script(
            tmp_path / str(steps),
            "self.step(x)",
            f"torch.randn({steps}, 1, 5)",
            init=init,
            more=f"{more}nn.Module.step = step",
        )
        path.write_text(f"{path.read_text()}def samples():\n    return {drawn}\n")
        pte, out = path.with_suffix(".pte"), path.parent / board
        assert main(["export", str(path), "-o", str(pte)]) == 0
        assert main(["build", str(pte), "--board", board, "-o", str(out)]) == 0
        assert main(["run", str(out)]) == 0 and main(["validate", str(out)]) == 0
        images.append((out / "constants.bin").read_bytes())
    assert images[0] == images[1]


def test_long_layers_stay_in_float(tmp_path: Path) -> None:
    """In int8 each step is written out, which is too much for a long sequence: the shorter layer is int8, the rest has
    a reason."""
    layers = (
        "self.long = nn.GRU(4, 4, batch_first=True, bidirectional=True)",
        "self.short = nn.GRU(8, 4, batch_first=True)",
    )
    net = Net(
        (*layers, "self.fc = nn.Linear(4, 4)"), ("return self.fc(self.short(self.long(x)[0][:, :3])[0])",), (1, 41, 4)
    )
    program, arrays = exported(net_script(tmp_path, net), quantize="int8")
    reasons = dict(zip(arrays["float_handles"].tolist(), arrays["float_reasons"].tolist(), strict=True))
    left = [one for one in program.method().instructions if one.op == "etexport::gru.out"]
    assert len(left) == 2 and all("85 steps of recurrent layers" in reasons[one.handle] for one in left)
    near, noise = (
        np.mean(one.astype(float) ** 2) for one in (arrays["output_0"], arrays["output_0"] - arrays["float_output_0"])
    )
    assert near > 10**3 * noise
