"""Average pooling as CMSIS-NN computes it on boards, in place of ExecuTorch's Python definition, once this module is
imported.

The two round half a step differently. CMSIS-NN divides the sum of the stored values away from 0 (`arm_avgpool_s8`); the
definition rounds a float mean of `x - zero_point` to even. 64 elements that sum to -7,584 are -119 on a board, and -118
for the definition with the zero point -128. Everything else of the flow is the same bytes, so that whole networks are
too.
"""

from __future__ import annotations

import executorch.backends.cortex_m.passes.cortex_m_pass_manager  # noqa: F401  registers the operators
import torch
from torch.nn import functional


def average(
    x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil_mode: bool, zero_point: int,
    multiplier: int, shift: int, scratch: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """(n, c, h, w) of int8 to the same: scale and zero point stay, so they do not count. Padding is not counted."""

    def summed(of: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(of.double(), kernel, stride, padding, ceil_mode, divisor_override=1)

    total, count = summed(x), summed(torch.ones_like(x))
    return torch.trunc((total + torch.sign(total) * torch.floor(count / 2)) / count).to(torch.int8)


DEFINITIONS = torch.library.Library("cortex_m", "IMPL")
DEFINITIONS.impl("quantized_avg_pool2d", average, "CompositeExplicitAutograd", allow_override=True)
