"""Anomaly detection: the autoencoder of MLPerf Tiny, 640 features, 264,192 multiply-accumulates, seeded weights."""

from __future__ import annotations

from itertools import pairwise

import torch
from layers import seeded
from torch import Tensor, nn

WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
SEED = 640

int8_io = True  # in int8, inputs and outputs are int8 too, as in the references


class AutoEncoder(nn.Module):
    """Linear, BatchNorm, ReLU nine times, then back to 640 features without either."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential()
        for inputs, outputs in pairwise(WIDTHS):
            self.hidden.extend((nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()))
        self.restore = nn.Linear(WIDTHS[-1], WIDTHS[0])

    def forward(self, features: Tensor) -> Tensor:
        return self.restore(self.hidden(features))


def model() -> nn.Module:
    return seeded(AutoEncoder(), SEED)


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, WIDTHS[0]),)


def samples() -> Tensor:
    # SEED itself drew the weights
    return torch.randn(10, 1, WIDTHS[0], generator=torch.Generator().manual_seed(SEED + 2))


def calibration() -> Tensor:
    return torch.randn(50, 1, WIDTHS[0], generator=torch.Generator().manual_seed(SEED + 1))
