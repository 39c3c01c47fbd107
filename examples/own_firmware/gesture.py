"""Which of three gestures 64 readings of one axis show: convolutions over time, as a sampler feeds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

classes = ("rest", "swing", "shake")


class Gesture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.early = nn.Conv1d(1, 6, 7, stride=2, padding=3)
        self.late = nn.Conv1d(6, 8, 5, stride=2, padding=2)
        self.score = nn.Linear(8, len(classes))

    def forward(self, window: Tensor) -> Tensor:
        late = torch.relu(self.late(torch.relu(self.early(window))))
        return self.score(late.mean(dim=2))


def model() -> nn.Module:
    return Gesture().eval()


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 1, 64),)
