"""What modules and functions of PyTorch become: each is exported, read back, and gives eager PyTorch's numbers, step by
step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frontend.scripts import agrees, exported, forward_script

IMAGE = "torch.randn(1, 4, 8, 7)"
ROWS = "torch.randn(2, 6)"
SEQUENCE = "torch.randn(1, 4, 12)"

CASES = {
    "conv2d": ("self.c(x)", IMAGE, "self.c = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0))"),
    "conv2d same": ("self.c(x)", IMAGE, "self.c = nn.Conv2d(4, 6, 3, padding='same', groups=2, bias=False)"),
    "conv1d": ("self.c(x)", SEQUENCE, "self.c = nn.Conv1d(4, 6, 3, dilation=2, padding=1)"),
    "conv and batch norm": (
        "torch.relu(self.b(self.c(x)))",
        IMAGE,
        "self.c = nn.Conv2d(4, 6, 3); self.b = noisy(nn.BatchNorm2d(6))",
    ),
    "conv1d and batch norm": (
        "self.b(self.c(x))",
        SEQUENCE,
        "self.c = nn.Conv1d(4, 6, 3); self.b = noisy(nn.BatchNorm1d(6))",
    ),
    "batch norm alone": ("self.b(x)", IMAGE, "self.b = noisy(nn.BatchNorm2d(4))"),
    "batch norm, linear": ("self.c(self.b(x))", ROWS, "self.c = nn.Linear(6, 3); self.b = noisy(nn.BatchNorm1d(6))"),
    "linear": ("self.c(x)", ROWS, "self.c = nn.Linear(6, 3)"),
    "linear without bias, three dimensions": (
        "self.c(x)",
        "torch.randn(2, 3, 6)",
        "self.c = nn.Linear(6, 3, bias=False)",
    ),
    "matmul": ("x @ y.t()", (ROWS, "torch.randn(3, 6)"), ""),
    "max pool": ("F.max_pool2d(x, 3, 2, 1, ceil_mode=True)", IMAGE, ""),
    "max pool with indices": ("F.max_pool2d(x, 2, return_indices=True)", IMAGE, ""),
    "max pool 1d": ("F.max_pool1d(x, 3)", SEQUENCE, ""),
    "adaptive max pool": (
        "F.adaptive_max_pool2d(x, (4, 7)), F.adaptive_max_pool2d(x, 1, return_indices=True)",
        IMAGE,
        "",
    ),
    "adaptive max pool 1d": ("F.adaptive_max_pool1d(x, 3), F.adaptive_max_pool1d(x, 1)", SEQUENCE, ""),
    "average pool": ("F.avg_pool2d(x, (3, 2), 2, padding=1, count_include_pad=False)", IMAGE, ""),
    "average pool 1d": ("F.avg_pool1d(x, 4)", SEQUENCE, ""),
    "adaptive average pool": ("F.adaptive_avg_pool2d(x, (3, 2)), F.adaptive_avg_pool2d(x, 1)", IMAGE, ""),
    "adaptive average pool 1d": ("F.adaptive_avg_pool1d(x, 3), F.adaptive_avg_pool1d(x, 5)", SEQUENCE, ""),
    "activations": (
        "torch.relu(x), torch.sigmoid(x), torch.tanh(x), F.relu6(x), F.hardtanh(x, -0.5, 0.25), x.clamp(min=0.1)",
        ROWS,
        "",
    ),
    "global pooling, channels last": (
        "F.adaptive_avg_pool2d(x.contiguous(memory_format=torch.channels_last), 1)",
        IMAGE,
        "",
    ),
    "windows": ("x.unfold(-1, 5, 3), x.unfold(1, 2, 1), x.as_strided((3, 4), (2, 5), 1)", SEQUENCE, ""),
    "adaptive max pool, windows of several sizes": (
        "F.adaptive_max_pool2d(x, (3, 2)), F.adaptive_max_pool2d(x, 5, True)",
        IMAGE,
        "",
    ),
    "masks": (
        "put(x, x < 0, 0.5), put(x, x.sum(1) > 0, x[0]), put(x, slice(None), x[0] > 0, 0), put(x, slice(None), 1, x[:, "
        "0]), "
        "x.masked_scatter(x > 0, x * 2)",
        ROWS,
        "",
    ),
    "writes": (
        "x.index_put((self.i,), y), x.index_put((z, z + 2), y[:, 0], accumulate=True), x.index_add(0, z, y), "
        "x.index_copy(0, self.i, y)",
        (ROWS, "torch.randn(2, 6)", "torch.tensor([1, 0])"),
        "self.i = torch.tensor([1, 0])",
    ),
    "scatter": (
        "x.scatter(1, self.i, y), x.scatter_add(1, z, y), x.scatter(1, z, 1.5), x.scatter_reduce(1, z, y, 'amax'), "
        "F.one_hot(z, 6)",
        (ROWS, "torch.randn(2, 3)", "torch.tensor([[1, 0, 5], [3, 3, 4]])"),
        "self.i = torch.tensor([[1, 0, 5], [3, 2, 4]])",
    ),
    "three indices": (
        "x[0, torch.tensor([1, 2]), :, torch.tensor([3, 0])], x[[0, 0], [1, 3], [2, 2], [6, 0]]",
        IMAGE,
        "",
    ),
    "diagonals": (
        "torch.diag(x[0, 0]), torch.diag_embed(x), torch.diagonal(x, 1, -1, 1), torch.einsum('nchw->n', x), "
        "torch.trace(x[0, 1])",
        IMAGE,
        "",
    ),
    "rounded division": (
        "x // 0.3, torch.div(x, y, rounding_mode='trunc'), x % y",
        (ROWS, "torch.rand(2, 6) + 0.5"),
        "",
    ),
    "whole numbers": (
        "x // 3, -x, x.abs(), x**2, x % (y + 1), x & y, x | 5, ~x, x << 2, x >> 1, x.cumsum(1), x.max(1), x.amax(), "
        "x.argmin(), x / 7",
        ("torch.randint(-9, 9, (2, 6))", "torch.randint(0, 9, (2, 6))"),
        "",
    ),
    "bytes": (
        "x * 2 + 1, x.float() / 255, (x / 255 - 0.5) * y, x // 16, torch.maximum(x, x.flip(0)), x.sum()",
        ("torch.randint(0, 256, (2, 6), dtype=torch.uint8)", ROWS),
        "",
    ),
    "odd numbers": (
        "torch.isnan(1 / x), torch.isfinite(1 / x).all(), torch.isinf(x / 0), torch.nan_to_num(x / x.relu()), "
        "torch.logaddexp(x, x * 2)",
        ROWS,
        "",
    ),
    "statistics": (
        "torch.var_mean(x, 1), torch.std_mean(x), x.median(1), x.median(), x.kthvalue(2, 1), x.quantile(0.3, dim=1), "
        "x.cumprod(1)",
        ROWS,
        "",
    ),
    "distances": (
        "torch.cdist(x, y), torch.cdist(x, y, p=1), torch.cdist(x, y, p=float('inf')), torch.cdist(x[None], "
        "y.expand(4, 3, 6), p=3), "
        "torch.cdist(x, y.expand(4, 3, 6)), torch.pdist(y), torch.dist(x, x * 2)",
        (ROWS, "torch.randn(3, 6)"),
        "",
    ),
    "places in an order": (
        "torch.bucketize(x, self.t), torch.bucketize(x, self.t, right=True), torch.searchsorted(y.sort(1)[0], x), "
        "torch.searchsorted(self.t, x)",
        (ROWS, "torch.randn(2, 5)"),
        "self.register_buffer('t', torch.linspace(-1, 1, 5))",
    ),
    "sums of products": (
        "self.b(x, y), torch.addmv(x[:, 0], y, y[0]), torch.addbmm(x, z, z.mT @ z), torch.baddbmm(z, z, z.mT @ z)",
        (ROWS, "torch.randn(2, 4)", "torch.randn(3, 2, 6)"),
        "self.b = nn.Bilinear(6, 4, 3)",
    ),
    "equations": (
        "(lambda a: (torch.linalg.inv(a), torch.linalg.solve(a, x), torch.linalg.cholesky(a), torch.linalg.det(a / "
        "3)))(square(x))",
        "torch.randn(2, 3, 4)",
        "",
    ),
    "volumes": (
        "self.c(x), self.g(x), F.max_pool3d(x, 2), F.max_pool3d(x, (3, 2, 2), 2, 1, ceil_mode=True), F.avg_pool3d(x, "
        "2), "
        "F.avg_pool3d(x, 3, 2, 1, count_include_pad=False), F.adaptive_avg_pool3d(x, (2, 3, 1)), F.interpolate(x, "
        "scale_factor=2)",
        "torch.randn(2, 4, 5, 6, 5)",
        "self.c = nn.Conv3d(4, 6, 3, padding=1); self.g = nn.Conv3d(4, 4, (3, 2, 1), (2, 1, 2), dilation=(2, 1, 1), "
        "groups=2, bias=False)",
    ),
    "bags of embeddings": (
        "self.s(x), self.m(x), self.x(x), self.m(x[0], self.o), F.embedding_bag(x, self.s.weight, "
        "per_sample_weights=y, mode='sum')",
        ("torch.randint(0, 9, (3, 4))", "torch.rand(3, 4)"),
        "self.s = nn.EmbeddingBag(9, 5, mode='sum'); self.m = nn.EmbeddingBag(9, 5, padding_idx=3); self.o = "
        "torch.tensor([0, 2, 2]); "
        "self.x = nn.EmbeddingBag(9, 5, mode='max', padding_idx=2)",
    ),
    "a spatial transformer": (
        "F.grid_sample(x, F.affine_grid(y, (1, 4, 5, 3), align_corners=False), align_corners=False)",
        (IMAGE, "torch.rand(1, 2, 3)"),
        "",
    ),
    "circular padding": ("F.pad(x, (1, 2, 3, 0), mode='circular')", IMAGE, ""),
    "local response normalisation": ("F.local_response_norm(x, 3)", IMAGE, ""),
    "cosine similarity": ("F.cosine_similarity(x, y), x.clamp(y, y + 1)", (ROWS, "torch.randn(2, 6)"), ""),
    "made of others": ("F.hardswish(x), F.silu(x), F.hardsigmoid(x)", ROWS, ""),
    "softmax": ("x.softmax(0), F.softmax(x, -1)", ROWS, ""),
    "powers": ("2 ** x, 0.5**x, x**2, x.abs() ** 0.5, torch.exp2(x)", ROWS, ""),
    "numbers": ("1 - x, x / 2, 3 * x + 0.5, x.sub(2, alpha=3), -1 + x, x.div(4.0)", ROWS, ""),
    "broadcasting": (
        "x + y, x * y, x - self.t",
        (ROWS, "torch.randn(1, 6)"),
        "self.register_buffer('t', torch.randn(2, 1))",
    ),
    "mean": ("x.mean(), x.mean(1), x.mean((2, 3), keepdim=True), x.mean(-1)", IMAGE, ""),
    "argmax": ("x.argmax(1), x.argmax(), x.argmax(-1, keepdim=True)", ROWS, ""),
    "cat, stack": ("torch.cat([x, y, x], 1), torch.stack([x, x + y])", (ROWS, ROWS), ""),
    "slices": ("x[:, 1:5:2], x[:, -3:], x[1], x[..., 0], x[:, None], x[-1, 2:]", ROWS, ""),
    "chunk": ("x.chunk(3, 1)[1], x.split([1, 5], 1)[1], torch.unbind(x)[1]", ROWS, ""),
    "pads": ("F.pad(x, (1, 0, 2, 1)), F.pad(x, (0, -2), value=3.0)", IMAGE, ""),
    "shapes": (
        "x.flatten(1), x.reshape(2, -1), x.permute(0, 2, 3, 1), x.transpose(1, 2).contiguous().view(8, -1), "
        "x.squeeze()",
        IMAGE,
        "",
    ),
    "expand": ("x[:, :1].expand(3, 2, 6) + 1, x.unsqueeze(0).repeat_interleave(1, 0)", ROWS, ""),
    "views of a view": ("torch.relu(x.permute(0, 2, 1, 3)).flatten(2), x.unflatten(1, (2, 2))", IMAGE, ""),
    "counting": (
        "x + 1, x * x - 3, x.clamp(0, 5), x.clamp(max=2), torch.relu(x), x.sum(0), (x > 1).sum(), x % 3, "
        "torch.maximum(x, x.sum())",
        "torch.randint(-9, 9, (2, 6))",
        "",
    ),
    "integers into float": (
        "x * y, x + self.i",
        (ROWS, "torch.randint(0, 5, (2, 6))"),
        "self.register_buffer('i', torch.arange(6))",
    ),
    "constants made on the way": (
        "x + torch.arange(6) + torch.full((6,), 0.5) + torch.zeros_like(x) + torch.ones(2, 1)",
        ROWS,
        "",
    ),
    "positions made on the way": (
        "x * 10000 ** (self.t / 6) + (self.t // 2).clamp(0, 1), torch.roll(x, 2, 1), x * torch.arange(6).cumsum(0)",
        ROWS,
        "self.t = torch.arange(6)",
    ),
    "dropout and identity": (
        "F.dropout(self.d(x), 0.3, self.training) * 1.5",
        ROWS,
        "self.d = nn.Sequential(nn.Dropout(), nn.Identity())",
    ),
    "a sequential": (
        "self.s(x)",
        ROWS,
        "self.s = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.Softmax(1))",
    ),
    "weights made of weights": ("self.a(x)", ROWS, "self.a = nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))"),
    "numbers in and out": ("(x * 2).mean()", "torch.tensor(3.0)", ""),
    "a dict": ("{'b': x + 1, 'a': x * 2}", ROWS, ""),
    "no batch": ("self.c(x)", "torch.randn(3, 5, 5)", "self.c = nn.Conv2d(3, 4, 3)"),
    "shared weights": ("self.a(torch.relu(self.a(x)))", ROWS, "self.a = nn.Linear(6, 6)"),
    "an lstm": ("self.l(x)[0]", "torch.randn(1, 3, 4)", "self.l = nn.LSTM(4, 5, batch_first=True)"),
    "a gru": ("self.l(x)[1]", "torch.randn(3, 1, 4)", "self.l = nn.GRU(4, 5)"),
    "an input and a constant come out": ("x, self.c, x + 1", ROWS, "self.register_buffer('c', torch.arange(3.0))"),
    "an output twice": ("(lambda a: (a, a, {'k': a}))(torch.relu(x))", ROWS, ""),
    "none comes out": ("x + 1, None, [x, None]", ROWS, ""),
    "an input unused": ("x + 1", (ROWS, "torch.randn(3)"), ""),
}

NOISY = """
def put(x, *at_and_value):
    x = x.clone()
    x[at_and_value[:-1]] = at_and_value[-1]
    return x

def square(x):
    return x @ x.mT + torch.eye(x.shape[-2])

def noisy(norm):
    torch.manual_seed(9)
    for one in (norm.weight, norm.bias, norm.running_mean):
        one.data.normal_()
    norm.running_var.uniform_(0.2, 2)
    return norm
"""


@pytest.mark.parametrize("name", CASES)
def test_numbers(name: str, tmp_path: Path) -> None:
    body, inputs, init = CASES[name]
    path = forward_script(tmp_path, body, *((inputs,) if isinstance(inputs, str) else inputs), init=init, more=NOISY)
    program, arrays = exported(path)
    agrees(program, arrays)
    assert all(
        instruction.source is not None and instruction.source.file == "model.py"
        for instruction in program.method().instructions
    )
