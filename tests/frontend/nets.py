"""Small networks for int8: each an idiom of real ones, as a model script with calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.frontend.scripts import script


@dataclass(frozen=True)
class Net:
    """`layers` are assignments of __init__, `forward` the statements of forward(self, x); inputs are drawn for `shape`.
    `lacking` is an operator of which the stock runtime has no kernel."""

    layers: tuple[str, ...]
    forward: tuple[str, ...]
    shape: tuple[int, ...]
    lacking: str = ""


_CONV = "self.conv = nn.Conv2d(3, 8, 3, padding=1)"

NETS = {
    "conv_bn_relu": Net(
        ("self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)", "self.norm = nn.BatchNorm2d(8)"),
        ("return torch.relu(self.norm(self.conv(x)))",),
        (1, 3, 9, 9),
    ),
    "depthwise": Net(
        ("self.first = nn.Conv2d(3, 8, 3, stride=2)", "self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, "
            "groups=8)",
         "self.pointwise = nn.Conv2d(8, 12, 1)", "self.norm = nn.BatchNorm2d(8)"),
        ("x = F.relu6(self.first(x))", "x = F.relu6(self.norm(self.depthwise(x)))", "return self.pointwise(x)"),
        (1, 3, 13, 11),
    ),
    "grouped": Net(
        ("self.first = nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2)",
         "self.second = nn.Conv2d(8, 4, (1, 3), stride=(2, 1), groups=4)"),
        ("return self.second(F.leaky_relu(self.first(x), 0.1))",),
        (1, 4, 8, 9),
    ),
    "residual": Net(
        ("self.first = nn.Conv2d(3, 8, 3, padding=1)", "self.second = nn.Conv2d(8, 8, 3, padding=1)",
        "self.norm = nn.BatchNorm2d(8)"), ("x = torch.relu(self.first(x))", "y = self.norm(self.second(x))",
        "return torch.relu(x + y)"), (1, 3, 8, 8),
    ),
    "concatenation": Net(
        ("self.left = nn.Conv2d(3, 4, 1)", "self.right = nn.Conv2d(3, 6, 3, padding=1)",
        "self.last = nn.Conv2d(10, 5, 1)"), ("return self.last(torch.cat([torch.relu(self.left(x)), self.right(x)], "
            "dim=1))",),
        (1, 3, 6, 7),
    ),
    "pools": Net(
        (_CONV, "self.largest = nn.MaxPool2d(3, stride=2, padding=1)", "self.average = nn.AvgPool2d(2, padding=1)",
         "self.whole = nn.AdaptiveAvgPool2d(1)", "self.fc = nn.Linear(8, 5)"),
        ("x = self.average(self.largest(torch.relu(self.conv(x))))", "return self.fc(torch.flatten(self.whole(x), 1))"),
        (1, 3, 12, 12),
    ),
    "slopes_behind_hardswish": Net(
        (_CONV, "self.slopes = nn.PReLU(8)"),
        ("return self.slopes(F.hardswish(self.conv(x)))",),
        (1, 3, 9, 9),
    ),
    "sequence_sizes": Net(
        ("self.first = nn.Conv1d(3, 8, 3)", "self.second = nn.Conv1d(8, 4, 1)"),
        ("x = F.logsigmoid(self.first(x))", "return self.second(F.interpolate(x, scale_factor=2.0))"),
        (1, 3, 14),
    ),
    "sequence_maxima": Net(
        ("self.first = nn.Conv1d(3, 8, 3)", "self.second = nn.Conv1d(8, 4, 1)"),
        ("return self.second(F.adaptive_max_pool1d(self.first(x), 5))",),
        (1, 3, 14),
        "aten::adaptive_max_pool2d.out",
    ),
    "one_feature": Net(
        ("self.first = nn.Linear(20, 1)", "self.second = nn.Linear(1, 7)", "self.third = nn.Linear(20, 1, bias=False)"),
        ("return torch.cat([self.second(torch.tanh(self.first(x))), self.third(x)], 1)",),
        (12, 20),
    ),
    "linear": Net(
        ("self.first = nn.Linear(20, 16)", "self.second = nn.Linear(16, 7, bias=False)"),
        ("return torch.softmax(self.second(torch.relu(self.first(x))), dim=-1)",),
        (1, 20),
    ),
    "linear_of_rows": Net(("self.fc = nn.Linear(12, 6)",), ("return torch.tanh(self.fc(x))",), (2, 5, 12)),
    "hardswish": Net((_CONV,), ("return F.hardswish(self.conv(x))",), (1, 3, 8, 8)),
    "silu": Net((_CONV,), ("return F.silu(self.conv(x))",), (1, 3, 8, 8)),
    "gelu_chain": Net((_CONV,), ("return torch.tanh(F.gelu(self.conv(x)) * 0.5 + 1.0)",), (1, 3, 8, 8)),
    "slopes": Net(
        (_CONV, "self.slopes = nn.PReLU(8)", "self.last = nn.Linear(8, 4)", "self.end = nn.PReLU(4)"),
        ("return self.end(self.last(self.slopes(self.conv(x)).mean((2, 3))))",),
        (1, 3, 8, 8),
    ),
    "sigmoid": Net((_CONV,), ("return torch.sigmoid(self.conv(x))",), (1, 3, 8, 8)),
    "one_dimension": Net(
        ("self.first = nn.Conv1d(4, 8, 5, padding=2)", "self.norm = nn.BatchNorm1d(8)", "self.pool = nn.MaxPool1d(2)",
         "self.second = nn.Conv1d(8, 8, 3, groups=8)", "self.fc = nn.Linear(8, 3)"),
        ("x = self.pool(torch.relu(self.norm(self.first(x))))", "return self.fc(self.second(x).mean(-1))"),
        (1, 4, 24),
    ),
    "squeeze_excite": Net(
        (_CONV, "self.down = nn.Conv2d(8, 2, 1)", "self.up = nn.Conv2d(2, 8, 1)"),
        ("x = torch.relu(self.conv(x))", "s = torch.relu(self.down(x.mean((2, 3), keepdim=True)))",
        "return x * F.hardsigmoid(self.up(s))"), (1, 3, 8, 8),
    ),
    "uneven_padding": Net(
        ("self.conv = nn.Conv2d(3, 8, 3, stride=2)", "self.next = nn.Conv2d(8, 4, 2, padding=1)"),
        ("x = torch.relu(self.conv(F.pad(x, (0, 1, 0, 1))))", "return self.next(F.pad(x, (1, 0, 2, 0)))"),
        (1, 3, 8, 8),
    ),
    "movement": Net(
        ("self.first = nn.Conv2d(4, 8, 1)", "self.second = nn.Conv2d(4, 6, 3)"),
        ("x = self.first(x)", "a, b = x.chunk(2, dim=1)",
         "x = torch.cat([b, a], 1).view(1, 2, 4, 6, 6).transpose(1, 2).reshape(1, 8, 6, 6)",
         "return self.second(x[:, 2:6]).permute(0, 2, 3, 1).flatten(1)"),
        (1, 4, 6, 6),
    ),
    "upsampling": Net(
        ("self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)", "self.last = nn.Conv2d(4, 2, 1)"),
        ("return self.last(F.interpolate(torch.relu(self.first(x)), scale_factor=2, mode='nearest'))",),
        (1, 3, 8, 8),
    ),
    "difference": Net(
        ("self.left = nn.Linear(10, 6)", "self.right = nn.Linear(10, 6)"),
        ("a, b = self.left(x), self.right(x)", "return (a - b) * a"),
        (3, 10),
    ),
    "largest_class": Net(("self.fc = nn.Linear(10, 6)",), ("y = self.fc(x)", "return y, y.argmax(1)"), (2, 10)),
    "attention": Net(
        ("self.q = nn.Linear(8, 8)", "self.k = nn.Linear(8, 8)", "self.v = nn.Linear(8, 8)"),
        ("return torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) * 0.35, dim=-1) @ self.v(x)",),
        (1, 6, 8),
    ),
    "own_silu": Net(
        (_CONV,),
        ("x = torch.relu(self.conv(x))", "return torch.exp(x * torch.sigmoid(x) - 1.5)"),
        (1, 3, 8, 8),
    ),
    "rows_and_relu": Net(
        ("self.first = nn.Linear(12, 6)", "self.second = nn.Linear(6, 4)"),
        ("return self.second(torch.relu(self.first(x))).transpose(0, 1)",),
        (2, 5, 12),
    ),
    "position": Net(
        ("self.fc = nn.Linear(12, 6)", "self.place = nn.Parameter(torch.randn(5, 6))"),
        ("return self.fc(x) + self.place",),
        (1, 5, 12),
    ),
    "transposed": Net(
        ("self.first = nn.Conv2d(3, 4, 3, padding=1)", "self.up = nn.ConvTranspose2d(4, 5, 3, stride=2, padding=1, "
            "output_padding=1)"),
        ("return torch.relu(self.up(torch.relu(self.first(x))))",),
        (1, 3, 6, 6),
    ),
    "transposed_rows": Net(("self.up = nn.ConvTranspose1d(3, 4, 4, stride=2)",), ("return self.up(x)",), (1, 3, 8)),
    "pixel_shuffle": Net((_CONV,), ("return F.pixel_shuffle(self.conv(x), 2)",), (1, 3, 6, 6)),
    "skip": Net(
        ("self.first = nn.Conv2d(3, 6, 3, padding=1)", "self.down = nn.Conv2d(6, 6, 3, stride=2, padding=1)",
         "self.last = nn.Conv2d(12, 4, 1)"),
        ("a = torch.relu(self.first(x))", "b = torch.sigmoid(self.down(a))",
         "return self.last(torch.cat([a, F.interpolate(b, scale_factor=2.0)], 1))"),
        (1, 3, 8, 8),
    ),
    "stack": Net(
        ("self.fc = nn.Linear(6, 4)",), ("a, b = self.fc(x).unbind(0)", "return torch.stack([b, a * 2, a])"), (2, 6),
    ),
    "layer_norm": Net(
        ("self.norm = nn.LayerNorm(10)", "self.fc = nn.Linear(10, 6)",
        "self.last = nn.LayerNorm((5, 6), elementwise_affine=False)"),
        ("return self.last(F.gelu(self.fc(self.norm(x))))",), (2, 5, 10),
    ),
    "group_norm": Net(
        (_CONV, "self.norm = nn.GroupNorm(2, 8)", "self.last = nn.Conv2d(8, 8, 1)"),
        ("return F.instance_norm(self.last(torch.relu(self.norm(self.conv(x)))))",),
        (1, 3, 8, 8),
    ),
    "norm_before": Net(
        ("self.norm = nn.BatchNorm2d(3)", _CONV, "self.between = nn.BatchNorm2d(8)", "self.last = nn.Conv2d(8, 8, 1)"),
        ("y = self.conv(self.norm(x))", "return y + self.last(torch.relu(self.between(y)))"),
        (1, 3, 8, 8),
    ),
    "rows_and_columns": Net(
        ("self.norm = nn.LayerNorm(6)", "self.mix = nn.Linear(7, 7)"),
        ("return x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)",),
        (2, 7, 6),
    ),
    "other_scales": Net(
        (_CONV,), ("y = self.conv(x)", "return torch.cat([torch.sigmoid(y), torch.tanh(y), 3 * y], 1)"), (1, 3, 6, 6),
    ),
    "extremes": Net(
        (_CONV, "self.other = nn.Conv2d(3, 8, 1)", "self.fc = nn.Linear(8, 4)"),
        ("a, b = self.conv(x), self.other(x)", "y = torch.minimum(torch.maximum(a, b), 1.5 * a)",
        "peak, place = y.max(1)",
         "return self.fc(y.amax((2, 3))), y.amin(1), peak, place, y.max()"),
        (1, 3, 6, 6),
    ),
    "choices": Net(
        (_CONV, "self.other = nn.Conv2d(3, 8, 1)"),
        ("a, b = self.conv(x), self.other(x)", "y = torch.where(a > 0.1, a, b)",
        "return torch.where(y < 0.2, 0.3, y), y > 0.25"), (1, 3, 6, 6),
    ),
    "places": Net(
        (_CONV, "self.last = nn.Conv2d(16, 4, 1)"),
        ("y = torch.roll(self.conv(x).flip(3), (1, 2), (2, 3))",
        "y = F.pad(y[:, [3, 1, 0, 2]], (1, 1, 1, 1), mode='reflect')",
         "y = F.pad(F.pixel_unshuffle(y.repeat(1, 1, 1, 1), 2), (0, 1, 0, 0), value=-0.5)",
         "return torch.relu(self.last(y))"),
        (1, 3, 6, 6),
    ),
    "words": Net(
        ("self.first = nn.Linear(6, 10)", "self.words = nn.Embedding(10, 8)", "self.fc = nn.Linear(8, 6)"),
        ("return self.fc(self.words(self.first(x).argmax(1)))",),
        (4, 6),
    ),
    "totals": Net(
        (_CONV, "self.divisor = nn.Parameter(torch.rand(8, 1, 1) + 1)"),
        ("y = self.conv(x) / self.divisor", "return y.sum((2, 3)), torch.relu(y).mean(), y.sum(1, keepdim=True) + y"),
        (1, 3, 6, 6),
    ),
    "heads": Net(
        ("self.qkv = nn.Linear(8, 24)", "self.out = nn.Linear(8, 8)"),
        ("q, k, v = self.qkv(x).view(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)",
         "return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 6, 8))"),
        (1, 6, 8),
    ),
    "encoder": Net(
        ("self.block = nn.TransformerEncoderLayer(16, 2, 32, activation='gelu', batch_first=True)",),
        ("return self.block(x)",), (1, 6, 16),
    ),
    "adaptive": Net(
        (_CONV,), ("y = self.conv(x)", "return F.adaptive_avg_pool2d(torch.relu(y), (3, 4)), F.adaptive_avg_pool2d(y, "
            "5)"), (1, 3, 8, 9),
    ),
    "gru": Net(
        ("self.cell = nn.GRU(8, 6, batch_first=True, bidirectional=True)", "self.fc = nn.Linear(12, 4)"),
        ("return self.fc(self.cell(x)[0][:, -1])",),
        (32, 3, 8),
    ),
    "lstm": Net(
        ("self.cell = nn.LSTM(8, 6, num_layers=2)", "self.fc = nn.Linear(6, 4)"),
        ("y, (hidden, cell) = self.cell(x)", "return self.fc(y), hidden, cell"),
        (3, 32, 8),
    ),
    "rnn": Net(("self.cell = nn.RNN(8, 6, nonlinearity='relu', bias=False)",), ("return self.cell(x)[0]",), (3, 2, 8)),
    "products": Net(
        ("self.fc = nn.Linear(8, 8)", "self.weights = nn.Parameter(torch.randn(8, 5))"),
        ("y = self.fc(x)", "z = torch.einsum('bij,bkj->bik', y, y)",
        "return F.glu(z, 2) @ y[0, 0:3, 0], y @ self.weights"), (1, 6, 8),
    ),
    "residual_rows": Net(
        ("self.first = nn.Linear(6, 6)", "self.second = nn.Linear(6, 6)"),
        ("x = x + F.gelu(self.first(x))", "return x + self.second(x) / 2"),
        (16, 6),
    ),
}  # fmt: skip

STATISTICS = """
        for one in self.modules():
            if getattr(one, "running_mean", None) is not None:
                if one.affine:
                    one.weight.data.uniform_(0.7, 1.3)
                    one.bias.data.uniform_(-0.2, 0.2)
                one.running_mean.uniform_(-0.3, 0.3)
                one.running_var.uniform_(0.5, 1.5)
"""
"""A batch normalisation that is not the identity."""


def net_script(folder: Path, net: Net, more: str = "", samples: int = 6) -> Path:
    """`more` is put at the end; the script's samples follow its calibration data's distribution and are others."""
    lines = ["import torch", "from torch import nn", "from torch.nn import functional as F", "class Model(nn.Module):"]
    lines += ["    def __init__(self):", "        super().__init__()"]
    lines += [f"        {layer}" for layer in net.layers]
    lines += STATISTICS.strip("\n").splitlines()
    lines += ["    def forward(self, x):"]
    lines += [f"        {statement}" for statement in net.forward]
    lines += ["def model():", "    return Model()", "def example_inputs():", f"    return torch.zeros{net.shape}"]
    drawn = "torch.randn({count}, *{shape}, generator=torch.Generator().manual_seed({seed}))"
    lines += ["def calibration():", f"    return {drawn.format(count=16, shape=net.shape, seed=1)}"]
    lines += ["def samples():", f"    return {drawn.format(count=samples, shape=net.shape, seed=2)}"]
    return script(folder, "\n".join(lines) + "\n" + more)
