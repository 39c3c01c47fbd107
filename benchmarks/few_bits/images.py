"""Convolutions of images, dense, depthwise and 1x1. Seeded weights."""

import torch
from torch import nn


def model():
    torch.manual_seed(4)
    layers = [nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)]
    layers += [nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 64, 1)]
    return nn.Sequential(*(one for layer in layers[:-1] for one in (layer, nn.ReLU())), layers[-1])


def example_inputs():
    return (torch.ones(1, 16, 16, 16),)


def samples():
    return torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
