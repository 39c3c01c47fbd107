"""Layers of the model; a change here rebuilds what depends on it, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WaveBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 5, padding=2)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))
