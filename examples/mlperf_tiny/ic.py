"""Image classification: ResNet-8 of MLPerf Tiny, 3x32x32, 10 classes, 12,501,632 multiply-accumulates, seeded
weights."""

from __future__ import annotations

import torch
from layers import same_conv, seeded, smooth_images
from torch import Tensor, nn

CLASSES = 10
SEED = 32
channels_last = True  # as cameras deliver images, and as the reference takes them

int8_io = True  # in int8, inputs and outputs are int8 too, as in the references


class Block(nn.Module):
    """Two 3x3 convolutions round a shortcut; at stride 2 the shortcut is a 1x1 convolution (without BatchNorm, as in
    the reference)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = same_conv(inputs, outputs, 3, stride, bias=True)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = same_conv(outputs, outputs, 3, bias=True)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else same_conv(inputs, outputs, 1, stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(self.shortcut(x) + y)


class ResNet8(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = same_conv(3, 16, 3, bias=True)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(image)))
        x = self.pool(self.blocks(x))
        return torch.softmax(self.fc(torch.flatten(x, 1)), dim=1)


def model() -> nn.Module:
    return seeded(ResNet8(), SEED)


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 3, 32, 32),)


def samples() -> Tensor:
    return smooth_images(10, 3, 32, SEED)


def calibration() -> Tensor:
    return smooth_images(20, 3, 32, SEED + 1)
