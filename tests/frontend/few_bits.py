"""Networks whose weights are to be stored in few bits, as scripts with room for more lines in `model()`."""

from __future__ import annotations

SCRIPT = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 64)
        self.first, self.last = nn.Linear(64, 24), nn.Linear(24, 6, bias=False)
    def forward(self, x):
        return self.last(torch.relu(self.first(self.table(x))))
def model():
    torch.manual_seed(4)
    net = Net().eval()
    {more}
    return net
def example_inputs():
    return (samples()[0],)
def samples():
    return torch.randint(0, 20, (8, 3), generator=torch.Generator().manual_seed(1))
"""
IMAGES = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.each = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, 2, padding=1, groups=32)
        self.norm, self.across = nn.BatchNorm2d(32), nn.Conv2d(32, 8, 1)
        self.up, self.along = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv1d(16, 4, 3)
    def forward(self, x):
        x = self.across(torch.relu(self.norm(self.each(torch.relu(self.first(x))))))
        return self.along(self.up(x).reshape(1, 16, -1))
def model():
    torch.manual_seed(4)
    net = Net().eval()
    {more}
    return net
def example_inputs():
    return (torch.ones(1, 3, 5, 7),)
def samples():
    return torch.randn(3, 1, 3, 5, 7, generator=torch.Generator().manual_seed(1))
"""
ROWS_IN_INTEGERS = """\
from torchao.quantization import quantize_, Int8DynamicActivationIntxWeightConfig
from torchao.quantization.granularity import PerGroup
quantize_(net, Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(8)))"""
"""8da4w of torchao's."""


def with_more(text: str, more: str) -> str:
    """The script with these lines."""
    return text.replace("{more}", more.replace("\n", "\n    "))
