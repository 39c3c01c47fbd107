"""Second results (the places of a maximum, of an order, of a pooling; pieces; statistics) wherever they may go, drawn:
in concatenations, stacks, views, gathers, states and outputs, the first result used or not, in float and in int8. One
script and one image hold them all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from math import lcm
from pathlib import Path

import numpy as np
import pytest

from etexport.frontend import export
from etexport.kernel.call import Target
from etexport.kernel.library import load_ops
from etexport.passes import pipeline
from etexport.program.pte import read
from etexport.specialise.pipeline import specialise
from tests.frontend.scripts import script
from tests.operators.boards import bench

SHAPE = (2, 4, 6)
"""Of what each operator reads."""

MAKERS = (
    # what gives several results, and whether they have their operand's rank
    ("{x}.max({dim}, keepdim={keep})", "{keep}"),
    ("{x}.min({dim}, keepdim={keep})", "{keep}"),
    ("torch.topk({x}, {k}, {dim}, {flag})", "True"),
    ("torch.sort({x}, {dim}, descending={flag})", "True"),
    ("torch.sort({x}, stable=True, dim={dim})", "True"),
    ("{x}.median({dim}, keepdim={keep})", "{keep}"),
    ("{x}.kthvalue({k}, {dim}, keepdim={keep})", "{keep}"),
    ("F.max_pool2d({x}, 2, return_indices=True)", "True"),
    ("F.max_pool2d({x}, 3, 2, 1, return_indices=True)", "True"),
    ("F.max_pool1d({x}, 2, return_indices=True)", "True"),
    ("F.adaptive_max_pool2d({x}, ({k}, 3), return_indices=True)", "True"),
    ("F.adaptive_max_pool1d({x}, 3, return_indices=True)", "True"),
    ("torch.var_mean({x}, {dim}, keepdim={keep})", "{keep}"),
    ("torch.std_mean({x}, {dim}, keepdim={keep})", "{keep}"),
    ("torch.aminmax({x}, dim={dim}, keepdim={keep})", "{keep}"),
    ("{x}.unbind(0)", "False"),
    ("{x}.split(2, 2)[:2]", "True"),
    ("{x}.chunk(2, 1)", "True"),
)
PLACES = 12
"""So many of them give whole numbers; the others' second results are rounded in int8."""

USES = (
    # what becomes of the second result; {s} is it, {t} its type
    "{s}",
    "torch.cat([{s}, {s} + 1], {d})",
    "torch.cat([{s} * 2, {s}], {d})",
    "torch.cat([{s}, {z}], {d})",
    "torch.cat([torch.cat([{s}, {z}], {d}), {z}], {d})",
    "torch.cat([{s}.transpose(0, 1), {z}.transpose(0, 1)], {d})",
    "torch.cat([{s}.narrow({d}, 0, 1), {z}], {d})",
    "torch.stack([{s}, {z}])",
    "torch.stack([{z}, {s}], -1)",
    "torch.stack([{s}, {s}], {d})",
    "{s}.reshape(-1)",
    "{s}.unsqueeze(0)",
    "{s}.transpose(0, 1)",
    "{s}.transpose(0, 1).reshape(-1)",
    "{s}.flatten()[1:]",
    "{s}.select({d}, 0)",
    "{s}.narrow({d}, 0, 1)",
    "{s}.unsqueeze(-1).expand(*{s}.shape, 2)",
    "{s}.flip({d})",
    "{s}.float() * 0.5",
    "({s} > 1)",
    "torch.where({z} > 0, {s}, {z})",
    "torch.gather({x}.reshape(-1), 0, ({s}.reshape(-1).long() % 48))",
    "{x}.reshape(-1)[({s}.reshape(-1).long() % 48)]",
    "torch.index_select({x}, 0, ({s}.reshape(-1).long() % 2))",
    "self.put('state{n}', {s})",
    "self.put('state{n}', torch.cat([{s}, {z}], {d}))",
    "torch.cat([self.put('state{n}', {s}), {s}], {d})",
    "{s}, {s}",
    "{s}.reshape(-1), torch.cat([{s}, {z}], {d})",
)
FIRST = ("", "out += [{f}]", "out += [{f} + 1]", "out += [torch.cat([{f}, {f} * 2], -1)]", "out += [{f}.reshape(-1)]")
"""What becomes of the first result."""

PIECES = {"float32": 60, "int8": 30}
"""How many of the pairs of maker and use are tried, each use at least once; there are 540. Export in int8 takes a
second each."""

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        # another order of the channels, so that no two elements are alike in int8 either
        self.conv = nn.Conv1d(4, 4, 1)
        self.conv.weight.data = -0.9 * torch.eye(4)[[2, 0, 3, 1]].unsqueeze(-1)
        self.conv.bias.data.fill_(0.1)
        self.requires_grad_(False)(drawn(1)[0])
        for state in self.buffers():
            state.zero_()

    def put(self, name, value):
        if not hasattr(self, name):
            self.register_buffer(name, torch.zeros_like(value))
        getattr(self, name).copy_(value)
        return getattr(self, name).clone()
"""
TAIL = """
def drawn(count):
    draw = torch.Generator().manual_seed(count)
    return torch.stack([torch.randperm(48, generator=draw).reshape(2, 4, 6) / 8 - 3 for _ in range(count)])

def model():
    return Net()

def example_inputs():
    return (drawn(2)[0],)

def samples():
    return drawn(3)

def calibration():
    return drawn(20)
"""


def network(draw: random.Random, pieces: Sequence[tuple[int, int]]) -> str:
    """A script of these (maker, use), each with its own draw of arguments and of what happens to the first result."""
    lines = [
        "    def forward(self, x):",
        "        x0, x1, out = x, self.conv(x), []",
        "        x2 = F.leaky_relu(x1, 0.4)",
    ]
    for number, (maker, use) in enumerate(pieces):
        keep, dim = draw.choice((True, False)), draw.choice((0, 1, 2, -1))
        rank = 3 if MAKERS[maker][1].format(keep=keep) == "True" else 2
        words = {"x": f"x{number % 3}", "dim": dim, "keep": keep, "k": draw.choice((1, 2)),
            "flag": draw.choice((True, False)),
                 "f": f"f{number}", "s": f"s{number}", "n": number, "d": draw.randrange(-rank, rank),
                 "z": f"z{number}"}  # fmt: skip
        made = (
            f"f{{n}}, s{{n}} = {MAKERS[maker][0]}",
            "z{n} = s{n} * 0 + {n}",
            f"out += [{USES[use]}]",
            draw.choice(FIRST),
        )
        lines += [f"        {line.format(**words)}" for line in made]
    return "\n".join([HEAD, *lines, "        return tuple(out)", TAIL])


def pairs() -> Iterator[tuple[int, int]]:
    """All of maker and use, but for places made of what int8 rounds, each of both as early as may be."""
    for number in range(len(MAKERS) * len(USES)):
        maker, use = number % len(MAKERS), (number + number // lcm(len(MAKERS), len(USES))) % len(USES)
        if maker < PLACES or not any(word in USES[use] for word in ("long", ">")):
            yield maker, use


@pytest.mark.parametrize("quantize", ["float32", "int8"])
def test_second_results(quantize: str, tmp_path: Path) -> None:
    path = script(tmp_path, network(random.Random(quantize), list(islice(pairs(), PIECES[quantize]))))
    export(path, tmp_path / "model.pte", quantize=quantize)
    program = pipeline.run(read((tmp_path / "model.pte").read_bytes()), load_ops())
    host = bench("host", "size", tmp_path)
    with np.load(tmp_path / "model.npz") as arrays:
        inputs = arrays["input_0"]
        expected = [arrays[f"output_{at}"] for at in range(len(program.method().outputs))]
    outputs = host.run_all(
        specialise(program, Target(host.board.features, "size"), load_ops()), [[one] for one in inputs], load_ops()
    )
    for at, want in enumerate(expected):
        tolerance = 0 if want.dtype.kind != "f" else 1e-5 if quantize == "float32" else 0.1
        for number, got in enumerate(outputs):
            np.testing.assert_allclose(
                got[at], want[number].reshape(got[at].shape), rtol=0, atol=tolerance, err_msg=f"output {at}"
            )
