"""What is seen of a float graph: ranges over a sequence of samples, and the numbers that stand for infinity."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from etexport.frontend.quantize.observe import Seen, observed

X = torch.linspace(-3, 5, 12).reshape(3, 4)


def seen(forward: Callable[..., Tensor], *samples: tuple[Tensor, ...]) -> Seen:
    """Of what `forward` gives last."""

    class Model(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            return forward(*inputs)

    graph = torch.export.export(Model(), samples[0]).module()
    (output,) = [node for node in graph.graph.nodes if node.op == "output"]
    return observed(graph, samples)[output.all_input_nodes[0]]


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda x: x * 2, Seen(-6, 10)),
        (lambda x: x.masked_fill(x > 0, -math.inf), Seen(-3, -1 / 11, (-math.inf,))),
        (
            lambda x: torch.where(x > 0, x, torch.finfo(torch.float32).min),
            Seen(7 / 11, 5, (torch.finfo(torch.float32).min,)),
        ),
        (lambda x: (x > 0).float() * -1e9, Seen(-0.0, 0, (-1e9,))),
        (lambda x: (x > 0).float() * -1e4, Seen(-0.0, 0, (-1e4,))),
        (lambda x: (x > 0).float() * -1e9 + (x > 3).float() * -1e9, Seen(0, 0, (-2e9, -1e9))),
        (lambda x: x * 1e5, Seen(-3e5, 5e5)),  # large, and many
        (lambda x: x * 1e-6, Seen(-3e-6, 5e-6)),
        (lambda x: x.log(), Seen(math.log(7 / 11), math.log(5), ())),  # NaN counts as nothing
        (lambda x: torch.where(x > 0, 0.5, -100.0), Seen(-100, 0.5, lone=-100)),
        (lambda x: torch.where(x > 0, x, -100.0) + x, Seen(-103, 10)),  # a number for each
        (lambda x: torch.where(x > 0, 25.0, -100.0), Seen(-100, 25)),  # too near
        (lambda x: torch.where(x > 3, math.inf, x), Seen(-3, 2.818181818, plus=(math.inf,))),
        (lambda x: torch.where(x > 3, 2e4, x * 1e3), Seen(-3000, 2e4)),  # too near
    ],
)
def test_one_sample(forward: Callable[..., Tensor], expected: Seen) -> None:
    found = seen(forward, (X,))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-5)
    assert (found.minus, found.plus, found.lone) == (expected.minus, expected.plus, expected.lone)


def test_what_one_sample_shows_holds_for_all() -> None:
    masks = (torch.zeros(3, 4), torch.zeros(3, 4), torch.eye(3, 4) * -1e9)
    assert seen(lambda x: x + 0, *[(one,) for one in masks]) == Seen(0, 0, (-1e9,))


def test_states_run_on_and_are_put_back() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            self.total.add_(x)
            return self.total * 1

    graph = torch.export.export(Sum(), (torch.ones(2),)).module()
    found = observed(graph, [(torch.ones(2),)] * 5)
    assert Seen(2, 6) in found.values()
    assert torch.equal(graph.get_buffer("total"), torch.ones(2))


def test_random_numbers_go_on_as_before() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    seen(lambda x: x + torch.rand(3, 4), (X,))
    assert torch.equal(torch.rand(2), expected)
