"""What the four networks share: TensorFlow's padding, seeded weights with BatchNorm statistics worth folding, and
images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SamePad(nn.Module):
    """Zeros round an image where TensorFlow's SAME puts them, which PyTorch's symmetric padding cannot say."""

    def __init__(self, left: int, right: int, top: int, bottom: int) -> None:
        super().__init__()
        self.around = (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.around)


def same_conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, bias: bool = False
) -> nn.Sequential:
    """A square convolution with SAME padding on an even-sized image: at stride 2 a 3x3 window pads 0 before and 1
    after."""
    if stride == 1 or kernel == 1:
        return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias))
    total = kernel - stride
    before = total // 2
    pad = SamePad(before, total - before, before, total - before)
    return nn.Sequential(pad, nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=bias))


DEAD = 1 / 8
"""The share of channels without weights, as training leaves them: nine layers of the reference's trained VWW have 4 to
234."""


def seeded(net: nn.Module, seed: int) -> nn.Module:
    """Random weights of a trained network's size, and BatchNorm statistics that are not the identity. Returns the net
    in eval mode.

    Weights are He-scaled, so that activations keep their size through the depth and every layer matters for the output;
    in layers of 16 outputs and more some channels are dead.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                if module.weight.shape[1] >= 16:
                    fan_in *= (1 - DEAD) ** 2  # what dead channels, often of two layers, do not add
                module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
                if len(module.weight) >= 16:
                    module.weight[torch.rand(len(module.weight), generator=generator) < DEAD] = 0.0
                if module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.weight.uniform_(0.8, 1.2, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.7, 1.4, generator=generator)
    return net.eval()


def smooth_images(count: int, channels: int, size: int, seed: int) -> Tensor:
    """Samples (count, 1, channels, size, size) in -2 .. 2: blurred colours, so that images differ by more than their
    noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    fine = torch.rand(count, channels, size, size, generator=generator)
    blurred = functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    return (4.0 * (0.8 * blurred + 0.2 * fine) - 2.0).unsqueeze(1)
