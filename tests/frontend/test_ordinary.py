"""Ordinary models that once ended export with torch's words or a mistake of ours: they are eager PyTorch's, in int8
where that can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etexport.kernel.library import load_ops
from etexport.specialise.integer import fuse_integers
from tests.frontend.nets import Net, net_script
from tests.frontend.scripts import agrees, exported, forward_script, layout

FLOATS = {
    "norm_between_transposes": ("self.fc(self.norm(x.transpose(1, 2)).transpose(1, 2))", "torch.randn(2, 4, 6)"),
    "samples_of_channels_last_images": ("self.fc(x.flatten(1)[:, :6])", "torch.randn(1, 4, 4, 3).permute(0, 3, 1, 2)"),
    "view_of_rows_that_lie_otherwise": ("self.fc(x.t().contiguous().t().reshape(-1, 6))", "torch.randn(6, 4)"),
    "nothing_in_a_row": ("torch.cat([x[:0], x[:0]]), torch.cat([x[:0], x, x[1:1]])", "torch.randn(3, 2)"),
    "nothing_sorted": ("x[:0].sort()[0], x[:0].relu() + 1, x[:0].sum(0), x + 1", "torch.randn(3)"),
    "memory_filled_later": ("self.filled(torch.empty_like(x), x), self.filled(x.new_empty(2, 4), x)",
    "torch.randn(2, 4)"), "counts_of_other_types": ("x == torch.arange(3), x.to(torch.int32) < x",
    "torch.tensor([0, 5, 2])"), "counts_of_32_bits": ("x == torch.arange(3), x.long() >= x",
    "torch.tensor([0, 5, 2], dtype=torch.int32)"), "floats_of_whole_numbers": ("torch.sqrt(x), x.sin(), x.sigmoid(), "
        "(x > 2).exp(), x.reciprocal()", "torch.tensor([1, 5, 2])"),
    "decimals": ("x.round(decimals=2), x.round(decimals=-1), x.round(decimals=0)", "torch.randn(8) * 30"),
    "products_with_the_models_matrix": ("self.w @ x[0].T, torch.addmv(self.w[:, 0], self.w, x[0, 1])",
    "torch.randn(1, 4, 6)"), "one_product_in_a_batch": ("torch.einsum('btf,of->bto', self.fc(x), self.w)",
    "torch.randn(1, 3, 6)"), "bytes_by_negative_numbers": ("x // -3, x - -7, x * -2, x // 3",
    "torch.tensor([0, 7, 200, 255], dtype=torch.uint8)"),
}  # fmt: skip
INIT = "self.fc = nn.Linear(6, 6); self.w = nn.Parameter(torch.randn(5, 6))"
INIT += "; self.norm = nn.BatchNorm1d(6); self.norm.running_mean.uniform_(-1, 1)"
FILLED = """
def filled(self, y, x):
    y[:, ::2] = x[:, ::2] * 2
    y[:, 1::2] = x[:, 1::2] - 1
    return y
nn.Module.filled = filled
"""


@pytest.mark.parametrize("name", FLOATS)
def test_floats(tmp_path: Path, name: str) -> None:
    body, inputs = FLOATS[name]
    agrees(*exported(forward_script(tmp_path, body, inputs, init=INIT, more=FILLED)))


def test_no_weight_is_copied_and_no_product_is_a_sum(tmp_path: Path) -> None:
    """Rows that lie otherwise in memory are no batch of matrices, for each of which PyTorch copies the weights, and a
    matrix by a vector is no sum of as many products as the matrix has elements."""
    program, arrays = exported(
        forward_script(tmp_path, "self.fc(x.transpose(1, 2)), self.w @ x[0, :, 0]", "torch.randn(2, 6, 4)", init=INIT)
    )
    agrees(program, arrays)
    assert set(layout(program)) <= {
        "aten::addmm.out",
        "aten::mm.out",
        "aten::permute_copy.out",
        "aten::view_copy.out",
        "aten::select_copy.int_out",
    }
    assert all(value.spec.numel <= 5 * 10 for value in program.method().values.values() if value.data is None)


INTEGERS = {
    "one_layer_three_times": Net(
        ("self.a = nn.Linear(8, 8)", "self.d = nn.Linear(8, 8)"),
        ("h = torch.relu(self.a(x))", "return h + self.d(h), self.d(h), self.d(h) * h"),
        (16, 8),
    ),
    "concatenations_of_concatenations": Net(
        (),
        ("a = torch.cat([x, x], 2)", "b = torch.cat([a, x, a, x], 2)", "c = F.elu(a)", "d = torch.stack([a, c], 3)",
         "return torch.cat([b.repeat(1, 2, 1), b, b], 1), torch.cat([d, d, d], 2), F.avg_pool2d(d, 2, 1, 1)"),
        (1, 6, 10),
    ),
    "counts": Net(
        ("self.fc = nn.Linear(8, 8)",),
        ("y = self.fc(x)", "return y, (y > 0).sum(-1), (y > 0).sum(), (y > 0.5).long().sum(0), y.argmax(1).sum()"),
        (2, 8),
    ),
    "projections": Net(
        ("self.cell = nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True, proj_size=3)",
        "self.fc = nn.Linear(6, 2)"), ("y, (h, c) = self.cell(x)", "return self.fc(y[:, -1]), h, c"),
        (1, 5, 4),
    ),
    "weights_that_are_computed": Net(
        ("self.hyper = nn.Linear(8, 8)", "self.fc = nn.Linear(8, 8)"),
        ("y = torch.relu(self.hyper(x))", "return F.linear(x, y), F.linear(x, y, y[0]), F.linear(x, self.fc.weight, "
            "y.mean(0))"),
        (8, 8),
    ),
    "matrices_of_the_model": Net(
        ("self.w = nn.Parameter(torch.randn(5, 8) / 3)", "self.fc = nn.Linear(5, 8)",
        "self.b = nn.Parameter(torch.randn(5))"), ("h = torch.zeros(8)",
        "for t in range(3): h = torch.tanh(self.fc(self.w @ (h + x[t])))",
         "y = self.w @ x.mT", "z = torch.tile(y, (2, 1)).swapaxes(0, 1)",
         "return h, y, z, torch.addmv(self.b, self.w, x[3]), torch.einsum('btf,of->bto', x[None], self.w)"),
        (4, 8),
    ),
    "no_batch": Net(
        ("self.a = nn.Linear(6, 16)", "self.b = nn.Linear(16, 3)"),
        ("return self.b(torch.relu(self.a(x)))",),
        (6,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(tmp_path: Path, name: str) -> None:
    """The converted network against the float one, on other samples than those of the calibration."""
    program, arrays = exported(net_script(tmp_path, INTEGERS[name]), quantize="int8")
    if name in ("matrices_of_the_model", "no_batch"):
        assert not fuse_integers(program.method(), load_ops())[1], "something of it is left in float"
    for at in range(len(program.method().outputs)):
        got, wanted = arrays[f"output_{at}"].astype(float), arrays[f"float_output_{at}"].astype(float)
        if arrays[f"float_output_{at}"].dtype.kind == "f":
            assert np.sum(wanted**2) > 10**2.0 * np.sum((got - wanted) ** 2), (
                f"output {at} is less than 20 dB from float"
            )
        else:
            assert np.mean(np.abs(got - wanted)) <= 0.5, f"output {at} counts otherwise"
