"""Handwritten digits: the 1,797 scans that ship inside scikit-learn, and a small network trained on 80 % of them.

Change SIZE, CLASSES or the layers and build again: nothing else knows them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SIZE = 8
"""Pixels a side; the scans are 8x8 and are resized to anything else."""

CLASSES = 10
"""Digits 0 .. CLASSES-1 take part."""

EPOCHS = 30


class DigitsNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classify = nn.Linear(16 * (SIZE // 4) ** 2, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)
        return torch.softmax(self.classify(torch.flatten(x, 1)), dim=1)


def model(weights: Mapping[str, np.ndarray] | None = None) -> nn.Module:
    net = DigitsNet()
    weights = train() if weights is None else weights
    net.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return net.eval()


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 1, SIZE, SIZE),)


def samples() -> tuple[Tensor, Tensor]:
    """The held-out fifth: (n, 1, 1, SIZE, SIZE) images that training never saw, and their digits."""
    images, digits = _split(held_out=True)
    return images.unsqueeze(1), digits


def calibration() -> Tensor:
    """100 of the training images."""
    return _split(held_out=False)[0][:100].unsqueeze(1)


@torch.enable_grad()
def train() -> dict[str, np.ndarray]:
    """About 5 s on one core. One thread and a fixed seed, so that the same machine gives the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, digits = _split(held_out=False)
    net = DigitsNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(32):
            logits = net.classify(torch.flatten(net.features(images[batch]), 1))
            loss = functional.cross_entropy(logits, digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    return {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}


def _split(held_out: bool) -> tuple[Tensor, Tensor]:
    """Images (n, 1, SIZE, SIZE) in 0 .. 1 and their digits; every fifth scan is held out."""
    data = load_digits()
    digits = torch.tensor(data.target, dtype=torch.int64)
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16.0
    if images.shape[-1] != SIZE:
        images = functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    keep = (digits < CLASSES) & ((torch.arange(len(digits)) % 5 == 0) == held_out)
    return images[keep], digits[keep]
