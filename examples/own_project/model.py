"""A user's own model, with a layer file of its own beside it: a Conv1d network that tells two wave forms apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from wave_layers import WaveBlock


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = WaveBlock(1, 8)
        self.fc = nn.Linear(8, 2)

    def forward(self, signal: Tensor) -> Tensor:
        return self.fc(self.block(signal).mean(dim=2))


def model() -> nn.Module:
    torch.manual_seed(5)
    return WaveNet().eval()


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 1, 32),)


def samples() -> Tensor:
    """12 sines and 12 square waves of different pitch."""
    time = torch.arange(32) / 32
    pitches = 1 + torch.arange(12) / 4
    sines = torch.sin(2 * math.pi * pitches[:, None] * time)
    return torch.cat((sines, torch.sign(sines))).reshape(24, 1, 1, 32)
