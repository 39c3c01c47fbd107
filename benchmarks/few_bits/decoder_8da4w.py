"""The same with int8 activations, a scale a row, and weights in groups of 32 in 4 bits, by torchao."""

import decoder
from decoder import example_inputs, samples  # noqa: F401


def model():
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    network = decoder.model()
    quantize_(network, Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(32)))
    return network
