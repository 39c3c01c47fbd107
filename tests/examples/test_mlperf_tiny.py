"""The four networks are MLPerf Tiny's: their work, counted here by hooks, and their outputs on data."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from etexport.frontend import script

EXAMPLES = Path(__file__).parents[2] / "examples"

MACS = {"kws": 2_656_768, "ic": 12_501_632, "vww": 7_489_664, "ad": 264_192}
SHAPES = {
    "kws": ((1, 1, 49, 10), (1, 12)),
    "ic": ((1, 3, 32, 32), (1, 10)),
    "vww": ((1, 3, 96, 96), (1, 2)),
    "ad": ((1, 640), (1, 640)),
}


def count_macs(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[int, torch.Tensor]:
    """Multiply-accumulates of convolutions and linear layers, padded positions counted, and the output."""
    found = 0

    def hook(module: Any, _: Any, out: torch.Tensor) -> None:
        nonlocal found
        found += out.numel() * math.prod(module.weight.shape[1:])

    for module in net.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            module.register_forward_hook(hook)
    output = net(*inputs)
    return found, output


@pytest.mark.parametrize("name", MACS)
def test_work_and_shapes(name: str) -> None:
    with script.opened(EXAMPLES / "mlperf_tiny" / f"{name}.py") as opened:
        net = opened.model
        macs, output = count_macs(net, opened.inputs)
        assert macs == MACS[name]
        assert (tuple(opened.inputs[0].shape), tuple(output.shape)) == SHAPES[name]
        samples = opened.samples[0] if isinstance(opened.samples, tuple) else opened.samples
        outputs = [net(sample) for sample in samples[:3]]
    assert all(torch.isfinite(output).all() for output in outputs)
    # Samples that all gave the same output would hide a board that ignores its input.
    assert all((first - second).abs().max() > 1e-4 for first, second in pairwise(outputs))


def test_batch_norm_is_worth_folding() -> None:
    """Without its statistics the outputs differ: a pass that dropped BatchNorm instead of folding it would be seen."""
    for name in ("ic", "vww", "ad"):
        with script.opened(EXAMPLES / "mlperf_tiny" / f"{name}.py") as opened:
            net = opened.model
            inputs = opened.samples.flatten(0, 1)
            before = net(inputs)
            for module in net.modules():
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    module.reset_running_stats()
            assert (net(inputs) - before).abs().max() > 1e-3, name


def test_keyword_spotting_on_real_data() -> None:
    with script.opened(EXAMPLES / "mlperf_tiny" / "kws.py") as opened:
        if not isinstance(opened.samples, tuple):
            pytest.skip("the folder mlperf_tiny_kws is absent: see examples/mlperf_tiny/README.md")
        inputs, labels = opened.samples
        net = opened.model
        votes = net(inputs.flatten(0, 1)).argmax(dim=1)
    assert len(labels) == 500
    assert float((votes == labels).float().mean()) == pytest.approx(0.906)
