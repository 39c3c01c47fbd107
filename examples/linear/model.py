"""One layer with weights: they stay in flash, and the ReLU runs inside the layer's own loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.fc(x))


def model() -> nn.Module:
    torch.manual_seed(2)
    return Classifier().eval()


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 16),)


def samples() -> Tensor:
    return torch.randn(32, 1, 16, generator=torch.Generator().manual_seed(3))
