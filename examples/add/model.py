"""The smallest program: the sum of two vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def model() -> nn.Module:
    return Add().eval()


def example_inputs() -> tuple[Tensor, Tensor]:
    return torch.ones(8), torch.ones(8)


def samples() -> tuple[Tensor, Tensor]:
    """16 pairs; the first few hold what a float can be besides a number."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(16, 8, generator=generator)
    b = torch.randn(16, 8, generator=generator)
    a[0, :4] = torch.tensor([float("inf"), float("-inf"), float("nan"), -0.0])
    b[0, :4] = torch.tensor([float("inf"), float("inf"), 1.0, -0.0])
    return a, b
