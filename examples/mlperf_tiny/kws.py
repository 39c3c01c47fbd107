"""Keyword spotting: DS-CNN of MLPerf Tiny, 49x10 MFCC features, 12 classes, 2,656,768 multiply-accumulates.

With the folder `mlperf_tiny_kws` (see README.md) the weights are the reference's own, trained ones and the samples are
real utterances with labels; without it, weights and samples are seeded noise, and no labels are given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from layers import SamePad, seeded
from torch import Tensor, nn

CHANNELS = 64
CLASSES = 12
SEED = 49

int8_io = True  # in int8, inputs and outputs are int8 too, as in the references


class DsCnn(nn.Module):
    """`batch_norm` False is the form in which the reference's trained weights come: folded into the convolutions."""

    def __init__(self, *, batch_norm: bool) -> None:
        super().__init__()
        self.pad = SamePad(1, 1, 4, 5)
        self.conv = nn.Conv2d(1, CHANNELS, (10, 4), stride=2)
        self.depthwise = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS) for _ in range(4))
        self.pointwise = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) if batch_norm else nn.Identity() for _ in range(9))
        self.pool = nn.AvgPool2d((25, 5))
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, mfcc: Tensor) -> Tensor:
        norms = iter(self.norms)
        x = torch.relu(next(norms)(self.conv(self.pad(mfcc))))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = torch.relu(next(norms)(depthwise(x)))
            x = torch.relu(next(norms)(pointwise(x)))
        x = torch.flatten(self.pool(x), 1)
        return torch.softmax(self.fc(x), dim=1)


def data_folder() -> Path | None:
    """Trained weights and samples: `mlperf_tiny_kws` in `data` beside this script or in `shared/data` beside it all."""
    here = Path(__file__).resolve().parent
    for folder in (here / "data" / "mlperf_tiny_kws", here.parents[2] / "shared" / "data" / "mlperf_tiny_kws"):
        if (folder / "ds_cnn_weights.npz").is_file() and (folder / "samples.npz").is_file():
            return folder
    return None


def model() -> nn.Module:
    folder = data_folder()
    if folder is None:
        return seeded(DsCnn(batch_norm=True), SEED)
    net = DsCnn(batch_norm=False)
    with np.load(folder / "ds_cnn_weights.npz") as arrays:
        net.load_state_dict({_renamed(name): torch.tensor(arrays[name]) for name in arrays.files})
    return net.eval()


def example_inputs() -> tuple[Tensor]:
    return (torch.zeros(1, 1, 49, 10),)


def samples() -> Tensor | tuple[Tensor, Tensor]:
    folder = data_folder()
    if folder is None:
        return torch.randn(20, 1, 1, 49, 10, generator=torch.Generator().manual_seed(SEED + 1))
    with np.load(folder / "samples.npz") as arrays:
        mfcc = (arrays["mfcc"].astype(np.float32) - np.float32(arrays["zero_point"])) * np.float32(arrays["scale"])
        return torch.tensor(mfcc).reshape(-1, 1, 1, 49, 10), torch.tensor(arrays["label"].astype(np.int64))


def calibration() -> Tensor:
    """The first hundred samples: int8 is judged on the others."""
    given = samples()
    return (given[0] if isinstance(given, tuple) else given)[:100]


def _renamed(name: str) -> str:
    """`dw2.weight` of the data file is `depthwise.2.weight` here."""
    for short, full in (("dw", "depthwise."), ("pw", "pointwise.")):
        if name.startswith(short):
            return full + name[len(short) :]
    return name
