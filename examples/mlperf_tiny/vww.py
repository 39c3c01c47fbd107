"""Visual wake words: MobileNetV1 x0.25 of MLPerf Tiny, 3x96x96, 2 classes, 7,489,664 multiply-accumulates, seeded
weights."""

from __future__ import annotations

import torch
from layers import same_conv, seeded, smooth_images
from torch import Tensor, nn

CLASSES = 2
SEED = 96
channels_last = True  # as cameras deliver images, and as the reference takes them

int8_io = True  # in int8, inputs and outputs are int8 too, as in the references

BLOCKS = (
    (16, 1),
    (32, 2),
    (32, 1),
    (64, 2),
    (64, 1),
    (128, 2),
    (128, 1),
    (128, 1),
    (128, 1),
    (128, 1),
    (128, 1),
    (256, 2),
    (256, 1),
)
"""Output channels and stride of the 13 depthwise separable blocks, at a quarter of the original width."""


class Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = same_conv(inputs, inputs, 3, stride, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pointwise = same_conv(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.depthwise(x)))
        return torch.relu(self.bn2(self.pointwise(x)))


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = same_conv(3, 8, 3, 2)
        self.bn = nn.BatchNorm2d(8)
        widths = [8, *(outputs for outputs, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(Separable(widths[i], outputs, stride) for i, (outputs, stride) in enumerate(BLOCKS))
        )
        self.pool = nn.AvgPool2d(3)
        self.fc = nn.Linear(256, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(image)))
        x = self.pool(self.blocks(x))
        return torch.softmax(self.fc(torch.flatten(x, 1)), dim=1)


def model() -> nn.Module:
    return seeded(MobileNet(), SEED)


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 3, 96, 96),)


def samples() -> Tensor:
    return smooth_images(4, 3, 96, SEED)


def calibration() -> Tensor:
    return smooth_images(20, 3, 96, SEED + 1)
